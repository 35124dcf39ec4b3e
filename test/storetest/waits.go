package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

func waitForChange(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	snap := get(t, s, k)
	for i := range 3 {
		want := fmt.Sprint(i)
		done := make(chan error, 1)
		go func() {
			// The wait may begin before or after this: it must not matter.
			_, _, err := s.Commit(ctx, nil, []lock.Op{{Key: k, Value: []byte(want)}})
			done <- err
		}()
		next, err := s.Wait(ctx, lock.Watch{Key: k, After: snap.Revision})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		now := get(t, s, k)
		if v := next.Values[k]; string(v.Data) != want || v.ModRevision != now.Values[k].ModRevision {
			t.Errorf("wait returned %v; there is %v", next, now)
		}
		if next.Revision <= snap.Revision || next.Revision > now.Revision {
			t.Errorf("wait returned revision %d, after %d and now %d", next.Revision, snap.Revision, now.Revision)
		}
		snap = next
	}
}

func waitForPast(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	before := get(t, s, k)
	mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("1")})
	snap, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
	if err != nil || string(snap.Values[k].Data) != "1" {
		t.Errorf("wait returned %v, %v", snap, err)
	}
}

func waitForDeletion(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("1")})
	before := get(t, s, k)
	mustCommit(t, s, nil, lock.Op{Key: k, Delete: true})
	snap, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
	if err != nil || snap.Values[k].ModRevision != 0 || snap.Revision <= before.Revision {
		t.Errorf("wait after %d returned %v, %v", before.Revision, snap, err)
	}
}

func waitForOther(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k, other := key(t, "a"), key(t, "a/b")
	before := get(t, s, k)
	mustCommit(t, s, nil, lock.Op{Key: other, Value: []byte("1")})
	mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("2")})
	snap, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
	if err != nil || string(snap.Values[k].Data) != "2" || len(snap.Values) != 1 {
		t.Errorf("wait returned %v, %v", snap, err)
	}
}

func waitForFuture(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k := key(t, "a")
	now := get(t, s, k).Revision
	snap, err := s.Wait(ctx, watch(k, now), watch(key(t, "b"), now+1000))
	if err != nil || snap.Values != nil {
		t.Errorf("wait returned %v, %v", snap, err)
	}
}

func watch(k string, after int64) lock.Watch { return lock.Watch{Key: k, After: after} }

func waitForSeveral(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b, c := key(t, "a"), key(t, "b"), key(t, "c")
	mustCommit(t, s, nil, lock.Op{Key: c})
	for _, op := range []lock.Op{{Key: a, Value: []byte("1")}, {Key: b, Value: []byte("2")}, {Key: c, Delete: true}} {
		now := get(t, s, a).Revision
		go func() { _, _, _ = s.Commit(ctx, nil, []lock.Op{op}) }() // seen below
		snap, err := s.Wait(ctx, watch(a, now), watch(b, now), watch(c, now))
		v, ok := snap.Values[op.Key]
		if err != nil || !ok || string(v.Data) != string(op.Value) || op.Delete != (v.ModRevision == 0) || len(snap.Values) != 1 || snap.Revision <= now {
			t.Errorf("wait for %v returned %v, %v", op, snap, err)
		}
	}
}

func waitForRange(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	now := get(t, s, "x").Revision
	for _, k := range []string{key(t, "a"), key(t, "c"), key(t, "b/x")} {
		mustCommit(t, s, nil, lock.Op{Key: k, Value: []byte("1")})
	}
	snap, err := s.Wait(ctx, lock.Watch{Key: key(t, "b"), End: key(t, "c"), After: now})
	if err != nil || len(snap.Values) != 1 || string(snap.Values[key(t, "b/x")].Data) != "1" {
		t.Errorf("wait returned %v, %v", snap, err)
	}
	mustCommit(t, s, nil, lock.Op{Key: key(t, "b/x"), Delete: true})
	next, err := s.Wait(ctx, lock.Watch{Key: key(t, "b"), End: key(t, "c"), After: snap.Revision})
	if v, ok := next.Values[key(t, "b/x")]; err != nil || !ok || v.ModRevision != 0 || next.Revision <= snap.Revision {
		t.Errorf("wait returned %v, %v", next, err)
	}
}

func waitKeepsOthers(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := key(t, "a"), key(t, "b")
	now := get(t, s, a).Revision
	mustCommit(t, s, nil, lock.Op{Key: a, Value: []byte("1")}, lock.Op{Key: b, Value: []byte("2")})
	after := map[string]int64{a: now, b: now}
	for len(after) > 0 {
		var watches []lock.Watch
		for k, r := range after {
			watches = append(watches, watch(k, r))
		}
		snap, err := s.Wait(ctx, watches...)
		if err != nil {
			t.Fatal(err)
		}
		for k := range snap.Values {
			delete(after, k)
		}
	}
}

func waitEnds(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	k := key(t, "a")
	before := get(t, s, k)
	done := make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx, lock.Watch{Key: k, After: before.Revision})
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("wait returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the wait goes on")
	}
}
