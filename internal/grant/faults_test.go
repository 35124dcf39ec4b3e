package grant_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestLostRepliesOfEtcdChangeNothing(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest} {
		bubble(t, func(t *testing.T, store *storetest.Memory) {
			s := newServer(store)
			store.FailCommits(fault)
			must.Do(t, s.take(t, "r"))
			wantLock(t, store, []string{"r"}, nil)
			store.FailCommits(fault)
			s.steady(t, "r")
			wantLock(t, store, nil, nil)
		})
	}
}

// The server does not learn whether it has taken the slot, and etcd does it later.
func TestUnknownOutcomeIsNoGrant(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		must.Do(t, s.take(t, "r"))
		s.steady(t, "r")
		s.logged()
		store.FailCommits(storetest.CutOff)
		wantKind(t, s.take(t, "r"), fleetlock.KindUnavailable, "may have a slot: ask again")
		store.Break(nil)
		// A later request of the client decides, and what is still under way cannot change that.
		s.steady(t, "r")
		store.Deliver()
		wantLock(t, store, nil, nil)
		if lines := s.logged(); len(lines) != 4 || !strings.Contains(lines[0], "etcd cannot be used") || !strings.Contains(lines[2], "etcd can be used again") {
			t.Errorf("logged is %q", lines)
		}
		store.FailCommits(storetest.CutOff)
		wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindUnavailable, "ask for steady-state again")
	})
}

// The client has asked for steady-state, did not learn the outcome, and is granted the slot again. Then the transaction
// of the earlier request, which is still under way, must not free the slot.
func TestSteadyStateOfUnknownOutcomeCannotTakeAwayALaterGrant(t *testing.T) {
	for name, w := range map[string]grant.Window{"open": nil, "shut": window{first: time.Hour, open: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, store *storetest.Memory) {
				s := newServer(store)
				must.Do(t, s.take(t, "r"))
				store.FailCommits(storetest.CutOff)
				wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindUnavailable)
				store.Break(nil)
				if w, ok := w.(window); ok {
					w.begin = time.Now()
					s.serve("default", grant.Group{Max: 1, Window: w})
				}
				must.Do(t, s.take(t, "r"))
				store.Deliver()
				wantLock(t, store, []string{"r"}, nil)
			})
		})
	}
}

// The same, but the slot becomes free right before the server grants it.
func TestGrantAfterASteadyStateThatSucceedsLate(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		must.Do(t, s.take(t, "r"))
		store.FailCommits(storetest.CutOff)
		wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindUnavailable)
		store.Break(nil)
		confirms := func(c *storetest.Call) bool { return c.Method == storetest.Commit }
		s.change(func(o *grant.Options) { o.Store = storetest.Before(store, confirms, store.Deliver) })
		s.serve("default", grant.Group{Max: 1, TTL: time.Hour})
		must.Do(t, s.take(t, "r"))
		wantLock(t, store, []string{"r"}, nil)
		if store.Leases() == 0 {
			t.Error("the slot has no time-to-live")
		}
	})
}

func TestUnreachableEtcdIsUnavailable(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		store.Break(errors.New("no answer from 10.0.0.7"))
		for range 2 {
			wantKind(t, s.take(t, "r"), fleetlock.KindUnavailable, "etcd does not answer")
			wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindUnavailable, "etcd does not answer")
		}
		if lines := s.logged(); len(lines) != 2 || !strings.Contains(lines[0], "no answer from 10.0.0.7") {
			t.Errorf("logged is %q", lines)
		}
		done := s.begin(t, "r")
		time.Sleep(20 * time.Second)
		store.Break(nil)
		must.Do(t, <-done) // a short outage is no refusal
	})
}

func TestEtcdThatRefusesIsUnavailable(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		store.FailCommits(storetest.Refuse)
		wantKind(t, s.take(t, "r"), fleetlock.KindUnavailable, "etcd refuses")
		store.FailCommits(storetest.Refuse)
		wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindUnavailable, "etcd refuses")
	})
}

func TestDocumentThatCannotBeUnderstood(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		const key = lock.Root + "/semaphore"
		_, _, err := store.Commit(t.Context(), nil, []lock.Op{{Key: key, Value: []byte("{")}})
		must.Do(t, err)
		s := newServer(store)
		for range 2 {
			wantKind(t, s.take(t, "r"), fleetlock.KindInternalError, "the log of the server says what to do")
			wantKind(t, s.SteadyState(t.Context(), caller, params("r")), fleetlock.KindInternalError)
		}
		lines := slices.DeleteFunc(s.logged(), func(line string) bool { return !strings.Contains(line, "level=ERROR") })
		if len(lines) != 1 || !strings.Contains(lines[0], key) || !strings.Contains(lines[0], "etcdctl put") {
			t.Errorf("logged is %q", lines)
		}
	})
}

// A client has no part in the slot of a host that asks for itself, whatever id it gives.
func TestIDOfAHostThatAsksForItself(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		enter(t, store, "web-1")
		waits := enter(t, store, "web-2")
		for _, id := range []string{"web-1", "web-2"} {
			err := s.take(t, id)
			wantKind(t, err, grant.KindIDInUse, "the host "+id)
			if e, _ := errors.AsType[*fleetlock.Error](err); e.Status != 409 {
				t.Errorf("the code is %d", e.Status)
			}
		}
		wantKind(t, s.SteadyState(t.Context(), caller, params("web-1")), grant.KindIDInUse)
		must.Do(t, s.SteadyState(t.Context(), caller, params("web-2"))) // a client of this id has nothing
		if wantLock(t, store, []string{"web-1"}, []string{"web-2"}); waits.got() {
			t.Error("web-2 has a slot")
		}
	})
}

