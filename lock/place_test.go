package lock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestFirstComeFirstServed(t *testing.T) {
	for _, slots := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			var writes atomic.Int64
			counting := &storetest.Hooked{Store: s, Before: func(c *storetest.Call) error {
				if storetest.Writes(defaultKey)(c) {
					writes.Add(1)
				}
				return nil
			}}
			_, _, err := newLock(t, s, "").SetMax(t.Context(), slots)
			must.Do(t, err)
			ids := hostNames(t, 50)
			var hosts []*waitingHost
			for _, id := range ids {
				hosts = append(hosts, enter(t, counting, id, lock.Record{Hostname: id}))
			}
			if q := queueIDs(t, s); !slices.Equal(q, ids[slots:]) {
				t.Errorf("the queue is %v, want %v", q, ids[slots:])
			}
			before := writes.Load()
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
			if n, want := int(writes.Load()-before), 2*len(hosts)-slots; n != want {
				t.Errorf("%d slots: it took %d transactions, want %d", slots, n, want)
			}
			wantNothingLeft(t, s)
		})
	}
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
		if !hosts[0].got(t) || len(hosts[0].reports) != 0 {
			t.Errorf("the first one waits for %v", hosts[0].reports)
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
		s.Break(storetest.ErrFault) // for less than the lease lasts
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

// The transaction that makes the entry may happen late: after the host got its slot, it would be in the queue again.
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

// Keys in the queue and its index that are not places, with or without a lease, block nobody and
// give nobody a better place.
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

// The place is lost in one outage, and the next outage hides, for longer than a call lasts, that there is a
// new one. The host recognizes it as its own, and does not wait for it as another process's.
func TestPlaceAfterALostOneIsRecognizedAsItsOwn(t *testing.T) {
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

// What the others know of the holders may be an hour old.
func TestOnlyTheHeadOfTheQueueNamesHolders(t *testing.T) {
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

func TestHostThatIsNotInTheIndexYetIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		slow := newFrozenStore(s)
		// It stops between its entry and the index.
		a := enter(t, storetest.After(slow, storetest.Writes(prefix+"queue/a"), slow.freeze), "a", lock.Record{})
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

// The session reports it, well before the keys are read again.
func TestLostLeaseIsNoticedThoughTheWatchStaysSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		enter(t, s, "a", lock.Record{})
		b := enter(t, s, "b", lock.Record{})
		s.Deafen()
		must.Do(t, s.Revoke(t.Context(), read(t, s, prefix+"queue/b").Lease))
		time.Sleep(30 * time.Second) // in which the lease would be kept alive once
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b"}) {
			t.Errorf("the queue is %v", q)
		}
		b.leave()
	})
}
