package lock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// remote is a client that asks a server again and again.
func remote(owner string) lock.Record {
	return lock.Record{Hostname: "192.0.2.7", Owner: owner, Stay: 12 * time.Minute, Remote: true}
}

// ask is one request of a client: it waits for a slot for 50 s at most.
func ask(t *testing.T, s lock.Store, id string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	return newLock(t, s, "").Acquire(ctx, id, remote(id), nil)
}

func wantNoSlotYet(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the request ends with %v", err)
	}
}

// The head is away for five minutes. Nobody takes the free slot before it, and it has the slot at once when it is back.
func TestPlaceOfAClientThatComesBackIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		wantNoSlotYet(t, ask(t, s, "r"))
		b := enter(t, s, "b", lock.Record{})
		holder.mustRelease(t)
		for range 2 { // one request is lost on the way
			time.Sleep(5 * time.Minute)
			if b.got(t) {
				t.Fatal("b has the slot, and not r, which was there first")
			}
		}
		must.Do(t, ask(t, s, "r"))
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b"}) {
			t.Errorf("the queue is %v", q)
		}
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "r", "r"))
		if !b.got(t) {
			t.Errorf("b waits: %v", b.last())
		}
		b.mustRelease(t)
		time.Sleep(12 * time.Minute) // the leases of its place run out
		wantNothingLeft(t, s)
	})
}

func TestPlaceOfAClientThatDoesNotComeBackEnds(t *testing.T) {
	for name, keep := range map[string]bool{"with its lease": false, "also if somebody keeps the lease": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewMemory()
				if keep {
					defer keepLeases(s)()
				}
				holder := enter(t, s, "holder", lock.Record{})
				wantNoSlotYet(t, ask(t, s, "r"))
				b := enter(t, s, "b", lock.Record{})
				holder.mustRelease(t)
				time.Sleep(11 * time.Minute)
				if b.got(t) {
					t.Fatal("b has the slot after 11 minutes")
				}
				time.Sleep(11 * time.Minute)
				if !b.got(t) {
					t.Errorf("b waits: %v", b.last())
				}
			})
		})
	}
}

// The client's connection broke, its server does not know yet, and it asks again, perhaps another server.
func TestNextRequestOfAClientTakesItsPlaceOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		first := enter(t, s, "r", remote("r"))
		b := enter(t, s, "b", lock.Record{})
		second := enter(t, s, "r", remote("r"))
		if err := <-first.done; !errors.Is(err, lock.ErrLostPlace) {
			t.Errorf("the first request ends with %v", err)
		}
		time.Sleep(time.Hour)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"r", "b"}) {
			t.Errorf("the queue is %v", q)
		}
		if holder.mustRelease(t); !second.got(t) || b.got(t) {
			t.Errorf("the second request waits: %v", second.last())
		}
	})
}

func TestWithdrawEndsTheSlotAndTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		server := newLock(t, s, "")
		withdraw := func(id string) {
			t.Helper()
			must.Do(t, server.Withdraw(t.Context(), id, id))
			synctest.Wait()
		}
		withdraw("r") // it had nothing
		holder := enter(t, s, "holder", lock.Record{})
		r := enter(t, s, "r", remote("r"))
		other := enter(t, s, "other", lock.Record{})
		if withdraw("other"); !slices.Equal(queueIDs(t, s), []string{"r", "other"}) {
			t.Errorf("the place of another owner is gone: %v", queueIDs(t, s))
		}
		withdraw("r")
		if err := <-r.done; !errors.Is(err, lock.ErrLostPlace) {
			t.Errorf("the wait of r ends with %v", err)
		}
		holder.mustRelease(t)
		if !other.got(t) {
			t.Errorf("other waits: %v", other.last())
		}
		other.mustRelease(t)
		must.Do(t, ask(t, s, "r"))
		withdraw("r")
		wantNothingLeft(t, s)
	})
}