// window is open and shut by turns.
type window struct {
	first, open, shut time.Duration // the time until it opens first, and how long it is open and shut
	begin             time.Time
}

func (w window) Next(t time.Time) (start, end time.Time) {
	start = w.begin.Add(w.first)
	for !start.Add(w.open).After(t) {
		start = start.Add(w.open + w.shut)
	}
	return start, start.Add(w.open)
}

func (window) ShutBy(time.Time) string { return "a blackout" }

func TestWindowThatShuts(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("default", grant.Group{Max: 1, Window: window{open: 40 * time.Second, shut: time.Hour, begin: time.Now()}})
		must.Do(t, s.take(t, "holder"))
		begin := time.Now()
		wait := s.begin(t, "r")
		native := enter(t, store, "native") // its window is open
		wantKind(t, <-wait, fleetlock.KindWindowShut, "shut until", "after a blackout")
		if held := time.Since(begin); held != 40*time.Second {
			t.Errorf("it waited for %v", held)
		}
		wantLock(t, store, []string{"holder"}, []string{"native"})
		must.Do(t, s.take(t, "holder")) // it may reboot still
		wantKind(t, s.take(t, "r"), fleetlock.KindWindowShut)
		s.steady(t, "holder")
		if !native.got() {
			t.Error("native waits")
		}
		native.release(t)
		time.Sleep(time.Hour)
		must.Do(t, s.take(t, "r"))
	})
}

// The client has asked right before the window shut, and comes back while it is.
func TestPlaceOfAClientEndsWhenItComesBackToAWindowThatIsShut(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		s.serve("default", grant.Group{Max: 1, Window: window{open: time.Minute, shut: time.Hour, begin: time.Now()}})
		must.Do(t, s.take(t, "holder"))
		wantKind(t, s.take(t, "r"), fleetlock.KindLockHeld)
		time.Sleep(time.Minute)
		wantLock(t, store, []string{"holder"}, []string{"r"})
		wantKind(t, s.take(t, "r"), fleetlock.KindWindowShut)
		wantLock(t, store, []string{"holder"}, nil)
		store.Break(context.DeadlineExceeded)
		wantKind(t, s.take(t, "holder"), fleetlock.KindUnavailable) // it is not known that it has a slot
	})
}

// The server stops, or the client is up again, while etcd does not say whether it has a slot.
func TestRequestToAWindowThatIsShutEndsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory) {
		var hang atomic.Bool
		hang.Store(true)
		s := newServer(&storetest.Hooked{Store: memory, Before: func(c *storetest.Call) error {
			if hang.Load() {
				<-c.Ctx.Done()
			}
			return c.Ctx.Err()
		}})
		s.serve("default", grant.Group{Max: 1, Window: window{first: time.Hour, open: time.Hour, begin: time.Now()}})
		begin := time.Now()
		first := s.begin(t, "r")
		hang.Store(false)
		s.steady(t, "r")
		wantKind(t, <-first, fleetlock.KindLockHeld, "steady-state")
		s.logged()
		hang.Store(true)
		second := s.begin(t, "r")
		s.Stop()
		wantKind(t, <-second, fleetlock.KindUnavailable, "the server stops")
		if lines := s.logged(); len(lines) != 1 || time.Since(begin) != 0 {
			t.Errorf("it took %v, and logged is %q", time.Since(begin), lines)
		}
	})
}

// The hold ends while the transaction that takes the slot is under way.
func TestHoldThatEndsDuringATransaction(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory) {
		holder := enter(t, memory, "web-1")
		taking := storetest.Writes(lock.Root + "/holders/r")
		s := newServer(&storetest.Hooked{Store: memory, Before: func(c *storetest.Call) error {
			if taking(c) {
				<-c.Ctx.Done()
				return c.Ctx.Err()
			}
			return nil
		}})
		done := s.begin(t, "r")
		time.Sleep(49 * time.Second)
		holder.release(t)
		wantKind(t, <-done, fleetlock.KindUnavailable, "may have a slot: ask again")
	})
}

func TestClientThatAsksAgainWhileEtcdDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, store *storetest.Memory) {
		s := newServer(store)
		store.Break(context.DeadlineExceeded)
		first := s.begin(t, "r")
		begin := time.Now()
		s.begin(t, "r")
		if <-first; time.Since(begin) != 0 {
			t.Errorf("the first request ends after %v", time.Since(begin))
		}
	})
}

// A thousand hosts ask in the same moment.
func TestCallsOfTheStoreAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory) {
		var now, most atomic.Int64
		slow := &storetest.Hooked{Store: memory,
			Before: func(c *storetest.Call) error {
				if c.Method != storetest.Wait {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(time.Millisecond)
				}
				return nil
			},
			After: func(c *storetest.Call) {
				if c.Method != storetest.Wait {
					now.Add(-1)
				}
			},
		}
		s := newServer(slow)
		s.change(func(o *grant.Options) { o.Waits = 1000 })
		must.Do(t, s.take(t, "holder"))
		for i := range 1000 {
			go func() { _ = s.take(t, fmt.Sprint(i)) }()
		}
		time.Sleep(20 * time.Second)
		o, err := newLock(t, memory).Overview(t.Context())
		if must.Do(t, err); len(o.Queue) != 1000 || most.Load() > 32 {
			t.Errorf("%d hosts wait, and %d calls were under way at once", len(o.Queue), most.Load())
		}
		time.Sleep(time.Minute)
	})
}
