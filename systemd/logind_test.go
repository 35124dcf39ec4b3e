package systemd

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestRebootAsksLogindWithoutInteraction(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	if preparing, err := l.PreparingForShutdown(t.Context()); err != nil || preparing {
		t.Errorf("before: %v, %v", preparing, err)
	}
	if err := l.Reboot(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	call := <-logind.Reboots()
	if call.Interactive || call.Flags != rootCheckInhibitors || call.Sender != conn.Names()[0] {
		t.Errorf("call: %+v", call)
	}
	if preparing, err := l.PreparingForShutdown(t.Context()); err != nil || !preparing {
		t.Errorf("after: %v, %v", preparing, err)
	}
}

func TestLogindsRefusalIsAnError(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	for _, name := range []string{
		"org.freedesktop.DBus.Error.AccessDenied",
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		"org.freedesktop.login1.OperationInProgress",
		"org.freedesktop.login1.SleepVerbNotSupported",
	} {
		logind.Refuse("Reboot", name, "Permission denied")
		err := l.Reboot(t.Context(), false)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	logind.Heal("Reboot")
	if err := l.Reboot(t.Context(), false); err != nil {
		t.Errorf("once logind agrees: %v", err)
	}
}

// No answer is not a no: the reboot may be on its way.
func TestNoAnswerFromLogindIsNotARefusal(t *testing.T) {
	t.Run("it hangs", func(t *testing.T) {
		bus, conn := systemBus(t)
		bustest.For(t).Logind(bus).Hang("Reboot")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := NewLogind(conn).Reboot(ctx, false)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want the deadline", err)
		}
	})
	t.Run("it dies meanwhile", func(t *testing.T) {
		bus, conn := systemBus(t)
		logind := bustest.For(t).Logind(bus)
		logind.Hang("Reboot")
		go func() {
			<-logind.Reboots()
			_ = logind.Leave()
		}()
		if err := NewLogind(conn).Reboot(t.Context(), false); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want an error that is no refusal", err)
		}
	})
	t.Run("the bus goes away meanwhile", func(t *testing.T) {
		bus, conn := systemBus(t)
		logind := bustest.For(t).Logind(bus)
		logind.Hang("Reboot")
		go func() {
			<-logind.Reboots()
			_ = bus.Kill()
		}()
		if err := NewLogind(conn).Reboot(t.Context(), false); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("got %v, want an error that is no refusal", err)
		}
	})
}

func TestLogindAbsentIsAnError(t *testing.T) {
	_, conn := systemBus(t)
	l := NewLogind(conn)
	// Nothing can have been started by a logind that does not exist.
	if err := l.Reboot(t.Context(), false); !errors.Is(err, ErrRefused) {
		t.Errorf("Reboot: got %v", err)
	}
	if sessions, err := l.Sessions(t.Context()); err == nil {
		t.Errorf("Sessions: %v and no error", sessions)
	}
	if _, err := l.PreparingForShutdown(t.Context()); err == nil {
		t.Error("PreparingForShutdown: no error")
	}
	if inhibitors, err := l.Inhibitors(t.Context()); err == nil {
		t.Errorf("Inhibitors: %v and no error", inhibitors)
	}
	if shutdown, err := l.Scheduled(t.Context()); err == nil {
		t.Errorf("Scheduled: %v and no error", shutdown)
	}
	if sessions, err := l.OtherSessions(t.Context()); err == nil {
		t.Errorf("OtherSessions: %v and no error", sessions)
	}
}

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
	if err != nil {
		t.Fatal(err)
	}
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
	if err := logind.Vanish("1"); err != nil {
		t.Fatal(err)
	}
	got, err := NewLogind(conn).Sessions(t.Context())
	if err != nil || len(got) != 1 || got[0].User != "ann" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Users choose what some properties of their sessions are, and how many sessions they have.
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
	// What was left running by those who are gone is looked at, and is nobody.
	must.Do(t, logind.SetSessions(many[:500]...))
	if got, err := l.Sessions(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("many that are closing: %d, %v", len(got), err)
	}
}

// Whoever cannot find out who is logged in does not know that nobody is.
func TestSessionsUnknownIsAnErrorAndNotNobody(t *testing.T) {
	for _, method := range []string{"ListSessions", "Session"} {
		t.Run(method+" refused", func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			if err := logind.SetSessions(bustest.Session{ID: "1"}); err != nil {
				t.Fatal(err)
			}
			logind.Refuse(method, "org.freedesktop.DBus.Error.Failed", "out of memory")
			if got, err := NewLogind(conn).Sessions(t.Context()); err == nil || !strings.Contains(err.Error(), "out of memory") {
				t.Errorf("got %v, %v", got, err)
			}
		})
		t.Run(method+" hangs", func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			if err := logind.SetSessions(bustest.Session{ID: "1"}); err != nil {
				t.Fatal(err)
			}
			logind.Hang(method)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if got, err := NewLogind(conn).Sessions(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
