package systemd

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/race"
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
	must.Do(t, logind.SetVersion(252)) // does not know block-weak
	logind.SetInhibitors(held[:5]...)
	if got, err := l.Inhibitors(t.Context()); err != nil || !reflect.DeepEqual(got, want[:2]) {
		t.Errorf("before 257: got  %+v, %v\nwant %+v", got, err, want[:2])
	}
}

// Any local user may take any number of inhibitors of mode delay, with texts of any length. These can
// hide who blocks a shutdown, but not that it is blocked.
func TestInhibitorsThatOnlyDelayCannotDrownTheAnswer(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	must.Do(t, logind.SetVersion(257))
	number := 8192 // as many as logind takes
	if race.Enabled {
		number /= 8 // more than is read, and the stand-in still answers in time
	}
	many := make([]bustest.Inhibitor, number)
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

// isUnnamed reports whether i is the one inhibitor that stands for a list that could not be read.
func isUnnamed(i []Inhibitor) bool {
	return len(i) == 1 && i[0].Who == "unknown" && i[0].User == "unknown" && strings.Contains(i[0].Why, "logind does not list who")
}

// logind's first answer, that a shutdown is blocked, counts unless the caller gives up or the bus is gone.
func TestListOfInhibitorsThatCannotBeRead(t *testing.T) {
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
		{"the caller gives up", 50 * time.Millisecond, func(_ *bustest.Bus, logind *bustest.Logind) {
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

func TestInhibitorNamesItsUser(t *testing.T) {
	// Every machine has this user besides root.
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
