package daemon

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/internal/policy"
)

// inGroup are settings with a lock of the group "web".
func inGroup(k *slot) Settings {
	s := locked(k)
	s.Group = "web"
	return s
}

// about returns the facts of all lines with one of some ids; without ids, of all lines.
func (s *site) about(ids ...journal.MessageID) (facts []journal.Facts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.facts {
		if len(ids) == 0 || slices.Contains(ids, f.ID) {
			facts = append(facts, f)
		}
	}
	return facts
}

// Each transition has its facts, and so has what made the daemon give an attempt up.
func TestTransitionsHaveFacts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		s.refuse = errRefused
		s.run(inGroup(k))
		s.tell(need)
		s.sleep(time.Second)
		s.expectEnd(nil)
		want := []journal.Facts{
			{ID: journal.EnteredSettling, State: "settling", From: "starting"},
			{ID: journal.EnteredIdle, State: "idle", From: "settling"},
			{ID: journal.EnteredWaiting, State: "waiting", From: "idle", Version: "4081.2.0"},
			{ID: journal.EnteredLocking, State: "locking", From: "waiting", Version: "4081.2.0"},
			{ID: journal.EnteredPreparing, State: "preparing", From: "locking", Version: "4081.2.0"},
			{ID: journal.EnteredRebooting, State: "rebooting", From: "preparing", Version: "4081.2.0"},
			{ID: journal.RebootFailed, State: "rebooting", Version: "4081.2.0", Reason: errRefused.Error()},
			{ID: journal.EnteredReleasing, State: "releasing", From: "rebooting", Version: "4081.2.0"},
			{ID: journal.EnteredWaiting, State: "waiting", From: "releasing", Version: "4081.2.0"},
			{ID: journal.EnteredLeft, State: "left", From: "waiting", Version: "4081.2.0"},
		}
		got := s.about()
		if len(got) != len(want) {
			t.Fatalf("the facts are %+v", got)
		}
		whys := s.logged()
		whys = slices.DeleteFunc(whys, func(line map[string]string) bool { return line["why"] == "" && line["error"] == "" })
		for i := range want {
			if want[i].Reason == "" {
				want[i].Reason = whys[i]["why"]
			}
			if want[i].Group = "web"; got[i] != want[i] || got[i].Reason == "" {
				t.Errorf("line %d is about %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

// A step can go through several states: each line is about the state that it has entered.
func TestFactsNameTheStateThatWasEntered(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		l := &loop{parts: s.parts}
		l.log(policy.Snapshot{State: policy.Idle}, "idle", []policy.Move{
			{From: policy.Preparing, To: policy.Releasing, Why: "withdrawn"}, {From: policy.Releasing, To: policy.Idle, Why: "undone"},
		})
		want := []journal.Facts{
			{ID: journal.EnteredReleasing, State: "releasing", From: "preparing", Reason: "withdrawn"},
			{ID: journal.EnteredIdle, State: "idle", From: "releasing", Reason: "undone"},
		}
		if got := s.about(); !slices.Equal(got, want) {
			t.Errorf("the lines are about %+v, want %+v", got, want)
		}
	})
}

func TestObstaclesHaveFacts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.gate = func() *policy.Obstacle { return &policy.Obstacle{Kind: policy.Alerts, Text: "an alert"} }
		s.run(Settings{Policy: people5m})
		s.tell(need)
		s.sleep(time.Hour)
		s.set(func() {
			s.gate = func() *policy.Obstacle { return &policy.Obstacle{Kind: policy.Attempts, Text: "2 reboots"} }
		})
		s.sleep(time.Hour)
		want := []journal.Facts{
			{ID: journal.HeldBack, State: "waiting", Version: "4081.2.0", Reason: "an alert"},
			{ID: journal.AttemptsUsed, State: "waiting", Version: "4081.2.0", Reason: "2 reboots"},
		}
		if got := s.about(journal.HeldBack, journal.AttemptsUsed); !slices.Equal(got, want) {
			t.Errorf("the lines are about %+v, want %+v", got, want)
		}
		s.expectEnd(nil)
	})
}

// A host that is unwell says so once, and of which version.
func TestUnwellHostHasFacts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		k.purpose, s.hooks.after = policy.Purpose{Version: "2"}, errors.New("20-etcd: member is unhealthy")
		s.run(inGroup(k))
		s.sleep(5 * time.Minute)
		if got := s.about(journal.HostUnwell); len(got) > 0 {
			t.Errorf("unwell too early: %+v", got)
		}
		checks := s.about(journal.CheckFailed)
		if len(checks) == 0 || checks[0] != (journal.Facts{ID: journal.CheckFailed, State: "settling", Group: "web", Version: "2", Reason: "20-etcd: member is unhealthy"}) {
			t.Errorf("the checks are about %+v", checks)
		}
		s.sleep(24 * time.Hour)
		want := []journal.Facts{{ID: journal.HostUnwell, State: "settling", Group: "web", Version: "2", Reason: "20-etcd: member is unhealthy"}}
		if got := s.about(journal.HostUnwell); !slices.Equal(got, want) {
			t.Errorf("the lines are about %+v, want %+v", got, want)
		}
		if l := s.find("this host is unwell after its reboot"); len(l) != 1 || l[0]["level"] != "WARN" || l[0]["version"] != "2" || l[0]["status"] == "" {
			t.Errorf("the log has %v", l)
		}
		s.expectEnd(nil)
	})
}

func TestFailedHooksAndCallsHaveFacts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.hooks.hooked, s.hooks.before = true, errRefused
		k := newSlot(s, "A", policy.NotHeld)
		s.run(inGroup(k))
		s.tell(need)
		s.sleep(time.Second)
		want := []journal.Facts{{ID: journal.HookFailed, State: "preparing", Group: "web", Version: "4081.2.0", Reason: errRefused.Error()}}
		if got := s.about(journal.HookFailed); !slices.Equal(got, want) {
			t.Errorf("the lines are about %+v, want %+v", got, want)
		}
		k.set(func() { k.fail = errDown })
		s.sleep(time.Hour)
		if got := s.about(journal.EffectFailed); len(got) == 0 || got[0].Reason != errDown.Error() || got[0].State == "" {
			t.Errorf("the lines are about %+v", got)
		}
		k.set(func() { k.fail = nil })
		s.sleep(time.Hour)
		s.end()
	})
}

func TestSlotThatMayStayBehindHasFacts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(inGroup(k))
		s.tell(need)
		s.sleep(time.Minute)
		k.set(func() { k.deaf = true })
		s.stop()
		s.sleep(time.Minute)
		got := s.about(journal.SlotMayBeHeld)
		if len(got) != 1 || got[0].Group != "web" || got[0].State == "" || got[0].Reason == "" {
			t.Errorf("the lines are about %+v", got)
		}
	})
}
