package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/state"
)

var clock = Policy{}.clock

// again replaces the machine by that of the next process, which knows what this one has kept.
func (r *rig) again() *rig {
	r.t.Helper()
	kept := r.m.Kept(r.now)
	return r.start(&kept)
}

// reload replaces a machine that has left by that of the next configuration.
func (r *rig) reload() *rig {
	r.t.Helper()
	r.expect(Left, None, false)
	r.m = r.m.Restart(r.m.policy, r.now)
	return r.do(Tick{})
}

func (r *rig) start(kept *state.Kept) *rig {
	r.m = newMachine(r.m.policy, r.now, rand.New(rand.NewPCG(1, 2)))
	r.m.wall = func(t time.Time) time.Time { return t.Add(r.ahead) }
	r.m.remember(kept, r.now)
	return r.do(Tick{})
}

// A process that dies is no reason to do what nobody wanted a moment ago.
func TestNextProcessKnowsWhatPeopleWanted(t *testing.T) {
	// A reboot that was asked for by hand, while the window is shut.
	r := newRig(t, true).do(shuts, notHeld, Update{Source: Requester, Pending: true, Version: "4081.2.0"})
	since := r.m.pendingSince
	r.do(time.Hour).again().do(notHeld, Update{Source: Engine})
	r.expect(Waiting, None, false)
	if s := r.m.Status(r.now); !strings.HasPrefix(s, "reboot needed since "+clock(since)+" for version 4081.2.0; ") {
		t.Errorf("the status is %q", s)
	}
	// Called off by hand, it is no more.
	r.do(Update{Source: Requester}).again().do(notHeld)
	r.expect(Idle, None, false)

	// A user's cancel, for as long as it would have counted.
	r = newRig(t, true).do(toDelay...).do(cancels, lookEvery, crowded, given)
	at := r.now
	r.do(20*time.Minute).again().do(notHeld, need)
	if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it "+clock(at)) {
		t.Errorf("the status is %q", s)
	}
	r.await(Locking, time.Hour)
	if waited := r.now.Sub(at); waited != time.Hour {
		t.Errorf("tried again after %v", waited)
	}

	// Users who cancelled it while no process was there.
	r = newRig(t, true).do(toDelay...).do(cancels, time.Second).again()
	r.expect(Starting, Unschedule, false)
	r.do(calledOff, fromNow, need)
	r.expect(Releasing, Unlock, false)
	r.do(given)
	if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it") {
		t.Errorf("the status is %q", s)
	}

	// For how long it was postponed, for that version.
	for version, left := range map[string]time.Duration{"4081.2.0": 4 * time.Hour, "4081.2.1": 24 * time.Hour} {
		r = bounded(t).do(backup, need, 20*time.Hour).again().do(notHeld, Update{Source: Engine, Pending: true, Version: version})
		if s, want := r.m.Status(r.now), clock(r.now.Add(left)); !strings.Contains(s, "can postpone it until "+want) {
			t.Errorf("version %s: the status is %q, want %s", version, s, want)
		}
	}
}

// The clock may be stepped while no process is there: nothing is put off for longer than it was.
func TestNextProcessIsNotFooledByTheClock(t *testing.T) {
	for _, step := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		r := newRig(t, true).do(toDelay...).do(cancels, lookEvery, crowded, given, stepped(step)).again().do(notHeld, need)
		r.await(Locking, time.Hour)
	}
}

// Whatever others made of what users are told, and whenever logind was started.
func TestNextProcessCallsOffWhatThisOneScheduled(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	at := r.scheduled.At
	r.do(time.Second).again()
	r.expect(Starting, Unschedule, false)
	if !r.order.Stands || !r.order.At.Equal(at) {
		t.Errorf("looks for %+v, want %v", r.order, at)
	}
	r.do(calledOff)
	if r.scheduled.Type != "" || !r.m.cancelledAt.IsZero() {
		t.Errorf("scheduled %+v, cancelled at %v", r.scheduled, r.m.cancelledAt)
	}
	// It was called off, or is being: nobody looks for it, and no user did it.
	r.again().expect(Starting, Inspect, false)
	r = newRig(t, true).do(toDelay...).do(idle)
	r.expect(Releasing, Unschedule, false)
	r.do(cancels).again().do(callGrace, notHeld)
	r.expect(Starting, Unschedule, false)
	r.do(calledOff)
	if !r.m.cancelledAt.IsZero() {
		t.Error("taken for cancelled by a user")
	}
	// A call to schedule that was under way when the process died may yet be carried out.
	r = newRig(t, true).do(toPreparing...).do(crowded).again().do(need, fromNow)
	r.expect(Starting, None, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "a slot is held; logind has not answered a call, and may carry it out until "+clock(r.now.Add(callGrace))) {
		t.Errorf("the status is %q", s)
	}
	r.do(callGrace)
	r.expect(Starting, Unschedule, false)
	r.do(calledOff)
	if r.expect(Locking, Lock, false); r.count(Unlock) > 0 {
		t.Error("the slot is given back, and taken again")
	}
}