func TestLeaveQueueEndsOnlyThePlaceOfItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		server := newLock(t, s, "")
		must.Do(t, server.LeaveQueue(t.Context(), "r", "r")) // there is no queue
		must.Do(t, ask(t, s, "holder"))
		r := enter(t, s, "r", remote("r"))
		other := enter(t, s, "other", lock.Record{})
		for _, id := range []string{"holder", "other", "r"} {
			must.Do(t, server.LeaveQueue(t.Context(), id, id))
			synctest.Wait()
		}
		if err := <-r.done; !errors.Is(err, lock.ErrLostPlace) {
			t.Errorf("the wait of r ends with %v", err)
		}
		if h, q := holdersIn(t, s), queueIDs(t, s); !slices.Equal(h, []string{"holder"}) || !slices.Equal(q, []string{"other"}) {
			t.Errorf("held by %v, and the queue is %v", h, q)
		}
		must.Do(t, server.Withdraw(t.Context(), "holder", "holder"))
		if !other.got(t) {
			t.Errorf("other waits: %v", other.last())
		}
	})
}

// The transaction of an earlier request is still on its way when the client says that it wants nothing any more.
func TestWithdrawOutrunsATransactionThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		server := newLock(t, s, "")
		cutOff(t, s, func(ctx context.Context) error {
			_, err := server.TryAcquire(ctx, "r", remote("r"))
			return err
		})
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "r", "r"))
		s.Deliver()
		if h := holdersIn(t, s); len(h) != 0 {
			t.Errorf("held by %v", h)
		}
	})
}

// The entry in the queue of an earlier request is still on its way when the client says that it wants nothing any more.
func TestWithdrawOutrunsAnEntryThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		must.Do(t, ask(t, s, "holder"))
		s.FailCommits(storetest.CutOff)
		wantNoSlotYet(t, ask(t, s, "r"))
		s.Break(nil)
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "r", "r"))
		if s.Deliver(); len(queueIDs(t, s)) != 0 {
			t.Errorf("the queue is %v", queueIDs(t, s))
		}
	})
}

// Slots change hands while a client enters the queue.
func TestEntryIsMadeThoughTheDocumentHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		must.Do(t, ask(t, s, "holder"))
		enters := storetest.Writes(lock.Root + "/queue/r")
		changed := storetest.Before(s, enters, func() {
			_, _, err := newLock(t, s, "").SetMax(t.Context(), 2)
			must.Do(t, err)
			_, _, err = newLock(t, s, "").SetMax(t.Context(), 1)
			must.Do(t, err)
		})
		r := enter(t, changed, "r", remote("r"))
		if q := queueIDs(t, s); !slices.Equal(q, []string{"r"}) {
			t.Errorf("the queue is %v", q)
		}
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "holder", "holder"))
		if !r.got(t) {
			t.Errorf("r waits: %v", r.last())
		}
	})
}

// Etcd loses the lease of a client whose request is held open, and with it its place.
func TestWaitWhoseLeaseHasRunOutEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		must.Do(t, ask(t, s, "holder"))
		r := enter(t, s, "r", remote("r"))
		enter(t, s, "b", lock.Record{})
		key := lock.Root + "/queue/r"
		snap, err := s.Get(t.Context(), lock.Read{Key: key})
		must.Do(t, err)
		must.Do(t, s.Revoke(t.Context(), snap.Values[key].Lease))
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "r", "r")) // by another server, before this one notices
		synctest.Wait()
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b"}) {
			t.Errorf("the queue is %v", q)
		}
		if err := must.Receive(t, time.Minute, "the end of the wait", r.done); !errors.Is(err, lock.ErrLostPlace) {
			t.Errorf("the wait of r ends with %v", err)
		}
	})
}

func TestWithdrawWhoseReplyIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		must.Do(t, ask(t, s, "r"))
		s.FailCommits(storetest.LoseReply)
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "r", "r"))
		if h := holdersIn(t, s); len(h) != 0 {
			t.Errorf("held by %v", h)
		}
		must.Do(t, ask(t, s, "r"))
		cutOff(t, s, func(ctx context.Context) error { return newLock(t, s, "").Withdraw(ctx, "r", "r") })
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "r", "r"))
		s.Deliver()
		if h := holdersIn(t, s); len(h) != 0 {
			t.Errorf("held by %v", h)
		}
	})
}

