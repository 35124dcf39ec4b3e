package systemd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/safetext"
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
	errAccessDenied    = "org.freedesktop.DBus.Error.AccessDenied"
	errInteractive     = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
	errInvalidArgs     = "org.freedesktop.DBus.Error.InvalidArgs"
	errUnknownMethod   = "org.freedesktop.DBus.Error.UnknownMethod"
	errUnknownObject   = "org.freedesktop.DBus.Error.UnknownObject"
	errUnknownProperty = "org.freedesktop.DBus.Error.UnknownProperty"
	errBlocked         = "org.freedesktop.login1.BlockedByInhibitorLock"
	errNoSuchSession   = "org.freedesktop.login1.NoSuchSession"
	errNoSessionForPID = "org.freedesktop.login1.NoSessionForPID"
	errUnreadable      = "com.github.locksmithd.Unreadable" // of ours, for an answer that was dropped, see socket
)

// ErrRefused marks an answer in which logind, or systemd, itself said no: nothing was
// started. Any other error of a call means that the outcome is unknown.
var ErrRefused = errors.New("refused")

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
//
// Users choose how many sessions they have, and what some properties of theirs are. So
// only those properties are read that they cannot fill, and if there are so many sessions
// that the list of them cannot be read, the result is one session of somebody unnamed.
func (l *Logind) Sessions(ctx context.Context) ([]Session, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var listed [][]any
	err := l.call(ctx, logindPath, logindManager+".ListSessions", nil, &listed)
	if answered(err, errUnreadable) {
		return []Session{{User: "somebody: logind lists too many sessions, see loginctl"}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var people []Session
	for _, row := range listed {
		var s Session
		var seat string
		var path dbus.ObjectPath
		if err := store(row, &s.ID, &s.UID, &s.User, &seat, &path); err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		atWork, err := l.atWork(ctx, path)
		if err == nil && atWork {
			s.TTY, err = property[string](ctx, l, path, logindSession, "TTY")
		}
		if answered(err, errUnknownObject, errNoSuchSession) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read session %s: %w", safetext.Clean(s.ID), err)
		}
		if atWork {
			s.ID, s.User, s.TTY = safetext.Clean(s.ID), safetext.Clean(s.User), safetext.Clean(s.TTY)
			people = append(people, s)
		}
	}
	return people, nil
}

// atWork tells whether a session is a person's, and has not ended but for what was left
// running: of those there may be thousands.
func (l *Logind) atWork(ctx context.Context, path dbus.ObjectPath) (bool, error) {
	state, err := property[string](ctx, l, path, logindSession, "State")
	if err != nil || state == "closing" {
		return false, err
	}
	class, err := property[string](ctx, l, path, logindSession, "Class")
	return class == "user" || strings.HasPrefix(class, "user-"), err
}

// errElsewhere are names of errors by which logind says that a process is in no session
// that it knows of. Since systemd 257 it says the second one for a process outside of its
// own tree of control groups, as one that was entered from outside a container; the others
// are what systemd has for a group that is none of a session, and for a process that is gone.
var errElsewhere = []string{
	errNoSessionForPID, "System.Error.EUNATCH", "System.Error.ENXIO", "System.Error.ENODATA", "System.Error.ENOMEDIUM",
	"System.Error.ESRCH", "org.freedesktop.DBus.Error.UnixProcessIdUnknown",
}

// sessionOf returns the session that a process belongs to, the zero one when it
// belongs to none, as a service does, or when logind cannot tell. 0 is this process, see
// sd_pid_get_session(3).
func (l *Logind) sessionOf(ctx context.Context, pid uint32) (s Session, err error) {
	var path dbus.ObjectPath
	err = l.call(ctx, logindPath, logindManager+".GetSessionByPID", []any{pid}, &path)
	if answered(err, errElsewhere...) {
		return Session{}, nil
	}
	if err == nil {
		s.ID, err = property[string](ctx, l, path, logindSession, "Id")
	}
	if err == nil {
		s.TTY, err = property[string](ctx, l, path, logindSession, "TTY")
	}
	if err != nil {
		return Session{}, err
	}
	s.ID, s.TTY = safetext.Clean(s.ID), safetext.Clean(s.TTY)
	return s, nil
}

// OtherSessions returns what Sessions does without those of whoever runs this process. These
// are the session that it belongs to, as what was started with sudo does, and, since run0(1)
// gives what it starts one of its own, those that it was started from: one is on the same
// terminal, or the terminal's other end is held by a process of it.
func (l *Logind) OtherSessions(ctx context.Context) ([]Session, error) {
	all, err := l.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	var own []Session
	for next := []uint32{0}; len(next) > 0; next = next[1:] {
		s, err := l.sessionOf(ctx, next[0])
		if err != nil {
			return nil, fmt.Errorf("find the session of process %d (0 is this one): %w", next[0], err)
		}
		if s.ID == "" || slices.Contains(own, s) {
			continue
		}
		own = append(own, s)
		next = append(next, masters("/proc", s.TTY)...)
	}
	return slices.DeleteFunc(all, func(s Session) bool {
		return slices.ContainsFunc(own, func(o Session) bool { return s.ID == o.ID || s.TTY != "" && s.TTY == o.TTY })
	}), nil
}

// property reads one property.
func property[T any](ctx context.Context, l *Logind, path dbus.ObjectPath, iface, name string) (T, error) {
	var v dbus.Variant
	var value T
	err := l.call(ctx, path, "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v)
	if err == nil {
		err = store([]any{v.Value()}, &value)
	}
	return value, err
}

// store puts values where the pointers point. Unlike dbus.Store it converts
// nothing: what is not of the documented type is no answer.
func store(values []any, pointers ...any) error {
	if len(values) != len(pointers) {
		return fmt.Errorf("the answer has %d parts, not %d", len(values), len(pointers))
	}
	for i, value := range values {
		to := reflect.ValueOf(pointers[i]).Elem()
		if reflect.TypeOf(value) != to.Type() {
			return fmt.Errorf("part %d of the answer is of type %T, not %v", i+1, value, to.Type())
		}
		to.Set(reflect.ValueOf(value))
	}
	return nil
}

func (l *Logind) call(ctx context.Context, path dbus.ObjectPath, method string, args []any, results ...any) error {
	return call(ctx, l.conn.Object(logindName, path), method, args, results...)
}

// call makes one bounded call and marks errors that the peer (or the bus, before
// the peer saw the call) answered with.
func call(ctx context.Context, object dbus.BusObject, method string, args []any, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := object.CallWithContext(ctx, method, 0, args...)
	if call.Err == nil {
		return store(call.Body, results...)
	}
	var answer dbus.Error
	if !errors.As(call.Err, &answer) {
		return call.Err
	}
	switch answer.Name {
	// The bus says these for a peer that died or never answered.
	// And the last one for what was answered and not read.
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout",
		"org.freedesktop.DBus.Error.TimedOut", "org.freedesktop.DBus.Error.Disconnected", errUnreadable:
		return fmt.Errorf("%s: %w", answer.Name, call.Err)
	}
	return fmt.Errorf("%w: %s: %w", ErrRefused, answer.Name, call.Err)
}

// answered tells whether err is an answer with one of these names.
func answered(err error, names ...string) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && slices.Contains(names, answer.Name)
}
