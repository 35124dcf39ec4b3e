package policy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

var errNonsense = errors.New("nonsense")

// Who is at work holds the reboot back before a slot is taken.
func TestNoSlotIsTakenWhileSomebodyIsAtWork(t *testing.T) {
	none := Local{}
	for _, c := range []struct {
		name   string
		script []any // after an update has come
		held   string
	}{
		{"an inhibitor", []any{backup}, `"unattended backup" (rsync, root): block inhibitor`},
		{"two inhibitors", []any{Local{Inhibitors: append(backup.Inhibitors, backup.Inhibitors...)}}, `"unattended backup" (rsync, root), "unattended backup" (rsync, root): block inhibitor`},
		{"a shutdown of somebody else", []any{foreign}, "a poweroff that is scheduled for Mon 2026-03-02 05:00:00 UTC"},
		{"a reboot by somebody else", []any{Local{Shutdown: Shutdown{Type: "reboot", At: t0.Add(time.Hour)}}}, "a reboot that is scheduled"},
		{"a reboot under way", []any{Local{Shutdown: Shutdown{Type: "reboot"}}}, "a reboot that is under way"},
		{"logind does not say who is at work", []any{Local{Unclear: errNonsense}}, "logind, which does not say who is at work on this host: nonsense"},
		{"logind answers nonsense", []any{errNonsense}, "logind, which does not say who is at work on this host: nonsense"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true).do(notHeld).do(c.script...).do(need)
			for range 100 {
				r.expect(Waiting, nothing, false)
				if s := r.m.Status(r.now); !strings.Contains(s, "held back by ") || !strings.Contains(s, c.held) {
					t.Fatalf("the status is %q, want something with %q", s, c.held)
				}
				r.do(LookEvery)
			}
			r.lookErr = nil
			r.do(none, cancels, LookEvery)
			r.expect(Locking, locks, false)

			// The same, coming up in the queue, costs the place there.
			r.do(c.script...)
			r.do(LookEvery)
			r.expect(Locking, nothing, true)
			r.do(lockEnded)
			r.expect(Waiting, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, c.held) {
				t.Errorf("the status is %q, want something with %q", s, c.held)
			}
			r.lookErr = nil
			r.do(none, cancels, LookEvery)
			r.expect(Locking, locks, false)

			// And if the slot came at that very moment, it goes.
			r.do(c.script...)
			r.do(LookEvery, got)
			r.expect(Releasing, unlocks, false)
			r.do(given)
			r.expect(Waiting, nothing, false)
			if r.count(checks)+r.count(schedules)+r.count(reboots) > 0 {
				t.Errorf("started %v", r.started)
			}
		})
	}
}

func TestNoSlotIsTakenWhileSomebodyIsAtWorkWithoutALock(t *testing.T) {
	r := newRig(t, false).do(backup, need)
	r.expect(Waiting, nothing, false)
	r.do(Local{}, LookEvery)
	r.expect(Preparing, checks, false)
	r.do(Checked{Local: &backup})
	r.expect(Waiting, nothing, false)
}

// A slot that may be held is given back when somebody turns out to be at work.
func TestSlotThatMayBeHeldIsGivenBackWhenSomebodyIsAtWork(t *testing.T) {
	r := newRig(t, true).do(toMaybe...).do(backup, 20*second)
	r.expect(Releasing, unlocks, false)
	r = newRig(t, true).do(backup, need, fromNow)
	r.expect(Releasing, unlocks, false)
}

// In a queue it is looked at least once a minute, and never twice at once.
func TestLookedAtInTheQueue(t *testing.T) {
	r := newRig(t, true).do(toLocking...)
	looks, last := 0, r.now
	for r.now.Before(t0.Add(3 * time.Hour)) {
		r.now = r.now.Add(r.last.Nap)
		r.one(Tick{})
		if !r.last.Look {
			continue
		}
		if r.now.Sub(last) > time.Minute {
			t.Errorf("looked after %v", r.now.Sub(last))
		}
		last = r.now
		looks++
		r.one(Tick{})
		if r.last.Look {
			t.Fatal("a second look is begun beside the first")
		}
		r.one(Looked{Local: &Local{}})
		r.expect(Locking, nothing, false)
	}
	if looks < 180 {
		t.Errorf("looked %d times in three hours", looks)
	}
}

