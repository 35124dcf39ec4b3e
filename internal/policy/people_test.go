package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUsersAreToldOnceAndHaveFiveMinutes(t *testing.T) {
	r := newRig(t, true).do(toPreparing...).do(crowded)
	r.expect(Preparing, schedules, false)
	r.do(20*second, warned) // a slow terminal does not lengthen it
	for r.last.State == Preparing {
		if is(r.m.running, checks) {
			r.do(crowded)
		} else {
			r.do(r.last.Nap)
		}
	}
	r.expect(Rebooting, reboots, false)
	if waited := r.now.Sub(t0); waited != 5*time.Minute {
		t.Errorf("rebooted after %v, want 5m", waited)
	}
	if n := r.count(schedules); n != 1 {
		t.Errorf("the users were told %d times", n)
	}
}

func TestUsersWhoLogOutDoNotDelayTheReboot(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(time.Minute, crowded, time.Minute, clear)
	r.expect(Rebooting, reboots, false)
}

func TestUsersWhoComeDuringTheDelayDoNotExtendIt(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	for n := range 5 {
		r.do(time.Minute, Checked{Held: true, Local: &Local{Users: []string{"ann", "bob", "eve", "joe", "kim"}[n:]}})
	}
	r.expect(Rebooting, reboots, false)
}

// An attempt after the slot was given back begins with a new warning.
func TestUsersAreToldAgainBeforeAnotherAttempt(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(shuts, time.Minute, calledOff, given, opens, time.Minute, got, crowded)
	r.expect(Preparing, schedules, false)
}

