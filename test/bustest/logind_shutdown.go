package bustest

import (
	"cmp"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Shutdown is a scheduled shutdown; the zero one is none.
type Shutdown struct {
	Type    string
	At      time.Time
	Message string // for the users
}

// RebootCall is a reboot that somebody asked for.
type RebootCall struct {
	Interactive bool
	Flags       uint64 // of RebootWithFlags
	Scheduled   bool   // by Execute
	Unit        string // that systemd was asked to start; "" if logind was asked
	Sender      string // unique name on the bus
	At          time.Time
	Accepted    bool // neither a fault nor an inhibitor prevented it when it came
}

// Flags of RebootWithFlags.
const (
	rootCheckInhibitors = 1 << 0
	viaKexec            = 1 << 1
	softReboot          = 1 << 2 // from version 254 on
	skipInhibitors      = 1 << 4 // from version 257 on
)

// Reboots returns the reboots that were asked for, as they come. It includes refused ones, and a call that
// hangs before it is answered.
func (l *Logind) Reboots() <-chan RebootCall { return l.reboots }

// Schedules returns the shutdowns that were scheduled over the bus, as they come.
func (l *Logind) Schedules() <-chan Shutdown { return l.schedules }

// Shutdown returns the shutdown that is scheduled now.
func (l *Logind) Shutdown() Shutdown {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shutdown
}

// SetShutdown schedules a shutdown, as a user does with shutdown(8), or cancels it, as with "shutdown -c".
func (l *Logind) SetShutdown(s Shutdown) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shutdown, l.message = s, s.Message
}

// Execute carries out the scheduled reboot, as if its time had come.
func (l *Logind) Execute() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutdown.Type != "reboot" {
		return fmt.Errorf("execute a scheduled reboot: %q is scheduled", l.shutdown.Type)
	}
	l.begin()
	l.report(RebootCall{Scheduled: true, At: time.Now(), Accepted: true})
	return nil
}

// SetPreparing sets the property PreparingForShutdown and emits PrepareForShutdown, as accepting a reboot does
// with true. False also clears the scheduled shutdown, as a boot does.
func (l *Logind) SetPreparing(preparing bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.preparing = preparing
	if !preparing {
		l.shutdown, l.message, l.stopping = Shutdown{}, "", false
	}
	if l.conn == nil {
		return nil
	}
	return emit(l.conn, LogindPath, managerInterface+".PrepareForShutdown", preparing)
}

func (l *Logind) reboot(sender dbus.Sender, interactive bool) *dbus.Error {
	return l.rebootCall(RebootCall{Interactive: interactive, Sender: string(sender)})
}

func (l *Logind) rebootWithFlags(sender dbus.Sender, flags uint64) *dbus.Error {
	l.mu.Lock()
	known := uint64(rootCheckInhibitors | viaKexec)
	if l.version >= 254 && !l.old {
		known |= softReboot
	}
	if l.version >= 257 {
		known |= skipInhibitors
	}
	l.mu.Unlock()
	if flags&^known != 0 { // not counted as a request to reboot
		return dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"Invalid flags parameter"})
	}
	return l.rebootCall(RebootCall{Flags: flags, Sender: string(sender)})
}

func (l *Logind) rebootCall(call RebootCall) *dbus.Error {
	call.At = time.Now()
	l.mu.Lock()
	fault, refusal := l.at("Reboot"), l.refusal(call.Flags)
	if call.Accepted = fault == nil && refusal == nil; call.Accepted {
		l.begin() // before report, whose reader may boot the host at once
	}
	l.report(call)
	l.mu.Unlock()
	if fault == nil {
		return refusal
	}
	failure := cmp.Or(fault.suffer(), refusal) // as reported, even if the fault is healed since
	if failure == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.begin()
	}
	return failure
}

// report puts a call on the channel of Reboots; a full channel loses it.
func (l *Logind) report(call RebootCall) {
	select {
	case l.reboots <- call:
	default:
	}
}

// begin shuts down. The real logind shows a shutdown under way as a scheduled one with a meaningless time.
// l.mu is held.
func (l *Logind) begin() {
	l.preparing = true
	l.shutdown = Shutdown{Type: "reboot", At: time.Unix(0, 0), Message: l.message}
	if l.conn != nil {
		_ = l.conn.Emit(LogindPath, managerInterface+".PrepareForShutdown", true)
	}
}

func (l *Logind) scheduleShutdown(kind string, usec uint64) *dbus.Error {
	if failure := l.suffer("ScheduleShutdown"); failure != nil {
		return failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if refusal := l.refusal(0); refusal != nil {
		return refusal
	}
	l.shutdown = Shutdown{Type: kind, At: time.UnixMicro(int64(usec)), Message: l.message}
	select {
	case l.schedules <- l.shutdown:
	default:
	}
	return nil
}

func (l *Logind) cancelScheduledShutdown() (bool, *dbus.Error) {
	if failure := l.suffer("CancelScheduledShutdown"); failure != nil {
		return false, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	cancelled := l.shutdown.Type != ""
	l.shutdown = Shutdown{}
	return cancelled, nil
}

func (l *Logind) setWallMessage(message string, _ bool) *dbus.Error {
	if failure := l.suffer("SetWallMessage"); failure != nil {
		return failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.message = message
	return nil
}

type scheduled struct {
	Type string
	Usec uint64
}