func TestNobodyIsLookedForWhileTheWindowIsShut(t *testing.T) {
	r := newRig(t, true).do(toWaiting...)
	for range 60 {
		r.now = r.now.Add(r.last.Nap)
		if r.one(Tick{}); r.last.Look {
			t.Fatal("a look for nothing")
		}
	}
}

// Before the reboot it is asked again.
func TestWhoTurnsUpLateHoldsTheRebootBackAsWell(t *testing.T) {
	for name, c := range map[string]struct {
		script []any
		why    string
	}{
		"an inhibitor with the slot":             {[]any{got, blockaded}, "unattended backup"},
		"a shutdown with the slot":               {[]any{got, replaces, clear}, "a poweroff that is scheduled"},
		"an inhibitor during the users' delay":   {[]any{got, crowded, told, LookEvery, blockaded, calledOff}, "unattended backup"},
		"an inhibitor at the end of their delay": {[]any{got, crowded, told, 5 * time.Minute, blockaded, calledOff}, "unattended backup"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toLocking...).do(c.script...)
			r.expect(Releasing, unlocks, false)
			if r.do(given); !strings.Contains(r.m.Status(r.now), "the last attempt failed: held back by ") || !strings.Contains(r.m.Status(r.now), c.why) {
				t.Errorf("the status is %q", r.m.Status(r.now))
			}
			if r.count(reboots) > 0 {
				t.Errorf("started %v", r.started)
			}
		})
	}
}

// A schedule of ours never outlives the slot.
func TestSlotIsGivenBackOnlyOnceTheRebootIsCalledOff(t *testing.T) {
	for name, script := range map[string][]any{
		"withdrawn":      {idle},
		"window shut":    {shuts, LookEvery},
		"inhibitor":      {LookEvery, blockaded},
		"etcd is silent": {LookEvery, unchecked},
		"stopped":        {stop},
		"refused":        {LookEvery, clear, refused},
		"still up":       {LookEvery, clear, accepted, RebootGrace},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(script...)
			doing := "calling off the reboot"
			if name == "still up" {
				doing = "asking logind and systemd whether the reboot that logind was asked for is under way"
			}
			for n := range 30 {
				r.expect(Releasing, unschedules, false)
				if r.do(standing); r.last.State == Left {
					if n > 0 || name != "stopped" || r.m.slot.mayHold != true || r.count(unlocks) > 0 {
						t.Errorf("left at try %d: %v", n+1, r.started)
					}
					return
				}
				if s := r.m.Status(r.now); !strings.Contains(s, doing) || !strings.Contains(s, "trying again") || !strings.Contains(s, "access denied") {
					t.Errorf("the status is %q", s)
				}
				for r.last.Start == nil {
					r.do(r.last.Nap)
				}
			}
			r.do(calledOff)
			r.expect(Releasing, unlocks, false)
		})
	}
}

// The delay is from the announcement to the reboot; logind's own is a little longer.
func TestScheduleSaysWhenAndWhy(t *testing.T) {
	r := newRig(t, true).do(toPreparing...).do(20*second, crowded)
	r.expect(Preparing, schedules, false)
	if want := t0.Add(20*second + 5*time.Minute + Backstop); !r.order.at.Equal(want) {
		t.Errorf("scheduled for %v, want %v", r.order.at, want)
	}
	const want = "System reboot in 5 minutes! locksmithd reboots this host at Mon 2026-03-02 04:05:20 UTC, for version 4081.2.0." +
		" To cancel it, run: shutdown -c; it is tried again 60 minutes later. To go now, log out, or run: systemctl reboot"
	if r.order.message != want {
		t.Errorf("the message is\n%s\nwant\n%s", r.order.message, want)
	}
}

