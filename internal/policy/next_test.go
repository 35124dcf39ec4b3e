package policy

import (
	"testing"
	"time"
)

func TestWhatComesNext(t *testing.T) {
	at := func(d time.Duration) time.Time { return t0.Add(d) }
	for _, c := range []struct {
		name   string
		script []any
		what   string
		at     time.Time
	}{
		{"starting", toStarting, "etcd says whether this host holds a slot", time.Time{}},
		{"for update_engine", toAwaiting, "the slot is given back unless a reboot is needed", at(10 * time.Second)},
		{"settling", toSettling, "giving back the slot that was held at start", time.Time{}},
		{"idle", toIdle, "nothing, until a reboot is needed", time.Time{}},
		{"shut", toWaiting, "the reboot window opens", at(6 * time.Hour)},
		{"held back", []any{notHeld, backup, need}, "this host goes on once it is not held back", time.Time{}},
		{"locking", toLocking, "this host takes a slot once one is free, and checks every gate again", time.Time{}},
		{"preparing", toPreparing, "every gate is checked again, and this host reboots", time.Time{}},
		{"with users", toDelay, "this host reboots, or earlier if the users leave", at(5 * time.Minute)},
		{"rebooting", toAccepted, "this host goes down; if it does not, the reboot is tried again", at(RebootGrace)},
		{"releasing", toReleasing, "giving the slot back", time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true).do(c.script...)
			if got := r.m.Snapshot(r.now).Next(); got != (Next{c.what, c.at}) {
				t.Errorf("got %q %v, want %q %v", got.What, got.At, c.what, c.at)
			}
		})
	}
	if got := newRig(t, true).do(toStuck...); got.m.Snapshot(got.now).Next().What != "giving the slot back, once more" || got.m.Snapshot(got.now).Next().At.IsZero() {
		t.Errorf("stuck: %+v", got.m.Snapshot(got.now).Next())
	}
}
