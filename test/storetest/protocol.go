package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// newLock returns a lock of a group that only this test uses, and its semaphore's key.
func newLock(t *testing.T, s lock.Store) (*lock.Lock, string) {
	t.Helper()
	l, err := lock.New(s, t.Name(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return l, "coreos.com/updateengine/rebootlock/groups/" + url.QueryEscape(t.Name()) + "/semaphore"
}

func documents(t *testing.T, s lock.Store) {
	l, k := newLock(t, s)
	ctx := t.Context()
	step := func(what string, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if data := string(get(t, s, k).Values[k].Data); data != want {
			t.Errorf("after %s the document is %s, want %s", what, data, want)
		}
	}
	_, err := l.Status(ctx)
	step("status", err, `{"semaphore":1,"max":1,"holders":null}`)
	_, _, err = l.SetMax(ctx, 3)
	step("set-max", err, `{"semaphore":3,"max":3,"holders":null}`)
	_, err = l.TryAcquire(ctx, "b", lock.Record{})
	step("lock b", err, `{"semaphore":2,"max":3,"holders":["b"]}`)
	_, err = l.TryAcquire(ctx, "a", lock.Record{})
	step("lock a", err, `{"semaphore":1,"max":3,"holders":["a","b"]}`)
	_, _, err = l.SetMax(ctx, 1)
	step("set-max below the holders", err, `{"semaphore":-1,"max":1,"holders":["a","b"]}`)
	err = l.Release(ctx, "b")
	step("unlock b", err, `{"semaphore":0,"max":1,"holders":["a"]}`)
	err = l.Release(ctx, "a")
	step("unlock a", err, `{"semaphore":1,"max":1,"holders":null}`)
}

func holders(t *testing.T, s lock.Store) {
	l, _ := newLock(t, s)
	ctx := t.Context()
	record := lock.Record{Hostname: "h", BootID: "b", Hardware: "w", Token: "t", Since: time.Unix(1700000000, 0).UTC(), By: "test", Version: "1"}
	for i := range 2 {
		already, err := l.TryAcquire(ctx, "a", record)
		if err != nil || already != (i > 0) {
			t.Fatalf("lock %d: already is %v, %v", i+1, already, err)
		}
		record.Hostname = "other" // the first one stays
	}
	held, r, err := l.Holder(ctx, "a")
	record.Hostname = "h"
	if err != nil || !held || r != record {
		t.Errorf("holder is %v, %+v, %v", held, r, err)
	}
	var full *lock.FullError
	if _, err := l.TryAcquire(ctx, "b", record); !errors.As(err, &full) || !slices.Equal(full.Semaphore.Holders, []string{"a"}) {
		t.Errorf("a second lock returned %v", err)
	}
	var notHeld *lock.NotHeldError
	if err := l.Release(ctx, "b"); !errors.As(err, &notHeld) || !slices.Equal(notHeld.Semaphore.Holders, []string{"a"}) {
		t.Errorf("unlock of a stranger returned %v", err)
	}
	if held, r, err := l.Holder(ctx, "b"); err != nil || held || r != (lock.Record{}) {
		t.Errorf("a stranger is holder: %v, %+v, %v", held, r, err)
	}
	if err := l.Release(ctx, "a"); err != nil {
		t.Error(err)
	}
	if held, r, err := l.Holder(ctx, "a"); err != nil || held || r != (lock.Record{}) {
		t.Errorf("holder after unlock is %v, %+v, %v", held, r, err)
	}
}

func handOver(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, _ := newLock(t, s)
	b, _ := newLock(t, s)
	if _, err := a.TryAcquire(ctx, "a", lock.Record{}); err != nil {
		t.Fatal(err)
	}
	waits := make(chan lock.Semaphore, 1)
	got := make(chan error, 1)
	go func() {
		got <- b.Acquire(ctx, "b", lock.Record{}, func(w lock.WaitStatus, err error) {
			if err != nil {
				t.Error(err)
			}
			waits <- w.Semaphore
		})
	}()
	select {
	case s := <-waits:
		if !slices.Equal(s.Holders, []string{"a"}) {
			t.Errorf("b waits for %v", s.Holders)
		}
	case err := <-got:
		t.Fatalf("acquire did not wait: %v", err)
	}
	if err := a.Release(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// begin makes id wait for a slot, and returns after the first report.
func begin(ctx context.Context, t *testing.T, l *lock.Lock, id string) chan error {
	t.Helper()
	reported, done := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(reported) })
	go func() { done <- l.Acquire(ctx, id, lock.Record{Hostname: id}, func(lock.WaitStatus, error) { once() }) }()
	select {
	case <-reported:
	case err := <-done:
		t.Fatalf("%s did not wait: %v", id, err)
	}
	return done
}

func turns(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	holder, _ := newLock(t, s)
	if _, err := holder.TryAcquire(ctx, "holder", lock.Record{}); err != nil {
		t.Fatal(err)
	}
	ids := []string{"c", "a/b", "e", "b", "d"}
	leaves := 2 // e leaves
	var done []chan error
	leaving, leave := context.WithCancel(ctx)
	for i, id := range ids {
		l, _ := newLock(t, s)
		if i == leaves {
			done = append(done, begin(leaving, t, l, id))
		} else {
			done = append(done, begin(ctx, t, l, id))
		}
	}
	leave()
	if err := <-done[leaves]; !errors.Is(err, context.Canceled) {
		t.Errorf("it leaves with %v", err)
	}
	o, err := holder.Overview(ctx)
	if err != nil || len(o.Queue) != 4 || o.Queue[1].ID != "a/b" || o.Queue[2].ID != "b" {
		t.Errorf("the overview is %+v, %v", o, err)
	}
	last := "holder"
	for i, id := range ids {
		if i == leaves {
			continue
		}
		if err := holder.Release(ctx, last); err != nil {
			t.Fatal(err)
		}
		if err := <-done[i]; err != nil {
			t.Fatal(err)
		}
		o, err := holder.Overview(ctx)
		if err != nil || !slices.Equal(o.Semaphore.Holders, []string{id}) {
			t.Errorf("after the release of %s held by %v, not %s: %v", last, o.Semaphore.Holders, id, err)
		}
		last = id
	}
	o, err = holder.Overview(ctx)
	if err != nil || len(o.Queue) != 0 {
		t.Errorf("the overview is %+v, %v", o, err)
	}
}

func pauses(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, _ := newLock(t, s)
	b, _ := newLock(t, s)
	var paused *lock.PausedError
	if _, err := a.Pause(ctx, lock.PauseInfo{By: "me", Reason: "why"}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.TryAcquire(ctx, "a", lock.Record{}); !errors.As(err, &paused) || paused.Pause.By != "me" {
		t.Errorf("lock during the pause returned %v", err)
	}
	got := begin(ctx, t, b, "b")
	if was, err := a.Resume(ctx); err != nil || was.Pause == nil || was.Pause.Reason != "why" {
		t.Errorf("resume returned %+v, %v", was, err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if err := b.Release(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Pause(ctx, lock.PauseInfo{}, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.Acquire(ctx, "b", lock.Record{}, nil); err != nil { // once that is over
		t.Fatal(err)
	}
}

func contenders(t *testing.T, s lock.Store) {
	const max, hosts, rounds = 2, 6, 4
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	l, k := newLock(t, s)
	if _, _, err := l.SetMax(ctx, max); err != nil {
		t.Fatal(err)
	}
	var inside atomic.Int32
	enter := func() {
		if n := inside.Add(1); n > max {
			t.Errorf("%d hold a slot, of %d", n, max)
		}
	}
	leave := func() { inside.Add(-1) } // before the release, as another may have the slot right after
	var wg sync.WaitGroup
	for i := range hosts {
		id := fmt.Sprintf("host%d", i)
		wg.Go(func() {
			for range rounds {
				mine, _ := newLock(t, s)
				if err := mine.Acquire(ctx, id, lock.Record{}, nil); err != nil {
					t.Error(err)
					return
				}
				enter()
				runtime.Gosched()
				leave()
				if err := mine.Release(ctx, id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 2 {
		id := fmt.Sprintf("older%d", i)
		wg.Go(func() {
			for range rounds {
				if err := oldClient(ctx, s, k, id, true); err != nil {
					t.Error(err)
					return
				}
				enter()
				runtime.Gosched()
				leave()
				if err := oldClient(ctx, s, k, id, false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if sem, err := l.Status(ctx); err != nil || sem.Free != max || len(sem.Holders) != 0 {
		t.Errorf("at the end the semaphore is %+v, %v", sem, err)
	}
}

// oldClient takes or frees a slot, trying until it can, like a client that knows the document and
// nothing else.
func oldClient(ctx context.Context, s lock.Store, key, id string, take bool) error {
	for ctx.Err() == nil {
		snap, err := s.Get(ctx, lock.Read{Key: key})
		if err != nil {
			return err
		}
		was, err := lock.ParseSemaphore(snap.Values[key].Data)
		if err != nil {
			return err
		}
		var next lock.Semaphore
		if take {
			next, err = was.Acquire(id)
		} else {
			next, err = was.Release(id)
		}
		var full *lock.FullError
		if errors.As(err, &full) {
			if _, err := s.Wait(ctx, lock.Watch{Key: key, After: snap.Revision}); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		ok, _, err := s.Commit(ctx, []lock.Cond{{Key: key, ModRevision: snap.Values[key].ModRevision}}, []lock.Op{{Key: key, Value: next.Encode()}})
		if err != nil || ok {
			return err
		}
	}
	return ctx.Err()
}
