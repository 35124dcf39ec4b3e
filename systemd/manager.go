package systemd

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerInterface = "org.freedesktop.systemd1.Manager"
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
	var state string
	if err := managerProperty(ctx, conn, managerPath, managerInterface, "SystemState", &state); err != nil {
		return false, fmt.Errorf("ask systemd for the state of the system: %w", err)
	}
	return state == "stopping", nil
}

// managerProperty reads a property of one of the service manager's objects.
func managerProperty(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, iface, name string, to any) error {
	var v dbus.Variant
	if err := call(ctx, conn.Object(managerName, path), "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v); err != nil {
		return err
	}
	return store([]any{v.Value()}, to)
}

// startReboot has systemd itself reboot the machine, as "systemctl start reboot.target"
// does. It asks nobody, and gives inhibitors of the mode delay no time. The job cannot be
// cancelled, as that of a reboot through logind cannot.
func startReboot(ctx context.Context, conn *dbus.Conn) error {
	var job dbus.ObjectPath
	err := call(ctx, conn.Object(managerName, managerPath), managerInterface+".StartUnit", []any{"reboot.target", "replace-irreversibly"}, &job)
	if err != nil {
		return fmt.Errorf("have systemd start reboot.target: %w", err)
	}
	return nil
}
