package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// standIn is a stand-in for one more thing that an attempt does to the world, between the slot and the schedule.
type standIn struct {
	stands bool
	retry  retry
}

type tidy struct{}

func (tidy) Kind() Kind { return Kind{"tidy", effectLimit} }

type tidied struct {
	*standIn
	err error
}

func (r tidied) Failure() error { return r.err }

func (r tidied) fold(m *Machine, now time.Time) {
	if r.retry.note(now, r.err, m.rand) {
		r.stands = false
	}
}

func (d *standIn) obligation() *obligation {
	return &obligation{
		name:   "a drain",
		owed:   func(*Machine) bool { return d.stands },
		undo:   func(*Machine) Effect { return tidy{} },
		retry:  func(*Machine) *retry { return &d.retry },
		doing:  func(*Machine) string { return "taking workloads back" },
		undone: "workloads may come back",
		left:   "workloads could not be taken back",
	}
}

// tidying returns a rig with a drain, and its machine brought to where the host is drained.
func tidying(t *testing.T, way []any) (*rig, *standIn) {
	r, d := newRig(t, true), &standIn{retry: retry{first: time.Second, limit: time.Minute}}
	r.m.obligations = slices.Insert(slices.Clone(r.m.obligations), 1, d.obligation())
	r.do(way...)
	d.stands = true
	return r, d
}

// What an attempt has done last is undone first.
func TestThirdObligationIsUndoneBetweenTheOthers(t *testing.T) {
	tidies := tidy{}.Kind()
	for name, c := range map[string]struct {
		way, off []any
		first    []any // what comes before the drain
		want     []Kind
	}{
		"drain, slot":           {toPreparing, []any{unchecked}, nil, []Kind{tidies, unlocks}},
		"schedule, drain, slot": {toDelay, []any{idle}, []any{calledOff}, []Kind{unschedules, tidies, unlocks}},
	} {
		t.Run(name, func(t *testing.T) {
			r, d := tidying(t, c.way)
			r.started = nil
			r.do(c.off...).do(c.first...)
			r.expect(Releasing, tidies, false)

			// It is tried again, and the slot is kept meanwhile.
			r.step(tidied{d, errDown})
			r.expect(Releasing, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "taking workloads back since") || !strings.Contains(s, "; trying again") || !strings.Contains(s, "etcd is down") {
				t.Errorf("the status is %q", s)
			}
			r.do(r.last.Nap)
			r.expect(Releasing, tidies, false)
			r.step(tidied{d, nil})
			r.expect(Releasing, unlocks, false)
			r.do(given)
			if want := slices.Insert(c.want, len(c.want)-1, tidies); !slices.Equal(r.started, want) || r.m.owes() {
				t.Errorf("started %v, want %v", r.started, want)
			}
		})
	}
}

func TestThirdObligationHoldsUpWhatTheOthersDo(t *testing.T) {
	tidies := tidy{}.Kind()

	// The end waits for one try.
	r, d := tidying(t, toPreparing)
	r.do(stop, checkDead)
	r.expect(Releasing, tidies, false)
	r.step(tidied{d, errDown})
	if r.expect(Left, nothing, false); !strings.Contains(r.m.why, "workloads could not be taken back: etcd is down") {
		t.Errorf("why is %q", r.m.why)
	}

	// The next configuration undoes it before a slot of this boot.
	d.retry.reset()
	r.reload().expect(Starting, tidies, false)
	r.step(tidied{d, errDown})
	r.expect(Starting, inspects, false)
	r.do(fromNow)
	r.expect(Settling, nothing, false)
	r.do(r.last.Nap)
	r.expect(Settling, tidies, false)
	r.step(tidied{d, nil})
	r.expect(Settling, unlocks, false)

	// A slot from before this boot is not the drain's, and does not wait for it.
	r, d = tidying(t, nil)
	r.do(fromAgo).expect(Starting, tidies, false)
	r.step(tidied{d, errDown})
	r.do(well)
	r.expect(Settling, unlocks, false)

	// It is undone when it appears while the host waits for a reboot.
	r, _ = tidying(t, toWaiting)
	r.do(time.Minute).expect(Releasing, tidies, false)
}
