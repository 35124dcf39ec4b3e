package lock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/storetest"
)

const prefix = "coreos.com/updateengine/rebootlock/"

// waitingHost is one whose Acquire goes on.
type waitingHost struct {
	id    string
	lock  *lock.Lock
	leave context.CancelFunc
	done  chan error
	stuck *gate // shut: it does not return from what it is told

	mu    sync.Mutex
	told  []lock.WaitStatus
	fails []error
}

// enter has id call Acquire, and returns when it can do no more for now.
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
			h.told = append(h.told, w)
		})
	}()
	synctest.Wait()
	return h
}

// last is what h was told last.
func (h *waitingHost) last() lock.WaitStatus {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.told) == 0 {
		return lock.WaitStatus{}
	}
	return h.told[len(h.told)-1]
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

// hostNames are in an order that is not the one in which they are sorted.
func hostNames(t *testing.T, n int) []string {
	t.Helper()
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("host%03d", i))
	}
	rng := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	rng.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

func queueIDs(t *testing.T, s lock.Store) []string {
	t.Helper()
	o, err := newLock(t, s, "").Overview(t.Context())
	must.Do(t, err)
	var ids []string
	for _, w := range o.Queue {
		ids = append(ids, w.ID)
	}
	return ids
}

// keysIn returns the keys below prefix that are there.
func keysIn(t *testing.T, s lock.Store, below string) []string {
	t.Helper()
	snap, err := s.Get(context.WithoutCancel(t.Context()), lock.Read{Key: prefix + below, End: prefix + below + "\xff"})
	must.Do(t, err)
	var found []string
	for key := range snap.Values {
		found = append(found, strings.TrimPrefix(key, prefix))
	}
	slices.Sort(found)
	return found
}

// wantNothingLeft checks that nobody waits, and nothing of it stays.
func wantNothingLeft(t *testing.T, s *storetest.Memory) {
	t.Helper()
	synctest.Wait()
	for _, below := range []string{"queue/", "order/"} {
		if k := keysIn(t, s, below); len(k) > 0 {
			t.Errorf("left are %v", k)
		}
	}
	time.Sleep(2 * time.Minute)
	if n := s.Leases(); n != 0 {
		t.Errorf("left are %d leases", n)
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	for _, slots := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			writes := &countingStore{Store: s}
			_, _, err := newLock(t, s, "").SetMax(t.Context(), slots)
			must.Do(t, err)
			ids := hostNames(t, 50)
			var hosts []*waitingHost
			for _, id := range ids {
				hosts = append(hosts, enter(t, writes, id, lock.Record{Hostname: id}))
			}
			if q := queueIDs(t, s); !slices.Equal(q, ids[slots:]) {
				t.Errorf("the queue is %v, want %v", q, ids[slots:])
			}
			before := writes.documents
			for i, h := range hosts {
				if !h.got(t) {
					t.Fatalf("%d slots: %s at place %d has none", slots, h.id, i)
				}
				if i+slots < len(hosts) && hosts[i+slots].got(t) {
					t.Fatalf("%d slots: %s at place %d is too early", slots, hosts[i+slots].id, i+slots)
				}
				h.mustRelease(t)
			}
			// Each takes the slot with one transaction and gives it back with one: nobody loses any.
			if n, want := writes.documents-before, 2*len(hosts)-slots; n != want {
				t.Errorf("%d slots: it took %d transactions, want %d", slots, n, want)
			}
			wantNothingLeft(t, s)
		})
	}
}

// countingStore counts the tries to write the document.
type countingStore struct {
	lock.Store
	mu        sync.Mutex
	documents int
}

func (c *countingStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	if slices.ContainsFunc(ops, func(op lock.Op) bool { return op.Key == defaultKey }) {
		c.mu.Lock()
		c.documents++
		c.mu.Unlock()
	}
	return c.Store.Commit(ctx, conds, ops, reads...)
}

func TestEveryoneWatchesTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		hosts := []*waitingHost{enter(t, s, "a", lock.Record{}), enter(t, s, "b/x", lock.Record{}), enter(t, s, "c", lock.Record{}), enter(t, s, "d", lock.Record{})}
		for i, want := range []string{"", "", "b/x", "c"} {
			if got := hosts[i].last().Ahead; got != want {
				t.Errorf("before %s is %q, want %q", hosts[i].id, got, want)
			}
		}
		if !hosts[0].got(t) || len(hosts[0].told) != 0 {
			t.Errorf("the first one waits for %v", hosts[0].told)
		}
		before := s.Calls()
		hosts[2].leave() // c
		if err := <-hosts[2].done; !errors.Is(err, context.Canceled) {
			t.Errorf("c ends with %v", err)
		}
		synctest.Wait()
		if got := hosts[3].last().Ahead; got != "b/x" {
			t.Errorf("before d is %q", got)
		}
		if n := s.Calls() - before; n > 4 { // c's lease; d looks, and waits again
			t.Errorf("that took %d calls", n)
		}
		hosts[0].mustRelease(t)
		hosts[1].mustRelease(t)
		if !hosts[3].got(t) {
			t.Error("d has no slot")
		}
		hosts[3].mustRelease(t)
		wantNothingLeft(t, s)
	})
}

// gate stops whoever comes by while it is shut.
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

// frozenStore is that of a host which can be stopped, as with SIGSTOP, between its calls.
type frozenStore struct {
	lock.Store
	*gate
}

func newFrozenStore(s lock.Store) *frozenStore { return &frozenStore{s, newGate()} }

func (f *frozenStore) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	f.pass()
	defer f.pass()
	return f.Store.Get(ctx, reads...)
}

func (f *frozenStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	f.pass()
	defer f.pass()
	return f.Store.Commit(ctx, conds, ops, reads...)
}

func (f *frozenStore) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	f.pass()
	defer f.pass()
	return f.Store.Wait(ctx, watches...)
}

func (f *frozenStore) KeepAlive(ctx context.Context, lease int64) error {
	f.pass()
	defer f.pass()
	return f.Store.KeepAlive(ctx, lease)
}

func TestHungHeadFallsOutAndQueuesAgainAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		hung := newFrozenStore(s)
		b := enter(t, hung, "b", lock.Record{})
		c := enter(t, s, "c", lock.Record{})
		d := enter(t, s, "d", lock.Record{})
		hung.freeze()
		a.mustRelease(t)
		time.Sleep(30 * time.Second)
		if c.got(t) {
			t.Error("c has the slot before the lease of b is over")
		}
		time.Sleep(time.Minute)
		if !c.got(t) {
			t.Fatal("c has no slot although b hangs")
		}
		c.mustRelease(t)
		if !d.got(t) {
			t.Fatal("d has no slot")
		}
		e := enter(t, s, "e", lock.Record{})
		hung.thaw() // it knows of a free slot, and has to find out that its place is lost
		time.Sleep(time.Minute)
		if b.got(t) {
			t.Fatal("b has a slot with a place that it lost")
		}
		if q := queueIDs(t, s); !slices.Equal(q, []string{"e", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		d.mustRelease(t)
		e.mustRelease(t)
		if !b.got(t) {
			t.Error("b has no slot")
		}
		b.mustRelease(t)
		wantNothingLeft(t, s)
	})
}

// Whoever waits is stuck in what it was told, as on a terminal that was stopped with Ctrl-S, while the rest of its
// process goes on.
func TestHeadThatIsStuckOutsideOfItsWaitFallsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		stuck := make(chan struct{})
		done := make(chan error)
		go func() {
			first := true
			done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, func(lock.WaitStatus, error) {
				if first {
					first = false
					<-stuck
				}
			})
		}()
		synctest.Wait()
		c := enter(t, s, "c", lock.Record{})
		a.mustRelease(t)
		time.Sleep(time.Minute)
		if !c.got(t) {
			t.Fatalf("a slot is free, and c waits: %v", c.last())
		}
		d := enter(t, s, "d", lock.Record{})
		close(stuck)
		time.Sleep(10 * time.Minute)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"d", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		c.mustRelease(t)
		d.mustRelease(t)
		if err := <-done; err != nil {
			t.Errorf("b: %v", err)
		}
	})
}

// keepLeases keeps every lease alive, as an outsider can, until it is stopped.
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

