package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// hooks are the Hooks of a site.
type hooks struct {
	site   *site
	hooked bool
	before error         // what Before answers
	takes  time.Duration // and how long that takes
	undo   error
	after  error
}

func (h *hooks) Hooked(context.Context) (bool, error) { return now(h.site, &h.hooked), nil }

func (h *hooks) Before(ctx context.Context, f policy.Facts) error {
	h.site.note("before " + f.Version)
	select {
	case <-time.After(now(h.site, &h.takes)):
		return now(h.site, &h.before)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *hooks) Undo(_ context.Context, f policy.Facts) error {
	h.site.note("undo: " + f.Reason)
	return now(h.site, &h.undo)
}

func (h *hooks) After(context.Context, policy.Facts) error {
	h.site.note("after")
	return now(h.site, &h.after)
}

// newDrainedSite returns a site with something hooked in before a reboot, and its slot.
func newDrainedSite(t *testing.T) (*site, *slot) {
	s := newSite(t)
	s.hooks.hooked = true
	return s, newSlot(s, "A", policy.NotHeld)
}

// has reports whether a call was made.
func (s *site) has(call string) bool {
	return slices.ContainsFunc(s.called(), func(c string) bool { return strings.HasSuffix(c, " "+call) })
}

// order expects calls in this order, with others between them.
func (s *site) order(want ...string) {
	s.t.Helper()
	calls := s.called()
	for _, w := range want {
		i := slices.IndexFunc(calls, func(c string) bool { return strings.Contains(c, " "+w) })
		if i < 0 {
			s.t.Fatalf("no %q, or not after what comes before it:\n%s", w, strings.Join(s.called(), "\n"))
		}
		calls = calls[i+1:]
	}
}

func TestDrainRunsWithTheSlotAndBeforeTheReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newDrainedSite(t)
		s.hooks.takes = 7 * time.Minute
		s.run(locked(k))
		s.tell(need)
		s.expectState(policy.Preparing)
		if line := s.reported()[len(s.reported())-1].Status; !strings.Contains(line, "running what is hooked in before the reboot") {
			t.Errorf("the status is %q", line)
		}
		s.sleep(7 * time.Minute)
		s.expectState(policy.Rebooting)
		s.order("A acquire", "A report draining", "before "+need.Version, "A report rebooting", "A still held", "reboot")
		if s.has("A release") || s.has("undo") {
			t.Error("undone")
		}
		s.end()
	})
}

func TestWhateverEndsADrainUndoesItBeforeTheSlot(t *testing.T) {
	for name, c := range map[string]struct {
		before error
		end    func(*site)
		within time.Duration
	}{
		"it fails":                {errRefused, func(*site) {}, 0},
		"it hangs":                {nil, func(s *site) { s.sleep(10 * time.Minute) }, 10 * time.Minute},
		"the update is withdrawn": {nil, func(s *site) { s.tell(policy.Update{Source: policy.Engine}) }, 0},
		"the daemon is stopped":   {nil, func(s *site) { s.stop(); synctest.Wait() }, 0},
		"the host may not reboot when it is over": {nil, func(s *site) {
			s.set(func() { s.gate = func() *policy.Obstacle { return &policy.Obstacle{Kind: "gate", Text: "a gate"} } })
			s.sleep(5 * time.Minute)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, k := newDrainedSite(t)
				s.hooks.before = c.before
				if c.before == nil {
					s.hooks.takes = time.Hour
				}
				if strings.HasPrefix(name, "the host") {
					s.hooks.takes = 5 * time.Minute
				}
				s.run(locked(k))
				s.tell(need)
				c.end(s)
				s.order("A acquire", "before", "undo", "A release")
				if s.has("reboot") || k.is() != policy.NotHeld {
					t.Errorf("calls: %v", s.called())
				}
				s.end()
			})
		})
	}
}

func TestNextProcessUndoesADrainBeforeAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newDrainedSite(t)
		s.parts.Found.Drained = true
		k.held, s.hooks.undo = policy.HeldThisBoot, errRefused
		s.run(locked(k))
		s.expectState(policy.Starting)
		s.set(func() { s.hooks.undo = nil })
		s.sleep(time.Minute)
		s.order("undo", "undo", "A release")
		s.end()
	})
}

func TestSlotIsGivenBackOnceTheHostIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newDrainedSite(t)
		k.held, k.purpose = policy.HeldSinceBefore, policy.Purpose{Version: "2"}
		s.hooks.after = errors.New("20-etcd: member is unhealthy")
		s.run(locked(k))
		s.sleep(5 * time.Minute)
		if s.has("A report unwell") {
			t.Error("unwell too early")
		}
		s.sleep(6 * time.Minute)
		s.order("after", "A report checking", "after", "A report unwell", "after", "A still held")
		line := s.reported()[len(s.reported())-1].Status
		if !strings.Contains(line, "unwell") || !strings.Contains(line, "member is unhealthy") {
			t.Errorf("the status is %q", line)
		}
		s.sleep(24 * time.Hour)
		if s.has("A release") || k.is() == policy.NotHeld {
			t.Fatal("the slot of a host that is unwell is given back")
		}
		s.set(func() { s.hooks.after = nil })
		s.sleep(2 * time.Minute)
		s.expectState(policy.Idle)
		s.order("A report unwell", "A release")
		if n := len(s.results); n < 2 || s.results[0] == nil || s.results[n-1] != nil {
			t.Errorf("recorded %v", s.results)
		}
		s.end()
	})
}

// A host that gives its slot back without being well goes on with its checks, and says so, until it is.
func TestChecksGoOnWithoutTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newDrainedSite(t)
		k.held, k.purpose, s.hooks.after = policy.HeldSinceBefore, policy.Purpose{Version: "2"}, errRefused
		settings := locked(k)
		settings.Policy.HealthFailure = policy.ReleaseSlot
		s.run(settings)
		s.sleep(20 * time.Minute)
		s.expectState(policy.Settling)
		s.order("after", "A release", "after", "after")
		if line := s.reported()[len(s.reported())-1].Status; !strings.Contains(line, "this host is unwell") {
			t.Errorf("the status is %q", line)
		}
		s.set(func() { s.hooks.after = nil })
		s.sleep(2 * time.Minute)
		s.expectState(policy.Idle)
		if n := len(s.results); n < 2 || s.results[0] == nil || s.results[n-1] != nil {
			t.Errorf("recorded %v", s.results)
		}
		s.end()
	})
}

func TestFreedSlotOfAnUnwellHostIsADecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newDrainedSite(t)
		k.held, s.hooks.after = policy.HeldSinceBefore, errRefused
		s.run(locked(k))
		s.sleep(20 * time.Minute)
		s.expectState(policy.Settling)
		k.set(func() { k.held = policy.NotHeld })
		s.sleep(2 * time.Minute)
		s.expectState(policy.Idle)
		s.end()
	})
}
