package fleet

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// watched is a cache of the default group and group lb, in a bubble of testing/synctest.
type watched struct {
	*Cache
	t       *testing.T
	memory  *storetest.Memory
	reads   atomic.Int64 // that the cache has made of the default group
	sources []Source
	hangs   atomic.Bool  // no call of the store returns
	waits   atomic.Int64 // watches of the store that are open
}

func newWatched(t *testing.T) *watched {
	w := &watched{t: t, memory: storetest.NewMemory(), sources: []Source{{"", 1}, {"lb", 2}}}
	counted := &storetest.Hooked{Store: w.memory, Before: func(c *storetest.Call) error {
		if c.Method == storetest.Get && c.Reads[0].Key == lock.Root+"/semaphore" {
			w.reads.Add(1)
		}
		if c.Method == storetest.Wait {
			w.waits.Add(1)
		}
		if w.hangs.Load() {
			<-c.Ctx.Done()
		}
		return nil
	}, After: func(c *storetest.Call) {
		if c.Method == storetest.Wait {
			w.waits.Add(-1)
		}
	}}
	w.Cache = NewCache(counted, func() []Source { return w.sources }, 2)
	t.Cleanup(w.Stop)
	return w
}

// put writes the record of a host.
func (w *watched) put(group, id, why string) {
	w.t.Helper()
	records, err := inventory.New(w.memory, group)
	must.Do(w.t, err)
	must.Do(w.t, records.Put(context.Background(), inventory.Host{ID: id, Hostname: id, State: "idle", Why: why, Updated: time.Now()}))
}

// wantReads ends the test unless the cache has read so often since the last call.
func (w *watched) wantReads(want int64, when string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.reads.Swap(0); got != want {
		w.t.Fatalf("%s: %d reads, want %d", when, got, want)
	}
}

// why returns what the cache has of a host.
func (w *watched) why(group, id string) string {
	w.t.Helper()
	seen := w.Look(w.t.Context())
	must.Do(w.t, seen.Err)
	for _, g := range seen.Groups {
		for _, h := range g.Hosts {
			if g.Group == group && h.ID == id {
				return h.Why
			}
		}
	}
	return "no such host"
}

func (w *watched) wantWhy(group, id, want string) {
	w.t.Helper()
	if got := w.why(group, id); got != want {
		w.t.Fatalf("host %s of group %q: %q, want %q", id, group, got, want)
	}
}

func (w *watched) follow() *Follower {
	w.t.Helper()
	f, err := w.Follow()
	must.Do(w.t, err)
	return f
}

func changedNow(f *Follower) bool {
	synctest.Wait()
	select {
	case <-f.Changed():
		return true
	default:
		return false
	}
}

func TestFleetIsReadOnlyWhenSomebodyLooksAndItHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		time.Sleep(time.Hour)
		w.wantReads(0, "nobody has looked")
		w.put("lb", "a", "one")
		w.wantWhy("lb", "a", "one")
		for range 16 { // as metrics are
			time.Sleep(15 * time.Second)
			w.wantWhy("lb", "a", "one")
		}
		w.wantReads(1, "nothing has changed for four minutes")
		w.put("lb", "a", "two")
		time.Sleep(time.Second)
		w.wantReads(0, "it has changed, and nobody looks")
		w.wantWhy("lb", "a", "two")
		w.wantReads(1, "it has changed, and somebody looks")
		if synctest.Wait(); w.waits.Load() != 1 {
			t.Errorf("%d watches are open", w.waits.Load())
		}
		time.Sleep(2 * lingers)
		if synctest.Wait(); w.waits.Load() != 0 {
			t.Error("a watch is open for nobody")
		}
		before := w.memory.Calls()
		for range 10 {
			w.put("", "b", time.Now().String())
			time.Sleep(time.Minute)
		}
		if calls := w.memory.Calls() - before; calls != 10 {
			t.Errorf("nobody looks: the store had %d calls beside 10 writes", calls-10)
		}
	})
}

func TestFollowersSeeEachChangeAndManyAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		f, g := w.follow(), w.follow()
		if _, err := w.Follow(); !errors.Is(err, ErrFollowers) {
			t.Errorf("one more than may follow: %v", err)
		}
		if time.Sleep(time.Second); !changedNow(f) || !changedNow(g) {
			t.Fatal("nothing was read for those who follow")
		}
		w.wantReads(1, "two follow")
		counts := w.Look(t.Context()).Changes
		w.put("lb", "a", "one")
		if time.Sleep(time.Second); !changedNow(f) || !changedNow(g) {
			t.Fatal("a change was not reported")
		}
		w.wantWhy("lb", "a", "one")
		if now := w.Look(t.Context()).Changes; now[""] != counts[""] || now["lb"] == counts["lb"] {
			t.Errorf("group lb has changed, and the counts are %v, after %v", now, counts)
		}
		w.wantReads(1, "a change")
		for range 100 {
			w.put("", "b", time.Now().String())
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if got := w.reads.Swap(0); got < 4 || got > 6 {
			t.Errorf("%d reads in 5 s of changes", got)
		}
		changedNow(f)
		f.Close()
		g.Close()
		time.Sleep(time.Second)
		w.reads.Store(0)
		w.put("", "b", "nobody follows")
		time.Sleep(time.Minute)
		w.wantReads(0, "nobody follows any more")
		f = w.follow()
		time.Sleep(time.Second)
		w.wantReads(1, "somebody follows again")
		f.Close()
	})
}

func TestLastFleetIsShownWhileEtcdIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		away := errors.New("away")
		w.memory.Break(away)
		if seen := w.Look(t.Context()); !errors.Is(seen.Err, away) || !seen.At.IsZero() {
			t.Fatalf("etcd was away from the start: %+v", seen)
		}
		time.Sleep(time.Second)
		w.memory.Break(nil)
		w.put("lb", "a", "one")
		w.wantWhy("lb", "a", "one")
		at := time.Now()
		f := w.follow()
		time.Sleep(time.Minute)
		changedNow(f)
		w.memory.Break(away)
		if time.Sleep(time.Minute); !changedNow(f) {
			t.Error("it was not reported that etcd is away")
		}
		if seen := w.Look(t.Context()); !errors.Is(seen.Err, away) || !seen.At.Equal(at) || len(seen.Groups) != 2 {
			t.Errorf("the last fleet is not shown: %+v", seen)
		}
		w.memory.Break(nil)
		w.put("lb", "a", "two")
		if time.Sleep(30 * time.Second); !changedNow(f) {
			t.Error("it was not reported that etcd is back")
		}
		w.wantWhy("lb", "a", "two")
		f.Close()
	})
}

// A look does not hang with etcd.
func TestLookDoesNotWaitLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.wantWhy("", "a", "no such host")
		w.hangs.Store(true)
		w.Refresh()
		time.Sleep(time.Minute)
		began := time.Now()
		if seen := w.Look(t.Context()); seen.Err == nil || seen.At.IsZero() || time.Since(began) != patience {
			t.Errorf("after %v: %+v", time.Since(began), seen)
		}
	})
}

func TestOtherGroupsAreReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.put("db", "a", "one")
		w.wantWhy("db", "a", "no such host")
		w.sources = append(w.sources, Source{"db", 1})
		w.wantWhy("db", "a", "one")
		f := w.follow()
		w.sources = w.sources[:2]
		w.Refresh()
		time.Sleep(time.Second)
		if !changedNow(f) {
			t.Error("other groups were not reported")
		}
		w.wantWhy("db", "a", "no such host")
		w.memory.Break(errors.New("away"))
		w.sources = append(w.sources, Source{"db", 1})
		if seen := w.Look(t.Context()); seen.Err == nil {
			t.Error("etcd is away")
		}
		w.memory.Break(nil)
		time.Sleep(time.Minute)
		w.put("db", "a", "two")
		time.Sleep(2 * time.Second)
		changedNow(f)
		w.wantWhy("db", "a", "two")
		f.Close()
	})
}
