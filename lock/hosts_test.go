package lock_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// waitingHost is a host in Acquire.
type waitingHost struct {
	id    string
	lock  *lock.Lock
	leave context.CancelFunc
	done  chan error
	stuck *gate // shut: it does not return from a report

	mu      sync.Mutex
	reports []lock.WaitStatus
	fails   []error
}

// enter makes id call Acquire, and returns when that is blocked.
func enter(t *testing.T, s lock.Store, id string, r lock.Record) *waitingHost {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	h := &waitingHost{id: id, lock: newLock(t, s, ""), leave: leave, done: make(chan error, 1), stuck: newGate()}
	go func() {
		h.done <- h.lock.Acquire(ctx, id, r, func(w lock.WaitStatus, err error) {
			h.stuck.pass()
			h.mu.Lock()
			defer h.mu.Unlock()
			if err != nil {
				h.fails = append(h.fails, err)
				return
			}
			h.reports = append(h.reports, w)
		})
	}()
	synctest.Wait()
	return h
}

// last is the last report to h.
func (h *waitingHost) last() lock.WaitStatus {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.reports) == 0 {
		return lock.WaitStatus{}
	}
	return h.reports[len(h.reports)-1]
}

// got reports whether h has its slot, and fails on any other end.
func (h *waitingHost) got(t *testing.T) bool {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-h.done:
		if err != nil {
			t.Errorf("%s: %v", h.id, err)
		}
		h.done <- err
		return true
	default:
		return false
	}
}

func (h *waitingHost) mustRelease(t *testing.T) {
	t.Helper()
	must.Do(t, h.lock.Release(t.Context(), h.id))
	synctest.Wait()
}

// gate stops every goroutine that passes while it is shut.
type gate struct {
	mu     sync.Mutex
	thawed chan struct{}
}

func newGate() *gate {
	g := &gate{thawed: make(chan struct{})}
	close(g.thawed)
	return g
}

func (g *gate) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.thawed = make(chan struct{})
}

func (g *gate) thaw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.thawed:
	default:
		close(g.thawed)
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	thawed := g.thawed
	g.mu.Unlock()
	<-thawed
}

// frozenStore is the store of a host that can be stopped, as with SIGSTOP, before and after its calls.
type frozenStore struct {
	*storetest.Hooked
	*gate
}

func newFrozenStore(s lock.Store) *frozenStore {
	g := newGate()
	return &frozenStore{&storetest.Hooked{
		Store:  s,
		Before: func(*storetest.Call) error { g.pass(); return nil },
		After:  func(*storetest.Call) { g.pass() },
	}, g}
}

// keepLeases keeps every lease alive, as an outsider can, until stop.
func keepLeases(s *storetest.Memory) (stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for ; ctx.Err() == nil; sleepUntilDone(ctx, 10*time.Second) {
			s.KeepAll()
		}
	}()
	return stop
}

func sleepUntilDone(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
