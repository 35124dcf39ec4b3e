package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// callTimeout bounds one call to logind.
const callTimeout = 10 * time.Second

const (
	logindName    = "org.freedesktop.login1"
	logindPath    = dbus.ObjectPath("/org/freedesktop/login1")
	logindManager = "org.freedesktop.login1.Manager"
	logindSession = "org.freedesktop.login1.Session"
)

// Names of errors that are answers of their own.
const (
	errInvalidArgs     = "org.freedesktop.DBus.Error.InvalidArgs"
	errUnknownMethod   = "org.freedesktop.DBus.Error.UnknownMethod"
	errUnknownObject   = "org.freedesktop.DBus.Error.UnknownObject"
	errUnknownProperty = "org.freedesktop.DBus.Error.UnknownProperty"
	errNoSuchSession   = "org.freedesktop.login1.NoSuchSession"
	errNoSessionForPID = "org.freedesktop.login1.NoSessionForPID"
)

// ErrRefused marks an answer in which logind itself said no: nothing was
// started. Any other error of a call means that the outcome is unknown.
var ErrRefused = errors.New("refused by logind")

// Logind talks to systemd-logind, see org.freedesktop.login1(5). It is safe
// for concurrent use. Each call to logind takes ten seconds at most.
//
// Texts that it returns come from other users. What a terminal could act upon
// is escaped in them, and they are cut where they are long.
type Logind struct{ conn *dbus.Conn }

// NewLogind returns a Logind on a connection to the system bus. The
// connection stays the caller's to close.
func NewLogind(conn *dbus.Conn) *Logind { return &Logind{conn: conn} }

// Session is one login of a person.
type Session struct {
	ID   string
	User string // login name
	UID  uint32
	TTY  string // "pts/0" or "tty1"; empty for a session without a terminal
}

// Sessions returns the sessions of people: class user (and its variants such
// as user-early, which newer releases give to root, see pam_systemd(8)), state
// not closing. Gettys, display managers and cron jobs are not among them. A
// session that ends while it is being looked at is left out; any other
// trouble is an error, because then nobody knows who is logged in.
func (l *Logind) Sessions(ctx context.Context) ([]Session, error) {
	var listed []struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path dbus.ObjectPath
	}
	if err := l.call(ctx, logindPath, logindManager+".ListSessions", nil, &listed); err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var people []Session
	for _, s := range listed {
		var properties map[string]dbus.Variant
		err := l.call(ctx, s.Path, "org.freedesktop.DBus.Properties.GetAll", []any{logindSession}, &properties)
		if answered(err, errUnknownObject, errNoSuchSession) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read session %q: %w", s.ID, err)
		}
		class, okClass := properties["Class"].Value().(string)
		state, okState := properties["State"].Value().(string)
		tty, okTTY := properties["TTY"].Value().(string)
		if !okClass || !okState || !okTTY {
			return nil, fmt.Errorf("read session %q: logind did not say its class, state and terminal", s.ID)
		}
		if state == "closing" || class != "user" && !strings.HasPrefix(class, "user-") {
			continue
		}
		people = append(people, Session{ID: clean(s.ID), User: clean(s.User), UID: s.UID, TTY: clean(tty)})
	}
	return people, nil
}

// OwnSession returns the id of the session that this process belongs to, ""
// when it belongs to none, as a service does. What was started with sudo
// belongs to the session of whoever started it.
func (l *Logind) OwnSession(ctx context.Context) (string, error) {
	var path dbus.ObjectPath
	// 0 is the caller, see sd_pid_get_session(3).
	err := l.call(ctx, logindPath, logindManager+".GetSessionByPID", []any{uint32(0)}, &path)
	if answered(err, errNoSessionForPID) {
		return "", nil
	}
	var id string
	if err == nil {
		id, err = property[string](ctx, l, path, logindSession, "Id")
	}
	if err != nil {
		return "", fmt.Errorf("find the session of this process: %w", err)
	}
	return clean(id), nil
}

// property reads one property.
func property[T any](ctx context.Context, l *Logind, path dbus.ObjectPath, iface, name string) (T, error) {
	var v dbus.Variant
	var value T
	err := l.call(ctx, path, "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v)
	if err == nil {
		if err = dbus.Store([]any{v.Value()}, &value); err != nil {
			err = fmt.Errorf("%s is of type %q: %w", name, v.Signature(), err)
		}
	}
	return value, err
}

// call makes one bounded call and marks errors that logind (or the bus, before
// logind saw the call) answered with.
func (l *Logind) call(ctx context.Context, path dbus.ObjectPath, method string, args []any, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := l.conn.Object(logindName, path).CallWithContext(ctx, method, 0, args...)
	if call.Err == nil {
		return call.Store(results...)
	}
	var answer dbus.Error
	if !errors.As(call.Err, &answer) {
		return call.Err
	}
	switch answer.Name {
	// The bus says these for a peer that died or never answered.
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout",
		"org.freedesktop.DBus.Error.TimedOut", "org.freedesktop.DBus.Error.Disconnected":
		return fmt.Errorf("%s: %w", answer.Name, call.Err)
	}
	return fmt.Errorf("%w: %s: %w", ErrRefused, answer.Name, call.Err)
}

// answered tells whether err is an answer with one of these names.
func answered(err error, names ...string) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && slices.Contains(names, answer.Name)
}