// People and programs at work hold the reboot back before a slot is taken.
func TestNoSlotIsTakenWhileSomebodyIsAtWork(t *testing.T) {
	none := Local{}
	for _, c := range []struct {
		name   string
		script []any // after an update has come
		held   string
	}{
		{"an inhibitor", []any{backup}, `"unattended backup" (rsync, root): block inhibitor`},
		{"two inhibitors", []any{Local{Inhibitors: append(backup.Inhibitors, backup.Inhibitors...)}}, `"unattended backup" (rsync, root), "unattended backup" (rsync, root): block inhibitor`},
		{"an installation", []any{atPackages}, "an installation of packages, which has locked /var/lib/dpkg/lock-frontend"},
		{"a shutdown of somebody else", []any{foreign}, "a poweroff that is scheduled for Mon 2026-03-02 05:00:00 UTC"},
		{"a reboot by somebody else", []any{Local{Shutdown: Shutdown{Type: "reboot", At: t0.Add(time.Hour)}}}, "a reboot that is scheduled"},
		{"a reboot under way", []any{Local{Shutdown: Shutdown{Type: "reboot"}}}, "a reboot that is under way"},
		{"logind does not say who is at work", []any{Local{Unclear: errNonsense}}, "logind, which does not say who is at work on this host: nonsense"},
		{"a hold file", []any{Local{Holds: []Hold{{File: "/etc/locksmith/hold", Reason: "disks are swapped"}}}}, "the file /etc/locksmith/hold (disks are swapped)"},
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

			// If they come while the host is in the queue, it loses its place. Installations end by themselves.
			if r.do(c.script...).do(LookEvery); r.local.Installing == "" {
				r.expect(Locking, nothing, true)
				r.do(lockEnded)
				r.expect(Waiting, nothing, false)
				if s := r.m.Status(r.now); !strings.Contains(s, c.held) {
					t.Errorf("the status is %q, want something with %q", s, c.held)
				}
				r.lookErr = nil
				r.do(none, cancels, LookEvery)
				r.expect(Locking, locks, false)
			}

			// If the slot comes at that very moment, it is given back.
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

// Others may hold their slots for longer than an installation takes. One that is not over when the slot comes costs
// that slot.
func TestInstallationCostsNoPlaceInTheQueue(t *testing.T) {
	for name, local := range map[string]Local{"dpkg": atPackages, "apt": atApt} {
		t.Run(name, func(t *testing.T) {
			r := bounded(t).do(need, LookEvery, local)
			for range 100 {
				r.do(LookEvery)
				r.expect(Locking, nothing, false)
			}
			if held := r.m.people.postponedUntil(r.now); held != 0 {
				t.Errorf("in the queue the installation has held the reboot back for %v", held)
			}
			r.do(got)
			r.expect(Releasing, unlocks, false)
			r.do(given, LookEvery)
			r.expect(Waiting, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "held back by ") || !strings.Contains(s, "packages") {
				t.Errorf("the status is %q", s)
			}
			r.do(Local{}, LookEvery)
			r.expect(Locking, locks, false)

			r.do(local, LookEvery, Local{}, LookEvery, got, clear)
			r.expect(Rebooting, reboots, false)

			// It may have begun since the last look.
			r = bounded(t).do(need, got, Checked{Held: true, Local: &local})
			r.expect(Releasing, unlocks, false)

			// Other programs at work cost the place, as always.
			local.Inhibitors = append(slices.Clone(local.Inhibitors), backup.Inhibitors...)
			r = bounded(t).do(need, local, LookEvery)
			r.expect(Locking, nothing, true)
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

// In the queue, looks come at least once a minute, and never two at once.
func TestLooksGoOnInTheQueue(t *testing.T) {
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

// The check before the reboot finds them.
func TestLateObstaclesHoldTheRebootBack(t *testing.T) {
	for name, c := range map[string]struct {
		script []any
		why    string
	}{
		"an inhibitor with the slot":             {[]any{got, blockaded}, "unattended backup"},
		"a shutdown with the slot":               {[]any{got, replaces, clear}, "a poweroff that is scheduled"},
		"an inhibitor during the users' delay":   {[]any{got, crowded, warned, LookEvery, blockaded, calledOff}, "unattended backup"},
		"an inhibitor at the end of their delay": {[]any{got, crowded, warned, 5 * time.Minute, blockaded, calledOff}, "unattended backup"},
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

func TestWithoutADelayUsersAreNotAsked(t *testing.T) {
	r := newRig(t, true)
	r.restart(Config{Lock: true}).do(notHeld, twoUsers, need, got, crowded)
	r.expect(Rebooting, reboots, false)
}

// A shorter delay is for users who have not been told yet.
func TestNewDelayDoesNotShortenWhatUsersWereTold(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	p := r.m.config
	p.LoginDelay = 0
	r.do(Reconfigure{p}, LookEvery, crowded)
	r.expect(Preparing, nothing, false)
	r.do(5*time.Minute-LookEvery, crowded)
	r.expect(Rebooting, reboots, false)
}

// A look that was begun in the queue may end when the attempt is over.
func TestLateLookIsFollowedUp(t *testing.T) {
	r := newRig(t, true).do(toLocking...)
	r.now = r.now.Add(LookEvery)
	if r.one(Tick{}); !r.last.Look {
		t.Fatal("no look is begun")
	}
	r.do(got, crowded, warned)
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

	// A look from before the reboot was scheduled does not show a cancel.
	r = newRig(t, true).do(toLocking...)
	r.now = r.now.Add(LookEvery)
	r.one(Tick{})
	r.do(got, crowded, warned)
	r.one(Looked{Local: &Local{}})
	r.do(LookEvery, crowded)
	r.expect(Preparing, nothing, false)
}

// The host goes on when the time of the hold is over, and does not wait for the next look.
func TestHoldEndsByItself(t *testing.T) {
	hold := Local{Holds: []Hold{{File: "/run/locksmith/hold", Until: t0.Add(10 * time.Second)}}}
	r := newRig(t, true).do(notHeld, hold, need)
	r.expect(Waiting, nothing, false)
	r.do(10*time.Second - time.Nanosecond)
	r.expect(Waiting, nothing, false)
	r.do(time.Nanosecond)
	r.expect(Locking, locks, false)
}

// An administrator holds the host, and so LOCKSMITHD_MAX_POSTPONE does not count.
func TestHoldCannotBePostponedAway(t *testing.T) {
	r := newRig(t, true)
	config := r.m.config
	config.MaxPostpone = time.Minute
	r.do(Reconfigure{config}, notHeld, Local{Holds: []Hold{{File: "/etc/locksmith/hold"}}, Inhibitors: backup.Inhibitors}, need)
	for range 100 {
		r.do(LookEvery)
		r.expect(Waiting, nothing, false)
	}
}
