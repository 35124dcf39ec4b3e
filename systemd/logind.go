package systemd

import (
	"context"
	"errors"
	"fmt"
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

// ErrRefused marks an answer in which logind itself said no: nothing was
// started. Any other error of a call means that the outcome is unknown.
var ErrRefused = errors.New("refused by logind")

// Logind talks to systemd-logind, see org.freedesktop.login1(5). It is safe
// for concurrent use. Each call takes ten seconds at most.
type Logind struct{ conn *dbus.Conn }

// NewLogind returns a Logind on a connection to the system bus. The
// connection stays the caller's to close.
func NewLogind(conn *dbus.Conn) *Logind { return &Logind{conn: conn} }

// Session is one login of a person.
type Session struct {
	User string // login name
	TTY  string // "pts/0" or "tty1"; empty for a session without a terminal
}

// Reboot asks logind to reboot the machine without asking anybody for a
// password. It returns nil once logind has accepted. An error for which
// errors.Is(err, ErrRefused) holds means that no reboot was started; after any
// other error it may have been.
//
// The plain Reboot method is used and not RebootWithFlags: every logind has
// it, and its flags add nothing for a caller that is root and wants a plain
// reboot.
func (l *Logind) Reboot(ctx context.Context) error {
	if err := l.call(ctx, logindPath, logindManager+".Reboot", []any{false}); err != nil {
		return fmt.Errorf("ask logind to reboot: %w", err)
	}
	return nil
}

// PreparingForShutdown reports whether a shutdown or reboot has begun.
func (l *Logind) PreparingForShutdown(ctx context.Context) (bool, error) {
	var v dbus.Variant
	err := l.call(ctx, logindPath, "org.freedesktop.DBus.Properties.Get",
		[]any{logindManager, "PreparingForShutdown"}, &v)
	if err != nil {
		return false, fmt.Errorf("ask logind whether a shutdown has begun: %w", err)
	}
	preparing, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("ask logind whether a shutdown has begun: it answered a %s, not a boolean", v.Signature())
	}
	return preparing, nil
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
		if gone(err) {
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
		people = append(people, Session{User: s.User, TTY: tty})
	}
	return people, nil
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

// gone tells whether a session ended between being listed and being read.
func gone(err error) bool {
	var answer dbus.Error
	if !errors.As(err, &answer) {
		return false
	}
	return answer.Name == "org.freedesktop.DBus.Error.UnknownObject" || answer.Name == "org.freedesktop.login1.NoSuchSession"
}
