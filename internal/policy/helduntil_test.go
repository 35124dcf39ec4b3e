package policy

import (
	"testing"
	"time"
)

// Whoever plans when this host reboots needs to know when what holds it back is over.
func TestSnapshotSaysWhenAnObstacleEndsByItself(t *testing.T) {
	hour := t0.Add(time.Hour)
	for _, c := range []struct {
		name   string
		script []any
		until  time.Time
	}{
		{"a hold with an end", []any{Local{Holds: []Hold{{File: "a", Until: hour}}}}, hour},
		{"the later of two holds", []any{Local{Holds: []Hold{{File: "a", Until: hour}, {File: "b", Until: hour.Add(time.Hour)}}}}, hour.Add(time.Hour)},
		{"a hold without an end", []any{Local{Holds: []Hold{{File: "a", Until: hour}, {File: "b"}}}}, time.Time{}},
		{"an inhibitor", []any{backup}, time.Time{}},
	} {
		r := newRig(t, true).do(notHeld).do(c.script...).do(need)
		s := r.m.Snapshot(r.now)
		if s.State != Waiting || s.HeldBack == nil || !s.HeldUntil.Equal(c.until) {
			t.Errorf("%s: %v, held back by %v until %v, want %v", c.name, s.State, s.HeldBack, s.HeldUntil, c.until)
		}
	}
	r := newRig(t, true)
	r.m.config.Earliest = hour
	r.do(notHeld, need)
	if s := r.m.Snapshot(r.now); s.HeldBack == nil || s.HeldBack.Kind != TooEarly || !s.HeldUntil.Equal(hour) {
		t.Errorf("uptime: held back by %v until %v, want %v", s.HeldBack, s.HeldUntil, hour)
	}
}
