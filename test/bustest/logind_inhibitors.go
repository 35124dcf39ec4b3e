package bustest

import (
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Inhibitor is an inhibitor as logind shows it. Zero values of What and Mode
// stand for "shutdown" and "block".
type Inhibitor struct {
	What, Who, Why, Mode string
	UID, PID             uint32
}

// SetInhibitors replaces all inhibitors.
func (l *Logind) SetInhibitors(inhibitors ...Inhibitor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inhibitors = nil
	for _, i := range inhibitors {
		i.What, i.Mode = or(i.What, "shutdown"), or(i.Mode, "block")
		l.inhibitors = append(l.inhibitors, i)
	}
}

// LetRootSkip installs a polkit rule that lets root skip inhibitors from 257 on.
func (l *Logind) LetRootSkip() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule = true
}

func (l *Logind) listInhibitors() ([]Inhibitor, *dbus.Error) {
	if failure := l.suffer("ListInhibitors"); failure != nil {
		return nil, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Inhibitor{}, l.inhibitors...), nil
}

// inhibited lists what inhibitors of a mode inhibit; l.mu is held.
func (l *Logind) inhibited(mode string) string {
	var what []string
	for _, i := range l.inhibitors {
		if i.Mode == mode {
			what = append(what, strings.Split(i.What, ":")...)
		}
	}
	slices.Sort(what)
	return strings.Join(slices.Compact(what), ":")
}

// refusal returns logind's own refusal of a shutdown with these flags, nil for none, as observed on 252, 257
// and 262. l.mu is held.
func (l *Logind) refusal(flags uint64) *dbus.Error {
	for _, i := range l.inhibitors {
		skip := flags&skipInhibitors != 0
		switch {
		case !strings.Contains(i.What, "shutdown") || i.Mode == "delay":
		case l.version >= 257 && i.Mode == "block" && skip && !l.rule:
			return dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Permission denied"})
		case skip:
		case l.version == 257 && i.Mode == "block":
			return dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Access denied due to active block inhibitor"})
		case i.Mode == "block" && l.version > 257, flags&rootCheckInhibitors != 0 && i.UID != 0: // root's own inhibitors do not block it
			return dbus.NewError("org.freedesktop.login1.BlockedByInhibitorLock", []any{"Operation denied due to active block inhibitor"})
		}
	}
	return nil
}