func TestWhatSomebodyCallsAVersionCannotHarmATerminal(t *testing.T) {
	r := newRig(t, true).do(Update{Source: Requester, Pending: true, Version: "1\x1b[2J\nBroadcast\u202e"})
	if text := r.m.message(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\u202e' }) || !strings.Contains(text, `version 1\x1b[2J\nBroadcast\u202e`) {
		t.Errorf("the message is %q", text)
	}
}

// Whoever changes the message changes nothing else: the slot is given back only once the reboot is called off.
func TestRebootThatWeScheduledIsOursWhateverItsMessage(t *testing.T) {
	r := newRig(t, true).do(toPreparing...).do(crowded, told)
	r.do(Local{Users: twoUsers.Users, Shutdown: Shutdown{Type: "reboot", At: r.order.at}})
	r.do(LookEvery, Checked{Held: true, Local: &Local{Users: twoUsers.Users, Shutdown: Shutdown{Type: "reboot", At: r.order.at}}})
	r.expect(Preparing, nothing, false)
	r.do(Update{Source: Engine})
	r.expect(Releasing, unschedules, false)
}

func TestSpokenDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 90 * time.Second: "90 seconds", time.Minute: "1 minute", 5 * time.Minute: "5 minutes",
	} {
		if got := spoken(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// What a user cancels is given back and stays cancelled for the time.
func TestCancelledRebootIsRespected(t *testing.T) {
	for name, how := range map[string][]any{
		"cancelled":                           {cancels, LookEvery, crowded},
		"cancelled at the end":                {cancels, 5 * time.Minute, crowded},
		"cancelled, and logged out":           {cancels, LookEvery, clear},
		"cancelled, and a backup runs":        {cancels, LookEvery, blockaded},
		"replaced":                            {replaces, LookEvery, crowded, cancels},
		"cancelled and scheduled for another": {scheduledIs{Type: "reboot", At: t0.Add(2 * time.Hour)}, LookEvery, crowded, cancels},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(how...)
			r.expect(Releasing, unlocks, false) // nothing of ours is there to be cancelled
			at := r.now
			r.do(given)
			r.expect(Waiting, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it "+r.m.config.Clock(at)+"; trying again "+r.m.config.Clock(at.Add(time.Hour))) {
				t.Errorf("the status is %q", s)
			} else if foreign := name == "replaced" || name == "cancelled and scheduled for another"; strings.Contains(s, "that is scheduled") != foreign {
				t.Errorf("the status is %q; somebody else has scheduled a shutdown: %v", s, foreign)
			}
			for r.last.State == Waiting {
				r.do(r.last.Nap)
			}
			if waited := r.now.Sub(at); waited != time.Hour {
				t.Errorf("tried again after %v", waited)
			}
			r.expect(Locking, locks, false)
			r.do(got, crowded)
			r.expect(Preparing, schedules, false) // told again
		})
	}
}

// The reload that an operator does for another delay does not overrule users.
func TestReloadKeepsWhatAUserHasCancelled(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(cancels, LookEvery, crowded, given)
	at := r.now
	p := r.m.config
	p.LoginRetry = 10 * time.Minute
	r.do(Reconfigure{p})
	r.expect(Waiting, nothing, false)
	r.do(5*time.Minute, reload)
	r.expect(Left, nothing, false)
	p.Lock = false
	r.m = r.m.Restart(p, r.now)
	r.do(Tick{})
	r.expect(Waiting, nothing, false)
	for r.last.State == Waiting {
		r.do(r.last.Nap)
	}
	if waited := r.now.Sub(at); waited != 10*time.Minute {
		t.Errorf("tried again after %v", waited)
	}
}

