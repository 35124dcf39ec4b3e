package daemon

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// drain is a stand-in for one more effect, and drained for its result.
type drain struct{ node string }

func (drain) Kind() policy.Kind { return policy.Kind{Name: "drain", Limit: time.Minute} }

type drained struct {
	policy.Tick
	node string
	err  error
}

func (d drained) Failure() error { return d.err }

func TestOneMoreEffectNeedsOnePerformer(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		l := &loop{parts: s.parts, performers: performers(), events: make(chan policy.Event)}
		add(l.performers, func(_ *loop, ctx context.Context, _ task, e drain) drained {
			<-ctx.Done()
			return drained{node: e.node, err: ctx.Err()}
		})
		l.start(t.Context(), drain{"host7"})
		got, ok := (<-l.events).(drained)
		if !ok || got.node != "host7" || got.err != context.DeadlineExceeded || time.Since(s.began) != time.Minute {
			t.Errorf("after %v it ended with %+v", time.Since(s.began), got)
		}
	})
}

// counter is a stand-in for one more observer, as metrics will be.
type counter struct {
	entered map[policy.State]int
	state   policy.State
	why     []string
}

func (c *counter) Observe(s policy.Snapshot, _ string, moves []policy.Move) {
	for _, m := range moves {
		c.entered[m.To]++
		c.why = append(c.why, m.Why)
	}
	c.state = s.State
}

func TestSecondObserverSeesTheSameAsTheFirst(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		c := &counter{entered: map[policy.State]int{}}
		s.parts.Observers = append(s.parts.Observers, c)
		s.refuse = errRefused
		s.run(locked(newSlot(s, "A", policy.HeldSinceBefore)))
		s.tell(need)
		s.sleep(time.Hour)
		s.expectEnd(nil)
		n := len(s.find("reboot failed"))
		if n < 4 || c.entered[policy.Rebooting] != n || c.entered[policy.Settling] != 1 || c.entered[policy.Left] != 1 {
			t.Errorf("%d reboots failed, and it was told of %v", n, c.entered)
		}
		if c.state != s.state() || !slices.Contains(c.why, "the reboot was refused: access denied") {
			t.Errorf("the last state is %v, the reasons are %q", c.state, c.why)
		}
	})
}

// roster is a stand-in for another lock: it has no slots and keeps no record of boots, and lets
// hosts reboot in the order of their names.
type roster struct {
	mu    sync.Mutex
	names []string // who has not rebooted yet, in order
	turn  chan struct{}
}

// member is a host's view of a roster.
type member struct {
	*roster
	name string
}

func (m member) mine() (bool, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.names) > 0 && m.names[0] == m.name, m.turn
}

func (m member) Inspect(context.Context) (policy.Holding, policy.Purpose, error) {
	return policy.NotHeld, policy.Purpose{}, nil
}

func (m member) Report(context.Context, policy.Report) error { return nil }

func (m member) StillHeld(context.Context) (bool, error) {
	mine, _ := m.mine()
	return mine, nil
}

func (m member) Acquire(ctx context.Context, _ policy.Lock, blocked func(string)) error {
	for {
		mine, turn := m.mine()
		if mine {
			return nil
		}
		blocked("not this host's turn")
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Release is the end of a turn.
func (m member) Release(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.names, m.name); i >= 0 {
		m.names = slices.Delete(m.names, i, i+1)
		close(m.turn)
		m.turn = make(chan struct{})
	}
	return nil
}

func TestAnotherLockPutsHostsInAnotherOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := &roster{names: []string{"a", "b", "c"}, turn: make(chan struct{})}
		var order []string
		var sites []*site
		for _, name := range []string{"c", "b", "a"} { // as they come
			s := newSite(t)
			s.run(Settings{Policy: policy.Config{Lock: true}, Lock: member{all, name}})
			s.tell(need)
			sites = append(sites, s)
		}
		for range sites {
			for n, name := range []string{"c", "b", "a"} {
				if s := sites[n]; s.state() == policy.Rebooting && !slices.Contains(order, name) {
					order = append(order, name)
					s.expectEnd(nil)
					member{all, name}.Release(t.Context()) // as the next boot does
					s.sleep(time.Second)
					break
				}
			}
		}
		if want := []string{"a", "b", "c"}; !slices.Equal(order, want) {
			t.Errorf("hosts reboot in the order %v, want %v", order, want)
		}
	})
}