// Hosts die in the queue, one after the other at its head, and their leases live on.
func TestHeadThatLeavesAFreeSlotAloneIsRemoved(t *testing.T) {
	for dead, within := range map[int]time.Duration{0: 0, 1: 8 * time.Minute, 3: 12 * time.Minute, 20: 2 * time.Hour} {
		t.Run(fmt.Sprint(dead, " dead"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewMemory()
				defer keepLeases(s)()
				a := enter(t, s, "a", lock.Record{})
				died := newFrozenStore(s)
				var hosts []*waitingHost
				for _, id := range hostNames(t, dead) {
					hosts = append(hosts, enter(t, died, id, lock.Record{}))
				}
				died.freeze()
				b, c := enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{})
				time.Sleep(time.Hour) // the slot is held, and nobody falls out
				if n := len(queueIDs(t, s)); n != dead+2 {
					t.Errorf("%d wait, want %d", n, dead+2)
				}
				mustPause(t)(a.lock.Pause(t.Context(), lock.PauseInfo{}, 0))
				a.mustRelease(t)
				time.Sleep(3 * time.Hour) // nor during a pause
				if n := len(queueIDs(t, s)); n != dead+2 {
					t.Errorf("after a pause %d wait, want %d", n, dead+2)
				}
				_, err := a.lock.Resume(t.Context())
				must.Do(t, err)
				time.Sleep(within)
				if !b.got(t) || c.got(t) {
					t.Fatalf("a slot is free since %v, and b waits: %v", within, b.last())
				}
				b.mustRelease(t)
				if !c.got(t) {
					t.Errorf("c waits: %v", c.last())
				}
				for _, h := range hosts {
					h.leave()
				}
				died.thaw()
			})
		})
	}
}

func TestTimeToLiveEndsThoughSomebodyKeepsItsLeaseAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		defer keepLeases(s)()
		enter(t, s, "a", lock.Record{TTL: time.Hour})
		b := enter(t, s, "b", lock.Record{TTL: time.Hour})
		c := enter(t, s, "c", lock.Record{})
		time.Sleep(time.Hour - time.Second)
		if b.got(t) {
			t.Error("b has the slot before the time is over")
		}
		time.Sleep(5 * time.Minute)
		if !b.got(t) || c.got(t) {
			t.Errorf("the time-to-live of a is over, and b waits: %v", b.last())
		}
		if k := keysIn(t, s, "alive/"); !slices.Equal(k, []string{"alive/b"}) {
			t.Errorf("there is %v", k)
		}
		time.Sleep(50 * time.Minute)
		if c.got(t) {
			t.Error("c has the slot before the time is over")
		}
	})
}

func TestWaitIsKeptAliveForAsLongAsItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		c := enter(t, s, "c", lock.Record{})
		time.Sleep(24 * time.Hour)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b", "c"}) {
			t.Errorf("the queue is %v", q)
		}
		s.Break(storetest.ErrFault) // for less than a lease
		time.Sleep(30 * time.Second)
		s.Break(nil)
		time.Sleep(time.Minute)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b", "c"}) {
			t.Errorf("after an outage the queue is %v", q)
		}
		a.mustRelease(t)
		b.mustRelease(t)
		if !c.got(t) {
			t.Error("c has no slot")
		}
	})
}

func TestStampedeOfLeavingHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		var hosts []*waitingHost
		for _, id := range hostNames(t, 300) {
			hosts = append(hosts, enter(t, s, id, lock.Record{}))
		}
		var stay []*waitingHost
		for i, h := range hosts {
			if i%3 == 0 {
				stay = append(stay, h)
			} else {
				h.leave()
			}
		}
		synctest.Wait()
		if n := len(queueIDs(t, s)); n != len(stay) {
			t.Errorf("%d wait, want %d", n, len(stay))
		}
		holder.mustRelease(t)
		for _, h := range stay {
			if !h.got(t) {
				t.Fatalf("%s has no slot", h.id)
			}
			h.mustRelease(t)
		}
		wantNothingLeft(t, s)
	})
}

func TestLockByHandAndOldClientsJumpTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		c := enter(t, s, "c", lock.Record{})
		// An old client replaces a by itself.
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["old"]}`)
		if h := b.last().Semaphore.Holders; !slices.Equal(h, []string{"old"}) {
			t.Errorf("b waits for %v", h)
		}
		admin := newLock(t, s, "")
		if _, err := admin.TryAcquire(ctx, "hand", lock.Record{}); err == nil {
			t.Error("there was no slot")
		}
		_, _, err := admin.SetMax(ctx, 0)
		must.Do(t, err)
		must.Do(t, admin.Release(ctx, "old"))
		if b.got(t) {
			t.Error("b has a slot of none")
		}
		_, _, err = admin.SetMax(ctx, 1)
		must.Do(t, err)
		if !b.got(t) || !a.got(t) {
			t.Fatal("b has no slot")
		}
		// c is given one by hand while it waits.
		_, _, err = admin.SetMax(ctx, 2)
		must.Do(t, err)
		if !c.got(t) {
			t.Error("c has no slot")
		}
		must.Do(t, admin.Release(ctx, "b"))
		must.Do(t, admin.Release(ctx, "c"))
		wantNothingLeft(t, s)
	})
}

func TestWaitEndsWhenTheSlotWasTakenByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		c := enter(t, s, "c", lock.Record{})
		put(t, s, defaultKey, `{"semaphore":-1,"max":1,"holders":["a","b"]}`)
		if !b.got(t) {
			t.Error("b waits for what it has")
		}
		if q := queueIDs(t, s); !slices.Equal(q, []string{"c"}) {
			t.Errorf("the queue is %v", q)
		}
		a.mustRelease(t)
		b.mustRelease(t)
		if !c.got(t) {
			t.Error("c has no slot")
		}
	})
}

// By a client that knows only the document, which leaves the entry in the queue as it is.
func TestWaitInTheMiddleEndsWhenTheSlotWasTakenByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		b, c, d := enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{}), enter(t, s, "d", lock.Record{})
		put(t, s, prefix+"holders/d", `{"hostname":"d"}`) // left behind by another one like that
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["d"]}`)
		if !a.got(t) || b.got(t) || c.got(t) {
			t.Error("b or c has the slot of d")
		}
		if !d.got(t) {
			t.Error("d waits for b, and b for d")
		}
	})
}

