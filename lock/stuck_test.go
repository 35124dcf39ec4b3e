package lock_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

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

// The host is stuck in a report, as on a terminal that was stopped with Ctrl-S, while the rest of its
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
