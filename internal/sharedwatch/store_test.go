package sharedwatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

const patience = 30 * time.Second

// isUp reports whether there is a watch.
func (s *Store) isUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// What every store has to do, with a real etcd.
func TestContract(t *testing.T) {
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			server := etcdtest.MustStart(t, v, etcdtest.Options{})
			storetest.Contract(t, func(t *testing.T) lock.Store {
				s := connect(t, server)
				s.own = nil // every wait shares the watch
				go func() { _, _ = s.Wait(t.Context(), lock.Watch{Key: "x", After: 1 << 60}) }()
				must.Eventually(t, patience, "the watch", s.isUp)
				return s
			})
		})
	}
}

// connect returns a store that runs until the end of the test.
func connect(t *testing.T, server *etcdtest.Server) *Store {
	config := etcd.Config{Endpoints: server.Endpoint()}
	calls, watch := etcd.New(config), etcd.New(config)
	s := New(calls, watch)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		_, _ = calls.Close(), watch.Close()
	})
	return s
}

// An etcd that is down for a while, and one that has forgotten what happened before.
func TestWaitsOutliveAnOutage(t *testing.T) {
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := connect(t, server)
	s.own = nil // every wait shares the watch
	lockOf := func() *lock.Lock {
		l, err := lock.New(s, "", 1)
		must.Do(t, err)
		return l
	}
	_, err := lockOf().TryAcquire(t.Context(), "holder", lock.Record{})
	must.Do(t, err)
	failed, done := make(chan error, 1), make(chan error, 1)
	go func() {
		done <- lockOf().Acquire(t.Context(), "r", lock.Record{}, func(_ lock.WaitStatus, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}()
	must.Eventually(t, patience, "r in the queue", func() bool {
		o, err := lockOf().Overview(t.Context())
		return err == nil && len(o.Queue) == 1
	})
	server.Kill()
	if err := must.Receive(t, patience, "a report of the failure", failed); err == nil {
		t.Error("there is no reason")
	}
	must.Do(t, server.Restart(t.Context()))
	must.Eventually(t, patience, "a release", func() bool { return lockOf().Release(t.Context(), "holder") == nil })
	must.Do(t, must.Receive(t, patience, "the slot", done))
}

// script is a watch in the hands of a test.
type script struct {
	attempts chan *attempt
}

type attempt struct {
	began   func(int64)
	changed func(lock.Snapshot)
	end     chan error
	late    chan struct{} // if not nil, it goes on until that is closed, whatever its context says
}

func (s *script) Wait(context.Context, ...lock.Watch) (lock.Snapshot, error) {
	return lock.Snapshot{Revision: 1}, nil
}

func (s *script) Follow(ctx context.Context, _, _ string, began func(int64), changed func(lock.Snapshot)) error {
	a := &attempt{began: began, changed: changed, end: make(chan error)}
	select {
	case s.attempts <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.end:
		return err
	case <-ctx.Done():
		if a.late != nil {
			<-a.late
		}
		return ctx.Err()
	}
}

// bubble runs a test with a store at revision 1, whose watch the test makes.
func bubble(t *testing.T, test func(*testing.T, *storetest.Memory, *Store, chan *attempt)) {
	synctest.Test(t, func(t *testing.T) {
		memory, watch := storetest.NewMemory(), &script{make(chan *attempt)}
		s := New(memory, watch)
		s.own = nil // every wait shares the watch
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.watch(ctx)
		test(t, memory, s, watch.attempts)
		cancel()
		synctest.Wait()
	})
}

// wait begins a wait.
func (s *Store) wait(t *testing.T, watches ...lock.Watch) <-chan result {
	done := make(chan result, 1)
	go func() {
		c, err := s.Wait(t.Context(), watches...)
		done <- result{c, err}
	}()
	synctest.Wait()
	return done
}

func change(revision int64, keys ...string) lock.Snapshot {
	c := lock.Snapshot{Revision: revision, Values: map[string]lock.Value{}}
	for _, key := range keys {
		c.Values[key] = lock.Value{ModRevision: revision}
	}
	return c
}

func wantChange(t *testing.T, done <-chan result, revision int64, keys ...string) {
	t.Helper()
	synctest.Wait()
	select {
	case r := <-done:
		if want := fmt.Sprint(result{change(revision, keys...), nil}); fmt.Sprint(r) != want {
			t.Errorf("the wait ends with %v, want %v", r, want)
		}
	default:
		t.Error("the wait goes on")
	}
}

func wantReread(t *testing.T, done <-chan result) {
	t.Helper()
	synctest.Wait()
	select {
	case r := <-done:
		if r.changes.Values != nil || r.err != nil {
			t.Errorf("the wait ends with %v", r)
		}
	default:
		t.Error("the wait goes on")
	}
}

func TestWaitsHearOfWhatTheyWaitFor(t *testing.T) {
	bubble(t, func(t *testing.T, _ *storetest.Memory, s *Store, attempts chan *attempt) {
		a := <-attempts
		a.began(10)
		x := s.wait(t, lock.Watch{Key: "x", After: 10}, lock.Watch{Key: "d/", End: "d0", After: 10})
		d := s.wait(t, lock.Watch{Key: "d/", End: "d0", After: 10})
		a.changed(change(11, "y", "d", "d0"))
		synctest.Wait()
		if len(x)+len(d) > 0 {
			t.Error("a wait ends for a key that it does not wait for")
		}
		a.changed(change(12, "x", "y", "d/1"))
		wantChange(t, x, 12, "x", "d/1")
		wantChange(t, d, 12, "d/1")

		// What happened before a wait, and after the revision that it has seen.
		a.changed(change(13, "x"))
		wantChange(t, s.wait(t, lock.Watch{Key: "x", After: 11}, lock.Watch{Key: "y", After: 12}), 13, "x")
		late := s.wait(t, lock.Watch{Key: "x", After: 13})
		a.changed(change(13, "x")) // it is behind what the wait has seen
		synctest.Wait()
		if len(late) > 0 {
			t.Error("the wait ends with what it has seen")
		}
		a.changed(change(14, "x"))
		wantChange(t, late, 14, "x")
		synctest.Wait()
		if len(s.waits)+len(s.byKey)+len(s.byRange) > 0 {
			t.Error("waits that have ended are remembered")
		}
	})
}

// A revision that the store has not reached under this watch is one of before it was restored from a backup.
func TestWaitFromAnUnknownRevisionHasToRead(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory, s *Store, attempts chan *attempt) {
		a := <-attempts
		a.began(1)
		wantReread(t, s.wait(t, lock.Watch{Key: "x", After: 0}))
		wantReread(t, s.wait(t, lock.Watch{Key: "x", After: 2}))
		for range 2 {
			_, _, err := memory.Commit(t.Context(), nil, []lock.Op{{Key: "other"}})
			must.Do(t, err)
		}
		snap, err := s.Get(t.Context(), lock.Read{Key: "x"})
		must.Do(t, err)
		known := s.wait(t, lock.Watch{Key: "x", After: snap.Revision})
		if len(known) > 0 {
			t.Error("the wait ends, though the revision was read")
		}
		for i := range int64(2 * maxHistory) {
			a.changed(change(10+i, "y"))
		}
		if len(s.history) > maxHistory {
			t.Errorf("%d changes are remembered", len(s.history))
		}
		wantReread(t, s.wait(t, lock.Watch{Key: "x", After: snap.Revision}))
		if synctest.Wait(); len(known) > 0 {
			t.Error("a wait that has heard of everything ends")
		}
	})
}

