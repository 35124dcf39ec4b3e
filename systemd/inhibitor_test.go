package systemd

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestInhibitorsAreThoseThatBlockAShutdown(t *testing.T) {
	held := []bustest.Inhibitor{
		{Who: "backup", Why: "nightly run", PID: 12},
		{What: "sleep:shutdown:idle", Who: "upgrade", Why: "packages", UID: 4711, PID: 13},
		{What: "sleep", Who: "presentation"},
		{What: "handle-power-key:shutdown-later", Who: "keys"},
		{Who: "editor", Why: "files are open", Mode: "delay"},
		{Who: "desktop", Why: "logged in", Mode: "block-weak", UID: 0, PID: 14},
		{Who: "later", Why: "unknown to us", Mode: "delay-weak"},
	}
	want := []Inhibitor{
		{Who: "backup", Why: "nightly run", User: "root", PID: 12},
		{Who: "upgrade", Why: "packages", User: "4711", PID: 13},
		{Who: "desktop", Why: "logged in", User: "root", PID: 14},
	}
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	must.Do(t, logind.SetVersion(257))
	l := NewLogind(conn)
	if got, err := l.Inhibitors(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("nobody inhibits: %v, %v", got, err)
	}
	logind.SetInhibitors(held...)
	if got, err := l.Inhibitors(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	logind.SetInhibitors(held[2:]...)
	if got, err := l.Inhibitors(t.Context()); err != nil || !reflect.DeepEqual(got, want[2:]) {
		t.Errorf("weak ones only: got  %+v, %v\nwant %+v", got, err, want[2:])
	}
	must.Do(t, logind.SetVersion(252)) // knows of no weak ones
	logind.SetInhibitors(held[:5]...)
	if got, err := l.Inhibitors(t.Context()); err != nil || !reflect.DeepEqual(got, want[:2]) {
		t.Errorf("before 257: got  %+v, %v\nwant %+v", got, err, want[:2])
	}
}

// Any local user may take inhibitors of the mode delay, as many and with as long
// texts as it likes. They hide who blocks a shutdown, and not that somebody does.
func TestInhibitorsThatOnlyDelayCannotDrownTheAnswer(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	must.Do(t, logind.SetVersion(257))
	many := make([]bustest.Inhibitor, 8192) // as many as logind takes
	for i := range many {
		many[i] = bustest.Inhibitor{Who: "mallory", Why: strings.Repeat("x", 2000), Mode: "delay", UID: 1000}
	}
	logind.SetInhibitors(many...)
	if got, err := NewLogind(conn).Inhibitors(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("got %d, %v", len(got), err)
	}
	for _, mode := range []string{"block", "block-weak"} {
		many[0] = bustest.Inhibitor{Who: "backup", Why: "nightly run", Mode: mode}
		logind.SetInhibitors(many...)
		got, err := NewLogind(conn).Inhibitors(t.Context())
		if err != nil || !isUnnamed(got) {
			t.Errorf("%s: got %+v, %v", mode, got, err)
		}
	}
}

// isUnnamed tells whether there is one inhibitor, of which logind does not say whose it is.
func isUnnamed(i []Inhibitor) bool {
	return len(i) == 1 && i[0].Who == "unknown" && i[0].User == "unknown" && strings.Contains(i[0].Why, "logind does not list who")
}

// What logind has said already counts, unless the caller waits no longer or the bus is gone.
func TestListOfInhibitorsThatCannotBeHad(t *testing.T) {
	for _, test := range []struct {
		name    string
		wait    time.Duration
		fail    func(bus *bustest.Bus, logind *bustest.Logind)
		unnamed bool
	}{
		{"it is refused", time.Minute, func(_ *bustest.Bus, logind *bustest.Logind) {
			logind.Refuse("ListInhibitors", "org.freedesktop.DBus.Error.LimitsExceeded", "too many")
		}, true},
		{"logind dies meanwhile", time.Minute, func(_ *bustest.Bus, logind *bustest.Logind) {
			hung := logind.Hang("ListInhibitors")
			go func() { <-hung; _ = logind.Leave() }()
		}, true},
		{"the caller waits no longer", 50 * time.Millisecond, func(_ *bustest.Bus, logind *bustest.Logind) {
			logind.Hang("ListInhibitors")
		}, false},
		{"the bus goes away meanwhile", time.Minute, func(bus *bustest.Bus, logind *bustest.Logind) {
			hung := logind.Hang("ListInhibitors")
			go func() { <-hung; _ = bus.Kill() }()
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus, conn := systemBus(t)
			logind := bustest.For(t).Logind(bus)
			logind.SetInhibitors(bustest.Inhibitor{Who: "backup"})
			test.fail(bus, logind)
			ctx, cancel := context.WithTimeout(t.Context(), test.wait)
			defer cancel()
			got, err := NewLogind(conn).Inhibitors(ctx)
			if test.unnamed != isUnnamed(got) || test.unnamed != (err == nil) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
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

func TestInhibitorNamesItsUser(t *testing.T) {
	// The one user that every machine has besides root.
	if got := userName(bustest.Nobody); got != "nobody" {
		t.Errorf("user %d is %q", bustest.Nobody, got)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	if got := userName(4_294_967_294); got != "4294967294" {
		t.Errorf("a user without a name is %q", got)
	}
}

// Whoever does not understand the answer does not know that nobody is at work.
func TestNonsenseFromLogindIsAnError(t *testing.T) {
	path := dbus.ObjectPath("/org/freedesktop/login1/session/_31")
	sessions := func(l *Logind) (any, error) { return l.Sessions(t.Context()) }
	inhibitors := func(l *Logind) (any, error) { return l.Inhibitors(t.Context()) }
	scheduled := func(l *Logind) (any, error) { return l.Scheduled(t.Context()) }
	preparing := func(l *Logind) (any, error) { return l.PreparingForShutdown(t.Context()) }
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
		{"preparing: missing", preparing, "PreparingForShutdown", nil},
		{"preparing: a text", preparing, "PreparingForShutdown", []any{"no"}},
		{"preparing: a number", preparing, "PreparingForShutdown", []any{uint32(0)}},
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
