package policy

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Results of what is hooked in, and what the gates say.
var (
	shutGate   = gatesSay{Obstacle: &Obstacle{"alerts", "an alert"}}
	openGate   = gatesSay{}
	hookedIn   = gatesSay{Hooked: true}
	told       = Told{Report: Report{Phase: Draining}}
	toldLeave  = Told{Report: Report{Phase: Leaving}}
	toldSick   = Told{Report: Report{Phase: Unwell}}
	toldChecks = Told{Report: Report{Phase: Checking}}
	toldDelay  = Told{Report: Report{Phase: Delaying}}
	drained    = Drained{}
	notDrained = Drained{Err: errRefused}
	undrained  = Undrained{}
	sick       = Verified{Err: errRefused}
	freed      = Verified{Err: errRefused, Taken: true}
	fix        = Update{Source: Engine, Pending: true, Version: "4081.2.1"}
	bad        = Inspected{Holding: HeldSinceBefore, Purpose: Purpose{Version: "4081.2.0"}}
	rolledBack = Inspected{Holding: HeldSinceBefore, Purpose: Purpose{Version: "4081.2.0", OSVersion: "4000.0.0"}}
)

// Ways to where hooks run.
var (
	toDraining = []any{hookedIn, notHeld, need, got, clear, told}               // the drain runs
	toDrained  = []any{hookedIn, notHeld, need, got, clear, told, drained}      // what comes next is told
	toUnwell   = []any{bad, sick, toldChecks, 10 * time.Minute, toldSick, sick} // of another version than the fix
	toFix      = []any{bad, sick, toldChecks, 10 * time.Minute, toldSick, sick, fix}
)

