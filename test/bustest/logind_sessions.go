package bustest

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/godbus/dbus/v5"
)

// Session is a session as logind shows it. Zero values of Class and
// State stand for "user" and "active".
type Session struct {
	ID     string
	UID    uint32
	Name   string // login name
	Seat   string
	TTY    string
	Class  string
	State  string
	Remote bool
	Lies   map[string]any // properties that contradict the rest; nil for a missing one

	vanished bool // by Vanish
}

// SetSessions replaces all sessions.
func (l *Logind) SetSessions(sessions ...Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = slices.Clone(sessions)
	if l.conn == nil {
		return nil
	}
	return l.exportSessions()
}

// Vanish removes a session's object while ListSessions still names the session, as if it had ended in between.
func (l *Logind) Vanish(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.sessions {
		if s.ID == id {
			l.sessions[i].vanished = true
			return nil
		}
	}
	return fmt.Errorf("let session %s vanish: there is none", id)
}

// SetOwnSession sets the session that callers belong to, "" for none.
func (l *Logind) SetOwnSession(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own = id
}

// SetSessionOf sets the session that a process other than the caller belongs to.
func (l *Logind) SetSessionOf(pid uint32, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes[pid] = id
}

// sessionByPID answers for the caller if pid is 0.
func (l *Logind) sessionByPID(pid uint32) (dbus.ObjectPath, *dbus.Error) {
	if failure := l.suffer("GetSessionByPID"); failure != nil {
		return "", failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.own
	if pid != 0 {
		id = l.processes[pid]
	}
	if id == "" {
		return "", dbus.NewError("org.freedesktop.login1.NoSessionForPID", []any{"Caller does not belong to any known session."})
	}
	return sessionPath(id), nil
}

type listedSession struct {
	ID   string
	UID  uint32
	Name string
	Seat string
	Path dbus.ObjectPath
}

func (l *Logind) listSessions() ([]listedSession, *dbus.Error) {
	if failure := l.suffer("ListSessions"); failure != nil {
		return nil, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []listedSession{}
	for _, s := range l.sessions {
		list = append(list, listedSession{s.ID, s.UID, s.Name, s.Seat, sessionPath(s.ID)})
	}
	return list, nil
}

// exportSessions puts the objects of the sessions on the bus, where they stay: their answers depend on the
// sessions that exist at the time of a call. l.mu is held.
func (l *Logind) exportSessions() error {
	for _, s := range l.sessions {
		err := l.conn.ExportMethodTable(map[string]any{
			"GetAll": func(string) (map[string]dbus.Variant, *dbus.Error) { return l.session(s.ID) },
			"Get": func(_, name string) (dbus.Variant, *dbus.Error) {
				properties, failure := l.session(s.ID)
				return properties[name], failure
			},
		}, sessionPath(s.ID), propertiesInterface)
		if err != nil {
			return fmt.Errorf("export session %s: %w", s.ID, err)
		}
	}
	return nil
}

// session returns the properties of a session.
func (l *Logind) session(id string) (map[string]dbus.Variant, *dbus.Error) {
	if failure := l.suffer("Session"); failure != nil {
		return nil, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sessions {
		if s.ID == id && !s.vanished {
			return s.properties(), nil
		}
	}
	return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object."})
}

func (s Session) properties() map[string]dbus.Variant {
	state := or(s.State, "active")
	properties := map[string]dbus.Variant{
		"Id":     dbus.MakeVariant(s.ID),
		"User":   dbus.MakeVariant(userRef{s.UID, dbus.ObjectPath("/org/freedesktop/login1/user/_" + strconv.Itoa(int(s.UID)))}),
		"Name":   dbus.MakeVariant(s.Name),
		"TTY":    dbus.MakeVariant(s.TTY),
		"Class":  dbus.MakeVariant(or(s.Class, "user")),
		"State":  dbus.MakeVariant(state),
		"Type":   dbus.MakeVariant("tty"),
		"Active": dbus.MakeVariant(state == "active"),
		"Remote": dbus.MakeVariant(s.Remote),
	}
	for name, value := range s.Lies {
		if delete(properties, name); value != nil {
			properties[name] = dbus.MakeVariant(value)
		}
	}
	return properties
}

type userRef struct {
	UID  uint32
	Path dbus.ObjectPath
}

// sessionPath escapes an id as systemd does: a character that is neither a letter nor a digit, or a digit in
// the first place, becomes _ and its code.
func sessionPath(id string) dbus.ObjectPath {
	path := []byte("/org/freedesktop/login1/session/")
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if letter || digit && i > 0 {
			path = append(path, c)
		} else {
			path = fmt.Appendf(path, "_%02x", c)
		}
	}
	return dbus.ObjectPath(path)
}