// A call that logind has not answered may yet be carried out, whatever becomes of the process.
func TestCallWithoutAnAnswerKeepsTheSlotUntilLogindKnowsIt(t *testing.T) {
	unanswered := Done{Effect: Schedule, Err: errDown, Unknown: true}
	for name, r := range map[string]*rig{
		"to reboot, killed":                 newRig(t, true).do(toPreparing...).do(clear).again(),
		"to schedule, killed, and reloaded": newRig(t, true).do(toPreparing...).do(crowded).again().do(reload, noAnswer).reload(),
	} {
		r.do(fromNow, callGrace-time.Second)
		r.expect(Starting, None, false)
		r.do(time.Second)
		if r.expect(Starting, Unschedule, false); r.count(Unlock) > 0 {
			t.Errorf("%s: the slot is given back", name)
		}
	}
	r := newRig(t, true).do(toPreparing...).do(crowded, unanswered, stop)
	if r.expect(Left, None, false); !r.m.MayHold() {
		t.Error("stopped: the slot is given back")
	}
}

// A logind that was started anew, and has lost what was scheduled, is no user.
func TestScheduleThatLogindLostIsNoCancel(t *testing.T) {
	by := func(logind string) Done {
		return Done{Effect: Check, Holding: HeldThisBoot, Local: &people, Logind: logind}
	}
	tells := []any{notHeld, need, got, by(":1.1"), Done{Effect: Schedule, Logind: ":1.1"}}
	r := newRig(t, true).do(tells...).do(cancels, lookEvery, by(":1.2"))
	r.expect(Preparing, Schedule, false) // users are told anew, and have all their time
	if want := r.now.Add(5*time.Minute + backstop); !r.order.At.Equal(want) {
		t.Errorf("scheduled for %v, want %v", r.order.At, want)
	}
	// The same found by the next process.
	r = newRig(t, true).do(tells...).do(cancels, lookEvery).again().do(Done{Effect: Unschedule, Logind: ":1.2"})
	if !r.m.cancelledAt.IsZero() {
		t.Error("taken for cancelled by a user")
	}
	// With the same logind it is a cancel.
	for _, logind := range []string{":1.1", ""} {
		newRig(t, true).do(tells...).do(cancels, lookEvery, by(logind)).expect(Releasing, Unlock, false)
	}
}

// Nothing is known of the process before this one, and a reboot stands: the slot covers that,
// and the reboot may be somebody else's.
func TestRebootThatMayBeOursKeepsTheSlotAndIsLeftAlone(t *testing.T) {
	for held, kept := range map[Holding]bool{HeldThisBoot: true, HeldUnrecorded: true, HeldSinceBefore: false} {
		t.Run(fmt.Sprint(held), func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", held)
				stands := Shutdown{Type: "reboot", At: s.began.Add(3 * time.Hour)}
				s.parts.Kept, s.scheduled = nil, stands
				s.run(locked(k))
				s.tell(idle)
				s.sleep(2 * time.Hour)
				if s.expectState(Settling); (k.is() != NotHeld) != kept || s.scheduled != stands {
					t.Errorf("held %v, scheduled %+v", k.is(), s.scheduled)
				}
				last := s.reported()[len(s.reported())-1].Status
				if !strings.Contains(last, "a reboot is scheduled for "+clock(stands.At)+", and nobody knows whether locksmithd has scheduled it") || !strings.Contains(last, "shutdown -c cancels it") {
					t.Errorf("the status is %q", last)
				}
				// Nor does the next process know, although the file is there by now.
				s.expectEnd(nil)
				again := newSite(t)
				again.parts.Kept, again.scheduled, k.s = &s.kept, stands, again
				again.run(locked(k))
				again.sleep(20 * time.Minute)
				if again.expectState(Settling); (k.is() != NotHeld) != kept {
					t.Errorf("held %v", k.is())
				}
				again.set(func() { again.scheduled = Shutdown{} })
				again.sleep(time.Minute)
				if again.expectState(Idle); k.is() != NotHeld {
					t.Error("the slot is kept without need")
				}
				again.expectEnd(nil)
			})
		})
	}
	// What is no reboot is not of ours.
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", HeldThisBoot)
		s.parts.Kept, s.scheduled = nil, Shutdown{Type: "poweroff", At: s.began.Add(3 * time.Hour)}
		s.run(locked(k))
		s.tell(idle)
		if s.expectState(Idle); k.is() != NotHeld || s.scheduled.Type == "" {
			t.Errorf("held %v, scheduled %+v", k.is(), s.scheduled)
		}
		s.expectEnd(nil)
	})
}

