package lock_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

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

// A client that knows only the document takes it, and leaves the entry in the queue as it is.
func TestWaitInTheMiddleEndsWhenTheSlotWasTakenByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		b, c, d := enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{}), enter(t, s, "d", lock.Record{})
		put(t, s, prefix+"holders/d", `{"hostname":"d"}`) // left behind by another such client
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["d"]}`)
		if !a.got(t) || b.got(t) || c.got(t) {
			t.Error("b or c has the slot of d")
		}
		if !d.got(t) {
			t.Error("d waits for b, and b for d")
		}
	})
}

// The place also ends with the wait if somebody took the slot for the head, right before the head did.
func TestSlotTakenForTheHeadByHandEndsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		b := enter(t, storetest.Before(s, storetest.Writes(prefix+"holders/b"), func() {
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

// The head removes the entry of a host that holds a slot already, and whose process has died.
func TestRemovedPlaceLeavesTheIndex(t *testing.T) {
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
