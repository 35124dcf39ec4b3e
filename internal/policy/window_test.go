package policy

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// The machine counts its naps by the monotonic clock; only the window goes by the
// wall clock, and it is asked again within MaxNap whatever it said before.
func TestClockStepDoesNotFoolTheWindow(t *testing.T) {
	opening := span{t0.Add(6 * time.Hour), t0.Add(7 * time.Hour)}
	for _, c := range []struct {
		name         string
		before, step time.Duration // what the wall clock is ahead of the truth at first, and is then put forward by
		first        State
		open         bool
	}{
		{"forward into the window", 0, 6*time.Hour + time.Minute, Waiting, true},
		{"forward, not yet there", 0, 3 * time.Hour, Waiting, false},
		{"forward past the window", 0, 48 * time.Hour, Waiting, false},
		{"back into the window", 8 * time.Hour, -100 * time.Minute, Waiting, true},
		{"forward out of the window", 6 * time.Hour, 2 * time.Hour, Locking, false},
		{"back out of the window", 6*time.Hour + time.Minute, -2 * time.Hour, Locking, false},
		{"back by years", 6*time.Hour + time.Minute, -20 * 365 * 24 * time.Hour, Locking, false},
		{"from 1970", -56 * 365 * 24 * time.Hour, 56*365*24*time.Hour + 6*time.Hour + time.Minute, Waiting, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			gate := &spans{opening}
			wall := &skewed{Window: gate, ahead: c.before}
			r.restart(Config{Lock: true, Window: wall, LoginDelay: 5 * time.Minute, LoginRetry: time.Hour})
			r.do(notHeld, need)
			if r.last.State != c.first {
				t.Fatalf("before the step: %v, want %v", r.last.State, c.first)
			}
			wall.ahead += c.step
			nap := r.last.Nap
			if nap <= 0 || nap > MaxNap {
				t.Fatalf("the nap is %v", nap)
			}
			r.do(nap)
			switch {
			case c.open:
				r.expect(Locking, locks, false)
			case c.first == Locking:
				r.expect(Locking, nothing, true)
				r.do(lockEnded)
				r.expect(Waiting, nothing, false)
			default:
				r.expect(Waiting, nothing, false)
			}
		})
	}
}

// An opening is used from its first moment to its last.
func TestNapsEndWithTheWindowsEnds(t *testing.T) {
	r := newRig(t, true)
	gate := &spans{{t0.Add(90*time.Second + time.Millisecond), t0.Add(200 * time.Second)}}
	r.restart(Config{Lock: true, Window: gate, LoginDelay: 5 * time.Minute, LoginRetry: time.Hour})
	r.do(15*second, notHeld, need)
	for r.last.State == Waiting {
		r.do(r.last.Nap)
	}
	if r.now != (*gate)[0].start {
		t.Errorf("locking at %v, want %v", r.now, (*gate)[0].start)
	}
	for !r.last.Cancel {
		r.do(r.last.Nap)
	}
	r.expect(Locking, nothing, true)
	if r.now != (*gate)[0].end {
		t.Errorf("no longer locking at %v, want %v", r.now, (*gate)[0].end)
	}
}

// Under strategy reboot each process draws its place in the spread at random.
func TestHostsWithoutALockDoNotAllBeginWhenTheWindowOpens(t *testing.T) {
	open := t0.Add(time.Hour)
	for _, c := range []struct{ length, delay, spread, most time.Duration }{
		{4 * time.Hour, 5 * time.Minute, time.Minute, time.Minute},
		{5 * time.Minute, 0, time.Minute, 30 * time.Second},
		{10 * second, 0, time.Minute, 0},                   // to leave time for the reboot
		{6 * time.Minute, 5 * time.Minute, time.Minute, 0}, // users' time just fits
		{4 * time.Hour, 5 * time.Minute, 0, 0},
		{0, 5 * time.Minute, time.Minute, time.Minute}, // nothing shuts it
	} {
		window := spans{{start: open}}
		if c.length > 0 {
			window[0].end = open.Add(c.length)
		}
		policy := Config{Window: &window, LoginDelay: c.delay, Spread: c.spread}
		begun := map[time.Duration]bool{}
		const hosts = 20
		for seed := range uint64(hosts) {
			r := &rig{t: t, now: t0}
			r.m = New(policy, Found{}, r.now, rand.New(rand.NewPCG(seed, 0)))
			r.do(Tick{}, calledOff, need)
			begins := r.m.begin(t0)
			if status := r.m.Status(r.now); strings.Contains(status, "; this host begins "+policy.Clock(begins)) != (c.most > 0) {
				t.Errorf("the status says %s", status)
			}
			for r.last.State == Waiting {
				r.do(r.last.Nap)
			}
			r.expect(Preparing, checks, false)
			begun[r.now.Sub(open)] = true
			if c.spread > 0 && r.now != begins {
				t.Errorf("it begins at %v, and not at %v as it says", r.now, begins)
			}
		}
		for after := range begun {
			if after < 0 || after > c.most {
				t.Errorf("in a window of %v a host begins after %v, want %v at most", c.length, after, c.most)
			}
		}
		if c.most > 0 && len(begun) < hosts || c.most == 0 && len(begun) > 1 {
			t.Errorf("in a window of %v, %d hosts begin at %d times", c.length, hosts, len(begun))
		}
		// Once the spread is over no host waits.
		r := &rig{t: t, now: open.Add(c.most)}
		r.m = New(policy, Found{}, r.now, rand.New(rand.NewPCG(1, 0)))
		r.do(Tick{}, calledOff, need).expect(Preparing, checks, false)
	}
}