// What the next process could not know is not begun.
func TestNothingIsScheduledThatCannotBeKept(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", NotHeld)
		s.local, s.keepErr = people, errDown
		s.run(locked(k))
		s.tell(need)
		s.sleep(time.Hour)
		if s.scheduled.Type != "" || k.is() != NotHeld || s.did("reboot") {
			t.Errorf("scheduled %+v, held %v", s.scheduled, k.is())
		}
		if l := s.find("a restart of the daemon would forget what is going on, and users cannot be told of a reboot"); len(l) != 1 || l[0]["error"] != errDown.Error() {
			t.Errorf("the log has %v", l)
		}
		s.set(func() { s.keepErr = nil })
		s.sleep(20 * time.Minute)
		if s.scheduled.Type == "" && !s.did("reboot") {
			t.Error("nothing is scheduled once it can be kept")
		}
		s.expectEnd(nil)
	})
}

// It is kept before logind is asked.
func TestWhatIsScheduledIsKeptBefore(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", NotHeld)
		keep := s.parts.Keep
		s.parts.Keep = func(k state.Kept) error {
			time.Sleep(time.Millisecond) // whoever does not wait for it goes on meanwhile
			return keep(k)
		}
		s.parts.Scheduler = asks{s, func(at time.Time) {
			if got := s.kept.Scheduled; got != (state.Scheduled{Type: "reboot", Usec: at.UnixMicro()}) {
				t.Errorf("kept is %+v", got)
			}
		}}
		s.local = people
		s.run(locked(k))
		s.sleep(time.Second)
		s.tell(need)
		s.sleep(time.Second)
		s.expectState(Preparing)
		if got, want := s.kept.Scheduled, (state.Scheduled{Type: "reboot", Usec: s.scheduled.At.UnixMicro(), Told: true, Logind: ":1.1"}); got != want {
			t.Errorf("kept is %+v, want %+v", got, want)
		}
		s.tell(idle)
		s.sleep(time.Second)
		s.expectState(Idle)
		if got := s.kept; got != (state.Kept{}) {
			t.Errorf("kept is %+v", got)
		}
		s.expectEnd(nil)
	})
}

// asks is a Scheduler with something to do before it schedules.
type asks struct {
	*site
	before func(at time.Time)
}

func (a asks) Schedule(ctx context.Context, at time.Time, message string) error {
	a.set(func() { a.before(at) })
	return a.site.Schedule(ctx, at, message)
}

// While people hold one update back another one may come: it was not postponed yet.
func TestAnotherVersionIsPostponedAnew(t *testing.T) {
	next := Update{Source: Engine, Pending: true, Version: "4081.2.1"}
	r := bounded(t).do(backup, need, 20*time.Hour, next)
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+clock(r.now.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}
	// What others call it does not count while update_engine has one.
	at := r.now
	for range 3 {
		r.do(time.Hour, Update{Source: Requester, Pending: true, Version: "5"}, next)
	}
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+clock(at.Add(24*time.Hour))) || !strings.Contains(s, "for version 4081.2.1") {
		t.Errorf("the status is %q", s)
	}
}

// The place in the queue is left for a process that is started at once, and only for that.
func TestPlaceInTheQueueIsKeptForARestart(t *testing.T) {
	for _, restarting := range []bool{true, false} {
		in(t, func(t *testing.T, s *site) {
			k := newSlot(s, "A", NotHeld)
			k.free = make(chan struct{})
			s.restarting = restarting
			s.run(locked(k))
			s.tell(need)
			s.expectState(Locking)
			s.expectEnd(nil)
			if kept := errors.Is(k.ended, ErrKeepPlace); kept != restarting {
				t.Errorf("restarting %v, the wait ended with %v", restarting, k.ended)
			}
		})
	}
}