func TestHooksAndChecks(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   []any
		script []any
		state  State
		start  Kind
		cancel bool
		why    string // part of it
	}{
		{"nothing is hooked in", toPreparing, []any{clear}, Rebooting, reboots, false, "every gate is open"},
		{"with the slot the fleet is told first", []any{hookedIn}, []any{notHeld, need, got, clear}, Preparing, tells, false, "got the slot"},
		{"the fleet cannot be told: it goes on", []any{hookedIn, notHeld, need, got, clear}, []any{Told{Report: told.Report, Err: errDown}}, Preparing, drains, false, "got the slot"},
		{"after the drain the fleet is told", toDraining, []any{drained}, Preparing, tells, false, "got the slot"},
		{"and the gates are asked again", toDrained, []any{toldLeave}, Preparing, checks, false, "got the slot"},
		{"then comes the reboot", toDrained, []any{toldLeave, clear}, Rebooting, reboots, false, "every gate is open"},
		{"a drain that fails is undone", toDraining, []any{notDrained}, Releasing, undrains, false, "access denied"},
		{"before the slot", toDraining, []any{notDrained, undrained}, Releasing, unlocks, false, "access denied"},
		{"an undo that fails keeps the slot", toDraining, []any{notDrained, Undrained{Err: errRefused}}, Releasing, nothing, false, "access denied"},
		{"and is tried again", toDraining, []any{notDrained, Undrained{Err: errRefused}, 6 * second}, Releasing, undrains, false, "access denied"},
		{"the window shuts during a drain", toDraining, []any{shuts, 1 * second}, Preparing, nothing, true, "got the slot"},
		{"which is undone", toDraining, []any{shuts, 1 * second, Drained{Err: context.Canceled}}, Releasing, undrains, false, "window has shut"},
		{"the update is withdrawn during a drain", toDraining, []any{idle, Drained{Err: context.Canceled}}, Releasing, undrains, false, "withdrawn"},
		{"a gate shuts during a drain", toDraining, []any{shutGate, drained}, Releasing, undrains, false, "an alert"},
		{"stopped during a drain", toDraining, []any{stop, Drained{Err: context.Canceled}}, Releasing, undrains, false, "asked to undo"},
		{"stopped, and the undo fails", toDraining, []any{stop, Drained{Err: context.Canceled}, Undrained{Err: errRefused}}, Left, nothing, false, "is not undone: access denied"},
		{"the host goes down during a drain", toDraining, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"another version during a drain", toDraining, []any{fix}, Preparing, nothing, true, "got the slot"},
		{"whose drain is undone", toDraining, []any{fix, Drained{Err: context.Canceled}}, Releasing, undrains, false, "needed for 4081.2.1 now"},
		{"a refused reboot undoes the drain", toDrained, []any{toldLeave, clear, refused}, Releasing, undrains, false, "refused"},
		{"the slot is taken away after a drain", toDrained, []any{toldLeave, slotless}, Releasing, undrains, false, "taken the slot away"},
		{"users cancel after a drain", toDrained, []any{toldLeave, crowded, warned, cancels, LookEvery, Checked{Held: true, Local: &twoUsers}}, Releasing, undrains, false, "cancelled"},

		{"a gate that is shut", []any{notHeld, shutGate}, []any{need}, Waiting, nothing, false, "a reboot is needed"},
		{"it opens", []any{notHeld, shutGate, need}, []any{openGate, AskEvery}, Locking, locks, false, "may reboot now"},
		{"a gate that shuts in the queue", toLocking, []any{shutGate, got}, Releasing, unlocks, false, "held back by an alert"},

		{"checks come before the slot", toStarting, []any{fromAgo}, Settling, verifies, false, "before this boot"},
		{"they fail: others are told", toStarting, []any{bad, sick}, Settling, tells, false, "before this boot"},
		{"they are tried again", toStarting, []any{bad, sick, toldChecks, 6 * second}, Settling, verifies, false, "before this boot"},
		{"and succeed", toStarting, []any{bad, sick, toldChecks, 6 * second, well}, Settling, unlocks, false, "before this boot"},
		{"and do not in time", toStarting, []any{bad, sick, toldChecks, 10 * time.Minute}, Settling, tells, false, "before this boot"},
		{"etcd is down while the host is unwell", toStarting, []any{bad, sick, toldChecks, 10 * time.Minute, Told{Err: errDown}}, Settling, verifies, false, "before this boot"},
		{"a host that is unwell recovers", toUnwell, []any{time.Minute, well}, Settling, unlocks, false, "before this boot"},
		{"its slot is freed by hand", toUnwell, []any{time.Minute, freed}, Idle, nothing, false, "slot"},
		{"the same version is not taken again", toUnwell, []any{need}, Settling, nothing, false, "before this boot"},
		{"nor one that is not known", toUnwell, []any{asked}, Settling, nothing, false, "before this boot"},
		{"the fix is taken on the slot", toFix, nil, Locking, locks, false, "is unwell, and may reboot for 4081.2.1"},
		{"another fix is taken on the slot as well", toFix, []any{got, toldLeave, Update{Source: Engine, Pending: true, Version: "4081.2.2"}, checkDead}, Locking, locks, false, "may reboot for 4081.2.2"},
		{"which is recorded", toFix, []any{got}, Preparing, tells, false, "got the slot"},
		{"or it does not reboot", toFix, []any{got, Told{Report: Report{Phase: Leaving, Again: true}, Err: errDown}}, Settling, nothing, false, "could not record"},
		{"the fix is booted", toFix, []any{got, toldLeave, clear}, Rebooting, reboots, false, "every gate is open"},
		{"a reboot for the fix that is refused", toFix, []any{got, toldLeave, clear, refused}, Settling, tells, false, "not found well yet"},
		{"the fix waits for its window", toUnwell, []any{shuts, fix}, Settling, nothing, false, "before this boot"},
		{"it came back with the old version", []any{rolledBack}, nil, Settling, tells, false, "before this boot"},
		{"whatever the checks say", []any{rolledBack}, []any{toldSick, well}, Settling, nothing, false, "before this boot"},
		{"stopped while unwell", toUnwell, []any{stop}, Left, nothing, false, "kept until this host is found well"},
		{"stopped during checks", []any{bad}, []any{stop, Verified{Err: context.Canceled}}, Left, nothing, false, "kept until this host is found well"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			r.m.health.runs = "4000.0.0"
			r.do(c.from...).do(c.script...)
			r.expect(c.state, c.start, c.cancel)
			if !strings.Contains(r.m.why, c.why) {
				t.Errorf("why is %q, want something with %q", r.m.why, c.why)
			}
		})
	}
}

