package policy

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestRestartRemembersTheUpdateAndNothingElse(t *testing.T) {
	for _, ev := range []Event{need, asked} {
		r := newRig(t, true).do(shuts, notHeld, ev, reload)
		r.expect(Left, nothing, false)
		since := r.m.triggers.since
		r.m = r.m.Restart(Config{Lock: true}, r.now.Add(time.Hour))
		r.do(Tick{})
		r.expect(Starting, inspects, false)
		if !r.m.MayHold() {
			t.Error("a new group's lock is not known to be free before etcd said so")
		}
		r.do(notHeld)
		r.expect(Locking, locks, false)
		if r.m.triggers.since != since {
			t.Errorf("pending since %v, want %v", r.m.triggers.since, since)
		}
	}
	r := newRig(t, true).do(shuts, notHeld, need, reload)
	r.m = r.m.Restart(Config{}, r.now)
	r.do(Tick{})
	r.expect(Preparing, checks, false)
	if r.m.triggers.version != "4081.2.0" {
		t.Errorf("the version is %q", r.m.triggers.version)
	}
}

// A start calls off a reboot that an earlier process scheduled before it does anything else.
func TestStartCallsOffWhatAnEarlierProcessScheduled(t *testing.T) {
	start := func(lock bool) *rig {
		r := newRig(t, lock)
		p := people5m
		p.Lock = lock
		r.m = New(p, Found{}, r.now, r.m.rand)
		r.started = nil
		return r.do(need, Tick{})
	}
	for _, lock := range []bool{true, false} {
		r := start(lock)
		r.expect(Starting, nothing, false)
		if s := r.m.Status(r.now); !strings.Contains(s, "starting: asking logind whether a reboot is scheduled since Mon") {
			t.Errorf("the status is %q", s)
		}
		if r.started[0] != unschedules || !r.order.at.IsZero() {
			t.Errorf("started %v %+v", r.started, r.order)
		}
	}
	start(true).do(calledOff).expect(Starting, inspects, false)
	start(false).do(calledOff).expect(Preparing, checks, false)

	// logind does not say: nothing is begun, and it is asked again.
	r := start(false).do(standing)
	r.expect(Settling, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "asking logind whether a reboot still stands") || !strings.Contains(s, "trying again") {
		t.Errorf("the status is %q", s)
	}
	r.do(second)
	r.expect(Settling, unschedules, false)
	r.do(calledOff)
	r.expect(Preparing, checks, false)

	// A slot from before this boot is given back nevertheless: a schedule does not
	// outlive a boot. A slot of this boot is not.
	r = start(true).do(standing)
	r.expect(Starting, inspects, false)
	r.do(fromAgo, well)
	r.expect(Settling, unlocks, false)
	r.do(given, second)
	r.expect(Settling, unschedules, false)
	r.do(calledOff)
	r.expect(Locking, locks, false)

	// It may outlive a soft reboot.
	r = start(true)
	r.m.softSince = t0
	r.do(standing, fromAgo, well).expect(Settling, nothing, false)
	r.do(second).expect(Settling, unschedules, false)
	r.do(calledOff).expect(Settling, unlocks, false)

	r = start(true).do(standing, fromNow)
	r.expect(Settling, nothing, false)
	for range 20 {
		for r.last.Start == nil {
			r.do(r.last.Nap)
		}
		r.expect(Settling, unschedules, false)
		r.do(standing)
	}
	r.do(time.Minute, calledOff)
	r.expect(Settling, unlocks, false)

	// A slot without a record of the boot is not given back either.
	r = start(true).do(standing, from)
	r.expect(Settling, nothing, false)
	r.do(second)
	r.expect(Settling, unschedules, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "asking logind whether a reboot still stands") {
		t.Errorf("the status is %q", s)
	}
	r.do(calledOff)
	r.expect(Settling, unlocks, false)

	// Once it is asked to stop, it does not try again.
	start(true).do(stop).expect(Starting, nothing, true)
	r = start(true).do(stop, Unscheduled{Err: context.Canceled})
	r.expect(Left, nothing, false)
	r = start(true).do(standing, fromAgo, well, stop, given)
	r.expect(Left, nothing, false)
	if r.m.slot.mayHold {
		t.Error("the slot from before is kept")
	}
}

// The new machine knows what the old one scheduled.
func TestRestartRemembersWhatMayStand(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(reload, standing)
	r.expect(Left, nothing, false)
	at := r.m.schedule.at
	r.m = r.m.Restart(Config{Lock: true}, r.now)
	r.do(Tick{})
	r.expect(Starting, unschedules, false)
	if !r.order.at.Equal(at) || at.IsZero() {
		t.Errorf("looks for %v, want %v", r.order.at, at)
	}
}

