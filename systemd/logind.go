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
func (l *Logind) Sessions(ctx context.Context) ([]Session, error) {
	var listed [][]any
	if err := l.call(ctx, logindPath, logindManager+".ListSessions", nil, &listed); err != nil {
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
		var properties map[string]dbus.Variant
		err := l.call(ctx, path, "org.freedesktop.DBus.Properties.GetAll", []any{logindSession}, &properties)
		if answered(err, errUnknownObject, errNoSuchSession) {
			continue
		}
		var class, state string
		if err == nil {
			err = store([]any{properties["Class"].Value(), properties["State"].Value(), properties["TTY"].Value()}, &class, &state, &s.TTY)
		}
		if err != nil {
			return nil, fmt.Errorf("read session %s: %w", safetext.Clean(s.ID), err)
		}
		if state == "closing" || class != "user" && !strings.HasPrefix(class, "user-") {
			continue
		}
		s.ID, s.User, s.TTY = safetext.Clean(s.ID), safetext.Clean(s.User), safetext.Clean(s.TTY)
		people = append(people, s)
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
	return safetext.Clean(id), nil
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
