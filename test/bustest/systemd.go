package bustest

import (
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// systemd's place on the bus, with the one unit that all callers belong to, and its job. Other units: SetUnit.
const (
	systemdName      = "org.freedesktop.systemd1"
	systemdPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdInterface = "org.freedesktop.systemd1.Manager"
	unitPath         = systemdPath + "/unit/locksmithd_2eservice"
	jobPath          = systemdPath + "/job/7"
)

// exportSystemd puts systemd on the bus; l.mu is held.
func (l *Logind) exportSystemd() error {
	manager := map[string]any{
		"StartUnit": l.startUnit, "StopUnit": l.stopUnit, "CancelJob": l.cancelJob, "ResetFailedUnit": l.resetFailedUnit,
		"LoadUnit": l.loadUnit, "GetUnit": l.getUnit, "GetUnitByPID": l.unitByPID, "Subscribe": l.subscribe,
	}
	err := l.conn.ExportMethodTable(manager, systemdPath, systemdInterface)
	for _, path := range []dbus.ObjectPath{systemdPath, unitPath, jobPath} {
		if err == nil {
			err = l.conn.ExportMethodTable(map[string]any{"Get": l.systemdProperty}, path, propertiesInterface)
		}
	}
	for _, path := range []dbus.ObjectPath{systemdPath + "/unit", systemdPath + "/job"} {
		if err == nil {
			err = l.conn.ExportSubtreeMethodTable(map[string]any{"Get": l.objectProperty}, path, propertiesInterface)
		}
	}
	if err != nil {
		return fmt.Errorf("export systemd: %w", err)
	}
	return nil
}

// SetUnitJob sets the job that systemd has for the unit of the callers, such as "restart"; "" for none.
func (l *Logind) SetUnitJob(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.job = kind
}

// SetStopping says whether systemd shuts the system down without logind, as for Ctrl-Alt-Del.
func (l *Logind) SetStopping(stopping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = stopping
}

// startReboot shuts the system down.
func (l *Logind) startReboot(sender dbus.Sender, unit string) (dbus.ObjectPath, *dbus.Error) {
	l.mu.Lock()
	fault := l.at("StartUnit")
	l.stopping = l.stopping || fault == nil
	l.report(RebootCall{Unit: unit, Sender: string(sender), At: time.Now(), Accepted: fault == nil})
	l.mu.Unlock()
	if fault != nil {
		if failure := fault.suffer(); failure != nil {
			return "", failure
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stopping = true
	}
	return systemdPath + "/job/1", nil
}

func (l *Logind) unitByPID(uint32) (dbus.ObjectPath, *dbus.Error) {
	return unitPath, l.suffer("GetUnitByPID")
}

func (l *Logind) systemdProperty(iface, property string) (dbus.Variant, *dbus.Error) {
	if failure := l.suffer(property); failure != nil {
		return dbus.Variant{}, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lie := l.lies[property]; len(lie) == 1 {
		return dbus.MakeVariant(lie[0]), nil
	}
	switch iface + "." + property {
	case systemdInterface + ".SystemState":
		if l.stopping || l.preparing {
			return dbus.MakeVariant("stopping"), nil
		}
		return dbus.MakeVariant("running"), nil
	case systemdInterface + ".SoftRebootsCount":
		if l.version >= 256 {
			return dbus.MakeVariant(l.soft), nil
		}
	case systemdInterface + ".UserspaceTimestamp":
		return dbus.MakeVariant(uint64(l.userspace.UnixMicro())), nil
	case systemdInterface + ".UserspaceTimestampMonotonic":
		return dbus.MakeVariant(l.monotonic()), nil
	case systemdName + ".Unit.Job":
		if l.job == "" {
			return dbus.MakeVariant(jobRef{0, "/"}), nil
		}
		return dbus.MakeVariant(jobRef{7, jobPath}), nil
	case systemdName + ".Job.JobType":
		if l.job != "" {
			return dbus.MakeVariant(l.job), nil
		}
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + property})
}

// monotonic is when the last soft reboot ended, in microseconds by CLOCK_MONOTONIC; 1 if that was before the clock
// began.
func (l *Logind) monotonic() uint64 {
	ago := time.Since(l.userspace) // first: if this process stands still in between, that is later, and not too early
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails
	return uint64(max(1, now.Nano()/1000-ago.Microseconds()))
}

type jobRef struct {
	ID   uint32
	Path dbus.ObjectPath
}