// The place ends with the wait also where somebody took the slot for the head, right before it did.
func TestSlotTakenForTheHeadByHandEndsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		take := func(op lock.Op) bool { return op.Key == prefix+"holders/b" }
		b := enter(t, before(s, take, func() {
			put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["b"]}`)
		}), "b", lock.Record{})
		a.mustRelease(t)
		if !b.got(t) {
			t.Fatal("b waits for what it has")
		}
		wantNothingLeft(t, s)
	})
}

// A place that an earlier process of the host left in the queue must not keep others waiting until its
// lease runs out, once the host has its slot.
func TestSlotTakenByHandEndsThePlaceInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		if !a.got(t) {
			t.Fatal("a has no slot")
		}
		crashed := enter(t, s, "b", lock.Record{})
		s.Break(storetest.ErrFault) // so that it cannot tidy up
		crashed.leave()
		<-crashed.done
		s.Break(nil)
		a.mustRelease(t)

		b := newLock(t, s, "")
		if already, err := b.TryAcquire(t.Context(), "b", lock.Record{}); already || err != nil {
			t.Fatalf("b: already %v, %v", already, err)
		}
		if left := keysIn(t, s, "queue/"); len(left) > 0 {
			t.Errorf("b has its slot, and still waits: %v", left)
		}
		if left := keysIn(t, s, "order/"); len(left) > 0 {
			t.Errorf("b has its slot, and is still in the index: %v", left)
		}
		must.Do(t, b.Release(t.Context(), "b"))
		if c := enter(t, s, "c", lock.Record{}); !c.got(t) {
			t.Errorf("every slot is free, and c waits: %v", c.last())
		}
	})
}

// What made the entry may be done late: after the host got its slot, it would wait in the queue again.
func TestLateEntryDoesNotOutliveTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		if !a.got(t) {
			t.Fatal("a has no slot")
		}
		s.FailCommits(storetest.HoldRequest)
		b := enter(t, s, "b", lock.Record{})
		time.Sleep(time.Second) // of the bubble: until the second try
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b"}) {
			t.Fatalf("the queue is %v", q)
		}
		a.mustRelease(t)
		if !b.got(t) {
			t.Fatal("b has no slot")
		}
		s.Deliver()
		if left := keysIn(t, s, "queue/"); len(left) > 0 {
			t.Errorf("b has its slot, and waits again: %v", left)
		}
		b.mustRelease(t)
		if c := enter(t, s, "c", lock.Record{}); !c.got(t) {
			t.Errorf("every slot is free, and c waits: %v", c.last())
		}
	})
}

func TestWaitInTheMiddleEndsAtOnceWhenThisHostWasLockedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		x := enter(t, s, "x", lock.Record{})
		a, b, c := enter(t, s, "a", lock.Record{}), enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{})
		// x gives its slot back, and b gets it by hand before a does.
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{
			{Key: defaultKey, Value: []byte(`{"semaphore":0,"max":1,"holders":["b"]}`)},
			{Key: prefix + "queue/b", Delete: true},
		})
		must.Do(t, err)
		if !x.got(t) || a.got(t) || c.got(t) {
			t.Error("a or c has the slot of b")
		}
		if !b.got(t) {
			t.Error("b waits for a, and a for b")
		}
	})
}

// Two hosts with one machine id: one is the head of the queue when the other one gets the slot by hand. The
// event of the document may come before that of the record, which says for whom it was.
func TestHeadDoesNotTakeTheSlotOfItsCloneForItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		other := enter(t, s, "other", lock.Record{})
		head := enter(t, s, "x", lock.Record{Hostname: "web-1", BootID: "1"})
		if !other.got(t) || head.got(t) {
			t.Fatal("the head does not wait")
		}
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{
			{Key: defaultKey, Value: []byte(`{"semaphore":0,"max":1,"holders":["x"]}`)},
			{Key: prefix + "holders/x", Value: []byte(`{"hostname":"web-2","boot_id":"2"}`)},
		})
		must.Do(t, err)
		synctest.Wait()
		var clone *lock.CloneError
		select {
		case err := <-head.done:
			if !errors.As(err, &clone) {
				t.Errorf("the slot of web-2 is that of web-1: %v", err)
			}
		default:
			t.Error("web-1 waits on")
		}
	})
}

func TestLockByHandIsRefusedWhereACloneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		enter(t, s, "a", lock.Record{})
		web1 := enter(t, s, "x", lock.Record{Hostname: "web-1", BootID: "1"})
		put(t, s, prefix+"pause", "{}")
		must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
		watched := before(s, isAny, func() { t.Error("web-2 tries to take a slot") })
		_, err := newLock(t, watched, "").TryAcquire(t.Context(), "x", lock.Record{Hostname: "web-2", BootID: "2"})
		var clone *lock.CloneError
		if !errors.As(err, &clone) || clone.Other.Hostname != "web-1" {
			t.Errorf("lock by hand of web-2, where web-1 waits under the same id: %v", err)
		}
		if web1.got(t) || !slices.Equal(queueIDs(t, s), []string{"x"}) {
			t.Error("web-1 has lost its place")
		}
	})
}

// Two processes of one host wait, such as its daemon, and somebody with locksmithctl lock -wait: the place is
// that of the first one, whatever becomes of the second one.
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

// There should not be two with one owner. They do not take the place from each other for ever.
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

func TestEverybodyInTheQueueIsToldOfAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		admin := newLock(t, s, "")
		enter(t, s, "a", lock.Record{})
		hosts := []*waitingHost{enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{}), enter(t, s, "d", lock.Record{})}
		check := func(paused bool) {
			t.Helper()
			for _, h := range hosts {
				if w := h.last(); (w.Pause != nil) != paused {
					t.Errorf("paused: %v, and %s waits: %v", paused, h.id, w)
				}
			}
		}
		check(false)
		mustPause(t)(admin.Pause(t.Context(), lock.PauseInfo{}, 0))
		check(true)
		_, err := admin.Resume(t.Context())
		must.Do(t, err)
		check(false)
		mustPause(t)(lock.NewGroups(s, 1).Pause(t.Context(), lock.PauseInfo{}, time.Hour))
		check(true)
		time.Sleep(time.Hour)
		check(false)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b", "c", "d"}) {
			t.Errorf("the queue is %v", q)
		}
	})
}

// Whatever stands in the queue and its index and is nobody's place, with or without a lease, blocks nobody and
// gives nobody a better place.
func TestRubbishInTheQueueBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		day, err := s.Grant(t.Context(), 24*time.Hour)
		must.Do(t, err)
		for _, key := range []string{"queue/zombie", "order/0000000000000000/zombie", "order/ffff/zombie", "order/x"} {
			for suffix, lease := range map[string]int64{"": day, "-for-ever": 0} {
				_, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + key + suffix, Value: []byte("garbage"), Lease: lease}})
				must.Do(t, err)
			}
		}
		put(t, s, prefix+"queue/b", `{"hostname":"long ago"}`)
		if a := enter(t, s, "a", lock.Record{}); !a.got(t) {
			t.Fatalf("a waits: %v", a.last())
		}
		c, b := enter(t, s, "c", lock.Record{}), enter(t, s, "b", lock.Record{})
		if q := queueIDs(t, s); !slices.Equal(q, []string{"c", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
		if !c.got(t) || b.got(t) {
			t.Errorf("c waits: %v", c.last())
		}
	})
}

func TestPauseStopsAndResumeGoesOn(t *testing.T) {
	info := lock.PauseInfo{By: "ops\x1b[31m", Reason: "disk is on fire"}
	for name, test := range map[string]struct {
		pause  func(context.Context, *storetest.Memory, *lock.Lock) error
		resume func(context.Context, *storetest.Memory, *lock.Lock) error
		says   string
	}{
		"of the group": {
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				_, err := l.Pause(ctx, info, 0)
				return err
			},
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				was, err := l.Resume(ctx)
				if was == nil || was.Reason != info.Reason {
					return fmt.Errorf("resume returned %v, %w", was, err)
				}
				return err
			}, `paused by ops\x1b[31m`,
		},
		"of all groups": {
			func(ctx context.Context, s *storetest.Memory, _ *lock.Lock) error {
				_, err := lock.NewGroups(s, 1).Pause(ctx, info, 0)
				return err
			},
			func(ctx context.Context, s *storetest.Memory, _ *lock.Lock) error {
				was, err := lock.NewGroups(s, 1).Resume(ctx)
				if was == nil || !was.All {
					return fmt.Errorf("resume returned %v, %w", was, err)
				}
				return err
			}, `all groups are paused by ops\x1b[31m`,
		},
		"for a while": {
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				_, err := l.Pause(ctx, info, time.Hour)
				return err
			},
			func(context.Context, *storetest.Memory, *lock.Lock) error { time.Sleep(time.Hour); return nil }, "until 2000-",
		},
		"by a key that nobody understands": {
			func(_ context.Context, s *storetest.Memory, _ *lock.Lock) error {
				put(t, s, prefix+"pause", "\x1b]0;gotcha")
				return nil
			},
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				_, err := l.Resume(ctx)
				return err
			}, "cannot be understood",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				s := storetest.NewMemory()
				admin := newLock(t, s, "")
				a := enter(t, s, "a", lock.Record{})
				b := enter(t, s, "b", lock.Record{})
				must.Do(t, test.pause(ctx, s, admin))
				a.mustRelease(t) // whoever holds one gives it back
				if b.got(t) {
					t.Fatal("b has a slot during the pause")
				}
				c := enter(t, s, "c", lock.Record{})
				if _, err := admin.TryAcquire(ctx, "d", lock.Record{}); !isPaused(err) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\x1b") {
					t.Errorf("lock by hand says %v", err)
				}
				for _, h := range []*waitingHost{b, c} {
					if p := h.last().Pause; p == nil || !strings.Contains(h.last().String(), test.says) {
						t.Errorf("%s waits for %+v", h.id, h.last())
					}
				}
				o, err := admin.Overview(ctx)
				must.Do(t, err)
				if o.Pause == nil || !strings.Contains(o.Pause.String(), test.says) {
					t.Errorf("the overview has %+v", o.Pause)
				}
				must.Do(t, test.resume(ctx, s, admin))
				if !b.got(t) {
					t.Error("b has no slot after the pause")
				}
				b.mustRelease(t)
				if !c.got(t) {
					t.Error("c has no slot after the pause")
				}
				c.mustRelease(t)
				if was, err := admin.Resume(ctx); was != nil || err != nil {
					t.Errorf("a second resume returned %v, %v", was, err)
				}
			})
		})
	}
}

func isPaused(err error) bool {
	var paused *lock.PausedError
	return errors.As(err, &paused)
}

// Whatever happens between a look and the transaction that follows, the transaction notices.
func TestWhatChangesRightBeforeTheSlotIsTakenCounts(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*testing.T, *storetest.Memory)
		free   func(*testing.T, *storetest.Memory)
	}{
		"a pause": {
			func(t *testing.T, s *storetest.Memory) {
				mustPause(t)(newLock(t, s, "").Pause(t.Context(), lock.PauseInfo{}, 0))
			},
			func(t *testing.T, s *storetest.Memory) {
				_, err := newLock(t, s, "").Resume(t.Context())
				must.Do(t, err)
			},
		},
		"a pause of all groups": {
			func(t *testing.T, s *storetest.Memory) {
				mustPause(t)(lock.NewGroups(s, 1).Pause(t.Context(), lock.PauseInfo{}, 0))
			},
			func(t *testing.T, s *storetest.Memory) {
				_, err := lock.NewGroups(s, 1).Resume(t.Context())
				must.Do(t, err)
			},
		},
		"somebody in the queue": {
			func(t *testing.T, s *storetest.Memory) {
				lease, err := s.Grant(t.Context(), time.Minute)
				must.Do(t, err)
				_, _, err = s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/first", Value: []byte("{}"), Lease: lease}})
				must.Do(t, err)
			},
			func(*testing.T, *storetest.Memory) { time.Sleep(time.Minute) },
		},
		"another holder": {
			func(t *testing.T, s *storetest.Memory) { lockFor(t.Context(), t, newLock(t, s, ""), "x") },
			func(t *testing.T, s *storetest.Memory) { must.Do(t, newLock(t, s, "").Release(t.Context(), "x")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, waits := range []bool{false, true} {
				if waits && name == "somebody in the queue" {
					continue // who comes later
				}
				synctest.Test(t, func(t *testing.T) {
					s := storetest.NewMemory()
					var holder *waitingHost
					if waits {
						holder = enter(t, s, "holder", lock.Record{})
					}
					trap := &documentStore{Store: s, f: func() { test.change(t, s) }}
					b := enter(t, trap, "b", lock.Record{})
					if waits {
						holder.mustRelease(t)
					}
					if b.got(t) {
						t.Fatal("b has a slot all the same")
					}
					test.free(t, s)
					if !b.got(t) {
						t.Error("b has no slot")
					}
				})
			}
		})
	}
}

func TestPlaceThatIsLostRightBeforeTheSlotIsTakenIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		b := enter(t, &documentStore{Store: s, f: func() {
			must.Do(t, s.Revoke(t.Context(), read(t, s, prefix+"queue/b").Lease))
		}}, "b", lock.Record{})
		c := enter(t, s, "c", lock.Record{})
		holder.mustRelease(t)
		if b.got(t) || !c.got(t) {
			t.Error("the slot is not with c")
		}
		c.mustRelease(t)
		if !b.got(t) {
			t.Error("b has no slot")
		}
	})
}

func TestChangesOfOneRevisionAreAllSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		mustPause(t)(lock.NewGroups(s, 1).Pause(t.Context(), lock.PauseInfo{}, 0))
		b := enter(t, s, "b", lock.Record{})
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{
			{Key: prefix + "pause-all", Delete: true},
			{Key: defaultKey, Value: []byte(`{"semaphore":1,"max":2,"holders":["a"]}`)},
		})
		must.Do(t, err)
		if !b.got(t) || !a.got(t) {
			t.Errorf("b waits for %v", b.last())
		}
	})
}

func TestTimeToLiveOfALockOfUnknownOutcomeIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		mute := &muteStore{Store: s, mute: true}
		l := newLock(t, mute, "")
		r := lock.Record{TTL: time.Hour}
		if _, err := l.TryAcquire(t.Context(), "a", r); !errors.Is(err, lock.ErrUnknown) {
			t.Fatal(err)
		}
		mute.mute = false
		if already, err := l.TryAcquire(t.Context(), "a", r); err != nil || already {
			t.Error(already, err)
		}
		if o, err := l.Overview(t.Context()); err != nil || o.Holders[0].Expired {
			t.Errorf("the overview is %+v, %v", o, err)
		}
	})
}

// muteStore does what it is told, but does not say anything of transactions and after them.
type muteStore struct {
	lock.Store
	mute, after bool
}

func (m *muteStore) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	if m.mute && m.after {
		return lock.Snapshot{}, storetest.ErrFault
	}
	return m.Store.Get(ctx, reads...)
}

func (m *muteStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := m.Store.Commit(ctx, conds, ops, reads...)
	if m.mute {
		m.after = true
		return false, lock.Snapshot{}, storetest.ErrFault
	}
	return ok, now, err
}

// documentStore runs f once, before the first try to write the document.
type documentStore struct {
	lock.Store
	f func()
}

func (d *documentStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	if f := d.f; f != nil && slices.ContainsFunc(ops, func(op lock.Op) bool { return op.Key == defaultKey }) {
		d.f = nil
		f()
	}
	return d.Store.Commit(ctx, conds, ops, reads...)
}

func TestPauseOfAGroupLeavesOthersAlone(t *testing.T) {
	s := storetest.NewMemory()
	mustPause(t)(newLock(t, s, "lb").Pause(t.Context(), lock.PauseInfo{}, 0))
	if _, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{}); err != nil {
		t.Error(err)
	}
	if _, err := newLock(t, s, "lb").TryAcquire(t.Context(), "a", lock.Record{}); !isPaused(err) {
		t.Error(err)
	}
}

func TestPauseThatMakesNoSenseIsRefused(t *testing.T) {
	s := storetest.NewMemory()
	for _, d := range []time.Duration{-time.Hour, -1, 1, time.Second - 1} {
		if _, err := newLock(t, s, "").Pause(t.Context(), lock.PauseInfo{}, d); err == nil || !strings.Contains(err.Error(), d.String()) {
			t.Errorf("a pause for %v: %v", d, err)
		}
	}
	if k := keysIn(t, s, ""); len(k) > 0 {
		t.Errorf("there is %v", k)
	}
}

func TestPauseOfUnknownOutcome(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			l := newLock(t, s, "")
			s.FailCommits(fault)
			mustPause(t)(l.Pause(t.Context(), lock.PauseInfo{By: "me"}, time.Hour))
			if o, err := l.Overview(t.Context()); err != nil || o.Pause == nil || o.Pause.By != "me" {
				t.Errorf("fault %d: %+v, %v", fault, o.Pause, err)
			}
			s.FailCommits(fault)
			if was, err := l.Resume(t.Context()); err != nil || was == nil || was.By != "me" {
				t.Errorf("fault %d: resume returned %+v, %v", fault, was, err)
			}
			s.FailCommits(storetest.CutOff)
			if _, err := l.Pause(t.Context(), lock.PauseInfo{By: "me"}, 0); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("fault %d: cut off, pause returned %v", fault, err)
			}
		})
	}
}

func TestTimeToLive(t *testing.T) {
	const ttl = 31 * time.Minute // at which nobody happens to look
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{Hostname: "a", TTL: ttl})
		if string(read(t, s, prefix+"holders/a").Data) == "" || !strings.Contains(string(read(t, s, prefix+"holders/a").Data), `"ttl":"31m0s"`) {
			t.Errorf("the record is %s", read(t, s, prefix+"holders/a").Data)
		}
		b := enter(t, s, "b", lock.Record{Hostname: "b"})
		c := enter(t, s, "c", lock.Record{Hostname: "c", TTL: ttl})
		time.Sleep(ttl - time.Second)
		if b.got(t) {
			t.Fatal("b has the slot before the time is over")
		}
		time.Sleep(time.Second)
		if !a.got(t) || !b.got(t) {
			t.Fatal("b has no slot")
		}
		if k := keysIn(t, s, "holders/"); !slices.Equal(k, []string{"holders/b"}) {
			t.Errorf("there are records %v", k)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"b"}) {
			t.Errorf("held by %v", h)
		}
		var notHeld *lock.NotHeldError
		if err := a.lock.Release(ctx, "a"); !errors.As(err, &notHeld) {
			t.Errorf("a comes back: %v", err)
		}
		time.Sleep(100 * ttl) // b has asked for none
		if c.got(t) {
			t.Fatal("c has the slot of b")
		}
		b.mustRelease(t)
		// Nobody waits: c stays, and can be released by hand.
		time.Sleep(100 * ttl)
		o, err := b.lock.Overview(ctx)
		must.Do(t, err)
		if len(o.Holders) != 1 || o.Holders[0].ID != "c" || !o.Holders[0].Expired {
			t.Errorf("the holders are %+v", o.Holders)
		}
		must.Do(t, b.lock.ReleaseRecord(ctx, o.Holders[0]))
		wantNothingLeft(t, s)
	})
}

func TestTimeToLiveBeginsAnewWithEverySlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{TTL: time.Hour})
		time.Sleep(50 * time.Minute)
		a.mustRelease(t)
		if k := keysIn(t, s, "alive/"); len(k) > 0 {
			t.Errorf("left are %v", k)
		}
		a = enter(t, s, "a", lock.Record{TTL: time.Hour})
		b := enter(t, s, "b", lock.Record{})
		time.Sleep(55 * time.Minute)
		if b.got(t) {
			t.Fatal("b has the slot of a too early")
		}
		// An old client that came in between is not mistaken for a.
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["old"]}`)
		time.Sleep(time.Hour)
		if b.got(t) {
			t.Error("b has the slot of a client without a record")
		}
		_ = a
	})
}