// The watch is lost, and comes back, or does not.
func TestWatchThatIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, _ *storetest.Memory, s *Store, attempts chan *attempt) {
		a := <-attempts
		first := s.wait(t, lock.Watch{Key: "x", After: 1})
		a.began(1)
		wantReread(t, first)
		wait := s.wait(t, lock.Watch{Key: "x", After: 1})
		a.end <- errors.New("lost")
		a = <-attempts
		if synctest.Wait(); len(wait) > 0 {
			t.Error("the wait ends before it is known whether there is another watch")
		}
		between := s.wait(t, lock.Watch{Key: "x", After: 1})
		a.began(1)
		wantReread(t, wait)
		wantReread(t, between)

		// What was restored from a backup counts its revisions again.
		a.changed(change(50, "x"))
		a.end <- errors.New("lost")
		a = <-attempts
		a.began(1)
		wait = s.wait(t, lock.Watch{Key: "x", After: 1})
		if len(wait) > 0 {
			t.Errorf("a change of before the watch ends the wait: %v", <-wait)
		}
		a.end <- errors.New("lost")
		a = <-attempts
		a.end <- errors.New("no etcd there")
		synctest.Wait()
		if r := <-wait; r.err == nil || r.err.Error() != "no etcd there" {
			t.Errorf("the wait ends with %v", r)
		}
		// A reply that was under way when the watch began says nothing about the store after it.
		generation := s.current()
		(<-attempts).began(1)
		s.note(generation, lock.Snapshot{Revision: 100}, nil)
		wantReread(t, s.wait(t, lock.Watch{Key: "x", After: 100}))
	})
}