// With users logged in, no slot is taken for a delay that the window would end.
func TestNoSlotIsTakenForADelayThatTheWindowEnds(t *testing.T) {
	const delay = 5 * time.Minute
	gate := &spans{{t0, t0.Add(time.Hour)}, {t0.Add(24 * time.Hour), t0.Add(25 * time.Hour)}}
	policy := people5m
	policy.Lock, policy.Window = true, gate
	rig := func(at time.Duration) *rig {
		r := newRig(t, true)
		r.now = t0.Add(at)
		return r.restart(policy).do(notHeld, twoUsers)
	}

	r := rig(time.Hour - delay - Backstop - second).do(need)
	r.expect(Locking, locks, false)
	for !r.last.Cancel { // the place in the queue is given up in time
		r.do(r.last.Nap)
	}
	if r.now.After(t0.Add(time.Hour - delay - Backstop)) {
		t.Errorf("left the queue at %v", r.now)
	}
	r.do(lockEnded)
	r.expect(Waiting, nothing, false)

	r = rig(time.Hour - delay - Backstop).do(need)
	r.expect(Waiting, nothing, false)
	const want = "held back by users who are logged in (ann, bob): the reboot window shuts Mon 2026-03-02 05:00:00 UTC, before the 5m0s that they have would be over"
	if s := r.m.Status(r.now); !strings.Contains(s, want) {
		t.Errorf("the status is %q, want something with %q", s, want)
	}
	for r.last.State == Waiting {
		r.do(r.last.Nap)
	}
	if r.now != t0.Add(24*time.Hour) {
		t.Errorf("locking at %v", r.now)
	}

	// Nobody is there: the window may be used up to its end.
	rig(time.Hour-second).do(Local{}, need).expect(Locking, locks, false)

	// They come when the slot is held already.
	r = rig(time.Hour-time.Minute).do(Local{}, need, got, crowded)
	r.expect(Releasing, unlocks, false)
}

// The window may come to shut earlier than it seemed.
func TestWindowThatWouldShutDuringTheDelayCallsItOff(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	p := r.m.config
	p.Window = &spans{{t0, t0.Add(5 * time.Minute)}}
	r.do(Reconfigure{p}, LookEvery, crowded)
	r.expect(Releasing, unschedules, false)
	if !strings.Contains(r.m.why, "the reboot window shuts") {
		t.Errorf("why is %q", r.m.why)
	}
}

func TestWithoutADelayUsersAreNotAsked(t *testing.T) {
	r := newRig(t, true)
	r.restart(Config{Lock: true}).do(notHeld, twoUsers, need, got, crowded)
	r.expect(Rebooting, reboots, false)
}

// A shorter delay is for those who have not been told yet.
func TestNewDelayDoesNotShortenWhatUsersWereTold(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	p := r.m.config
	p.LoginDelay = 0
	r.do(Reconfigure{p}, LookEvery, crowded)
	r.expect(Preparing, nothing, false)
	r.do(5*time.Minute-LookEvery, crowded)
	r.expect(Rebooting, reboots, false)
}

// bounded returns a rig with MAX_POSTPONE of a day.
func bounded(t *testing.T) *rig {
	r := newRig(t, true)
	p := people5m
	p.Lock, p.Window, p.MaxPostpone = true, r.door, 24*time.Hour
	return r.restart(p).do(notHeld)
}

// await lets time pass in naps, with checks answered by who is at work.
func (r *rig) await(state State, limit time.Duration) {
	r.t.Helper()
	end := r.now.Add(limit)
	for r.last.State != state {
		switch {
		case r.now.After(end):
			r.t.Fatalf("still in state %v: %v", r.last.State, r.m.Status(r.now))
		case is(r.m.running, checks):
			r.do(Checked{Held: true, Local: &r.local})
		default:
			r.do(r.last.Nap)
		}
	}
}

func TestInhibitorsPostponeUntilTheDeadline(t *testing.T) {
	r := bounded(t).do(backup, need)
	if s := r.m.Status(r.now); !strings.Contains(s, "; users and inhibitors can postpone it until Tue 2026-03-03 04:00:00 UTC") {
		t.Errorf("the status is %q", s)
	}
	r.await(Locking, 25*time.Hour)
	if waited := r.now.Sub(t0); waited != 24*time.Hour {
		t.Errorf("waited %v", waited)
	}
	r.do(got, blockaded)
	r.expect(Rebooting, reboots, false) // nobody is logged in who has to be told
	if !r.order.force {
		t.Error("logind is not told to skip inhibitors")
	}
}

func TestForceIsForTheOverdueOnly(t *testing.T) {
	if r := newRig(t, true).do(toRebooting...); r.order.force {
		t.Error("inhibitors are skipped without need")
	}
	if r := bounded(t).do(need, got, clear); r.order.force {
		t.Error("inhibitors are skipped before the deadline")
	}
}