// A client that is known by its id alone has no part in the slot of a host that asks for itself.
func TestRemoteClientAndAHostWithItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		wantClone := func(err error) {
			t.Helper()
			if clone, ok := errors.AsType[*lock.CloneError](err); !ok || !slices.Equal(clone.Differ, []string{"the way to the lock"}) {
				t.Errorf("the error is %v", err)
			}
		}
		server := newLock(t, s, "")
		server.Identify(remote("web-1"), nil)
		self := lock.Record{Hostname: "web-1", BootID: "1"}
		host := enter(t, s, "web-1", self)
		wantClone(ask(t, s, "web-1"))
		wantClone(server.Withdraw(t.Context(), "web-1", "web-1"))
		if h := holdersIn(t, s); !slices.Equal(h, []string{"web-1"}) {
			t.Errorf("held by %v", h)
		}
		host.mustRelease(t)

		// The other way round.
		must.Do(t, ask(t, s, "web-1"))
		l := newLock(t, s, "")
		l.Identify(self, nil)
		_, _, err := l.Holder(t.Context(), "web-1")
		wantClone(err)
		wantClone(l.Release(t.Context(), "web-1"))
		wantClone(l.Acquire(t.Context(), "web-1", self, nil))
		_, err = l.TryAcquire(t.Context(), "web-1", self)
		if wantClone(err); !strings.Contains(err.Error(), "this is web-1, but 192.0.2.7 (a client of a FleetLock server) has the lock") {
			t.Errorf("the message is %v", err)
		}
		wantNoSlotYet(t, ask(t, s, "web-2"))
		wantClone(l.Acquire(t.Context(), "web-2", self, nil))
		if h, q := holdersIn(t, s), queueIDs(t, s); !slices.Equal(h, []string{"web-1"}) || !slices.Equal(q, []string{"web-2"}) {
			t.Errorf("held by %v, and the queue is %v", h, q)
		}
		must.Do(t, newLock(t, s, "").Withdraw(t.Context(), "web-2", "web-2"))
		time.Sleep(12 * time.Minute)                                // the lease of its place runs out
		must.Do(t, newLock(t, s, "").Release(t.Context(), "web-1")) // an administrator may do it

		// What an administrator has taken for it is its own.
		_, err = newLock(t, s, "").TryAcquire(t.Context(), "web-1", lock.Record{By: "locksmithctl"})
		must.Do(t, err)
		must.Do(t, ask(t, s, "web-1"))
		must.Do(t, server.Withdraw(t.Context(), "web-1", "web-1"))
		wantNothingLeft(t, s)
	})
}

// A host that asks for itself takes the slot of a client with its id, which an administrator has released, while the
// client asks again.
func TestSlotThatBecomesAHostsWhileAClientAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		must.Do(t, ask(t, s, "web-1"))
		changed := storetest.Before(s, isCommit, func() {
			l := newLock(t, s, "")
			must.Do(t, l.Release(t.Context(), "web-1"))
			_, err := l.TryAcquire(t.Context(), "web-1", lock.Record{Hostname: "web-1", BootID: "1"})
			must.Do(t, err)
		})
		err := ask(t, changed, "web-1")
		if _, ok := errors.AsType[*lock.CloneError](err); !ok {
			t.Errorf("the client's request ends with %v", err)
		}
	})
}

func TestImpossibleStays(t *testing.T) {
	for _, stay := range []time.Duration{-time.Second, time.Second, lock.MaxStay + 1} {
		if err := newLock(t, storetest.NewMemory(), "").Acquire(t.Context(), "r", lock.Record{Stay: stay}, nil); err == nil {
			t.Errorf("a stay of %v is accepted", stay)
		}
	}
}