// What people wanted counts for the next process as well.
func TestNextProcessKnowsWhatPeopleWanted(t *testing.T) {
	// A reboot that was asked for by hand, while the window is shut.
	r := newRig(t, true).do(shuts, notHeld, Update{Source: Requester, Pending: true, Version: "4081.2.0"})
	since := r.m.triggers.since
	r.do(time.Hour).again().do(notHeld, Update{Source: Engine})
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.HasPrefix(s, "reboot needed since "+clock(since)+" for version 4081.2.0; ") {
		t.Errorf("the status is %q", s)
	}
	// It is called off by hand.
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

	// The time for which that version was postponed.
	for version, left := range map[string]time.Duration{"4081.2.0": 4 * time.Hour, "4081.2.1": 24 * time.Hour} {
		r = bounded(t).do(backup, need, 20*time.Hour).again().do(notHeld, Update{Source: Engine, Pending: true, Version: version})
		if s, want := r.m.Status(r.now), clock(r.now.Add(left)); !strings.Contains(s, "can postpone it until "+want) {
			t.Errorf("version %s: the status is %q, want %s", version, s, want)
		}
	}

	// The time starts in this process, because nobody held the version back in the one before.
	for version, left := range map[string]time.Duration{"4081.2.0": 4 * time.Hour, "4081.2.1": 24 * time.Hour} {
		r = bounded(t).do(backup, Update{Source: Requester, Pending: true, Version: "4081.2.0"}).again()
		r.do(notHeld, gone, 20*time.Hour, Update{Source: Engine, Pending: true, Version: version})
		if s, want := r.m.Status(r.now), clock(r.now.Add(left)); !strings.Contains(s, "can postpone it until "+want) {
			t.Errorf("version %s after a request for 4081.2.0: the status is %q, want %s", version, s, want)
		}
	}
}

// The clock may be stepped while no process runs: nothing is put off for longer than before.
func TestNextProcessIsNotFooledByTheClock(t *testing.T) {
	for _, step := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		r := newRig(t, true).do(toDelay...).do(cancels, LookEvery, crowded, given, stepped(step)).again().do(notHeld, need)
		r.await(Locking, time.Hour)
	}
}

// Neither another message for the users nor a restart of logind matters.
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
	// Calling off had begun: there is nothing to look for, and no user has cancelled.
	r.again().expect(Starting, inspects, false)
	r = newRig(t, true).do(toDelay...).do(idle)
	r.expect(Releasing, unschedules, false)
	r.do(cancels).again().do(callGrace, notHeld)
	r.expect(Starting, unschedules, false)
	r.do(calledOff)
	if !r.m.people.cancelledAt.IsZero() {
		t.Error("taken for cancelled by a user")
	}
	// A call to schedule that was under way when the process died may still be carried out.
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

// logind may still carry out a call that it has not answered, whatever becomes of the process.
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
	// A slot from before this boot does not wait for that, only for the answer once logind is asked.
	r := newRig(t, true).do(toPreparing...).do(clear).again().do(callGrace, fromAgo)
	r.expect(Starting, unschedules, false)
	if s := r.m.Status(r.now); !strings.HasPrefix(s, "starting: asking logind whether a reboot is scheduled since") {
		t.Errorf("the status is %q", s)
	}
	r.do(standing, well).expect(Settling, unlocks, false)

	r = newRig(t, true).do(toPreparing...).do(crowded, unanswered, stop)
	if r.expect(Left, nothing, false); !r.m.MayHold() {
		t.Error("stopped: the slot is given back")
	}
}

// logind keeps what is scheduled over a soft reboot, unless it was asked for that itself.
func TestRebootThatWasScheduledBeforeASoftRebootIsCalledOff(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	kept := Kept{Scheduled: r.m.Kept(r.now).Scheduled.Outlived()}
	at := r.m.schedule.at
	r.m = New(r.m.config, Found{Kept: &kept, SoftSince: t0}, r.now, r.m.rand)
	r.m.wall = func(t time.Time) time.Time { return t }
	r.do(Tick{}).expect(Starting, unschedules, false)
	if !r.order.at.Equal(at) || !r.order.stands || r.order.asked {
		t.Errorf("it calls off %+v, want what is scheduled for %v", r.order, at)
	}
	r.do(calledOff, fromAgo, well).expect(Settling, unlocks, false)
	if !r.m.people.cancelledAt.IsZero() {
		t.Error("it is taken for cancelled by a user")
	}
	if (KeptSchedule{}).Outlived() != (KeptSchedule{}) {
		t.Error("what was not scheduled outlives it")
	}
}