// Past the deadline users have a minute, and cancelling does not help.
func TestUsersPostponeUntilTheDeadline(t *testing.T) {
	for name, then := range map[string][]any{
		"they stay":              {},
		"they cancel it":         {cancels},
		"they cannot be told":    {},
		"and an inhibitor comes": {Local{Users: twoUsers.Users, Inhibitors: backup.Inhibitors}},
	} {
		t.Run(name, func(t *testing.T) {
			r := bounded(t).do(need, got, crowded, told, cancels, LookEvery, crowded, given, twoUsers)
			r.expect(Waiting, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "until Tue 2026-03-03 04:00:00 UTC") {
				t.Errorf("the status is %q", s)
			}
			for r.now.Before(t0.Add(23 * time.Hour)) { // each hour again
				r.await(Locking, time.Hour)
				r.do(got, crowded, told, cancels, LookEvery, crowded, given)
			}
			r.await(Locking, time.Hour) // the retry is cut short
			if waited := r.now.Sub(t0); waited > 24*time.Hour {
				t.Errorf("the last attempt is after %v", waited)
			}
			if r.now.Before(t0.Add(24 * time.Hour)) {
				r.do(got, crowded, told, cancels, LookEvery, crowded, given)
				r.await(Locking, time.Hour)
			}
			r.do(got, Checked{Held: true, Local: &twoUsers})
			r.expect(Preparing, schedules, false)
			for _, part := range []string{"System reboot in 1 minute! locksmithd ", "postponed for 1440 minutes", "cannot be cancelled any more"} {
				if !strings.Contains(r.order.message, part) {
					t.Errorf("the message is %q, want something with %q", r.order.message, part)
				}
			}
			if name == "they cannot be told" {
				r.do(untold)
				if s := r.m.Status(r.now); !strings.Contains(s, "(access denied)") {
					t.Errorf("the status is %q", s)
				}
			} else {
				r.do(told)
			}
			at := r.now
			if s := r.m.Status(r.now); !strings.Contains(s, "it cannot be cancelled any more") {
				t.Errorf("the status is %q", s)
			}
			r.do(then...)
			r.await(Rebooting, time.Hour)
			if waited := r.now.Sub(at); waited != time.Minute || !r.order.force {
				t.Errorf("rebooting after %v, force %v", waited, r.order.force)
			}
		})
	}
}

// Whoever cancels when the time is up is told so, and has the minute.
func TestCancelPastTheDeadlineIsAnswered(t *testing.T) {
	r := bounded(t)
	r.do(backup, need, 24*time.Hour-time.Minute, Local{}, LookEvery, got, crowded, told) // with 5 minutes, 4 of them past the deadline
	r.do(2*time.Minute, crowded)
	r.expect(Preparing, nothing, false)
	r.do(cancels, LookEvery, crowded)
	r.expect(Preparing, schedules, false)
	if !strings.Contains(r.order.message, "System reboot in 1 minute!") {
		t.Errorf("the message is %q", r.order.message)
	}
	r.do(told, time.Minute, crowded)
	r.expect(Rebooting, reboots, false)
}

// Users who were told that it cannot be cancelled are told anew when it can be again.
func TestDeadlineThatIsLiftedIsAnswered(t *testing.T) {
	r := bounded(t).do(backup, need, 24*time.Hour, got, crowded)
	r.expect(Preparing, schedules, false)
	p := r.m.config
	p.MaxPostpone = 0
	r.do(untold, Reconfigure{p}, LookEvery, crowded)
	r.expect(Preparing, schedules, false)
	if !strings.Contains(r.order.message, "System reboot in 5 minutes!") || !strings.Contains(r.order.message, "shutdown -c") {
		t.Errorf("the message is %q", r.order.message)
	}

	r = bounded(t).do(backup, need, 24*time.Hour, got, crowded, told, cancels, LookEvery, crowded) // in vain
	r.expect(Preparing, nothing, false)
	r.do(Reconfigure{p}, LookEvery, crowded)
	r.expect(Releasing, unlocks, false)
	r.do(given)
	if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it") {
		t.Errorf("the status is %q", s)
	}
}