func TestExpiredHolderThatComesBackInTimeKeepsItsSlot(t *testing.T) {
	// All of this happens between the look at the holder and its removal.
	for name, change := range map[string]func(*testing.T, *storetest.Memory, *lock.Lock){
		"released and taken again": func(t *testing.T, _ *storetest.Memory, l *lock.Lock) {
			must.Do(t, l.Release(t.Context(), "a"))
			lockFor(t.Context(), t, l, "a")
		},
		"another record": func(t *testing.T, s *storetest.Memory, _ *lock.Lock) {
			put(t, s, prefix+"holders/a", `{"hostname":"a"}`)
		},
		"a sign of life": func(t *testing.T, s *storetest.Memory, _ *lock.Lock) {
			put(t, s, prefix+"alive/a", "")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			a := enter(t, s, "a", lock.Record{TTL: time.Minute})
			time.Sleep(2 * time.Minute)
			removal := func(op lock.Op) bool { return op.Delete && op.Key == prefix+"holders/a" }
			b := enter(t, before(s, removal, func() { change(t, s, a.lock) }), "b", lock.Record{})
			if b.got(t) {
				t.Errorf("%s: b has the slot of a", name)
			}
			if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
				t.Errorf("%s: held by %v", name, h)
			}
		})
	}
}

