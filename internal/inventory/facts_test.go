package inventory

import (
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestStateInAWord(t *testing.T) {
	now := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	settings := policy.Config{Zone: func() *time.Location { return time.UTC }}
	with := func(state policy.State, change func(*policy.Snapshot)) policy.Snapshot {
		s := needs(state, "2")
		change(&s)
		return s
	}
	health := func(h policy.Health) policy.Snapshot {
		return with(policy.Settling, func(s *policy.Snapshot) { s.Health = &h })
	}
	for _, c := range []struct {
		name     string
		s        policy.Snapshot
		state    State
		waitsFor string
	}{
		{"idle", idle(), Idle, ""},
		{"starting", policy.Snapshot{State: policy.Starting}, Starting, ""},
		{"window", with(policy.Waiting, func(s *policy.Snapshot) { s.Opens = now }), Waiting, "window"},
		{"window, and what comes after it", with(policy.Waiting, func(s *policy.Snapshot) { s.Opens, s.Begins = now, now }), Waiting, "window"},
		{"turn", with(policy.Waiting, func(s *policy.Snapshot) { s.Begins = now }), Waiting, "turn"},
		{"gate", with(policy.Waiting, func(s *policy.Snapshot) { s.HeldBack = &policy.Obstacle{Kind: policy.Alerts} }), Waiting, "alerts"},
		{"news", with(policy.Waiting, func(s *policy.Snapshot) { s.Silent = []string{"update_engine"} }), Waiting, "news"},
		{"retry", with(policy.Waiting, func(s *policy.Snapshot) { s.Retries = []policy.Retry{{Error: "no"}} }), Waiting, "retry"},
		{"slot", needs(policy.Locking, "2"), Locking, "slot"},
		{"checks", needs(policy.Preparing, "2"), Preparing, ""},
		{"hooks", with(policy.Preparing, func(s *policy.Snapshot) { s.DrainUntil = now }), Preparing, "hooks"},
		{"users", with(policy.Preparing, func(s *policy.Snapshot) { s.RebootAt = now }), Preparing, "users"},
		{"rebooting", needs(policy.Rebooting, "2"), Rebooting, ""},
		{"settling", needs(policy.Settling, "2"), Settling, ""},
		{"checking", health(policy.Health{}), Checking, ""},
		{"unwell", health(policy.Health{Unwell: true}), Unwell, ""},
		{"well, and keeps its slot for a while", health(policy.Health{Releases: now}), Releasing, ""},
		{"releasing", with(policy.Releasing, func(s *policy.Snapshot) { s.Undo = []policy.Undo{{Doing: "giving the slot back"}} }), Releasing, ""},
	} {
		var h Host
		if h.fill(c.s, now, settings); h.State != c.state || h.WaitsFor != c.waitsFor {
			t.Errorf("%s: the state is %q and it waits for %q, want %q and %q", c.name, h.State, h.WaitsFor, c.state, c.waitsFor)
		}
	}
}

// Who is ahead in the queue, and when the need began, are known from elsewhere.
func TestReasonIsWhatTheHostDoes(t *testing.T) {
	s := needs(policy.Locking, "2")
	s.BlockedBy = "a slot is held by web-2"
	s.Error = "a hook failed"
	var h Host
	h.fill(s, time.Now(), policy.Config{Zone: func() *time.Location { return time.UTC }})
	if want := "waiting for a slot since Sun 2001-09-09 01:46:40 UTC (a hook failed)"; h.Why != want {
		t.Errorf("the reason is %q, want %q", h.Why, want)
	}
	if h.Need == nil || h.Need.Version != "2" || !h.Need.Since.Equal(s.Since) {
		t.Errorf("the need is %+v", h.Need)
	}
}

func TestChanges(t *testing.T) {
	for name, change := range map[string]func(*Host){
		"state": func(h *Host) { h.State = Locking }, "hostname": func(h *Host) { h.Hostname = "web-2" }, "OS": func(h *Host) { h.OSVersion = "1" },
		"locksmith": func(h *Host) { h.Locksmith = "1" }, "what it waits for": func(h *Host) { h.WaitsFor = "users" },
		"version": func(h *Host) { h.Need.Version = "1" }, "no need": func(h *Host) { h.Need = nil }, "window": func(h *Host) { h.Window.Start = "" },
		"last reboot": func(h *Host) { h.Last.Well = false }, "no last reboot": func(h *Host) { h.Last = nil }, "since": func(h *Host) { h.Since = time.Time{} },
	} {
		h := full()
		if change(&h); !h.changed(full()) {
			t.Errorf("%s: it counts for nothing", name)
		}
	}
	for name, change := range map[string]func(*Host){
		"boot": func(h *Host) { h.Booted = time.Time{} }, "texts": func(h *Host) { h.Why, h.Need.Reasons = "", nil },
		"next window": func(h *Host) { h.Opens, h.Shuts = time.Time{}, time.Time{} }, "written": func(h *Host) { h.Updated = time.Time{} },
	} {
		h := full()
		if change(&h); h.changed(full()) {
			t.Errorf("%s: it counts", name)
		}
	}
}

// The reasons of a snapshot belong to the daemon, which goes on to read them.
func TestRecordLeavesTheSnapshotAlone(t *testing.T) {
	s := policy.Snapshot{Need: policy.Need{Sources: []string{"engine"}, Reasons: []string{"a\x1b[31m"}}}
	var h Host
	h.fill(s, time.Now(), policy.Config{})
	h.clean()
	if s.Need.Reasons[0] != "a\x1b[31m" || h.Need.Reasons[0] == s.Need.Reasons[0] {
		t.Errorf("the snapshot has %q, and the record %q", s.Need.Reasons, h.Need.Reasons)
	}
}
