package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// drain is a stand-in for one more thing that an attempt does to the world, between the slot and the schedule.
type drain struct {
	stands bool
	retry  retry
}

type undrain struct{}

func (undrain) Kind() Kind { return Kind{"undrain", effectLimit} }

type undrained struct {
	*drain
	err error
}

func (r undrained) Failure() error { return r.err }

func (r undrained) fold(m *Machine, now time.Time) {
	if r.retry.note(now, r.err, m.rand) {
		r.stands = false
	}
}

func (d *drain) obligation() *obligation {
	return &obligation{
		name:   "a drain",
		owed:   func(*Machine) bool { return d.stands },
		undo:   func(*Machine) Effect { return undrain{} },
		retry:  func(*Machine) *retry { return &d.retry },
		doing:  func(*Machine) string { return "taking workloads back" },
		undone: "workloads may come back",
		left:   "workloads could not be taken back",
	}
}

// drained returns a rig with a drain, and its machine brought to where the host is drained.
func drained(t *testing.T, way []any) (*rig, *drain) {
	r, d := newRig(t, true), &drain{retry: retry{first: time.Second, limit: time.Minute}}
	r.m.obligations = slices.Insert(slices.Clone(r.m.obligations), 1, d.obligation())
	r.do(way...)
	d.stands = true
	return r, d
}

// What an attempt has done last is undone first.
func TestThirdObligationIsUndoneBetweenTheOthers(t *testing.T) {
	undrains := undrain{}.Kind()
	for name, c := range map[string]struct {
		way, off []any
		first    []any // what comes before the drain
		want     []Kind
	}{
		"drain, slot":           {toPreparing, []any{unchecked}, nil, []Kind{undrains, unlocks}},
		"schedule, drain, slot": {toDelay, []any{idle}, []any{calledOff}, []Kind{unschedules, undrains, unlocks}},
	} {
		t.Run(name, func(t *testing.T) {
			r, d := drained(t, c.way)
			r.started = nil
			r.do(c.off...).do(c.first...)
			r.expect(Releasing, undrains, false)

			// It is tried again, and the slot is kept meanwhile.
			r.step(undrained{d, errDown})
			r.expect(Releasing, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "taking workloads back since") || !strings.Contains(s, "; trying again") || !strings.Contains(s, "etcd is down") {
				t.Errorf("the status is %q", s)
			}
			r.do(r.last.Nap)
			r.expect(Releasing, undrains, false)
			r.step(undrained{d, nil})
			r.expect(Releasing, unlocks, false)
			r.do(given)
			if want := slices.Insert(c.want, len(c.want)-1, undrains); !slices.Equal(r.started, want) || r.m.owes() {
				t.Errorf("started %v, want %v", r.started, want)
			}
		})
	}
}

func TestThirdObligationHoldsUpWhatTheOthersDo(t *testing.T) {
	undrains := undrain{}.Kind()

	// The end waits for one try.
	r, d := drained(t, toPreparing)
	r.do(stop, checkDead)
	r.expect(Releasing, undrains, false)
	r.step(undrained{d, errDown})
	if r.expect(Left, nothing, false); !strings.Contains(r.m.why, "workloads could not be taken back: etcd is down") {
		t.Errorf("why is %q", r.m.why)
	}

	// The next configuration undoes it before a slot of this boot.
	d.retry.reset()
	r.reload().expect(Starting, undrains, false)
	r.step(undrained{d, errDown})
	r.expect(Starting, inspects, false)
	r.do(fromNow)
	r.expect(Settling, nothing, false)
	r.do(r.last.Nap)
	r.expect(Settling, undrains, false)
	r.step(undrained{d, nil})
	r.expect(Settling, unlocks, false)

	// A slot from before this boot is not the drain's, and does not wait for it.
	r, d = drained(t, nil)
	r.do(fromAgo).expect(Starting, undrains, false)
	r.step(undrained{d, errDown})
	r.expect(Settling, unlocks, false)

	// It is undone when it appears while the host waits for a reboot.
	r, _ = drained(t, toWaiting)
	r.do(time.Minute).expect(Releasing, undrains, false)
}
