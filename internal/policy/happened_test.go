package policy

import (
	"context"
	"testing"
	"time"
)

// What has happened stays in the snapshot, whatever comes next, also over a reload.
func TestSnapshotSaysWhichHooksFailed(t *testing.T) {
	r := newRig(t, true).do(toDraining...)
	if s := r.m.Snapshot(r.now); s.HookFailed != nil {
		t.Errorf("before the failure it says %+v", s.HookFailed)
	}
	failed := HookFailed{HookBefore, need.Version, notDrained.Err.Error(), r.now}
	if s := r.do(notDrained).m.Snapshot(r.now); s.HookFailed == nil || *s.HookFailed != failed {
		t.Errorf("after the failure it says %+v, want %+v", s.HookFailed, failed)
	}
	failed = HookFailed{HookCancelled, need.Version, errDown.Error(), r.now}
	r.do(Undrained{Err: errDown}, 6*time.Second, Undrained{Err: errRefused}) // of several in succession the first counts
	if s := r.m.Snapshot(r.now); s.HookFailed == nil || *s.HookFailed != failed {
		t.Errorf("after a failed undo it says %+v, want %+v", s.HookFailed, failed)
	}
	if s := r.m.Restart(r.m.config, r.now).Snapshot(r.now); s.HookFailed == nil || *s.HookFailed != failed {
		t.Errorf("after a reload it says %+v, want %+v", s.HookFailed, failed)
	}
	r = newRig(t, true).do(toDraining...).do(idle, Drained{Err: context.Canceled})
	if s := r.m.Snapshot(r.now); s.HookFailed != nil {
		t.Errorf("after a drain that was cancelled it says %+v", s.HookFailed)
	}
}

func TestSnapshotSaysThatTheHostBecameWell(t *testing.T) {
	for name, script := range map[string][]any{
		"at once":             {bad, well},
		"at the second try":   {bad, sick, toldChecks, 6 * time.Second, well},
		"after it was unwell": append(toUnwell[:len(toUnwell):len(toUnwell)], time.Minute, well),
	} {
		r := newRig(t, true).do(script[:len(script)-1]...)
		if s := r.m.Snapshot(r.now); s.Well != nil {
			t.Errorf("%s: before, it says %+v", name, s.Well)
		}
		want := Well{"4081.2.0", r.now}
		r.do(script[len(script)-1])
		for _, later := range []any{given, need} {
			if s := r.m.Snapshot(r.now); s.Well == nil || *s.Well != want {
				t.Errorf("%s: it says %+v, want %+v", name, s.Well, want)
			}
			r.do(later)
		}
	}
	// A slot that somebody has freed, and the wrong version, are not wellness.
	for name, script := range map[string][]any{"freed": append(toUnwell[:len(toUnwell):len(toUnwell)], time.Minute, freed), "rolled back": {rolledBack, toldSick, well}} {
		r := newRig(t, true)
		r.m.health.runs = "4000.0.0"
		if s := r.do(script...).m.Snapshot(t0); s.Well != nil {
			t.Errorf("%s: it says %+v", name, s.Well)
		}
	}
}

func TestSnapshotSaysWhetherTheFleetKnowsThatAHostIsUnwell(t *testing.T) {
	r := newRig(t, true).do(bad, sick, toldChecks, 10*time.Minute)
	if h := r.m.Snapshot(r.now).Health; !h.Unwell || !h.Pauses || h.Told {
		t.Errorf("before the fleet is told it says %+v", h)
	}
	if h := r.do(toldSick).m.Snapshot(r.now).Health; !h.Unwell || !h.Pauses || !h.Told {
		t.Errorf("after that it says %+v", h)
	}
}
