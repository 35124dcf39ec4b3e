package inventory

import (
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// What a plan needs of a host is in its record: the latest of the times that it waits for, and how long before the
// window shuts it has to begin.
func TestRecordSaysHowEarlyAndHowLateTheRebootMayBegin(t *testing.T) {
	now := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	settings := policy.Config{BeforeTimeout: 10 * time.Minute}
	waiting := policy.Snapshot{State: policy.Waiting, HeldUntil: at(10), Begins: at(30), Retries: []policy.Retry{{At: at(20)}, {}}}
	uptime := settings
	uptime.Earliest = at(40)
	for _, c := range []struct {
		snapshot policy.Snapshot
		settings policy.Config
		want     time.Time
	}{
		{waiting, settings, at(30)},
		{waiting, uptime, at(40)},
		{policy.Snapshot{State: policy.Waiting, HeldUntil: at(-1)}, settings, time.Time{}},
		{policy.Snapshot{State: policy.Locking, Begins: at(30)}, uptime, time.Time{}},
	} {
		var h Host
		h.fill(c.snapshot, now, c.settings)
		if !h.NotBefore.Equal(c.want) || h.Room != 0 {
			t.Errorf("%+v: not before %v, want %v; room %v", c.snapshot, h.NotBefore, c.want, h.Room)
		}
	}
	h := Host{Room: time.Hour}
	h.fill(policy.Snapshot{State: policy.Idle, Hooked: true}, now, settings)
	if want := settings.BeforeTimeout + policy.Backstop; h.Room != want {
		t.Errorf("with hooks the room is %v, want %v", h.Room, want)
	}
}

func TestHoldAloneIsAChangeOfTheRecord(t *testing.T) {
	held := Host{Hold: &Hold{Reason: "disks"}}
	if !held.changed(Host{}) || held.changed(Host{Hold: &Hold{Reason: "disks"}}) {
		t.Error("a hold is not noticed, or noticed twice")
	}
	if (Host{NotBefore: time.Unix(1, 0)}).changed(Host{}) {
		t.Error("a time that moves by itself has the record written")
	}
}

func TestHostileHoldAndRoomAreMadeSafe(t *testing.T) {
	h := parse("1", "", []byte(`{"hostname":"a","room_ns":-5,"not_before":"0001-01-01T00:00:00+14:00","hold":{"reason":"a\u001b[2J","until":"9999-12-31T23:59:59Z"}}`))
	if h.Room != 0 || !h.NotBefore.IsZero() || h.Hold.Reason != `a\x1b[2J` || !h.Hold.Until.IsZero() {
		t.Errorf("%+v, %+v", h, h.Hold)
	}
}