// States in which nothing is waited for have no timer; the others ask again
// within MaxNap. The rig checks the bound in every step of every test.
func TestIdleNeedsNoTimer(t *testing.T) {
	for _, lock := range []bool{true, false} {
		r := newRig(t, lock)
		if lock {
			r.do(notHeld)
		}
		for _, ev := range []Event{idle, gone, Tick{}, need, idle} {
			if r.do(ev); r.last.State == Idle && r.last.Nap != 0 {
				t.Errorf("after %+v the nap is %v", ev, r.last.Nap)
			}
			if r.m.running != nil {
				r.do(ends(kindOf(r.m.running), context.Canceled))
			}
		}
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

	// With no users the window may be used up to its end.
	rig(time.Hour-second).do(Local{}, need).expect(Locking, locks, false)

	// They come when the slot is held already.
	r = rig(time.Hour-time.Minute).do(Local{}, need, got, crowded)
	r.expect(Releasing, unlocks, false)
}

// A new configuration may have the window shut earlier.
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

// The window has to have room for the delay from when users were warned, no longer.
func TestDelayThatTheWindowHasRoomForIsNotCutShort(t *testing.T) {
	r := newRig(t, true)
	policy := people5m
	policy.Lock, policy.Window = true, &spans{{t0, t0.Add(5*time.Minute + Backstop + second)}}
	r.restart(policy).do(notHeld, twoUsers, need, got, crowded, warned)
	r.await(Rebooting, 5*time.Minute)
}

// LOCKSMITHD_REBOOT_JITTER spreads hosts over the window, and leaves time for what runs before the reboot, if anything
// does.
func TestJitterIsWaitedOnceInsideTheWindow(t *testing.T) {
	const before, login = 10 * time.Minute, 5 * time.Minute
	open := t0.Add(time.Hour)
	for _, c := range []struct {
		name                  string
		length, jitter, since time.Duration // since: when the reboot is needed, after t0
		gates                 gatesSay
		earliest, latest      time.Duration // after t0
	}{
		{"no window", 0, 30 * time.Minute, 0, openGate, 0, 30 * time.Minute},
		{"a long window", 4 * time.Hour, 30 * time.Minute, 0, openGate, time.Hour, 90 * time.Minute},
		{"needed in the window", 4 * time.Hour, 30 * time.Minute, 2 * time.Hour, openGate, 2 * time.Hour, 150 * time.Minute},
		{"longer than the window", time.Hour, 3 * time.Hour, 0, openGate, time.Hour, 2*time.Hour - login - 2*Backstop},
		{"with hooks", time.Hour, 3 * time.Hour, 0, hookedIn, time.Hour, 2*time.Hour - login - before - 2*Backstop},
		{"the window has room for nothing else", 16 * time.Minute, time.Hour, 0, hookedIn, time.Hour, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := Config{Lock: true, LoginDelay: login, BeforeTimeout: before, Jitter: c.jitter}
			if c.length > 0 {
				policy.Window = &spans{{open, open.Add(c.length)}}
			}
			begun := map[time.Duration]bool{}
			const hosts = 40
			for seed := range uint64(hosts) {
				r := &rig{t: t, now: t0.Add(c.since)}
				r.m = New(policy, Found{}, r.now, rand.New(rand.NewPCG(seed, 0)))
				r.do(c.gates, Tick{}, calledOff, notHeld, need)
				for r.last.State == Waiting && r.now.Before(t0.Add(24*time.Hour)) {
					r.do(r.last.Nap)
				}
				r.expect(Locking, locks, false)
				at := r.now.Sub(t0)
				begun[at] = true
				if at < c.earliest || at > c.latest {
					t.Errorf("it begins after %v, want %v to %v", at, c.earliest, c.latest)
				}
				// A try that fails is not put off again.
				r.do(noSlot, 6*second).expect(Locking, locks, false)
			}
			if want := map[bool]int{true: hosts, false: 1}[c.latest > c.earliest]; len(begun) != want {
				t.Errorf("%d hosts begin at %d times, want %d", hosts, len(begun), want)
			}
			if last := slices.Max(slices.Collect(maps.Keys(begun))); last < c.latest-(c.latest-c.earliest)/10 {
				t.Errorf("the last one begins after %v, and could after %v", last, c.latest)
			}
		})
	}
}
