package lock_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

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
			t.Error("a failure is not reported")
		}
	})
}
