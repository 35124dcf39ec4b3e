package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var clock = Config{}.Clock

// again replaces the machine by that of the next process, which knows what this one has kept.
func (r *rig) again() *rig {
	r.t.Helper()
	kept := r.m.Kept(r.now)
	return r.start(&kept)
}

// reload replaces a machine that has left by that of the next configuration.
func (r *rig) reload() *rig {
	r.t.Helper()
	r.expect(Left, nothing, false)
	r.m = r.m.Restart(r.m.config, r.now)
	return r.do(Tick{})
}

func (r *rig) start(kept *Kept) *rig {
	r.m = newMachine(r.m.config, r.now, rand.New(rand.NewPCG(1, 2)))
	r.m.wall = func(t time.Time) time.Time { return t.Add(r.ahead) }
	r.m.remember(kept, r.now)
	return r.do(Tick{})
}

// A process that dies is no reason to do what nobody wanted a moment ago.
func TestNextProcessKnowsWhatPeopleWanted(t *testing.T) {
	// A reboot that was asked for by hand, while the window is shut.
	r := newRig(t, true).do(shuts, notHeld, Update{Source: Requester, Pending: true, Version: "4081.2.0"})
	since := r.m.triggers.since
	r.do(time.Hour).again().do(notHeld, Update{Source: Engine})
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.HasPrefix(s, "reboot needed since "+clock(since)+" for version 4081.2.0; ") {
		t.Errorf("the status is %q", s)
	}
	// Called off by hand, it is no more.
	r.do(Update{Source: Requester}).again().do(notHeld)
	r.expect(Idle, nothing, false)

	// A user's cancel, for as long as it would have counted.
	r = newRig(t, true).do(toDelay...).do(cancels, LookEvery, crowded, given)
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
	r.expect(Starting, unschedules, false)
	r.do(calledOff, fromNow, need)
	r.expect(Releasing, unlocks, false)
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
		r := newRig(t, true).do(toDelay...).do(cancels, LookEvery, crowded, given, stepped(step)).again().do(notHeld, need)
		r.await(Locking, time.Hour)
	}
}

// Whatever others made of what users are told, and whenever logind was started.
func TestNextProcessCallsOffWhatThisOneScheduled(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	at := r.scheduled.At
	r.do(time.Second).again()
	r.expect(Starting, unschedules, false)
	if !r.order.stands || !r.order.at.Equal(at) {
		t.Errorf("looks for %+v, want %v", r.order, at)
	}
	r.do(calledOff)
	if r.scheduled.Type != "" || !r.m.people.cancelledAt.IsZero() {
		t.Errorf("scheduled %+v, cancelled at %v", r.scheduled, r.m.people.cancelledAt)
	}
	// It was called off, or is being: nobody looks for it, and no user did it.
	r.again().expect(Starting, inspects, false)
	r = newRig(t, true).do(toDelay...).do(idle)
	r.expect(Releasing, unschedules, false)
	r.do(cancels).again().do(callGrace, notHeld)
	r.expect(Starting, unschedules, false)
	r.do(calledOff)
	if !r.m.people.cancelledAt.IsZero() {
		t.Error("taken for cancelled by a user")
	}
	// A call to schedule that was under way when the process died may yet be carried out.
	r = newRig(t, true).do(toPreparing...).do(crowded).again().do(need, fromNow)
	r.expect(Starting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "a slot is held; logind has not answered a call, and may carry it out until "+clock(r.now.Add(callGrace))) {
		t.Errorf("the status is %q", s)
	}
	r.do(callGrace)
	r.expect(Starting, unschedules, false)
	r.do(calledOff)
	if r.expect(Locking, locks, false); r.count(unlocks) > 0 {
		t.Error("the slot is given back, and taken again")
	}
}

// A call that logind has not answered may yet be carried out, whatever becomes of the process.
func TestCallWithoutAnAnswerKeepsTheSlotUntilLogindKnowsIt(t *testing.T) {
	unanswered := Scheduled{Err: errDown, Unknown: true}
	for name, r := range map[string]*rig{
		"to reboot, killed":                 newRig(t, true).do(toPreparing...).do(clear).again(),
		"to schedule, killed, and reloaded": newRig(t, true).do(toPreparing...).do(crowded).again().do(reload, noAnswer).reload(),
	} {
		r.do(fromNow, callGrace-time.Second)
		r.expect(Starting, nothing, false)
		r.do(time.Second)
		if r.expect(Starting, unschedules, false); r.count(unlocks) > 0 {
			t.Errorf("%s: the slot is given back", name)
		}
	}
	r := newRig(t, true).do(toPreparing...).do(crowded, unanswered, stop)
	if r.expect(Left, nothing, false); !r.m.MayHold() {
		t.Error("stopped: the slot is given back")
	}
}

// A logind that was started anew, and has lost what was scheduled, is no user.
func TestScheduleThatLogindLostIsNoCancel(t *testing.T) {
	by := func(logind string) Result {
		return Checked{Held: true, Local: &twoUsers, Logind: logind}
	}
	tells := []any{notHeld, need, got, by(":1.1"), Scheduled{Logind: ":1.1"}}
	r := newRig(t, true).do(tells...).do(cancels, LookEvery, by(":1.2"))
	r.expect(Preparing, schedules, false) // users are told anew, and have all their time
	if want := r.now.Add(5*time.Minute + Backstop); !r.order.at.Equal(want) {
		t.Errorf("scheduled for %v, want %v", r.order.at, want)
	}
	// The same found by the next process.
	r = newRig(t, true).do(tells...).do(cancels, LookEvery).again().do(Unscheduled{Logind: ":1.2"})
	if !r.m.people.cancelledAt.IsZero() {
		t.Error("taken for cancelled by a user")
	}
	// With the same logind it is a cancel.
	for _, logind := range []string{":1.1", ""} {
		newRig(t, true).do(tells...).do(cancels, LookEvery, by(logind)).expect(Releasing, unlocks, false)
	}
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