func TestUnwellHostDoesWithItsSlotAsItIsTold(t *testing.T) {
	for failure, want := range map[HealthFailure]struct {
		pause, keeps bool
	}{PauseVersion: {true, true}, HoldSlot: {false, true}, ReleaseSlot: {false, false}} {
		r := newRig(t, true)
		r.m.config.HealthFailure = failure
		r.do(bad, sick, toldChecks, 10*time.Minute)
		if keeps := is(r.last.Start, tells); keeps != want.keeps || !keeps && !is(r.last.Start, unlocks) {
			t.Errorf("%v: started %v", failure, r.last.Start)
		} else if keeps && r.order.report.Pause != want.pause {
			t.Errorf("%v: told %+v", failure, r.order.report)
		}
	}
}

// A host that gives its slot back without being well is checked as one without a lock: it may recover, its drain has to
// be ended, and the reboot counts.
func TestChecksGoOnWithoutTheSlot(t *testing.T) {
	for name, c := range map[string]struct {
		script []any
		before string // in the status, before the checks succeed
		after  string // and then
	}{
		"unwell":            {[]any{bad, sick, toldChecks, 10 * time.Minute, given, sick, time.Minute}, "this host is unwell after its reboot; the last attempt failed: access denied", ""},
		"the wrong version": {[]any{rolledBack, given}, "this host is unwell after its reboot; the last attempt failed: the host came back with 4000.0.0 instead of 4081.2.0", "; the last reboot failed: the host came back with 4000.0.0 instead of 4081.2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			r.m.config.HealthFailure, r.m.health.runs = ReleaseSlot, "4000.0.0"
			r.do(c.script...).expect(Settling, verifies, false)
			if v, ok := r.last.Start.(Verify); !ok || v.Bad == nil || v.Slot {
				t.Errorf("started %+v", r.last.Start)
			}
			if s := r.m.Status(r.now); s != c.before {
				t.Errorf("the status is %q, want %q", s, c.before)
			}
			r.do(well).expect(Idle, nothing, false)
			if s := r.m.Status(r.now); !strings.HasSuffix(s, " UTC"+c.after) || strings.Contains(r.m.why, "is well") != (c.after == "") {
				t.Errorf("the status is %q, because %s", s, r.m.why)
			}
			r.do(fix).expect(Locking, locks, false)
		})
	}
}

// The slot that an unwell host has is not outdated while it waits for the fix.
func TestUnwellHostKeepsItsSlotWhenItCouldNotTakeTheFix(t *testing.T) {
	r := newRig(t, true).do(toFix...).do(noSlot)
	r.expect(Waiting, nothing, false)
	r.do(Update{Source: Engine, Pending: true, Version: "4081.2.2"}).expect(Waiting, nothing, false)
	r.do(time.Minute).expect(Locking, locks, false)
}

// A host that is unwell does not take the version that it has, also while it waits for another one.
func TestUnwellHostThatWaitsForTheFixDoesNotTakeItsOwnVersionAgain(t *testing.T) {
	r := newRig(t, true)
	r.m.config.HealthFailure = ReleaseSlot
	r.do(bad, sick, toldChecks, 10*time.Minute, given, sick, fix).expect(Locking, locks, false)
	r.do(noSlot).expect(Waiting, nothing, false)
	r.do(need).expect(Settling, nothing, false)
	if !strings.Contains(r.m.why, "not well with the version that is wanted") {
		t.Errorf("why is %q", r.m.why)
	}
	r.do(time.Minute).expect(Settling, verifies, false)
}

func TestStatusSaysThatAHostIsNotWellThoughItsSlotWasFreed(t *testing.T) {
	r := newRig(t, true).do(toUnwell...).do(time.Minute, freed)
	if s := r.m.Status(r.now); !strings.HasPrefix(s, "idle: ") || !strings.HasSuffix(s, "; the last reboot failed: access denied") {
		t.Errorf("the status is %q", s)
	}
}

// The end of a drain is among the checks: a host must not stay drained because etcd is down.
func TestChecksDoNotWaitForEtcd(t *testing.T) {
	r := newRig(t, true)
	found := Found{Kept: &Kept{}, Reboot: &Purpose{Version: "4081.2.0"}}
	r.m = New(r.m.config, found, r.now, r.m.rand)
	r.do(Tick{}).expect(Starting, inspects, false)
	r.do(noAnswer).expect(Starting, verifies, false)
	r.do(2*time.Second, sick).expect(Starting, inspects, false)
	r.do(noAnswer, 5*time.Second, noAnswer).expect(Starting, verifies, false)
	r.do(well, time.Minute).expect(Starting, inspects, false)
	r.do(noAnswer).expect(Starting, nothing, false) // it is well
	r.do(time.Minute, fromAgo).expect(Settling, unlocks, false)

	// It is told that the host is unwell once etcd answers.
	r.m = New(r.m.config, found, r.now, r.m.rand)
	r.do(Tick{}, noAnswer, 2*time.Second, sick, fromAgo).expect(Settling, tells, false)
}

