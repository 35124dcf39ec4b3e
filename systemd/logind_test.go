package systemd

import (
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestLogindAbsentIsAnError(t *testing.T) {
	_, conn := systemBus(t)
	l := NewLogind(conn)
	// A logind that does not exist cannot have started anything.
	if _, err := l.Reboot(t.Context(), FullReboot, false); !errors.Is(err, ErrRefused) {
		t.Errorf("Reboot: got %v", err)
	}
	if sessions, err := l.Sessions(t.Context()); err == nil {
		t.Errorf("Sessions: %v and no error", sessions)
	}
	if _, err := l.GoingDown(t.Context()); err == nil {
		t.Error("GoingDown: no error")
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

func TestTextsOfOthersCannotHarmTheTerminal(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	evil := "\x1b]0;x\a\n\u202eé" + strings.Repeat("y", 1000)
	want := `\x1b]0;x\a\n\u202eé` + strings.Repeat("y", 256-len(`\x1b]0;x\a\n\u202eé`)) + "..."

	logind.SetInhibitors(bustest.Inhibitor{Who: evil, Why: evil})
	inhibitors, err := l.Inhibitors(t.Context())
	if err != nil || len(inhibitors) != 1 || inhibitors[0].Who != want || inhibitors[0].Why != want {
		t.Errorf("inhibitors: %+v, %v\nwant %q", inhibitors, err, want)
	}
	must.Do(t, logind.SetSessions(bustest.Session{ID: "1", Name: evil, TTY: evil}))
	sessions, err := l.Sessions(t.Context())
	if err != nil || len(sessions) != 1 || sessions[0].User != want || sessions[0].TTY != want {
		t.Errorf("sessions: %+v, %v\nwant %q", sessions, err, want)
	}
	logind.SetShutdown(bustest.Shutdown{Type: evil, Message: evil})
	shutdown, err := l.Scheduled(t.Context())
	if err != nil || shutdown.Type != want || shutdown.Message != want {
		t.Errorf("shutdown: %+v, %v\nwant %q", shutdown, err, want)
	}
}

// An answer that is not understood does not mean that nobody is at work.
func TestNonsenseFromLogindIsAnError(t *testing.T) {
	path := dbus.ObjectPath("/org/freedesktop/login1/session/_31")
	sessions := func(l *Logind) (any, error) { return l.Sessions(t.Context()) }
	inhibitors := func(l *Logind) (any, error) { return l.Inhibitors(t.Context()) }
	scheduled := func(l *Logind) (any, error) { return l.Scheduled(t.Context()) }
	goingDown := func(l *Logind) (any, error) { return l.GoingDown(t.Context()) }
	own := func(l *Logind) (any, error) { return l.OtherSessions(t.Context()) }
	cancel := func(l *Logind) (any, error) { return nil, l.Cancel(t.Context()) }
	type strangeInhibitor struct {
		What, Who, Why string
		Mode, UID, PID uint32
	}
	type shortInhibitor struct{ What, Who, Why, Mode string }
	type strangeSession struct {
		ID, UID, User, Seat string
		Path                dbus.ObjectPath
	}
	type shortSession struct {
		ID   string
		UID  uint32
		User string
	}
	for _, test := range []struct {
		name   string
		ask    func(*Logind) (any, error)
		method string
		answer []any
	}{
		{"sessions: nothing", sessions, "ListSessions", []any{}},
		{"sessions: a text", sessions, "ListSessions", []any{"none"}},
		{"sessions: texts", sessions, "ListSessions", []any{[]string{"1"}}},
		{"sessions: two answers", sessions, "ListSessions", []any{[]shortSession{}, uint32(1)}},
		{"sessions: of other types", sessions, "ListSessions", []any{[]strangeSession{{Path: path}}}},
		{"sessions: of fewer fields", sessions, "ListSessions", []any{[]shortSession{{}}}},
		{"own session: a number", own, "GetSessionByPID", []any{uint32(1)}},
		{"own session: a path to nowhere", own, "GetSessionByPID", []any{dbus.ObjectPath("/nowhere")}},
		{"inhibitors: what is blocked is a number", inhibitors, "BlockInhibited", []any{uint32(8)}},
		{"inhibitors: what is blocked is missing", inhibitors, "BlockInhibited", nil},
		{"inhibitors: what is blocked weakly is a list", inhibitors, "BlockWeakInhibited", []any{[]string{"shutdown"}}},
		{"inhibitors: nothing", inhibitors, "ListInhibitors", []any{}},
		{"inhibitors: a number", inhibitors, "ListInhibitors", []any{uint32(1)}},
		{"inhibitors: of other types", inhibitors, "ListInhibitors", []any{[]strangeInhibitor{{What: "shutdown"}}}},
		{"inhibitors: of fewer fields", inhibitors, "ListInhibitors", []any{[]shortInhibitor{{What: "shutdown"}}}},
		{"shutdown: missing", scheduled, "ScheduledShutdown", nil},
		{"shutdown: a text", scheduled, "ScheduledShutdown", []any{""}},
		{"shutdown: of other types", scheduled, "ScheduledShutdown", []any{struct{ Type, At string }{"", ""}}},
		{"shutdown: of fewer fields", scheduled, "ScheduledShutdown", []any{struct{ Type string }{""}}},
		{"shutdown: message missing", scheduled, "WallMessage", nil},
		{"shutdown: message a number", scheduled, "WallMessage", []any{uint32(1)}},
		{"preparing: missing", goingDown, "PreparingForShutdown", nil},
		{"preparing: a text", goingDown, "PreparingForShutdown", []any{"no"}},
		{"preparing: a number", goingDown, "PreparingForShutdown", []any{uint32(0)}},
		{"cancel: nothing", cancel, "CancelScheduledShutdown", []any{}},
		{"cancel: a text", cancel, "CancelScheduledShutdown", []any{"yes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			logind.SetShutdown(bustest.Shutdown{Type: "reboot"})
			if test.method == "ListInhibitors" {
				logind.SetInhibitors(bustest.Inhibitor{})
			}
			must.Do(t, logind.Answer(test.method, test.answer...))
			if got, err := test.ask(NewLogind(conn)); err == nil {
				t.Errorf("got %+v and no error", got)
			}
		})
	}
	for name, value := range map[string]any{"Class": uint32(1), "State": nil, "TTY": nil} {
		t.Run("session: "+name, func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			must.Do(t, logind.SetSessions(bustest.Session{ID: "1", Lies: map[string]any{name: value}}))
			if got, err := NewLogind(conn).Sessions(t.Context()); err == nil || !strings.Contains(err.Error(), "session 1") {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
