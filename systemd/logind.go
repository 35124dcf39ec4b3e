package systemd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	logindName    = "org.freedesktop.login1"
	logindPath    = dbus.ObjectPath("/org/freedesktop/login1")
	logindManager = "org.freedesktop.login1.Manager"
	logindSession = "org.freedesktop.login1.Session"
)

// Logind talks to systemd-logind, see org.freedesktop.login1(5). It is safe for concurrent use. Each
// call to logind takes ten seconds at most.
//
// Other users write the texts that it returns: unprintable characters in them are escaped, and long texts are cut.
type Logind struct{ conn *dbus.Conn }

// NewLogind returns a Logind on a connection to the system bus. The caller closes the connection.
func NewLogind(conn *dbus.Conn) *Logind { return &Logind{conn: conn} }

// Session is one login of a person.
type Session struct {
	ID   string
	User string // login name
	UID  uint32
	TTY  string // "pts/0" or "tty1"; empty for a session without a terminal
}

// Sessions returns the sessions of people: those of class user (and its variants such as user-early,
// which newer releases give to root, see pam_systemd(8)) that are not closing. Gettys, display
// managers and cron jobs are not among them. A session that ends during the call is left out; any
// other failure is an error, because then it is unknown who is logged in.
//
// Users choose how many sessions they have, and the values of some properties. So only properties
// that users cannot fill are read, and if there are so many sessions that the list of them cannot be
// read, the result is one session of an unnamed user.
func (l *Logind) Sessions(ctx context.Context) ([]Session, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var listed [][]any
	err := l.call(ctx, "ListSessions", nil, &listed)
	if answered(err, errUnreadable) {
		return []Session{{User: "unknown: logind lists too many sessions, see loginctl"}}, nil
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

// atWork reports whether a session is a person's and is not closing. A closing session is one whose
// user has logged out and left processes running; there may be thousands. So State is read first.
func (l *Logind) atWork(ctx context.Context, path dbus.ObjectPath) (bool, error) {
	state, err := property[string](ctx, l, path, logindSession, "State")
	if err != nil || state == "closing" {
		return false, err
	}
	class, err := property[string](ctx, l, path, logindSession, "Class")
	return class == "user" || strings.HasPrefix(class, "user-"), err
}

// noSessionErrors are the names of errors by which logind says that a process is in no session that it
// knows. Since systemd 257 the second one is for a process outside logind's own tree of control
// groups, such as one that entered a container from outside; the others are for a control group that
// belongs to no session, and for a process that has ended.
var noSessionErrors = []string{
	errNoSessionForPID, "System.Error.EUNATCH", "System.Error.ENXIO", "System.Error.ENODATA", "System.Error.ENOMEDIUM",
	"System.Error.ESRCH", "org.freedesktop.DBus.Error.UnixProcessIdUnknown",
}

// sessionOf returns the session of a process; the zero Session if it has none, like a service, or if
// logind cannot tell. Process 0 is this one, see sd_pid_get_session(3).
func (l *Logind) sessionOf(ctx context.Context, pid uint32) (s Session, err error) {
	var path dbus.ObjectPath
	err = l.call(ctx, "GetSessionByPID", []any{pid}, &path)
	if answered(err, noSessionErrors...) {
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

// OtherSessions returns Sessions without the caller's own: the session that this process belongs to,
// as it does when sudo started it, and the session from which that one was started. run0(1) gives what
// it starts a session of its own; the session that run0 was called from is on the same terminal, or
// one of its processes holds the terminal's other end.
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

// masters returns the processes that hold the other end of a pseudo-terminal such as "pts/3": a terminal
// emulator, sshd, or run0. The source is proc(5), which users cannot forge, and in which root can read all
// processes; a process that cannot be read is left out. Only processes in this one's mount namespace
// count, because a container numbers terminals of its own.
func masters(proc, tty string) []uint32 {
	number, ok := strings.CutPrefix(tty, "pts/")
	if !ok {
		return nil
	}
	ours, err := os.Readlink(filepath.Join(proc, "self/ns/mnt"))
	if err != nil {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fdinfo/*")) // the pattern is well-formed
	var found []uint32
	for _, file := range files {
		process := filepath.Dir(filepath.Dir(file))
		pid, err := strconv.ParseUint(filepath.Base(process), 10, 32)
		if err != nil || slices.Contains(found, uint32(pid)) {
			continue
		}
		info, err := os.ReadFile(file)
		if err != nil || !strings.Contains("\n"+string(info), "\ntty-index:\t"+number+"\n") {
			continue
		}
		if theirs, err := os.Readlink(filepath.Join(process, "ns/mnt")); err == nil && theirs == ours {
			found = append(found, uint32(pid))
		}
	}
	return found
}

// Instance returns the unique name of the logind that owns the well-known name now. A restarted logind
// has another one.
func (l *Logind) Instance(ctx context.Context) (string, error) {
	var name string
	if err := call(ctx, l.conn.BusObject(), "org.freedesktop.DBus.GetNameOwner", []any{logindName}, &name); err != nil {
		return "", fmt.Errorf("ask the bus for logind's name: %w", err)
	}
	return name, nil
}

// property reads a property of one of logind's objects.
func property[T any](ctx context.Context, l *Logind, path dbus.ObjectPath, iface, name string) (value T, err error) {
	err = readProperty(ctx, l.conn.Object(logindName, path), iface, name, &value)
	return value, err
}

// call calls a method of logind's manager.
func (l *Logind) call(ctx context.Context, method string, args []any, results ...any) error {
	return call(ctx, l.conn.Object(logindName, logindPath), logindManager+"."+method, args, results...)
}
