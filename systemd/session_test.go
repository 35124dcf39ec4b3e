package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/ptytest"
)

func TestSessionsComeFromLogind(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	if sessions, err := l.Sessions(t.Context()); err != nil || len(sessions) != 0 {
		t.Errorf("nobody is logged in: %v, %v", sessions, err)
	}
	err := logind.SetSessions(
		bustest.Session{ID: "1", UID: 500, Name: "core", TTY: "pts/0", Remote: true},
		bustest.Session{ID: "2", UID: 501, Name: "ann", TTY: "tty1", Seat: "seat0", State: "online"},
		bustest.Session{ID: "c3", UID: 0, Name: "root", TTY: "pts/1", Class: "user-early"},
		bustest.Session{ID: "4", UID: 502, Name: "sftp"},
		bustest.Session{ID: "c5", UID: 110, Name: "gdm", TTY: "tty7", Class: "greeter"},
		bustest.Session{ID: "6", UID: 500, Name: "core", Class: "background"},
		bustest.Session{ID: "7", UID: 500, Name: "core", Class: "manager"},
		bustest.Session{ID: "8", UID: 503, Name: "bob", TTY: "pts/9", State: "closing"},
		bustest.Session{ID: "9", UID: 504, Name: "lock", Class: "lock-screen"},
	)
	must.Do(t, err)
	got, err := l.Sessions(t.Context())
	want := []Session{
		{ID: "1", User: "core", UID: 500, TTY: "pts/0"},
		{ID: "2", User: "ann", UID: 501, TTY: "tty1"},
		{ID: "c3", User: "root", TTY: "pts/1"},
		{ID: "4", User: "sftp", UID: 502},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestSessionThatEndsMeanwhileIsLeftOut(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	if err := logind.SetSessions(
		bustest.Session{ID: "1", UID: 500, Name: "core"},
		bustest.Session{ID: "2", UID: 501, Name: "ann"},
	); err != nil {
		t.Fatal(err)
	}
	must.Do(t, logind.Vanish("1"))
	got, err := NewLogind(conn).Sessions(t.Context())
	if err != nil || len(got) != 1 || got[0].User != "ann" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Users choose some properties of their sessions, and how many sessions they have.
func TestNobodyCanHideWhoIsLoggedIn(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	must.Do(t, logind.SetSessions(
		bustest.Session{ID: "1", UID: 500, Name: "core", TTY: "pts/0", Lies: map[string]any{"Display": strings.Repeat("x", 300<<10)}},
		bustest.Session{ID: "2", UID: 501, Name: "ann", State: "closing", Lies: map[string]any{"Display": strings.Repeat("x", 300<<10)}},
	))
	got, err := l.Sessions(t.Context())
	if want := []Session{{ID: "1", User: "core", UID: 500, TTY: "pts/0"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with a long display: %+v, %v", got, err)
	}
	many := make([]bustest.Session, 1500)
	for i := range many {
		many[i] = bustest.Session{ID: strconv.Itoa(i), UID: 500, Name: strings.Repeat("x", 200), State: "closing"}
	}
	must.Do(t, logind.SetSessions(many...))
	got, err = l.Sessions(t.Context())
	if err != nil || len(got) != 1 || !strings.Contains(got[0].User, "too many sessions") {
		t.Errorf("more than can be listed: %+v, %v", got, err)
	}
	// Sessions of users who have logged out and left processes running do not count.
	must.Do(t, logind.SetSessions(many[:500]...))
	if got, err := l.Sessions(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("many that are closing: %d, %v", len(got), err)
	}
}

// "Unknown who is logged in" does not mean "nobody is".
func TestSessionsThatCannotBeReadAreAnError(t *testing.T) {
	for _, method := range []string{"ListSessions", "Session"} {
		t.Run(method+" refused", func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			must.Do(t, logind.SetSessions(bustest.Session{ID: "1"}))
			logind.Refuse(method, "org.freedesktop.DBus.Error.Failed", "out of memory")
			if got, err := NewLogind(conn).Sessions(t.Context()); err == nil || !strings.Contains(err.Error(), "out of memory") {
				t.Errorf("got %v, %v", got, err)
			}
		})
		t.Run(method+" hangs", func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			must.Do(t, logind.SetSessions(bustest.Session{ID: "1"}))
			logind.Hang(method)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if got, err := NewLogind(conn).Sessions(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestOtherSessionsAreThoseOfOthers(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	program, _ := ptytest.Open(t)
	pty, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", program.Fd()))
	must.Do(t, err)
	pty = strings.TrimPrefix(pty, "/dev/")
	must.Do(t, logind.SetSessions(
		bustest.Session{ID: "1", Name: "ann", TTY: "tty1"},
		bustest.Session{ID: "2", Name: "root", TTY: "tty2"},
		bustest.Session{ID: "3", Name: "root", TTY: pty},
		bustest.Session{ID: "4", Name: "bob"},
		bustest.Session{ID: "5", Name: "cron", Class: "background"},
		bustest.Session{ID: "6", Name: "root", TTY: "tty2", Class: "background-light"},
	))
	want := func(why string, ids ...string) {
		t.Helper()
		others, err := l.OtherSessions(t.Context())
		var got []string
		for _, s := range others {
			got = append(got, s.ID)
		}
		if err != nil || !slices.Equal(got, ids) {
			t.Errorf("%s: %q, %v, want %q", why, got, err, ids)
		}
	}
	want("a service", "1", "2", "3", "4")
	logind.SetOwnSession("4")
	want("a session without a terminal", "1", "2", "3")
	logind.SetOwnSession("2")
	want("a session with one", "1", "3", "4")
	logind.SetOwnSession("6")
	want("by run0 on the caller's terminal", "1", "3", "4")
	logind.SetOwnSession("3")
	want("on a terminal whose holder has no session", "1", "2", "4")
	logind.SetSessionOf(uint32(os.Getpid()), "2") // this process holds the other end
	want("by run0 on a terminal of its own", "1", "4")
	logind.SetOwnSession("")
	for _, name := range []string{"System.Error.EUNATCH", "System.Error.ENXIO", "org.freedesktop.DBus.Error.UnixProcessIdUnknown"} {
		logind.Refuse("GetSessionByPID", name, "Protocol driver not attached")
		want(name, "1", "2", "3", "4")
	}
	logind.Refuse("GetSessionByPID", errAccessDenied, "no")
	if others, err := l.OtherSessions(t.Context()); err == nil {
		t.Errorf("refused: %v", others)
	}
	logind.Heal("GetSessionByPID")
	logind.SetOwnSession("1")
	must.Do(t, logind.Vanish("1"))
	if others, err := l.OtherSessions(t.Context()); err == nil {
		t.Errorf("a session that is not there: %v", others)
	}
}

// Containers number their terminals independently.
func TestTerminalOfAContainerIsADifferentOne(t *testing.T) {
	proc := t.TempDir()
	for pid, namespace := range map[string]string{"self": "mnt:[1]", "7": "mnt:[1]", "8": "mnt:[2]", "9": "mnt:[1]", "10": "mnt:[1]"} {
		must.Do(t, os.MkdirAll(proc+"/"+pid+"/ns", 0o755))
		must.Do(t, os.MkdirAll(proc+"/"+pid+"/fdinfo", 0o755))
		must.Do(t, os.Symlink(namespace, proc+"/"+pid+"/ns/mnt"))
		number := map[string]string{"9": "31", "10": "1"}[pid]
		if number == "" {
			number = "3"
		}
		must.Do(t, os.WriteFile(proc+"/"+pid+"/fdinfo/5", []byte("pos:\t0\nflags:\t02\ntty-index:\t"+number+"\n"), 0o644))
	}
	if got := masters(proc, "pts/3"); !slices.Equal(got, []uint32{7}) {
		t.Errorf("got %v", got)
	}
	if got := masters(proc, "tty3"); len(got) > 0 {
		t.Errorf("not a pseudo-terminal: %v", got)
	}
}
