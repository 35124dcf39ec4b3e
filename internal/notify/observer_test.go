package notify

import (
	"slices"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// observed returns the events of an observer that sees these snapshots, with the state of each as its move.
func observed(snapshots ...policy.Snapshot) (events []Event, forgotten []Type) {
	o := &Observer{Boot: "b1", Add: func(e Event) { events = append(events, e) }, Forget: func(types ...Type) { forgotten = append(forgotten, types...) }}
	state := policy.Starting
	for _, s := range snapshots {
		var moves []policy.Move
		if s.State != state {
			moves = append(moves, policy.Move{From: state, To: s.State})
			state = s.State
		}
		o.Observe(s, "", moves)
	}
	return events, forgotten
}

func TestFactsBecomeEvents(t *testing.T) {
	const version = "4081.2.0"
	need := policy.Need{Since: t0, Version: version, Sources: []string{"update_engine"}, Reasons: []string{"update_engine", "a kernel"}}
	later := t0.Add(time.Minute)
	checking := &policy.Health{Version: version}
	unwell := &policy.Health{Version: version, Unwell: true, Retry: policy.Retry{Error: "10-smoke: 503"}}
	pausing, told := *unwell, *unwell
	pausing.Pauses = true
	told.Pauses, told.Told = true, true
	attempts := &policy.Obstacle{Kind: policy.Attempts, Text: "2 reboots"}
	hook := &policy.HookFailed{Hook: policy.HookBefore, Version: version, Error: "50-drain: 1", At: t0}
	for _, test := range []struct {
		name      string
		snapshots []policy.Snapshot
		want      []Event
	}{
		{"an idle host", []policy.Snapshot{{State: policy.Idle}, {State: policy.Idle, Troubles: []string{"x"}}}, nil},
		{"a reboot", []policy.Snapshot{
			{State: policy.Waiting, Need: need}, {State: policy.Rebooting, Since: later, Need: need}, {State: policy.Rebooting, Since: later, Need: need, GiveUp: later},
		}, []Event{{Type: RebootBegins, Time: later, Version: version, Reason: "update_engine, a kernel"}}},
		{"a host that becomes well", []policy.Snapshot{
			{State: policy.Settling, Health: checking}, {State: policy.Idle, Well: &policy.Well{Version: version, At: later}}, {State: policy.Waiting, Need: need, Well: &policy.Well{Version: version, At: later}},
		}, []Event{{Type: BackAndWell, Time: later, Version: version, Once: "b1 " + version}}},
		{"an unwell host", []policy.Snapshot{
			{State: policy.Settling, Health: checking}, {State: policy.Settling, Health: unwell}, {State: policy.Settling, Health: unwell, Need: need},
		}, []Event{{Type: Unwell, Version: version, Reason: "10-smoke: 503", Once: "b1 " + version}}},
		{"one that pauses its version", []policy.Snapshot{
			{State: policy.Settling, Health: unwell}, {State: policy.Settling, Health: &pausing}, {State: policy.Settling, Health: &told}, {State: policy.Settling, Health: &told, Need: need},
		}, []Event{
			{Type: Unwell, Version: version, Reason: "10-smoke: 503", Once: "b1 " + version},
			{Type: RolloutStopped, Version: version, Reason: "10-smoke: 503", Once: "b1 " + version},
		}},
		{"one that could not tell the fleet", []policy.Snapshot{{State: policy.Settling, Health: unwell}, {State: policy.Settling, Health: &pausing}}, []Event{
			{Type: Unwell, Version: version, Reason: "10-smoke: 503", Once: "b1 " + version},
		}},
		{"hooks that fail twice", []policy.Snapshot{
			{State: policy.Releasing, HookFailed: hook}, {State: policy.Waiting, HookFailed: hook},
			{State: policy.Releasing, HookFailed: &policy.HookFailed{Hook: policy.HookCancelled, Error: "x", At: later}},
		}, []Event{
			{Type: HookFailed, Time: t0, Hook: "before-reboot", Version: version, Reason: "50-drain: 1", Once: "before-reboot " + version + " 50-drain: 1"},
			{Type: HookFailed, Time: later, Hook: "reboot-cancelled", Reason: "x", Once: "reboot-cancelled  x"},
		}},
		{"attempts that are used up", []policy.Snapshot{
			{State: policy.Waiting, Need: need, HeldBack: attempts}, {State: policy.Waiting, Need: need, HeldBack: attempts, Troubles: []string{"x"}},
			{State: policy.Waiting, Need: need, HeldBack: &policy.Obstacle{Kind: policy.Unrecorded, Text: "a file"}},
		}, []Event{{Type: AttemptsUsedUp, Version: version, Reason: "held back by 2 reboots", Once: version + " "}}},
	} {
		if got, _ := observed(test.snapshots...); !slices.Equal(got, test.want) {
			t.Errorf("%s: the events are\n%+v\nwant\n%+v", test.name, got, test.want)
		}
	}
	if _, forgotten := observed(policy.Snapshot{State: policy.Rebooting}); !slices.Equal(forgotten, []Type{HookFailed, AttemptsUsedUp}) {
		t.Errorf("a reboot makes %v news again", forgotten)
	}
}
