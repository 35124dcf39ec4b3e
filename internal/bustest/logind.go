package bustest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// logind's place on the bus.
const (
	LogindName = "org.freedesktop.login1"
	LogindPath = dbus.ObjectPath("/org/freedesktop/login1")

	managerInterface    = "org.freedesktop.login1.Manager"
	sessionInterface    = "org.freedesktop.login1.Session"
	propertiesInterface = "org.freedesktop.DBus.Properties"
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
}

// RebootCall is a reboot that somebody asked for.
type RebootCall struct {
	Interactive bool
	Sender      string // unique name on the bus
	At          time.Time
	Accepted    bool // no fault was set when it came
}

// Logind stands in for systemd-logind. The method names for its Faults are
// those of the manager ("Reboot", "ListSessions"), "Session" for reading a
// session's properties and "PreparingForShutdown" for reading that property.
// Its methods are safe for concurrent use.
type Logind struct {
	Faults
	bus     *Bus
	reboots chan RebootCall

	mu        sync.Mutex
	conn      *dbus.Conn // nil while it is off the bus
	sessions  []Session
	preparing bool
}

// NewLogind returns a Logind that is not on the bus yet: see Appear.
func NewLogind(bus *Bus) *Logind {
	return &Logind{bus: bus, reboots: make(chan RebootCall, 1024)}
}

// Appear connects to the bus and takes logind's name.
func (l *Logind) Appear() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.conn.Connected() {
		return errors.New("let logind appear: it is on the bus already")
	}
	conn, err := l.bus.Connect()
	if err != nil {
		return fmt.Errorf("let logind appear: %w", err)
	}
	l.conn = conn
	err = conn.ExportMethodTable(map[string]any{
		"Reboot":       l.reboot,
		"ListSessions": l.listSessions,
	}, LogindPath, managerInterface)
	if err == nil {
		err = conn.ExportMethodTable(map[string]any{
			"Get": l.managerProperty,
		}, LogindPath, propertiesInterface)
	}
	for _, s := range l.sessions {
		err = errors.Join(err, l.export(s))
	}
	if err == nil {
		err = own(conn, LogindName)
	}
	if err != nil {
		conn.Close()
		l.conn = nil
		return fmt.Errorf("let logind appear: %w", err)
	}
	return nil
}

// Leave drops the connection.
func (l *Logind) Leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

// Close takes it off the bus for good.
func (l *Logind) Close() error {
	l.healAll()
	return l.Leave()
}

// Reboots returns the reboots that were asked for, refused ones included, as
// they come. A call that hangs is here before it is answered.
func (l *Logind) Reboots() <-chan RebootCall { return l.reboots }

// SetSessions replaces all sessions.
func (l *Logind) SetSessions(sessions ...Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		for _, s := range l.sessions {
			if err := l.conn.Export(nil, sessionPath(s.ID), propertiesInterface); err != nil {
				return fmt.Errorf("forget session %s: %w", s.ID, err)
			}
		}
	}
	l.sessions = slices.Clone(sessions)
	if l.conn == nil {
		return nil
	}
	var failed []error
	for _, s := range l.sessions {
		failed = append(failed, l.export(s))
	}
	return errors.Join(failed...)
}

// Vanish lets a session's object disappear while ListSessions still names it,
// as happens when it ends in between.
func (l *Logind) Vanish(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return errors.New("logind is not on the bus")
	}
	return l.conn.ExportMethodTable(map[string]any{
		"GetAll": func(string) (map[string]dbus.Variant, *dbus.Error) {
			return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object."})
		},
	}, sessionPath(id), propertiesInterface)
}

// SetPreparing sets the property PreparingForShutdown and emits
// PrepareForShutdown. Accepting a reboot does the same with true.
func (l *Logind) SetPreparing(preparing bool) error {
	l.mu.Lock()
	conn := l.conn
	l.preparing = preparing
	l.mu.Unlock()
	if conn == nil {
		return nil
	}
	return emit(conn, LogindPath, managerInterface+".PrepareForShutdown", preparing)
}

func (l *Logind) reboot(sender dbus.Sender, interactive bool) *dbus.Error {
	call := RebootCall{
		Interactive: interactive,
		Sender:      string(sender),
		At:          time.Now(),
		Accepted:    !l.faulty("Reboot"),
	}
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	select {
	case l.reboots <- call:
	default:
	}
	if failure := l.suffer("Reboot"); failure != nil {
		return failure
	}
	l.mu.Lock()
	l.preparing = true
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Emit(LogindPath, managerInterface+".PrepareForShutdown", true)
	}
	return nil
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

func (l *Logind) managerProperty(iface, property string) (dbus.Variant, *dbus.Error) {
	if iface != managerInterface || property != "PreparingForShutdown" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + property})
	}
	if failure := l.suffer(property); failure != nil {
		return dbus.Variant{}, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return dbus.MakeVariant(l.preparing), nil
}

// export puts a session's object on the bus.
func (l *Logind) export(s Session) error {
	properties := s.properties()
	err := l.conn.ExportMethodTable(map[string]any{
		"GetAll": func(string) (map[string]dbus.Variant, *dbus.Error) {
			return properties, l.suffer("Session")
		},
	}, sessionPath(s.ID), propertiesInterface)
	if err != nil {
		return fmt.Errorf("show session %s: %w", s.ID, err)
	}
	return nil
}

func (s Session) properties() map[string]dbus.Variant {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	state := or(s.State, "active")
	return map[string]dbus.Variant{
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
}

type userRef struct {
	UID  uint32
	Path dbus.ObjectPath
}

// sessionPath escapes an id the way systemd does: what is not a letter, or is
// a digit in first place, becomes _ and its code.
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