func TestReleaseDelayBeginsWhenTheHostIsWell(t *testing.T) {
	r := newRig(t, true)
	r.m.config.ReleaseDelay = 3 * time.Minute
	r.do(fromAgo, well)
	r.expect(Settling, tells, false)
	r.do(toldDelay)
	if s := r.m.Status(r.now); !strings.Contains(s, "is well, and gives the slot back Mon 2026-03-02 04:03:00 UTC") {
		t.Errorf("the status is %q", s)
	}
	r.do(2*time.Minute).expect(Settling, nothing, false)
	r.do(time.Minute).expect(Settling, unlocks, false)
}

func TestChecksRunWithoutALockToo(t *testing.T) {
	r := newRig(t, false)
	r.m.health.begin(Purpose{Version: "4081.2.0"})
	r.do(need)
	r.m = New(r.m.config, Found{Reboot: &Purpose{Version: "4081.2.0"}}, r.now, r.m.rand)
	r.do(Tick{}, calledOff)
	r.expect(Settling, verifies, false)
	r.do(sick).expect(Settling, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "checking whether this host is well") || !strings.Contains(s, "access denied") {
		t.Errorf("the status is %q", s)
	}
	r.do(6*second, well).expect(Idle, nothing, false)
}

func TestNoDrainBeginsThatTheWindowHasNoRoomFor(t *testing.T) {
	for name, c := range map[string]struct {
		length time.Duration
		state  State
		why    string
	}{
		"room":    {11 * time.Minute, Locking, ""},
		"no room": {10 * time.Minute, Waiting, "before the 10m0s are over that what runs before a reboot may take"},
	} {
		r := newRig(t, true)
		r.m.config.Window = &spans{{t0, t0.Add(c.length)}}
		r.do(hookedIn, notHeld, need)
		if r.last.State != c.state || !strings.Contains(r.m.Status(r.now), c.why) {
			t.Errorf("%s: in state %v: %v", name, r.last.State, r.m.Status(r.now))
		}
	}
}

func TestNextProcessKnowsThatTheHostIsNotWellYet(t *testing.T) {
	r := newRig(t, true).do(toFix...).do(got, toldLeave)
	r.again().do(fromNow) // the record says so since it was told
	r.expect(Settling, verifies, false)
	if r.m.health.from.Version != "4081.2.0" {
		t.Errorf("it has booted for %q", r.m.health.from.Version)
	}
}

func TestStatusSaysThatTheFleetCouldNotBeTold(t *testing.T) {
	r := newRig(t, true).do(bad, sick, toldChecks, 10*time.Minute, Told{Err: errDown})
	if s := r.m.Status(r.now); !strings.Contains(s, "; etcd could not be told; trying again") || !strings.HasSuffix(s, "the last attempt failed: access denied") {
		t.Errorf("the status is %q", s)
	}
}

// Somebody else's soft reboot boots no other version, so that the host says nothing of that: its checks run, as the
// hooks of before the reboot may have, and then the slot is given back and taken again.
func TestSomebodyElsesSoftRebootIsNotHeldAgainstTheVersion(t *testing.T) {
	unbooted := rolledBack
	unbooted.Purpose.Unbooted = true
	r := newRig(t, true)
	r.m.softSince, r.m.health.runs = t0, rolledBack.Purpose.OSVersion
	r.do(unbooted).expect(Settling, verifies, false)
	r.do(need, well).expect(Settling, unlocks, false)
	r.do(given).expect(Locking, locks, false)

	r = newRig(t, true)
	r.m.softSince, r.m.health.runs = t0, rolledBack.Purpose.OSVersion
	r.do(unbooted, sick, toldChecks, 10*time.Minute)
	if r.expect(Settling, tells, false); r.order.report.Phase != Unwell || r.order.report.Pause {
		t.Errorf("told %+v", r.order.report)
	}
	if r.do(toldSick); strings.Contains(r.m.Status(r.now), "hosts that wait for the same version") {
		t.Errorf("the status is %q", r.m.Status(r.now))
	}
}