// A call that fails does not end a wait.
func TestFailedCallDisturbsNoWait(t *testing.T) {
	bubble(t, func(t *testing.T, memory *storetest.Memory, s *Store, attempts chan *attempt) {
		a := <-attempts
		a.began(1)
		wait := s.wait(t, lock.Watch{Key: "x", After: 1})
		memory.Break(errors.New("no answer"))
		if _, err := s.Get(t.Context(), lock.Read{Key: "x"}); err == nil {
			t.Error("the call succeeds")
		}
		synctest.Wait()
		if len(wait) > 0 {
			t.Errorf("the wait ends with %v", <-wait)
		}
		a.changed(change(2, "x"))
		wantChange(t, wait, 2, "x")
	})
}

// A few waits have watches of their own, and the shared one lasts for as long as there are more.
func TestSharedWatchIsForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &counting{t: t, Memory: storetest.NewMemory()}
		s := New(etcd, etcd)
		go s.Run(t.Context())
		begin := func(n int) (end func()) {
			ctx, cancel := context.WithCancel(t.Context())
			for range n {
				go func() { _, _ = s.Wait(ctx, lock.Watch{Key: "x", After: 1}) }()
			}
			return func() { cancel(); synctest.Wait() }
		}
		etcd.want(0, 0)
		end := begin(few)
		etcd.want(few, 0)
		time.Sleep(2 * linger)
		endMore := begin(100)
		etcd.want(few, 1)
		endMore()
		time.Sleep(linger / 2)
		endMore = begin(100)
		time.Sleep(2 * linger)
		etcd.want(few, 1)
		endMore()
		time.Sleep(linger - time.Second)
		etcd.want(few, 1)
		time.Sleep(2 * time.Second)
		etcd.want(few, 0)
		endMore = begin(1)
		etcd.want(few, 1)
		endMore()
		end()
		time.Sleep(2 * linger)
		etcd.want(0, 0)
	})
}

// The watch begins at the very moment at which it is not needed any more, and right after that somebody waits.
func TestWatchThatBeginsWhenItIsToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watch := &script{make(chan *attempt)}
		s := New(storetest.NewMemory(), watch)
		s.own = nil
		go s.Run(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = s.Wait(ctx, lock.Watch{Key: "x", After: 1}) }()
		a := <-watch.attempts
		a.late = make(chan struct{})
		cancel()
		time.Sleep(2 * linger)
		a.began(1)
		wait := s.wait(t, lock.Watch{Key: "x", After: 1})
		close(a.late)
		(<-watch.attempts).began(1)
		wantReread(t, wait)
	})
}

// counting counts the watches of an etcd.
type counting struct {
	*storetest.Memory
	t            *testing.T
	own, follows atomic.Int64
}

func (c *counting) want(own, follows int64) {
	c.t.Helper()
	synctest.Wait()
	if c.own.Load() != own || c.follows.Load() != follows {
		c.t.Errorf("there are %d watches of their own and %d shared, want %d and %d", c.own.Load(), c.follows.Load(), own, follows)
	}
}

func (c *counting) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	c.own.Add(1)
	defer c.own.Add(-1)
	return c.Memory.Wait(ctx, watches...)
}

func (c *counting) Follow(ctx context.Context, _, _ string, began func(int64), _ func(lock.Snapshot)) error {
	c.follows.Add(1)
	defer c.follows.Add(-1)
	began(1)
	<-ctx.Done()
	return ctx.Err()
}

// BenchmarkChange measures what a change costs where 1,000 wait as hosts in the queue do, and one of them hears of it.
func BenchmarkChange(b *testing.B) {
	s := New(storetest.NewMemory(), nil)
	s.own = nil
	s.began(1)
	wait := func(i int) {
		key := fmt.Sprint("order/", i)
		_, _ = s.Wait(b.Context(), lock.Watch{Key: key, After: 1}, lock.Watch{Key: "queue/" + key, After: 1},
			lock.Watch{Key: "pause", After: 1}, lock.Watch{Key: "pause-all", After: 1}, lock.Watch{Key: "unwell/", End: "unwell0", After: 1})
	}
	for i := range 1000 {
		go wait(i)
	}
	must.Eventually(b, patience, "the waits", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.byKey["pause"]) == 1000
	})
	revision := int64(1)
	for b.Loop() {
		revision++
		s.changed(change(revision, "semaphore", "holders/x", "queue/x"))
	}
}