// The deadline is no reason to reboot with the window shut, beside a shutdown
// that somebody else has scheduled, or without knowing.
func TestDeadlineDoesNotCountAgainstOtherGates(t *testing.T) {
	for name, script := range map[string][]any{
		"window":    {shuts},
		"scheduled": {replaces},
		"logind":    {errNonsense},
		"withdrawn": {idle},
	} {
		t.Run(name, func(t *testing.T) {
			r := bounded(t).do(backup, need).do(script...)
			for range 5000 {
				if r.do(time.Minute); r.last.Start != nil {
					t.Fatalf("started %v", r.last.Start)
				}
			}
		})
	}
}

// The time counts from when only people hold the reboot back.
func TestPostponingCountsFromTheFirstOpening(t *testing.T) {
	r := bounded(t).do(shuts, backup, need, 72*time.Hour, opens, time.Minute)
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "until Fri 2026-03-06 04:01:00 UTC") {
		t.Errorf("the status is %q", s)
	}
	r.do(shuts, time.Minute, opens)
	r.await(Locking, 24*time.Hour)
	if waited := r.now.Sub(t0); waited != 96*time.Hour+time.Minute {
		t.Errorf("waited %v", waited)
	}
	// Another update has a time of its own.
	r.do(idle, lockEnded, need)
	r.expect(Waiting, nothing, false)
}

// At a start a reboot that an earlier process scheduled goes before anything else.
func TestStartCallsOffWhatAnEarlierProcessScheduled(t *testing.T) {
	start := func(lock bool) *rig {
		r := newRig(t, lock)
		p := people5m
		p.Lock = lock
		r.m = New(p, nil, r.now, r.m.rand)
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

	// A slot from before this boot is given back all the same: what is scheduled
	// does not outlive a boot. One from this boot is not.
	r = start(true).do(standing)
	r.expect(Starting, inspects, false)
	r.do(fromAgo)
	r.expect(Settling, unlocks, false)
	r.do(given, second)
	r.expect(Settling, unschedules, false)
	r.do(calledOff)
	r.expect(Locking, locks, false)

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

	// Nor is one of which nobody knows since which boot it is held.
	r = start(true).do(standing, from)
	r.expect(Settling, nothing, false)
	r.do(second)
	r.expect(Settling, unschedules, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "asking logind whether a reboot still stands") {
		t.Errorf("the status is %q", s)
	}
	r.do(calledOff)
	r.expect(Settling, unlocks, false)

	// Asked to stop, it tries no longer.
	start(true).do(stop).expect(Starting, nothing, true)
	r = start(true).do(stop, Unscheduled{Err: context.Canceled})
	r.expect(Left, nothing, false)
	r = start(true).do(standing, fromAgo, stop, given)
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

// What was called off, and is seen again, is called off again.
func TestRebootOfOursThatTurnsUpAgainIsCalledOff(t *testing.T) {
	for name, where := range map[string][]any{
		"waiting": {LookEvery, unchecked, calledOff, given, replaces}, // a moment after a failure
		"locking": {LookEvery, unchecked, calledOff, given, 20 * second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...)
			ours := r.scheduled
			r.do(where...).do(scheduledIs(ours), 20*second)
			if name == "locking" {
				r.expect(Locking, nothing, true)
				r.do(lockEnded)
			}
			r.expect(Releasing, unschedules, false)
			if !r.order.at.Equal(ours.At) {
				t.Errorf("calls off %v, want %v", r.order.at, ours.At)
			}
		})
	}
}

// The window has to have room for the delay from when users were told, no longer.
func TestDelayThatTheWindowHasRoomForIsNotCutShort(t *testing.T) {
	r := newRig(t, true)
	policy := people5m
	policy.Lock, policy.Window = true, &spans{{t0, t0.Add(5*time.Minute + Backstop + second)}}
	r.restart(policy).do(notHeld, twoUsers, need, got, crowded, told)
	r.await(Rebooting, 5*time.Minute)
}