// before returns a store that runs f once, before the first Commit with such an operation.
func before(s lock.Store, such func(lock.Op) bool, f func()) lock.Store {
	return &beforeStore{Store: s, such: such, f: f}
}

func isAny(lock.Op) bool { return true }

type beforeStore struct {
	lock.Store
	such func(lock.Op) bool
	f    func()
}

func (b *beforeStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	if f := b.f; f != nil && slices.ContainsFunc(ops, b.such) {
		b.f = nil
		f()
	}
	return b.Store.Commit(ctx, conds, ops, reads...)
}

func TestTimeToLiveShorterThanARebootIsRefused(t *testing.T) {
	for _, ttl := range []time.Duration{-time.Hour, 1, time.Minute - 1} {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		_, tryErr := l.TryAcquire(t.Context(), "a", lock.Record{TTL: ttl})
		for _, err := range []error{tryErr, l.Acquire(t.Context(), "a", lock.Record{TTL: ttl}, nil)} {
			if err == nil || !strings.Contains(err.Error(), ttl.String()) || !strings.Contains(err.Error(), "1m") {
				t.Errorf("a time-to-live of %v: %v", ttl, err)
			}
		}
		if k := keysIn(t, s, ""); len(k) > 0 {
			t.Errorf("there is %v", k)
		}
	}
}

// Each of these finds a slot, or a place in the queue, under its machine id.
func TestClonesAreRefusedAndRenamedHostsAreNot(t *testing.T) {
	web1 := lock.Record{Hostname: "web1", BootID: "1"}
	with := func(name, hardware, token string) lock.Record {
		return lock.Record{Hostname: name, BootID: "1", Hardware: hardware, Token: token}
	}
	for what, test := range map[string]struct {
		found    lock.Record
		hostname string
		hardware string
		disk     string // the tokens on it
		sameBoot bool
		apart    string // what tells them apart; "" if it is the same host
	}{
		"another name":             {found: web1, hostname: "web2", apart: "name"},
		"after a reboot":           {found: web1, hostname: "web1"},
		"renamed during this boot": {found: web1, hostname: "web2", sameBoot: true},
		"without a name":           {found: web1},
		"localhost":                {found: web1, hostname: "localhost"},
		"localhost with a domain":  {found: web1, hostname: "localhost.localdomain"},
		"record of an older version, after its update": {found: web1, hostname: "web1", hardware: "vm-1", disk: "t1"},
		"record of an older version, of another":       {found: web1, hostname: "web2", hardware: "vm-1", disk: "t1", apart: "name"},

		"renamed VM":                                    {found: with("web1", "vm-1", "t1"), hostname: "web1.example.com", hardware: "vm-1", disk: "t1"},
		"renamed, with a later token":                   {found: with("web1", "", "t1"), hostname: "web1.example.com", disk: "t2 t1"},
		"renamed, and its disk is read-only":            {found: with("web1", "vm-1", ""), hostname: "web1.example.com", hardware: "vm-1"},
		"renamed PXE host without a disk":               {found: with("web1", "vm-1", "t1"), hostname: "web1.example.com", hardware: "vm-1"},
		"renamed board":                                 {found: with("web1", "", "t1"), hostname: "web1.example.com", disk: "t1"},
		"renamed board without a disk":                  {found: with("web1", "", "t1"), hostname: "web1.example.com", apart: "name"},
		"board without a disk":                          {found: with("web1", "", "t1"), hostname: "web1"},
		"board with a root file system for each update": {found: with("web1", "", "t2"), hostname: "web1", disk: "t1"},
		"locked by an unprivileged user":                {found: with("web1", "", ""), hostname: "web1", hardware: "vm-1", disk: "t1"},

		"cloned image":                               {found: with("web1", "vm-1", "t1"), hostname: "web2", hardware: "vm-2", apart: "hardware and name"},
		"cloned image with a name in it":             {found: with("web1", "vm-1", "t1"), hostname: "web1", hardware: "vm-2", apart: "hardware"},
		"cloned image without a name":                {found: with("localhost", "vm-1", "t1"), hostname: "localhost", hardware: "vm-2", apart: "hardware"},
		"cloned disk of an earlier slot":             {found: with("web1", "vm-1", "t2"), hostname: "web2", hardware: "vm-2", disk: "t1", apart: "hardware and disk and name"},
		"disk that was copied while it had the slot": {found: with("web1", "vm-1", "t1"), hostname: "web2", hardware: "vm-2", disk: "t1", apart: "hardware and name"},
		"disk that was moved to another machine":     {found: with("web1", "vm-1", "t1"), hostname: "web1", hardware: "vm-2", disk: "t1"},
		"cloned boards":                              {found: with("web1", "", "t2"), hostname: "web2", disk: "t1", apart: "disk and name"},
		"clones whose firmware has the same example": {found: with("web1", "vm-1", "t2"), hostname: "web2", hardware: "vm-1", disk: "t1", apart: "disk and name"},
		"disk that was set back to a snapshot":       {found: with("web1", "vm-1", "t2"), hostname: "web1", hardware: "vm-1", disk: "t1"},
	} {
		t.Run(what, func(t *testing.T) {
			other := lock.Record{Hostname: test.hostname, BootID: "2", Hardware: test.hardware}
			if test.sameBoot {
				other.BootID = test.found.BootID
			}
			synctest.Test(t, func(t *testing.T) { testFoundSlot(t, test.found, other, strings.Fields(test.disk), test.apart) })
		})
	}
}

// testFoundSlot has another host with the machine id of one do all that a host does with its slot.
func testFoundSlot(t *testing.T, one, other lock.Record, disk []string, apart string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // none of it waits
	defer cancel()
	wantAnswer := func(what string, err error) {
		t.Helper()
		var clone *lock.CloneError
		switch isClone := errors.As(err, &clone); {
		case isClone != (apart != ""):
			t.Errorf("%s returned %v", what, err)
		case isClone && (!strings.Contains(err.Error(), "this is "+other.Hostname+", but "+one.Hostname+" has the lock") ||
			!strings.Contains(err.Error(), "differ in "+apart+";") || !strings.Contains(err.Error(), "unlock x,")):
			t.Errorf("%s says %v", what, err)
		}
	}
	s := storetest.NewMemory()
	holder := enter(t, s, "other", lock.Record{})
	a := enter(t, s, "x", one)
	second := newLock(t, s, "")
	second.Identify(other, disk)
	if apart != "" { // both wait
		wantAnswer("acquire", second.Acquire(ctx, "x", other, nil))
	}
	holder.mustRelease(t)
	if !a.got(t) {
		t.Fatal("the first one has no slot")
	}
	_, err := second.TryAcquire(ctx, "x", other)
	wantAnswer("lock", err)
	wantAnswer("acquire", second.Acquire(ctx, "x", other, nil))
	_, _, err = second.Holder(ctx, "x")
	wantAnswer("holder", err)
	wantAnswer("release", second.Release(ctx, "x"))
	if held := slices.Contains(holdersIn(t, s), "x"); held != (apart != "") {
		t.Errorf("held is %v", held)
	}
	if apart != "" { // the way out, for people
		must.Do(t, newLock(t, s, "").Release(ctx, "x"))
	}
	wantNothingLeft(t, s)
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

// afterCommit calls then after each Commit.
type afterCommit struct {
	lock.Store
	then func()
}

func (s afterCommit) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	defer s.then()
	return s.Store.Commit(ctx, conds, ops, reads...)
}

