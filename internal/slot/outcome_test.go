package slot_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// What a process has sent must not happen once the next process was told what is held.
func TestWhatAnEarlierProcessSentCannotHappenAfterInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		f.expectHolders()
		store.FailCommits(storetest.HoldRequest) // for the entry in the queue, or the slot
		ctx, kill := context.WithTimeout(t.Context(), time.Millisecond)
		defer kill()
		if err := h.start(store).Acquire(ctx, policy.Lock{}, quiet); err == nil {
			t.Fatal("it has the slot")
		}
		next := h.start(store)
		expectInspect(t, next, policy.NotHeld)
		store.Deliver()
		f.expectHolders()
		expectInspect(t, next, policy.NotHeld)
	})
}

// The release of a slot from before this boot, which comes after Inspect, is the fence there.
func TestWhatAnEarlierProcessSentCannotHappenAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		f.expectHolders()
		store.FailCommits(storetest.HoldRequest)
		ctx, kill := context.WithTimeout(t.Context(), time.Millisecond)
		defer kill()
		if err := h.start(store).Acquire(ctx, policy.Lock{}, quiet); err == nil {
			t.Fatal("it has the slot")
		}
		_, err := f.TryAcquire(t.Context(), "a", lock.Record{BootID: "boot 0"})
		must.Do(t, err)
		next := h.start(store)
		onlyReads := func(want policy.Holding) {
			before := store.Calls()
			expectInspect(t, next, want)
			if calls := store.Calls() - before; calls != 1 {
				t.Errorf("Inspect has made %d calls to say %v, want one that reads", calls, want)
			}
		}
		onlyReads(policy.HeldSinceBefore)
		must.Do(t, next.Release(t.Context()))
		onlyReads(policy.NotHeld)
		store.Deliver()
		f.expectHolders()
	})
}

func TestOutcomeThatIsUnknownIsMarkedForTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, call := range map[string]func(context.Context, *slot.Slot) error{
			"Inspect": func(ctx context.Context, s *slot.Slot) error { _, _, err := s.Inspect(ctx); return err },
			"Acquire": func(ctx context.Context, s *slot.Slot) error { return s.Acquire(ctx, policy.Lock{}, quiet) },
			"Release": func(ctx context.Context, s *slot.Slot) error { return s.Release(ctx) },
		} {
			store := storetest.NewMemory()
			h, f := newHost(t, "a", "web-1"), newFleet(t, store)
			f.expectHolders()
			s := h.start(store)
			if what == "Release" {
				must.Do(t, s.Acquire(t.Context(), policy.Lock{}, quiet))
			}
			store.FailCommits(storetest.CutOff)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := call(ctx, s); !errors.Is(err, lock.ErrUnknown) || errors.Is(err, daemon.ErrUnknown) != (what == "Acquire") {
				t.Errorf("%s: the error of a change that may still happen is %v", what, err)
			}
			cancel()
			store.Break(nil)
			if _, err := s.StillHeld(t.Context()); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("%s: while it may still happen, StillHeld says %v", what, err)
			}
			store.Deliver()
			expectStillHeld(t, s, what == "Acquire")
		}
	})
}

func TestRefusalIsNotAnUnknownOutcome(t *testing.T) {
	store := storetest.NewMemory()
	newFleet(t, store).expectHolders()
	store.FailCommits(storetest.Refuse)
	err := newHost(t, "a", "web-1").start(store).Acquire(t.Context(), policy.Lock{}, quiet)
	if !errors.Is(err, lock.ErrRefused) || errors.Is(err, daemon.ErrUnknown) {
		t.Errorf("refused, it ends with %v", err)
	}
}
