package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestLockFromBeforeThisBootIsReleasedFirstWhateverElseIsPending(t *testing.T) {
	for _, window := range []windowIs{opens, shuts} {
		for _, pending := range []Event{need, asked, idle, gone} {
			r := newRig(t, true).do(window, pending, fromAgo, well)
			r.expect(Settling, unlocks, false)
			for range 50 { // etcd is down for long: nothing else is begun
				r.do(notGiven, MaxNap, pending)
			}
			if n := r.count(unlocks); n != 51 || len(r.started) != 3+n {
				t.Errorf("window %v, %+v: started %v", window, pending, r.started)
			}
		}
	}
}

func TestWithdrawnUpdateDropsThePlanAndReleasesTheLock(t *testing.T) {
	for name, script := range map[string][]any{
		"waiting":          {shuts, notHeld, need, idle},
		"waiting, maybe":   {notHeld, need, maybe, idle, given},
		"locking":          {notHeld, need, idle, lockEnded},
		"locking, got it":  {notHeld, need, idle, got, given},
		"preparing":        {notHeld, need, got, idle, checkDead, given},
		"says the check":   {notHeld, need, got, retracted, given},
		"during the delay": {notHeld, need, got, crowded, warned, idle, calledOff, given},
		"after a refusal":  {notHeld, need, got, clear, refused, given, idle},
		"with a request":   {notHeld, need, asked, idle, lockEnded},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(script...)
			r.expect(Idle, nothing, false)
			if r.m.MayHold() || r.m.triggers.version != "" {
				t.Errorf("may hold %v, version %q", r.m.MayHold(), r.m.triggers.version)
			}
			r.do(time.Hour)
			r.expect(Idle, nothing, false)
		})
	}
}

// update_engine does not know of a request by hand, and goes on saying that it is idle.
func TestRequestOutlivesEnginesIdleness(t *testing.T) {
	r := newRig(t, true).do(idle, notHeld, asked, idle, gone, got, retracted)
	r.expect(Rebooting, reboots, false)
}

func TestRefusedRebootReleasesTheLockAndTriesAgain(t *testing.T) {
	r := newRig(t, true).do(toLocking...)
	var last time.Duration
	for n := range 12 {
		r.do(got, clear, refused)
		r.expect(Releasing, unlocks, false)
		r.do(given)
		r.expect(Waiting, nothing, false)
		if !strings.Contains(r.m.Status(r.now), "the last attempt failed: the reboot was refused: access denied") {
			t.Fatalf("the status does not say why: %s", r.m.Status(r.now))
		}
		var waited time.Duration
		for r.last.State == Waiting {
			waited += r.last.Nap
			r.do(r.last.Nap)
		}
		r.expect(Locking, locks, false)
		if full := min(15*time.Minute, 5*time.Second<<n); waited < full/2 || waited > full {
			t.Errorf("after %d refusals it waited %v, want %v to %v", n+1, waited, full/2, full)
		}
		last = waited
	}
	if last < 30*time.Second {
		t.Errorf("the waits do not grow: the last is %v", last)
	}
	if r.count(reboots) != 12 {
		t.Errorf("asked for a reboot %d times", r.count(reboots))
	}
}

// Every gate is asked right before the reboot, whatever it said before.
func TestEveryGateIsAskedAgainRightBeforeTheReboot(t *testing.T) {
	t.Run("after the lock", func(t *testing.T) {
		r := newRig(t, true).do(toLocking...).do(3*time.Hour, got)
		r.expect(Preparing, checks, false)
	})
	t.Run("after the login delay", func(t *testing.T) {
		r := newRig(t, true).do(toDelay...)
		for range 4 {
			r.do(time.Minute)
			r.expect(Preparing, checks, false)
			r.do(crowded)
			r.expect(Preparing, nothing, false)
		}
		r.do(time.Minute)
		r.expect(Preparing, checks, false)
		r.do(crowded)
		r.expect(Rebooting, reboots, false)
	})
	for name, script := range map[string][]any{
		"the window has shut":     {shuts, crowded},
		"the update is withdrawn": {retracted},
		"the slot is not ours":    {slotless},
		"a gate does not answer":  {unchecked},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(5 * time.Minute).do(script...)
			if r.count(reboots) != 0 || r.last.State == Preparing {
				t.Errorf("in state %v, started %v", r.last.State, r.started)
			}
		})
	}
}

// Lock succeeds for a host that holds a slot already. What etcd said last is not
// forgotten when the next attempt fails.
func TestHoldingAlreadyIsSuccess(t *testing.T) {
	newRig(t, true).do(need, fromNow, got).expect(Preparing, checks, false)
	newRig(t, true).do(toMaybe...).do(5*second, got).expect(Preparing, checks, false)
}

func TestFailedLockDoesNotForgetASlotHeldBefore(t *testing.T) {
	for name, before := range map[string][]any{
		"known":   {need, fromNow},
		"perhaps": {notHeld, need, maybe, 5 * second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(before...)
			r.expect(Locking, locks, false)
			r.do(noSlot) // this time it was not taken; before it was, or may have been
			r.expect(Waiting, nothing, false)
			r.do(shuts, Tick{})
			r.expect(Releasing, unlocks, false)
		})
	}
}

func TestEtcdDownAtBootKeepsTrying(t *testing.T) {
	for name, pending := range map[string]Event{"nothing pending": idle, "reboot pending": need} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(pending)
			for n := range 500 {
				r.do(noAnswer)
				r.expect(Starting, nothing, false)
				if s := r.m.Status(r.now); !strings.Contains(s, "etcd is down") || !strings.Contains(s, "trying again") {
					t.Fatalf("the status does not say so: %s", s)
				}
				var waited time.Duration
				for r.last.Start == nil {
					waited += r.last.Nap
					r.do(r.last.Nap)
				}
				r.expect(Starting, inspects, false)
				if full := min(time.Minute, time.Second<<min(n, 10)); waited < full/2 || waited > full {
					t.Fatalf("try %d came after %v, want %v to %v", n+2, waited, full/2, full)
				}
			}
			r.do(notHeld)
			if s := r.m.Status(r.now); strings.Contains(s, "etcd is down") {
				t.Errorf("the status still says: %s", s)
			}
		})
	}
}

// Hosts that failed together do not try again together.
func TestRetriesAreSpread(t *testing.T) {
	seen := map[time.Time]bool{}
	for seed := range uint64(20) {
		m := New(Config{Lock: true}, Found{}, t0, rand.New(rand.NewPCG(seed, 0)))
		for _, ev := range []Event{Tick{}, calledOff, noAnswer} {
			m.Step(t0, ev)
		}
		seen[m.slot.retry.at] = true
	}
	if len(seen) < 18 {
		t.Errorf("20 hosts try again at %d moments", len(seen))
	}
}

func TestNextUpdateAfterIdleIsNotDelayed(t *testing.T) {
	r := newRig(t, true).do(toLocking...).do(noSlot, idle)
	r.expect(Idle, nothing, false)
	r.do(need)
	r.expect(Locking, locks, false) // at once, not after the backoff of the last
	if s := r.m.Status(r.now); strings.Contains(s, "etcd is down") {
		t.Errorf("the status still says: %s", s)
	}
}
