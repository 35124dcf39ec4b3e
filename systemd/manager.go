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

// GoingDown reports whether this host is shutting down already: according to logind, or to systemd, which
// also shuts the host down without logind, for Ctrl-Alt-Del or "systemctl start reboot.target" for example. It
// returns false without an error only if both deny it; with an error the host may be shutting down.
func (l *Logind) GoingDown(ctx context.Context) (bool, error) {
	down, err := property[bool](ctx, l, logindPath, logindManager, "PreparingForShutdown")
	if down {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("ask logind whether a shutdown has begun: %w", err)
	}
	var state string
	stateErr := readProperty(ctx, l.conn.Object(managerName, managerPath), managerInterface, "SystemState", &state)
	if state == "stopping" {
		return true, nil
	}
	if stateErr != nil {
		stateErr = fmt.Errorf("ask systemd for the state of the system: %w", stateErr)
	}
	return false, errors.Join(err, stateErr)
}

// Restarting reports whether systemd stops the unit of this process in order to start it again, as for
// "systemctl restart". It takes ten seconds at most.
func Restarting(ctx context.Context, conn *dbus.Conn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var unit dbus.ObjectPath
	err := call(ctx, conn.Object(managerName, managerPath), managerInterface+".GetUnitByPID", []any{uint32(0)}, &unit) // 0 is the caller
	var job []any
	if err == nil {
		err = readProperty(ctx, conn.Object(managerName, unit), managerName+".Unit", "Job", &job)
	}
	var id uint32
	var path dbus.ObjectPath
	if err == nil {
		err = store(job, &id, &path)
	}
	var kind string
	if err == nil && id != 0 {
		err = readProperty(ctx, conn.Object(managerName, path), managerName+".Job", "JobType", &kind)
	}
	if err != nil {
		return false, fmt.Errorf("ask systemd whether it starts this unit again: %w", err)
	}
	return kind != "" && kind != "stop", nil
}
