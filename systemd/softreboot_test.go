package systemd

import (
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestSoftRebootsAreCounted(t *testing.T) {
	bus, conn := systemBus(t)
	logind := bustest.For(t).Logind(bus)
	l := NewLogind(conn)
	for _, test := range []struct {
		version int
		soft    bool // there is another one
		n       uint32
		counted bool
	}{{255, false, 0, false}, {256, false, 0, true}, {257, true, 1, true}, {257, true, 2, true}} {
		must.Do(t, logind.SetVersion(test.version))
		before := time.Now()
		if test.soft {
			logind.SoftReboot(time.Now())
		}
		n, counted, err := l.SoftReboots(t.Context())
		if must.Do(t, err); n != test.n || counted != test.counted {
			t.Errorf("%+v: got %d, %v", test, n, counted)
		}
		since, ago, err := l.UserspaceSince(t.Context())
		if must.Do(t, err); test.soft && (since.Before(before.Truncate(time.Microsecond)) || ago > time.Since(before)+time.Microsecond || ago < 0) {
			t.Errorf("%+v: it ended at %v, %v ago, before %v", test, since, ago, before)
		}
	}
	logind.Refuse("SoftRebootsCount", errAccessDenied, "not you")
	if n, counted, err := l.SoftReboots(t.Context()); err == nil || counted {
		t.Errorf("without an answer there are %d, %v", n, counted)
	}
	must.Do(t, logind.Answer("UserspaceTimestampMonotonic", uint64(1)<<62))
	if _, ago, err := l.UserspaceSince(t.Context()); err == nil {
		t.Errorf("by a time to come the last ended %v ago", ago)
	}
	for _, property := range []string{"UserspaceTimestamp", "UserspaceTimestampMonotonic"} {
		logind.Refuse(property, errAccessDenied, "not you")
		if since, _, err := l.UserspaceSince(t.Context()); err == nil {
			t.Errorf("without %s the last ended at %v", property, since)
		}
		logind.Heal(property)
	}
}