// A process died in the queue, the next one of that host takes its place over and leaves at once: nobody
// waits behind what the first one had in the index.
func TestPlaceThatWasTakenOverEndsAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		crashed := newFrozenStore(s)
		before := enter(t, crashed, "a", lock.Record{Owner: "daemon"})
		b := enter(t, s, "b", lock.Record{})
		crashed.freeze()
		ctx, leave := context.WithCancel(t.Context())
		if err := newLock(t, afterCommit{s, leave}, "").Acquire(ctx, "a", lock.Record{Owner: "daemon"}, nil); !errors.Is(err, context.Canceled) {
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

// The head dismisses from the queue who holds a slot already, and whose process has died.
func TestDismissedPlaceEndsAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		head := enter(t, s, "head", lock.Record{})
		crashed := newFrozenStore(s)
		before := enter(t, crashed, "a", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		crashed.freeze()
		if !holder.got(t) {
			t.Fatal("the holder has no slot")
		}
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`) // by an old client
		synctest.Wait()
		must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
		if !head.got(t) {
			t.Errorf("the head waits: %v", head.last())
		}
		head.mustRelease(t)
		if !b.got(t) {
			t.Errorf("b waits, and nobody else does: %v", b.last())
		}
		before.leave()
		crashed.thaw()
		wantNothingLeft(t, s)
	})
}

// The place was lost in one outage, and the next one hides for longer than a call lasts that there is a
// new one. It is this host's own, and not that of another process to be waited for.
func TestPlaceAfterALostOneIsKnownAsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		s.Break(storetest.ErrFault)
		time.Sleep(2 * time.Minute) // longer than the lease of a place
		s.FailCommits(storetest.CutOff)
		s.Break(nil)
		time.Sleep(30 * time.Second) // longer than a call
		s.Deliver()
		s.Break(nil)
		time.Sleep(30 * time.Second)
		c := enter(t, s, "c", lock.Record{})
		if last := b.last(); last.Ahead != "" {
			t.Errorf("b is alone in the queue, and waits %v", last)
		}
		holder.mustRelease(t)
		if !b.got(t) || c.got(t) {
			t.Errorf("the slot is free, and b waits %v", b.last())
		}
		b.leave()
		c.leave()
	})
}

// The others may know nothing of it that is not an hour old.
func TestWhoHoldsASlotIsSaidByTheHeadOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		admin := newLock(t, s, "")
		_, err := admin.Pause(t.Context(), lock.PauseInfo{By: "ann"}, 0)
		must.Do(t, err)
		a, b := enter(t, s, "a", lock.Record{}), enter(t, s, "b", lock.Record{})
		if got := b.last().String(); !strings.HasPrefix(got, "in the queue behind a; paused by ann") {
			t.Errorf("b says %q", got)
		}
		_, err = admin.Resume(t.Context())
		must.Do(t, err)
		c := enter(t, s, "c", lock.Record{})
		if !a.got(t) {
			t.Fatal("a has no slot")
		}
		for h, want := range map[*waitingHost]string{b: "first in the queue; no slot is free: max is 1, held by a", c: "in the queue behind b"} {
			if got := h.last().String(); got != want {
				t.Errorf("%s says %q, want %q", h.id, got, want)
			}
		}
		b.leave()
		c.leave()
	})
}

// hostile are values that nobody should write.
var hostile = map[string]string{
	"not JSON": "{", "a list": "[]", "null": "null", "empty": "", "another type": `{"hostname":[1],"ttl":3}`,
	"a megabyte": strings.Repeat("x", 1<<20), "a long name": `{"hostname":"` + strings.Repeat("x", 1<<15) + `"}`,
	"control characters": `{"hostname":"\u001b]0;x\u0007\n","by":"\u009b31m","reason":"\u202e"}`, "not UTF-8": "\xff\xfe",
	"deep nesting": strings.Repeat("[", 60_000), "deep objects": strings.Repeat(`{"a":`, 10_000),
	"a time-to-live that is none": `{"ttl":"-1h"}`, "a time out of range": `{"since":"99999-01-01T00:00:00Z"}`,
}

func TestHostileValuesBlockNobody(t *testing.T) {
	for name, value := range hostile {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				s := storetest.NewMemory()
				for _, key := range []string{"queue/a", "queue/z", "queue/%zz", "queue/", "order/z", "order/0000000000000000/z", "order/ffffffffffffffff/z",
					"holders/a", "holders/holder", "holders/z", "alive/z"} {
					put(t, s, prefix+key, value)
				}
				// One with a lease goes with it.
				lease, err := s.Grant(ctx, 30*time.Second)
				must.Do(t, err)
				_, _, err = s.Commit(ctx, nil, []lock.Op{
					{Key: prefix + "queue/dying", Value: []byte(value), Lease: lease},
					{Key: prefix + "order/ffffffffffffffff/dying", Value: []byte(value), Lease: lease},
				})
				must.Do(t, err)
				holder := enter(t, s, "holder", lock.Record{Hostname: "holder", BootID: "1", TTL: time.Hour})
				a := enter(t, s, "a", lock.Record{Hostname: "a", BootID: "1"})
				b := enter(t, s, "b", lock.Record{Hostname: "b", BootID: "1"})
				time.Sleep(time.Minute)
				if !holder.got(t) {
					t.Fatalf("holder waits for %v", holder.last())
				}
				put(t, s, prefix+"holders/holder", value)
				o, err := newLock(t, s, "").Overview(ctx)
				must.Do(t, err)
				if text := fmt.Sprintf("%+v", o); len(text) > 4000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
					t.Errorf("the overview is %.200q", text)
				}
				if _, _, err := holder.lock.Holder(ctx, "holder"); err != nil {
					t.Error(err)
				}
				holder.mustRelease(t)
				if !a.got(t) { // the entry that it has from long ago gives it no better place
					t.Errorf("a waits for %v", a.last())
				}
				a.mustRelease(t)
				if !b.got(t) {
					t.Errorf("b waits for %v", b.last())
				}
			})
		})
	}
}

func TestBrokenRecordsAreMarked(t *testing.T) {
	s := storetest.NewMemory()
	lease, err := s.Grant(t.Context(), time.Hour)
	must.Do(t, err)
	put(t, s, defaultKey, `{"semaphore":0,"max":2,"holders":["a","b"]}`)
	put(t, s, prefix+"holders/a", "{")
	_, _, err = s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/c%2Fd", Value: []byte("{"), Lease: lease}})
	must.Do(t, err)
	o, err := newLock(t, s, "").Overview(t.Context())
	must.Do(t, err)
	if !o.Holders[0].Broken || o.Holders[1].Broken || len(o.Queue) != 0 {
		t.Errorf("the overview is %+v", o)
	}
}

func TestOverviewShowsWhoHoldsAndWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := storetest.NewMemory()
		l, err := lock.New(s, "", 3)
		must.Do(t, err)
		o, err := l.Overview(ctx)
		if err != nil || o.Exists || o.Semaphore.Max != 3 || len(o.Holders)+len(o.Queue) != 0 || o.Pause != nil {
			t.Errorf("of nothing it is %+v, %v", o, err)
		}
		if k := keysIn(t, s, ""); len(k) != 0 {
			t.Errorf("it has written %v", k)
		}
		since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		r := lock.Record{Hostname: "h", BootID: "b", Since: since, By: "test", Version: "1", TTL: time.Hour}
		enter(t, s, "a", r)
		enter(t, s, "c", r)
		enter(t, s, "b", r)
		if o, err = l.Overview(ctx); err != nil || !o.Exists || o.Semaphore.Max != 1 {
			t.Errorf("it is %+v, %v", o, err)
		}
		if len(o.Holders) != 1 || o.Holders[0].ID != "a" || o.Holders[0].Record != r || o.Holders[0].Broken || o.Holders[0].Expired {
			t.Errorf("the holders are %+v", o.Holders)
		}
		want := []lock.QueueEntry{{ID: "c", Hostname: "h", Since: since, Version: "1"}, {ID: "b", Hostname: "h", Since: since, Version: "1"}}
		if !slices.Equal(o.Queue, want) {
			t.Errorf("the queue is %+v", o.Queue)
		}
	})
}

func TestReleaseOfARecordReleasesWhatWasShown(t *testing.T) {
	ctx := t.Context()
	for _, record := range []bool{true, false} {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		lockFor(ctx, t, l, "a")
		if !record {
			_, _, err := s.Commit(ctx, nil, []lock.Op{{Key: prefix + "holders/a", Delete: true}})
			must.Do(t, err)
		}
		o, err := l.Overview(ctx)
		must.Do(t, err)
		shown := o.Holders[0]
		must.Do(t, l.Release(ctx, "a"))
		var notHeld *lock.NotHeldError
		if err := l.ReleaseRecord(ctx, shown); !errors.As(err, &notHeld) {
			t.Errorf("what is not held: %v", err)
		}
		lockFor(ctx, t, l, "a")
		var changed *lock.ChangedError
		if err := l.ReleaseRecord(ctx, shown); !errors.As(err, &changed) || changed.ID != "a" {
			t.Errorf("what was taken again: %v", err)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
			t.Errorf("held by %v", h)
		}
		o, err = l.Overview(ctx)
		must.Do(t, err)
		must.Do(t, l.ReleaseRecord(ctx, o.Holders[0]))
		if h := holdersIn(t, s); len(h) != 0 {
			t.Errorf("held by %v", h)
		}
	}
}

func TestReleaseLeavesARecordAloneThatChangedRightBefore(t *testing.T) {
	ctx := t.Context()
	for name, release := range map[string]func(*lock.Lock, lock.HolderInfo) error{
		"what was shown": func(l *lock.Lock, h lock.HolderInfo) error { return l.ReleaseRecord(ctx, h) },
		"what this host has": func(l *lock.Lock, _ lock.HolderInfo) error {
			l.Identify(lock.Record{Hostname: "a", BootID: "1"}, nil)
			return l.Release(ctx, "a")
		},
	} {
		s := storetest.NewMemory()
		l := newLock(t, before(s, isAny, func() { put(t, s, prefix+"holders/a", `{"hostname":"clone","boot_id":"2"}`) }), "")
		if _, err := newLock(t, s, "").TryAcquire(ctx, "a", lock.Record{Hostname: "a", BootID: "1"}); err != nil {
			t.Fatal(err)
		}
		o, err := l.Overview(ctx)
		must.Do(t, err)
		if err := release(l, o.Holders[0]); err == nil {
			t.Errorf("%s: no error", name)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
			t.Errorf("%s: held by %v", name, h)
		}
	}
}

func TestWatchOverviewSeesChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var last lock.Overview
		calls, fails := 0, 0
		done := make(chan error, 1)
		go func() {
			done <- newLock(t, s, "").WatchOverview(ctx, func(o lock.Overview, err error) {
				mu.Lock()
				defer mu.Unlock()
				calls++
				if err != nil {
					fails++
					return
				}
				last = o
			})
		}()
		want := func(what string, holders, queue int, paused bool) {
			t.Helper()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if len(last.Holders) != holders || len(last.Queue) != queue || (last.Pause != nil) != paused {
				t.Errorf("after %s it is %+v", what, last)
			}
		}
		want("nothing", 0, 0, false)
		a := enter(t, s, "a", lock.Record{TTL: time.Minute})
		want("lock", 1, 0, false)
		for _, id := range hostNames(t, 100) {
			enter(t, s, id, lock.Record{})
		}
		want("a hundred hosts", 1, 100, false)
		mu.Lock()
		if calls > 10 {
			t.Errorf("it was called %d times", calls)
		}
		mu.Unlock()
		mustPause(t)(lock.NewGroups(s, 1).Pause(ctx, lock.PauseInfo{}, 0))
		want("pause", 1, 100, true)
		_, err := lock.NewGroups(s, 1).Resume(ctx)
		must.Do(t, err)
		mustPause(t)(a.lock.Pause(ctx, lock.PauseInfo{}, 0))
		want("pause of the group", 1, 100, true)
		time.Sleep(2 * time.Minute)
		want("expiry", 1, 100, true)
		mu.Lock()
		if !last.Holders[0].Expired {
			t.Error("nobody is expired")
		}
		mu.Unlock()
		s.Break(storetest.ErrFault)
		time.Sleep(time.Second)
		s.Break(nil)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		if fails == 0 {
			t.Error("a failure is not told")
		}
	})
}

func TestGroupsAreListed(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	groups := func() []string {
		t.Helper()
		g, err := lock.NewGroups(s, 1).Names(ctx)
		must.Do(t, err)
		return g
	}
	if g := groups(); len(g) != 0 {
		t.Errorf("there are %q", g)
	}
	mustPause(t)(lock.NewGroups(s, 1).Pause(ctx, lock.PauseInfo{}, 0))
	if g := groups(); len(g) != 0 {
		t.Errorf("there are %q", g)
	}
	_, err := lock.NewGroups(s, 1).Resume(ctx)
	must.Do(t, err)
	for _, group := range []string{"lb", "prod/database", "prod", "prod0", "größe", "a b"} {
		for i := range 50 {
			if _, _, err := newLock(t, s, group).SetMax(ctx, 50); err != nil {
				t.Fatal(err)
			}
			lockFor(ctx, t, newLock(t, s, group), fmt.Sprint("host", i))
		}
	}
	mustPause(t)(newLock(t, s, "paused").Pause(ctx, lock.PauseInfo{}, 0))
	for _, key := range []string{"", "/", "a", "../x", "%zz/semaphore", "./semaphore", "%0a/semaphore", "%6cb/semaphore"} {
		put(t, s, prefix+"groups/"+key, "x")
	}
	before := s.Calls()
	want := []string{"a b", "größe", "lb", "paused", "prod", "prod/database", "prod0"}
	got := groups()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	if n := s.Calls() - before; n > 20 {
		t.Errorf("it took %d calls", n)
	}
	_, err = newLock(t, s, "").Status(ctx)
	must.Do(t, err)
	if g := groups(); g[0] != "" {
		t.Errorf("there are %q", g)
	}
}

func TestDeclaredSlotsCountOnlyForANewDocument(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	three, err := lock.New(s, "", 3)
	must.Do(t, err)
	five, err := lock.New(s, "", 5)
	must.Do(t, err)
	for _, l := range []*lock.Lock{three, five} {
		if sem, err := l.Status(ctx); err != nil || sem.Max != 3 || sem.Free != 3 {
			t.Errorf("it is %+v, %v", sem, err)
		}
	}
	if _, err := lock.New(s, "", -1); err == nil {
		t.Error("less than none is possible")
	}
}

func TestHostThatIsNotInTheIndexYetIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		slow := newFrozenStore(s)
		// It stops between its entry and the index.
		a := enter(t, &afterStore{Store: slow, key: prefix + "queue/a", f: slow.freeze}, "a", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		if got := b.last().Ahead; got != "a" {
			t.Errorf("before b is %q", got)
		}
		holder.mustRelease(t)
		if b.got(t) {
			t.Error("b has overtaken a")
		}
		slow.thaw()
		if !a.got(t) {
			t.Fatal("a has no slot")
		}
		a.mustRelease(t)
		if !b.got(t) {
			t.Error("b has no slot")
		}
		b.mustRelease(t)
		wantNothingLeft(t, s)
	})
}

// afterStore runs f once, after the key was written.
type afterStore struct {
	lock.Store
	key string
	f   func()
}

func (a *afterStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := a.Store.Commit(ctx, conds, ops, reads...)
	if f := a.f; f != nil && slices.ContainsFunc(ops, func(op lock.Op) bool { return op.Key == a.key }) {
		a.f = nil
		f()
	}
	return ok, now, err
}

func TestCompactionDuringAWaitLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a, b, c := enter(t, s, "a", lock.Record{}), enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{})
		for _, h := range []*waitingHost{a, b, c} {
			put(t, s, "other", "x")
			s.Compact()
			if !h.got(t) {
				t.Fatalf("%s has no slot", h.id)
			}
			h.mustRelease(t)
		}
		wantNothingLeft(t, s)
	})
}

// TestRandomQueue has hosts wait, leave, hang, pause and resume, with faults at random, with second processes that
// wait beside them and leave, with hosts that are stuck in what they are told, with somebody who keeps leases
// alive, and with the store restored from a backup. It checks that nobody who stayed is overtaken, that
// max holds, and that in the end everyone gets a turn and nothing is left, though one host is dead and
// another one stuck, and in every other round all leases live on.
func TestRandomQueue(t *testing.T) {
	seed := randtest.Seed(t)
	for round := range 50 {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, uint64(round)))
			faults := []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest, storetest.HoldRequest}
			s := storetest.NewMemory()
			slots := 1 + random.IntN(3)
			put(t, s, defaultKey, fmt.Sprintf(`{"semaphore":%d,"max":%[1]d,"holders":null}`, slots))
			admin := newLock(t, s, "")
			hosts := map[string]*waitingHost{}
			stores := map[string]*frozenStore{}
			backup := s.Backup()
			for step := range 400 {
				id := fmt.Sprintf("host%02d", random.IntN(30))
				h := hosts[id]
				if random.IntN(4) == 0 {
					s.FailCommits(faults[random.IntN(len(faults))])
				}
				switch n := random.IntN(26); {
				case n < 8 && h == nil:
					stores[id] = newFrozenStore(s)
					var ttl time.Duration
					if random.IntN(4) == 0 {
						ttl = time.Hour
					}
					hosts[id] = enter(t, stores[id], id, lock.Record{Hostname: id, BootID: "1", TTL: ttl, Owner: id})
				case n < 12 && h != nil:
					h.leave()
					select {
					case <-h.done:
					case <-time.After(time.Minute):
						t.Fatalf("step %d: %s does not leave", step, id)
					}
					var notHeld *lock.NotHeldError
					if err := h.lock.Release(t.Context(), id); err != nil && !errors.As(err, &notHeld) {
						t.Fatalf("step %d: %v", step, err)
					}
					delete(hosts, id)
				case n == 12 && h != nil:
					stores[id].freeze()
					time.Sleep(time.Duration(random.IntN(120)) * time.Second)
					stores[id].thaw()
				case n == 13:
					_, _ = admin.Pause(t.Context(), lock.PauseInfo{}, time.Duration(random.IntN(3))*time.Minute)
				case n == 14:
					_, _ = admin.Resume(t.Context())
				case n == 15:
					s.Compact()
				case n == 16:
					s.Deliver()
				case n == 17: // an outage, which cuts a transaction off or does not
					s.Heal()
					if s.FailCommits(storetest.CutOff); random.IntN(2) == 0 {
						s.Break(storetest.ErrFault)
					}
					time.Sleep(time.Duration(random.IntN(150)) * time.Second)
					s.Heal()
					s.Break(nil)
				case n == 18 && h != nil: // such as locksmithctl lock -wait
					s.Heal()
					queue := queueIDs(t, s)
					second := enter(t, s, id, lock.Record{Hostname: id, BootID: "1"})
					second.leave()
					<-second.done
					synctest.Wait()
					if now := queueIDs(t, s); slices.Contains(queue, id) && !slices.Equal(now, queue) {
						t.Fatalf("step %d: a second process of %s has left, the queue was %v and is %v", step, id, queue, now)
					}
				case n == 19 && h != nil:
					h.stuck.freeze()
					time.Sleep(time.Duration(random.IntN(120)) * time.Second)
					h.stuck.thaw()
				case n == 20:
					stop := keepLeases(s)
					time.Sleep(time.Duration(random.IntN(120)) * time.Second)
					stop()
				case n == 21:
					backup = s.Backup()
				case n == 22 && step > 100 && random.IntN(5) == 0:
					s.Heal()
					s.Restore(backup) // and whoever does that sees to it that nobody is left with a slot
					put(t, s, defaultKey, fmt.Sprintf(`{"semaphore":%d,"max":%[1]d,"holders":null}`, slots))
					_, err := admin.Resume(t.Context())
					must.Do(t, err)
					time.Sleep(90 * time.Second) // until places of those who have left since are over
					synctest.Wait()
					if held, queue := holdersIn(t, s), queueIDs(t, s); len(held) < slots && len(queue) > 0 {
						t.Fatalf("step %d: held by %v of %d, and %v wait", step, held, slots, queue)
					}
				default:
					time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
				}
				synctest.Wait()
				if now := holdersIn(t, s); len(now) > slots {
					t.Fatalf("step %d: held by %v", step, now)
				}
			}
			s.Heal()
			s.Deliver()
			for _, err := admin.Resume(t.Context()); err != nil; _, err = admin.Resume(t.Context()) {
			}
			stop, found := func() {}, 2*time.Minute // until who is absent has fallen out
			if round%2 == 0 {
				stop, found = keepLeases(s), 3*time.Hour
			}
			time.Sleep(5 * time.Minute) // troubles are over, but for these
			absent := map[string]*waitingHost{}
			for _, id := range slices.Sorted(maps.Keys(hosts)) {
				if h := hosts[id]; len(absent) < 2 && !h.got(t) {
					if len(absent) == 0 {
						stores[id].freeze()
					} else {
						h.stuck.freeze()
					}
					absent[id] = h
					delete(hosts, id)
				}
			}
			turns := func(hosts map[string]*waitingHost) {
				for waited := time.Duration(0); len(hosts) > 0; {
					synctest.Wait()
					queue := queueIDs(t, s)
					var turn *waitingHost
					for _, h := range hosts {
						if h.got(t) {
							turn = h
						}
					}
					for id, h := range absent {
						if turn == nil && h.got(t) { // it was to be stuck, but had nothing to be told
							delete(absent, id)
							turn = h
						}
					}
					if turn == nil && waited < found {
						waited += time.Minute
						time.Sleep(time.Minute)
						continue
					}
					waited = 0
					if turn == nil {
						t.Fatalf("round %d: nobody of %v has a turn, and %v are absent; held by %v", round, queue, slices.Collect(maps.Keys(absent)), holdersIn(t, s))
					}
					var notHeld *lock.NotHeldError // it may have been taken away: its time is up
					if err := turn.lock.Release(t.Context(), turn.id); err != nil && !errors.As(err, &notHeld) {
						t.Fatal(err)
					}
					synctest.Wait()
					delete(hosts, turn.id)
					present := func(queue []string) []string {
						return slices.DeleteFunc(queue, func(id string) bool { return hosts[id] == nil })
					}
					queue = present(queue)
					if next := present(queueIDs(t, s)); len(queue) > 0 && !slices.Equal(next, queue) && !slices.Equal(next, queue[1:]) {
						t.Fatalf("round %d: %s had a turn, the queue was %v and is %v, held by %v of %d", round, turn.id, queue, next, holdersIn(t, s), slots)
					}
				}
			}
			turns(hosts)
			stop()
			for id, h := range absent { // they come back, and queue again
				stores[id].thaw()
				h.stuck.thaw()
			}
			time.Sleep(5 * time.Minute)
			back := absent
			absent = nil
			turns(back)
			time.Sleep(time.Hour) // which is the longest life of what was to prove one
			wantNothingLeft(t, s)
		})
		if t.Failed() {
			break
		}
	}
}

// mustPause takes what Pause returns.
func mustPause(t *testing.T) func(*lock.Pause, error) {
	return func(_ *lock.Pause, err error) {
		t.Helper()
		must.Do(t, err)
	}
}

func TestPauseOfWhichATryWasNotAnsweredStaysUnknownWhenTheNextIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		s.FailCommits(storetest.HoldRequest, storetest.Refuse)
		if _, err := newLock(t, s, "").Pause(t.Context(), lock.PauseInfo{}, 0); !errors.Is(err, lock.ErrUnknown) || !errors.Is(err, lock.ErrRefused) {
			t.Errorf("pause returned %v", err)
		}
	})
}

func TestPauseThatEndsLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		mustPause(t)(l.Pause(t.Context(), lock.PauseInfo{By: "me"}, 24*time.Hour))
		was, err := l.Pause(t.Context(), lock.PauseInfo{By: "you"}, 48*time.Hour)
		if err != nil || was == nil || was.By != "me" || s.Leases() != 1 {
			t.Errorf("replaced was %v, %v; there are %d leases", was, err, s.Leases())
		}
		if _, err := l.Resume(t.Context()); err != nil || s.Leases() != 0 {
			t.Errorf("resume: %v; there are %d leases", err, s.Leases())
		}
	})
}

func TestAnswersAreNotCalledUnknown(t *testing.T) {
	s := storetest.NewMemory()
	put(t, s, defaultKey, "rubbish")
	var document *lock.DocumentError
	if err := newLock(t, s, "").Fence(t.Context()); !errors.As(err, &document) || errors.Is(err, lock.ErrUnknown) {
		t.Errorf("fence of a document that cannot be understood: %v", err)
	}
	s = storetest.NewMemory()
	s.FailCommits(storetest.Refuse)
	if err := newLock(t, s, "").Fence(t.Context()); !errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrUnknown) {
		t.Errorf("fence that was refused: %v", err)
	}
}

func TestTimesThatNoClockShowsAreNone(t *testing.T) {
	s := storetest.NewMemory()
	lease, err := s.Grant(t.Context(), time.Hour)
	must.Do(t, err)
	for _, since := range []string{"9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"} {
		document := []byte(`{"hostname":"h","since":"` + since + `","until":"` + since + `"}`)
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		put(t, s, prefix+"holders/a", string(document))
		put(t, s, prefix+"pause", string(document))
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/b", Value: document, Lease: lease}})
		must.Do(t, err)
		o, err := newLock(t, s, "").Overview(t.Context())
		must.Do(t, err)
		if !o.Holders[0].Record.Since.IsZero() || !o.Queue[0].Since.IsZero() || !o.Pause.Since.IsZero() || !o.Pause.Until.IsZero() {
			t.Errorf("%s is taken for a time: %+v", since, o)
		}
	}
}
