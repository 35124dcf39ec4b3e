package systemd

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerInterface = "org.freedesktop.systemd1.Manager"
)

// GoingDown reports whether this host is shutting down already: logind says so, or systemd, which
// shuts the host down without logind for Ctrl-Alt-Del, say. It is not if both say that it is not; an
// error means that it may be.
func GoingDown(ctx context.Context, conn *dbus.Conn) (bool, error) {
	down, err := NewLogind(conn).PreparingForShutdown(ctx)
	if down {
		return true, nil
	}
	stopping, stoppingErr := Stopping(ctx, conn)
	if stopping {
		return true, nil
	}
	return false, errors.Join(err, stoppingErr)
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

// Restarting reports whether systemd ends the unit of this process in order to start it again,
// as "systemctl restart" has it do. It takes ten seconds at most.
func Restarting(ctx context.Context, conn *dbus.Conn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var unit dbus.ObjectPath
	err := call(ctx, conn.Object(managerName, managerPath), managerInterface+".GetUnitByPID", []any{uint32(0)}, &unit) // 0 is the caller
	var job []any
	if err == nil {
		err = managerProperty(ctx, conn, unit, managerName+".Unit", "Job", &job)
	}
	var id uint32
	var path dbus.ObjectPath
	if err == nil {
		err = store(job, &id, &path)
	}
	var kind string
	if err == nil && id != 0 {
		err = managerProperty(ctx, conn, path, managerName+".Job", "JobType", &kind)
	}
	if err != nil {
		return false, fmt.Errorf("ask systemd whether it starts this unit again: %w", err)
	}
	return kind != "" && kind != "stop", nil
}
