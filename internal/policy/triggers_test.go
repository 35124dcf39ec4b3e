package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// another is a stand-in for one more source.
var another = Source{Name: "reboot-required", Outlives: true}

func otherSays(pending bool) Update {
	return Update{Source: another, Pending: pending, Version: "6.12"}
}

func withAnother(t *testing.T) *rig {
	r := newRig(t, true)
	r.m.triggers = newTriggers(Engine, Requester, another)
	return r.do(shuts, notHeld)
}

func TestOneMoreSourceNeedsOneValue(t *testing.T) {
	expect := func(r *rig, names ...string) {
		t.Helper()
		if got := r.m.Snapshot(r.now).Need.Sources; !slices.Equal(got, names) {
			t.Errorf("%v need a reboot, want %v", got, names)
		}
	}

	r := withAnother(t).do(otherSays(true))
	r.expect(Waiting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "reboot needed since "+clock(t0)+" for version 6.12; ") {
		t.Errorf("the status is %q", s)
	}

	// When update_engine withdraws its update, a request ends, but this source still counts.
	r.do(time.Minute, need, asked)
	expect(r, "update_engine", "request", "reboot-required")
	r.do(idle)
	expect(r, "reboot-required")
	r.expect(Waiting, nothing, false)
	if since := r.m.triggers.since; since != t0 {
		t.Errorf("a reboot is needed since %v, want %v", since, t0)
	}

	// The next process is told of it.
	kept := r.m.Kept(r.now)
	r.m = newMachine(r.m.config, r.now, r.m.rand)
	r.m.triggers = newTriggers(Engine, Requester, another)
	r.m.remember(&kept, r.now)
	r.do(Tick{}, notHeld)
	expect(r, "reboot-required")

	// It withdraws only itself.
	r.do(asked, otherSays(false))
	expect(r, "request")
	r.do(Update{Source: Requester})
	r.expect(Idle, nothing, false)
}

// A request ends with the update that update_engine takes back, and not when it reports that it is idle.
func TestRequestFollowsUpdateEngine(t *testing.T) {
	for name, c := range map[string]struct {
		script  []any
		pending bool
	}{
		"update_engine was idle all the time": {[]any{asked, idle}, true},
		"it takes its update back":            {[]any{asked, need, idle}, false},
		"the request ends":                    {[]any{need, asked, Update{Source: Requester}}, true},
	} {
		if r := withAnother(t).do(c.script...); r.m.triggers.pending() != c.pending {
			t.Errorf("%s: pending %v", name, !c.pending)
		}
	}
}

// While update_engine has a version, the version in a request does not count.
func TestVersionIsThatOfTheLeadingSource(t *testing.T) {
	other := Update{Source: Requester, Pending: true, Version: "5"}
	for want, script := range map[string][]any{
		"4081.2.0": {other, need, other},
		"5":        {Update{Source: Engine, Pending: true}, other},
		"6.12":     {need, otherSays(true)},
		"":         {otherSays(true), need, idle}, // the other one has not named its version again
	} {
		if r := withAnother(t).do(script...); r.m.triggers.version != want {
			t.Errorf("after %v the version is %q", script, r.m.triggers.version)
		}
	}
}

// What goes with update_engine's update takes its version along.
func TestVersionGoesWithTheSourceThatNamedIt(t *testing.T) {
	unnamed := Update{Source: Engine, Pending: true}
	for want, script := range map[string][]any{
		"":  {Update{Source: Requester, Pending: true, Version: "5"}, unnamed, Update{Source: another, Pending: true}, idle},
		"5": {Update{Source: Requester, Pending: true, Version: "5"}, Update{Source: another, Pending: true}, Update{Source: another}},
	} {
		if r := withAnother(t).do(script...); r.m.triggers.version != want {
			t.Errorf("after %v the version is %q", script, r.m.triggers.version)
		}
	}
}

func TestStatusSaysWhyAndWhoDoesNotSay(t *testing.T) {
	r := newRig(t, true).do(notHeld, Update{Source: Sentinel, Pending: true, Reason: "/run/reboot-required (libc6)"}, need)
	r.do(Absent{Source: Sentinel, Err: errRefused})
	got := r.m.Status(r.now)
	if !strings.Contains(got, " for version 4081.2.0 (update_engine, /run/reboot-required (libc6)); ") || !strings.HasSuffix(got, "; access denied") {
		t.Errorf("the status is %q", got)
	}
	if need := r.m.needed(); need != "a reboot is needed: update_engine, /run/reboot-required (libc6)" {
		t.Errorf("hooks are told %q", need)
	}
	if l, ok := r.m.running.(Lock); !ok || l.Reason != "/run/reboot-required (libc6)" {
		t.Errorf("others are told %+v", r.m.running)
	}
	r.do(Update{Source: Sentinel})
	if got := r.m.Status(r.now); strings.Contains(got, "access denied") || strings.Contains(got, "libc6") {
		t.Errorf("once it says no, the status is %q", got)
	}
}

// The state file of an earlier version does not name sources.
func TestRequestKeptWithoutSourcesIsARequest(t *testing.T) {
	r := newRig(t, true).start(&Kept{Request: KeptRequest{Since: t0, Version: "5"}})
	if got := r.m.Snapshot(r.now).Need; !slices.Equal(got.Sources, []string{"request"}) || got.Version != "5" {
		t.Errorf("needed is %+v", got)
	}
}

// A host that waits for a slot waits for the version that is needed now: of two, one may be paused.
func TestAnotherVersionKeepsThePlaceInTheQueue(t *testing.T) {
	r := newRig(t, true).do(toLocking...).do(newer)
	if !r.last.Cancel || !r.last.KeepPlace {
		t.Errorf("cancelled %v, keeps the place %v", r.last.Cancel, r.last.KeepPlace)
	}
	r.do(lockEnded)
	if l, ok := r.last.Start.(Lock); !ok || l.Version != newer.Version {
		t.Errorf("started %+v", r.last.Start)
	}
	r = newRig(t, true).do(toLocking...).do(idle)
	if !r.last.Cancel || r.last.KeepPlace {
		t.Errorf("withdrawn: cancelled %v, keeps the place %v", r.last.Cancel, r.last.KeepPlace)
	}
}

// A process that finds a slot of this boot waits for the first word of each source that will speak, for as long as for
// update_engine's.
func TestSlotWaitsForTheFirstWordOfEverySource(t *testing.T) {
	start := func() *rig {
		r := newRig(t, true)
		r.m = New(r.m.config, Found{Sources: []Source{SentinelCommand}}, r.now, r.m.rand)
		return r.do(Tick{}, calledOff, Inspected{Holding: HeldThisBoot}, idle)
	}
	r := start()
	r.expect(Starting, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "a slot is held; waiting for sentinel command until") {
		t.Errorf("the status is %q", s)
	}
	r.do(Update{Source: SentinelCommand, Pending: true})
	r.expect(Locking, locks, false) // goes on with the slot

	start().do(Update{Source: SentinelCommand}).expect(Settling, unlocks, false)
	start().do(Absent{Source: SentinelCommand}).expect(Settling, unlocks, false)
	start().do(sourceGrace).expect(Settling, unlocks, false)
}