// The last minute begins when users were told, or could not be, and not when
// nobody wanted to tell them any more.
func TestLastWarningThatWasCutShortIsNoWarning(t *testing.T) {
	r := bounded(t).do(backup, need, 24*time.Hour, got, crowded)
	r.expect(Preparing, schedules, false)
	r.do(shuts, Tick{}, opens, Scheduled{Err: context.Canceled})
	r.expect(Releasing, unschedules, false)
}

// What else comes to pass does not make a user's cancel unheard.
func TestCancelIsRespectedWhateverElseHappens(t *testing.T) {
	cut := Checked{Err: context.Canceled, Local: &twoUsers}
	for name, script := range map[string][]any{
		"etcd is silent":                     {cancels, LookEvery, lockDown, given},
		"etcd is silent, and it is replaced": {replaces, LookEvery, lockDown, given, cancels},
		"nobody answers":                     {cancels, LookEvery, unchecked, calledOff, given},
		"nobody answers for some time":       {cancels, LookEvery, unchecked, standing, second, standing, 2 * second, calledOff, given},
		"the slot is taken away":             {cancels, LookEvery, slotless},
		"the window shuts":                   {cancels, shuts, second, calledOff, given, opens},
		"the window shuts during the check":  {cancels, LookEvery, shuts, Tick{}, cut, given, opens},
		"the check is cut short":             {cancels, LookEvery, shuts, Tick{}, checkDead, calledOff, given, opens},
		"the update is withdrawn for now":    {cancels, idle, calledOff, given, need},
		"an inhibitor comes":                 {cancels, LookEvery, blockaded, given},
		"another lock":                       {cancels, reload, calledOff, given},
		"another lock, logind is silent":     {cancels, reload, standing},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(script...)
			if r.last.State == Left {
				r.m = r.m.Restart(r.m.config, r.now)
				r.do(Tick{})
				if is(r.m.running, unschedules) {
					r.do(calledOff)
				}
				r.do(notHeld)
			}
			r.do(Tick{})
			if r.m.state == Waiting && r.m.running == nil {
				if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it") {
					t.Errorf("the status is %q", s)
				}
			}
			at := r.m.people.cancelledAt
			if at.IsZero() {
				t.Fatalf("in state %v nobody knows that it was cancelled", r.m.state)
			}
			r.await(Locking, 2*time.Hour)
			if waited := r.now.Sub(at); waited < time.Hour || waited > time.Hour+MaxNap {
				t.Errorf("tried again after %v", waited)
			}
		})
	}
}

// What we have called off ourselves, or may have, no user has cancelled.
func TestOwnCallingOffIsNoCancel(t *testing.T) {
	lost := Unscheduled{Err: errDown, Found: true}
	for name, script := range map[string][]any{
		"called off":                 {LookEvery, unchecked, calledOff, given},
		"called off, the reply lost": {LookEvery, unchecked, lost, cancels, second, calledOff, given},
		"etcd is silent":             {LookEvery, lockDown, calledOff, given},
		"withdrawn and back":         {idle, calledOff, given, need},
		"never scheduled":            {shuts, second, calledOff, given, opens, time.Minute, got, crowded, untold, cancels, calledOff, given},
		"scheduled again":            {LookEvery, unchecked, calledOff, given, 20 * second, got, crowded, told, LookEvery, crowded},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(script...)
			if !r.m.people.cancelledAt.IsZero() {
				t.Errorf("taken for cancelled: %s", r.m.Status(r.now))
			}
		})
	}
}

