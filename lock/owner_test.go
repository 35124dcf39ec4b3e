package lock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// Two processes of one host wait, such as its daemon and locksmithctl lock -wait: the place is
// that of the first one, whatever happens to the second one.
func TestSecondProcessOfAHostWaitsBesideTheFirst(t *testing.T) {
	r := lock.Record{Hostname: "web-1", BootID: "1"}
	old := []byte(`{"hostname":"web-1","boot_id":"1"}`) // as a version without owners writes it
	for name, test := range map[string]struct {
		then  func(t *testing.T, s *storetest.Memory, first, second *waitingHost)
		queue []string
		got   bool // both have the slot
	}{
		"and the second leaves": {func(t *testing.T, _ *storetest.Memory, _, second *waitingHost) {
			second.leave()
			<-second.done
		}, []string{"x", "b"}, false},
		"and the first leaves": {func(t *testing.T, _ *storetest.Memory, first, _ *waitingHost) {
			first.leave()
			<-first.done
		}, []string{"b", "x"}, false},
		"and the first has its turn": {func(t *testing.T, s *storetest.Memory, _, _ *waitingHost) {
			must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
		}, []string{"b"}, true},
		"and it is locked by hand": {func(t *testing.T, s *storetest.Memory, _, _ *waitingHost) {
			put(t, s, defaultKey, `{"semaphore":-1,"max":1,"holders":["a","x"]}`)
		}, []string{"b"}, true},
		"and both are there for long": {func(t *testing.T, s *storetest.Memory, _, _ *waitingHost) {
			calls := s.Calls()
			time.Sleep(30 * time.Minute)
			if n := s.Calls() - calls; n > 30 {
				t.Errorf("half an hour of waiting took %d calls", n)
			}
		}, []string{"x", "b"}, false},
		"and a third of a version without owners takes over": {func(t *testing.T, s *storetest.Memory, _, _ *waitingHost) {
			lease, err := s.Grant(t.Context(), time.Hour)
			must.Do(t, err)
			_, _, err = s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/x", Value: old, Lease: lease}})
			must.Do(t, err)
		}, []string{"x", "b"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewMemory()
				enter(t, s, "a", lock.Record{})
				first := enter(t, s, "x", r)
				enter(t, s, "b", lock.Record{})
				second := enter(t, s, "x", r)
				if w := second.last(); !w.Beside || w.Ahead != "" || !strings.Contains(w.String(), "another process") {
					t.Errorf("the second process waits: %v", w)
				}
				test.then(t, s, first, second)
				synctest.Wait()
				if q := queueIDs(t, s); !slices.Equal(q, test.queue) {
					t.Errorf("the queue is %v, want %v", q, test.queue)
				}
				if test.got && (!first.got(t) || !second.got(t)) {
					t.Errorf("x has its slot, and the first process waits: %v, the second: %v", first.last(), second.last())
				}
			})
		})
	}
}

// As when a daemon is killed, loses its token, and somebody keeps the lease of its entry alive.
func TestPlaceOfADeadProcessOfTheSameHostIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		defer keepLeases(s)()
		a := enter(t, s, "a", lock.Record{})
		died := newFrozenStore(s)
		first := enter(t, died, "x", lock.Record{})
		died.freeze()
		second := enter(t, s, "x", lock.Record{})
		if !second.last().Beside {
			t.Errorf("the second process waits: %v", second.last())
		}
		a.mustRelease(t)
		time.Sleep(8 * time.Minute)
		if !second.got(t) {
			t.Errorf("a slot is free, and the second process waits: %v", second.last())
		}
		first.leave()
		died.thaw()
	})
}

// There should not be two processes with one owner. They do not take the place from each other endlessly.
func TestTwoProcessesOfOneOwnerShareAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		r := lock.Record{Hostname: "web-1", BootID: "1", Owner: "daemon"}
		a := enter(t, s, "a", lock.Record{})
		older := enter(t, s, "x", r)
		b := enter(t, s, "b", lock.Record{})
		newer := enter(t, s, "x", r)
		time.Sleep(time.Second)
		calls := s.Calls()
		time.Sleep(30 * time.Minute)
		if n := s.Calls() - calls; n > 30 {
			t.Errorf("half an hour of waiting took %d calls", n)
		}
		if q := queueIDs(t, s); !slices.Equal(q, []string{"x", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		if a.mustRelease(t); !newer.got(t) || !older.got(t) || b.got(t) {
			t.Errorf("x has no slot: the older process waits: %v, the newer one: %v", older.last(), newer.last())
		}
	})
}

func TestPlaceThatIsKeptIsTakenOverByItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		r := lock.Record{Owner: "daemon"}
		a := enter(t, s, "a", lock.Record{})
		ctx, stop := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- newLock(t, s, "").Acquire(ctx, "x", r, nil) }()
		synctest.Wait()
		b := enter(t, s, "b", lock.Record{})
		stop(lock.ErrKeepPlace)
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		time.Sleep(40 * time.Second)
		stranger := enter(t, s, "x", lock.Record{})
		again := enter(t, s, "x", r)
		time.Sleep(10 * time.Minute)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"x", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		if a.mustRelease(t); !again.got(t) || !stranger.got(t) || b.got(t) {
			t.Errorf("x has no slot, and waits: %v", again.last())
		}
		again.mustRelease(t)
		if !b.got(t) {
			t.Errorf("b waits: %v", b.last())
		}
		b.mustRelease(t)
		wantNothingLeft(t, s)
	})
}

func TestRestartedHostKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		crashed := newFrozenStore(s)
		before := enter(t, crashed, "a", lock.Record{Hostname: "a", BootID: "1", Owner: "daemon"})
		b := enter(t, s, "b", lock.Record{Hostname: "b", BootID: "1"})
		crashed.freeze() // as good as killed
		again := enter(t, s, "a", lock.Record{Hostname: "a", BootID: "1", Owner: "daemon"})
		time.Sleep(10 * time.Minute)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"a", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		holder.mustRelease(t)
		if !again.got(t) || b.got(t) {
			t.Error("the one that was there first has no slot")
		}
		again.mustRelease(t)
		if !b.got(t) {
			t.Error("b has no slot")
		}
		before.leave()
		crashed.thaw()
		synctest.Wait()
		if h := holdersIn(t, s); !slices.Equal(h, []string{"b"}) {
			t.Errorf("held by %v", h)
		}
	})
}

// A process died in the queue, the next one of that host takes its place over and leaves at once: nobody
// waits behind what the first one had in the index.
func TestPlaceThatWasTakenOverLeavesTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		crashed := newFrozenStore(s)
		before := enter(t, crashed, "a", lock.Record{Owner: "daemon"})
		b := enter(t, s, "b", lock.Record{})
		crashed.freeze()
		ctx, leave := context.WithCancel(t.Context())
		if err := newLock(t, storetest.After(s, isCommit, leave), "").Acquire(ctx, "a", lock.Record{Owner: "daemon"}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("a waits: %v", err)
		}
		holder.mustRelease(t)
		if !b.got(t) {
			t.Errorf("b waits, and nobody else does: %v", b.last())
		}
		before.leave()
		crashed.thaw()
		wantNothingLeft(t, s)
	})
}
