package policy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

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

func TestInstallationsPostponeUntilTheDeadline(t *testing.T) {
	r := bounded(t).do(atPackages, need)
	r.await(Locking, 25*time.Hour)
	if waited := r.now.Sub(t0); waited != 24*time.Hour {
		t.Errorf("waited %v", waited)
	}
	r.do(got, Checked{Held: true, Local: &atPackages})
	r.expect(Rebooting, reboots, false)
}

// Past the deadline an installation that has just begun has half an hour, and each has.
func TestFreshInstallationHasTimePastTheDeadline(t *testing.T) {
	r := bounded(t).do(backup, need)
	r.await(Locking, 25*time.Hour)
	busy := Local{Inhibitors: append(slices.Clone(atApt.Inhibitors), backup.Inhibitors...), Installing: atApt.Installing}
	r.do(got, Checked{Held: true, Local: &busy})
	r.expect(Releasing, unlocks, false)
	begun := r.now
	r.do(given, busy, LookEvery)
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "which has locked /var/lib/dpkg/lock-frontend, and has until Tue 2026-03-03 04:30:00 UTC") {
		t.Errorf("the status is %q", s)
	}
	for r.now.Before(begun.Add(20 * time.Minute)) {
		r.do(LookEvery)
		r.expect(Waiting, nothing, false)
	}
	r.do(backup, LookEvery)
	r.expect(Locking, locks, false)

	r.do(busy, LookEvery, got) // the next one
	r.expect(Releasing, unlocks, false)
	begun = r.now
	r.do(given, LookEvery)
	r.await(Locking, time.Hour)
	if waited := r.now.Sub(begun); waited < InstallGrace-LookEvery || waited > InstallGrace+LookEvery {
		t.Errorf("the installation has held the reboot back for %v", waited)
	}
	r.do(got, Checked{Held: true, Local: &busy})
	r.expect(Rebooting, reboots, false)

	// After a time without looks it may be another one.
	p := people{}
	p.saw(t0, &atPackages, nil)
	if p.saw(t0.Add(time.Hour), &atPackages, nil); p.installing != t0.Add(time.Hour) {
		t.Errorf("it is known to have begun %v", p.installing)
	}
	if p.saw(t0.Add(time.Hour+LookEvery), nil, errNonsense); p.installing != t0.Add(time.Hour) {
		t.Errorf("after a look that failed it is known to have begun %v", p.installing)
	}
}

func TestForceOnlyPastTheDeadline(t *testing.T) {
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
			r := bounded(t).do(need, got, crowded, warned, cancels, LookEvery, crowded, given, twoUsers)
			r.expect(Waiting, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "until Tue 2026-03-03 04:00:00 UTC") {
				t.Errorf("the status is %q", s)
			}
			for r.now.Before(t0.Add(23 * time.Hour)) { // each hour again
				r.await(Locking, time.Hour)
				r.do(got, crowded, warned, cancels, LookEvery, crowded, given)
			}
			r.await(Locking, time.Hour) // the retry is cut short
			if waited := r.now.Sub(t0); waited > 24*time.Hour {
				t.Errorf("the last attempt is after %v", waited)
			}
			if r.now.Before(t0.Add(24 * time.Hour)) {
				r.do(got, crowded, warned, cancels, LookEvery, crowded, given)
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
				r.do(unwarned)
				if s := r.m.Status(r.now); !strings.Contains(s, "(access denied)") {
					t.Errorf("the status is %q", s)
				}
			} else {
				r.do(warned)
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

// Users who cancel when the time is up are told so, and have the minute.
func TestCancelPastTheDeadlineIsAnswered(t *testing.T) {
	r := bounded(t)
	r.do(backup, need, 24*time.Hour-time.Minute, Local{}, LookEvery, got, crowded, warned) // with 5 minutes, 4 of them past the deadline
	r.do(2*time.Minute, crowded)
	r.expect(Preparing, nothing, false)
	r.do(cancels, LookEvery, crowded)
	r.expect(Preparing, schedules, false)
	if !strings.Contains(r.order.message, "System reboot in 1 minute!") {
		t.Errorf("the message is %q", r.order.message)
	}
	r.do(warned, time.Minute, crowded)
	r.expect(Rebooting, reboots, false)
}

// Users who were told that it cannot be cancelled are told again once it can.
func TestDeadlineThatIsLiftedIsAnswered(t *testing.T) {
	r := bounded(t).do(backup, need, 24*time.Hour, got, crowded)
	r.expect(Preparing, schedules, false)
	p := r.m.config
	p.MaxPostpone = 0
	r.do(unwarned, Reconfigure{p}, LookEvery, crowded)
	r.expect(Preparing, schedules, false)
	if !strings.Contains(r.order.message, "System reboot in 5 minutes!") || !strings.Contains(r.order.message, "shutdown -c") {
		t.Errorf("the message is %q", r.order.message)
	}

	r = bounded(t).do(backup, need, 24*time.Hour, got, crowded, warned, cancels, LookEvery, crowded) // cancelled too late
	r.expect(Preparing, nothing, false)
	r.do(Reconfigure{p}, LookEvery, crowded)
	r.expect(Releasing, unlocks, false)
	r.do(given)
	if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it") {
		t.Errorf("the status is %q", s)
	}
}

// Past the deadline, a shut window, a shutdown that somebody else has scheduled, and a logind
// that does not answer still hold the reboot back.
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

// The time counts from the moment when only people hold the reboot back.
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
	// For another update the time starts again.
	r.do(idle, lockEnded, need)
	r.expect(Waiting, nothing, false)
}