// Who waits for a slot is held up by other hosts, not by people on this one.
func TestWaitingForASlotIsNoPostponing(t *testing.T) {
	queue := func(r *rig, d time.Duration) {
		r.expect(Locking, locks, false)
		for end := r.now.Add(d); r.now.Before(end); {
			r.do(min(r.last.Nap, end.Sub(r.now)))
		}
	}
	r := bounded(t).do(twoUsers, need)
	queue(r, 25*time.Hour)
	r.do(backup, LookEvery)
	r.expect(Locking, nothing, true)
	r.do(lockEnded)
	r.expect(Waiting, nothing, false)
	at := r.now
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+r.m.config.Clock(at.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}

	// It adds up: ten hours, a day in the queue, and fourteen.
	for end := at.Add(10 * time.Hour); r.now.Before(end); {
		r.do(min(r.last.Nap, end.Sub(r.now)))
	}
	r.do(Local{}, LookEvery)
	first := r.now.Sub(at)
	queue(r, 25*time.Hour)
	r.do(backup, LookEvery, lockEnded)
	second := r.now
	r.await(Locking, 25*time.Hour)
	if postponed := first + r.now.Sub(second); postponed != 24*time.Hour {
		t.Errorf("postponed for %v", postponed)
	}

	// What was postponed stays so.
	queue(r, 25*time.Hour)
	r.do(LookEvery, got, Checked{Held: true, Local: &twoUsers})
	if !strings.Contains(r.order.message, "It has been postponed for 1440 minutes") {
		t.Errorf("the message is %q", r.order.message)
	}
}

// Who holds the reboot back until the window shuts has postponed it to the next one.
func TestPostponingGoesOnWhileTheWindowIsShut(t *testing.T) {
	r := bounded(t).do(backup, need, time.Hour, shuts, 30*time.Hour, opens, time.Minute)
	r.expect(Locking, locks, false)

	r = bounded(t).do(need, LookEvery, shuts, LookEvery, lockEnded, 30*time.Hour, backup, opens, time.Minute)
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+r.m.config.Clock(r.now.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}
}

// A reboot that is needed again was not postponed before.
func TestAnotherUpdateIsPostponedAnew(t *testing.T) {
	r := bounded(t).do(backup, need, 20*time.Hour, idle, 30*time.Hour, need)
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+r.m.config.Clock(r.now.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}
}

// logind goes by the wall clock: what it has been told is wrong after a step.
func TestClockStepCallsOffWhatIsScheduled(t *testing.T) {
	for _, c := range []struct {
		step time.Duration
		off  bool
	}{
		{MaxDrift, false}, {-MaxDrift, false}, {MaxDrift + second, true}, {-MaxDrift - second, true}, {time.Minute, true}, {-365 * 24 * time.Hour, true},
	} {
		t.Run(c.step.String(), func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(LookEvery, crowded, stepped(c.step), LookEvery, crowded)
			if !c.off {
				r.expect(Preparing, nothing, false)
				r.await(Rebooting, 5*time.Minute)
				return
			}
			r.expect(Releasing, unschedules, false)
			if want := "the clock was stepped by " + c.step.String(); !strings.Contains(r.m.why, want) {
				t.Errorf("why is %q", r.m.why)
			}
			r.do(calledOff, given, 5*second, got, crowded)
			r.expect(Preparing, schedules, false)
			if want := r.now.Add(r.ahead + 5*time.Minute + Backstop); !r.order.at.Equal(want) {
				t.Errorf("scheduled for %v, want %v", r.order.at, want)
			}
			r.do(told)
			r.await(Rebooting, 5*time.Minute)
		})
	}
}

// A look that was begun in the queue may end when all is over.
func TestLateLookIsFollowedUp(t *testing.T) {
	r := newRig(t, true).do(toLocking...)
	r.now = r.now.Add(LookEvery)
	if r.one(Tick{}); !r.last.Look {
		t.Fatal("nobody is looked for")
	}
	r.do(got, crowded, told)
	late := Looked{Local: &Local{Shutdown: r.scheduled}}
	r.do(idle, calledOff, given)
	r.expect(Idle, nothing, false)
	r.one(late)
	r.expect(Releasing, unschedules, false)
	r.do(calledOff)
	r.expect(Idle, nothing, false)
	if !r.m.people.cancelledAt.IsZero() {
		t.Error("taken for cancelled")
	}

	// And one from before the reboot was scheduled tells of no cancel.
	r = newRig(t, true).do(toLocking...)
	r.now = r.now.Add(LookEvery)
	r.one(Tick{})
	r.do(got, crowded, told)
	r.one(Looked{Local: &Local{}})
	r.do(LookEvery, crowded)
	r.expect(Preparing, nothing, false)
}
