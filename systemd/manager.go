package systemd

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// GoingDown reports whether this host is shutting down already, as logind knows, or else systemd, which
// shuts the host down without logind for Ctrl-Alt-Del, say. A systemd that does not answer adds nothing.
func GoingDown(ctx context.Context, conn *dbus.Conn) (bool, error) {
	down, err := NewLogind(conn).PreparingForShutdown(ctx)
	if err != nil || down {
		return down, err
	}
	stopping, err := Stopping(ctx, conn)
	return err == nil && stopping, nil
}

// Stopping reports whether systemd is shutting the system down, whoever asked
// for that: logind knows only of what it was asked for itself, and not of
// Ctrl-Alt-Del or "systemctl start reboot.target". It is SystemState of
// org.freedesktop.systemd1(5). It takes ten seconds at most.
func Stopping(ctx context.Context, conn *dbus.Conn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").CallWithContext(ctx,
		"org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.systemd1.Manager", "SystemState")
	var property dbus.Variant
	var state string
	err := call.Err
	if err == nil {
		err = store(call.Body, &property)
	}
	if err == nil {
		err = store([]any{property.Value()}, &state)
	}
	if err != nil {
		return false, fmt.Errorf("ask systemd for the state of the system: %w", err)
	}
	return state == "stopping", nil
}