// The last minute begins when users were warned, or could not be. A warning that was
// cancelled does not begin it.
func TestLastWarningThatIsCutShortDoesNotCount(t *testing.T) {
	r := bounded(t).do(backup, need, 24*time.Hour, got, crowded)
	r.expect(Preparing, schedules, false)
	r.do(shuts, Tick{}, opens, Scheduled{Err: context.Canceled})
	r.expect(Releasing, unschedules, false)
}

// A host that waits for a slot is held up by other hosts, not by people on this one.
func TestWaitingForASlotIsNotPostponing(t *testing.T) {
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

	// The time that was used up stays used up.
	queue(r, 25*time.Hour)
	r.do(LookEvery, got, Checked{Held: true, Local: &twoUsers})
	if !strings.Contains(r.order.message, "It has been postponed for 1440 minutes") {
		t.Errorf("the message is %q", r.order.message)
	}
}

// People who hold the reboot back until the window shuts have postponed it to the next opening.
func TestPostponingGoesOnWhileTheWindowIsShut(t *testing.T) {
	r := bounded(t).do(backup, need, time.Hour, shuts, 30*time.Hour, opens, time.Minute)
	r.expect(Locking, locks, false)

	r = bounded(t).do(need, LookEvery, shuts, LookEvery, lockEnded, 30*time.Hour, backup, opens, time.Minute)
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+r.m.config.Clock(r.now.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}
}

// A reboot that is needed again starts without any of it used up.
func TestNextUpdateHasNotBeenPostponed(t *testing.T) {
	r := bounded(t).do(backup, need, 20*time.Hour, idle, 30*time.Hour, need)
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+r.m.config.Clock(r.now.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}
}

// For another update that comes while people hold one back, the time starts again.
func TestAnotherVersionHasNotBeenPostponed(t *testing.T) {
	next := Update{Source: Engine, Pending: true, Version: "4081.2.1"}
	r := bounded(t).do(backup, need, 20*time.Hour, next)
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+clock(r.now.Add(24*time.Hour))) {
		t.Errorf("the status is %q", s)
	}
	// While update_engine has a version, what others call it does not count.
	at := r.now
	for range 3 {
		r.do(time.Hour, Update{Source: Requester, Pending: true, Version: "5"}, next)
	}
	if s := r.m.Status(r.now); !strings.Contains(s, "can postpone it until "+clock(at.Add(24*time.Hour))) || !strings.Contains(s, "for version 4081.2.1") {
		t.Errorf("the status is %q", s)
	}
}
