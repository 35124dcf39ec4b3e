package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

func leaseRunsOut(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := key(t, "a"), key(t, "b")
	lease := grant(t, s, time.Second)
	_, made := commit(t, s, nil, lock.Op{Key: a, Lease: lease}, lock.Op{Key: b, Lease: lease})
	snap, err := s.Wait(ctx, watch(a, made.Revision))
	if err != nil || snap.Values[a].ModRevision != 0 {
		t.Fatalf("wait returned %v, %v", snap, err)
	}
	if snap := get(t, s, a, b); len(snap.Values) != 0 {
		t.Errorf("there is %v", snap)
	}
	if err := s.KeepAlive(ctx, lease); !errors.Is(err, lock.ErrNoLease) {
		t.Errorf("it can be kept alive: %v", err)
	}
	_, _, err = s.Commit(ctx, nil, []lock.Op{{Key: a, Lease: lease}})
	if !errors.Is(err, lock.ErrNoLease) || get(t, s, a).Values[a].ModRevision != 0 {
		t.Errorf("it can be used: %v", err)
	}
	if err := s.Revoke(ctx, lease); err != nil {
		t.Errorf("it cannot be revoked: %v", err)
	}
}

func leaseKeptAlive(t *testing.T, s lock.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := key(t, "a"), key(t, "b")
	kept := grant(t, s, 5*time.Second)
	mustCommit(t, s, nil, lock.Op{Key: a, Lease: kept})
	// As long as two others live, one after another.
	for range 2 {
		_, made := commit(t, s, nil, lock.Op{Key: b, Lease: grant(t, s, 4*time.Second)})
		gone := make(chan error, 1)
		go func() {
			_, err := s.Wait(ctx, watch(b, made.Revision))
			gone <- err
		}()
		tick := time.NewTicker(300 * time.Millisecond)
		for alive := true; alive; {
			select {
			case <-tick.C:
				if err := s.KeepAlive(ctx, kept); err != nil {
					t.Fatal(err)
				}
			case err := <-gone:
				if err != nil {
					t.Fatal(err)
				}
				alive = false
			}
		}
		tick.Stop()
	}
	if get(t, s, a).Values[a].Lease != kept {
		t.Error("it is gone")
	}
}

func leaseRevoked(t *testing.T, s lock.Store) {
	k := key(t, "a")
	lease := grant(t, s, time.Hour)
	mustCommit(t, s, nil, lock.Op{Key: k, Lease: lease})
	for range 2 {
		if err := s.Revoke(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if snap := get(t, s, k); len(snap.Values) != 0 {
			t.Errorf("there is %v", snap)
		}
	}
}

func leaseDropped(t *testing.T, s lock.Store) {
	k := key(t, "a")
	lease := grant(t, s, time.Hour)
	mustCommit(t, s, nil, lock.Op{Key: k, Lease: lease})
	mustCommit(t, s, nil, lock.Op{Key: k})
	if err := s.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if v := get(t, s, k).Values[k]; v.ModRevision == 0 || v.Lease != 0 {
		t.Errorf("it is %+v", v)
	}
}
