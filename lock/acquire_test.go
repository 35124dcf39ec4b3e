package lock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestWaitReportsEveryChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := newLock(t, s, "")
		if _, err := a.TryAcquire(t.Context(), "a", lock.Record{}); err != nil {
			t.Fatal(err)
		}
		var reports []string
		done := make(chan error, 1)
		go func() {
			done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, func(w lock.WaitStatus, err error) {
				reports = append(reports, fmt.Sprint(w.Semaphore.Max, w.Semaphore.Holders, err))
			})
		}()
		synctest.Wait()
		time.Sleep(time.Hour) // in which the semaphore is read again now and then
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["c"]}`)
		synctest.Wait()
		s.Break(storetest.ErrFault)
		synctest.Wait()
		s.Break(nil)
		time.Sleep(time.Minute)
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want := []string{"1 [a] <nil>", "1 [c] <nil>", "1 [c] take a slot for b: injected fault", "1 [c] <nil>"}
		if !slices.Equal(reports, want) {
			t.Errorf("reported %q, want %q", reports, want)
		}
	})
}

func TestWaitingIsWatchingNotPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(ctx, "b", lock.Record{}, nil) }()
		synctest.Wait()
		before := s.Calls()
		time.Sleep(time.Hour)
		if n := s.Calls() - before; n > 24 { // a reading and a watch every five minutes
			t.Errorf("an hour of waiting took %d calls", n)
		}
		// And the free slot is taken at once: no fake time passes.
		start := time.Now()
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		if err := <-done; err != nil || time.Since(start) != 0 {
			t.Errorf("it took %v to have it: %v", time.Since(start), err)
		}
		cancel()
	})
}

func TestWatchThatStaysSilentIsNotBelievedForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		s.Deafen()
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, nil) }()
		synctest.Wait()
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestOutageDoesNotEndAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		s.Break(storetest.ErrFault) // down at first
		done := make(chan error, 1)
		var failures atomic.Int32
		go func() {
			done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, func(_ lock.WaitStatus, err error) {
				if errors.Is(err, storetest.ErrFault) {
					failures.Add(1)
				}
			})
		}()
		time.Sleep(time.Hour)
		if n := failures.Load(); n < 300 || n > 3600 {
			t.Errorf("an hour of outage was %d failures", n)
		}
		s.FailCommits(storetest.CutOff) // up, and down again when it tries
		s.Break(nil)
		time.Sleep(time.Hour)
		s.Break(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Deliver()
		if h := holdersIn(t, s); !slices.Equal(h, []string{"b"}) {
			t.Errorf("held by %v", h)
		}
	})
}

func TestWaitThatIsCalledOffHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(ctx, "b", lock.Record{}, nil) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, lock.ErrUnknown) {
			t.Errorf("acquire returned %v", err)
		}
	})
}

func TestDocumentThatBreaksDuringAWaitEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, nil) }()
		synctest.Wait()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":`)
		var d *lock.DocumentError
		if err := <-done; !errors.As(err, &d) {
			t.Errorf("acquire returned %v", err)
		}
	})
}

func TestDocumentThatIsDeletedDuringAWaitIsCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, nil) }()
		synctest.Wait()
		if _, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: defaultKey, Delete: true}}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The transaction notices every change since the read that it is based on.
func TestWhatChangesRightBeforeTheSlotIsTakenCounts(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*testing.T, *storetest.Memory)
		free   func(*testing.T, *storetest.Memory)
	}{
		"a pause": {
			func(t *testing.T, s *storetest.Memory) {
				mustPause(t)(newLock(t, s, "").Pause(t.Context(), lock.PauseInfo{}, 0))
			},
			func(t *testing.T, s *storetest.Memory) {
				_, err := newLock(t, s, "").Resume(t.Context())
				must.Do(t, err)
			},
		},
		"a pause of all groups": {
			func(t *testing.T, s *storetest.Memory) {
				mustPause(t)(lock.NewGroups(s, 1).Pause(t.Context(), lock.PauseInfo{}, 0))
			},
			func(t *testing.T, s *storetest.Memory) {
				_, err := lock.NewGroups(s, 1).Resume(t.Context())
				must.Do(t, err)
			},
		},
		"somebody in the queue": {
			func(t *testing.T, s *storetest.Memory) {
				lease, err := s.Grant(t.Context(), time.Minute)
				must.Do(t, err)
				_, _, err = s.Commit(t.Context(), nil, []lock.Op{{Key: prefix + "queue/first", Value: []byte("{}"), Lease: lease}})
				must.Do(t, err)
			},
			func(*testing.T, *storetest.Memory) { time.Sleep(time.Minute) },
		},
		"another holder": {
			func(t *testing.T, s *storetest.Memory) { lockFor(t.Context(), t, newLock(t, s, ""), "x") },
			func(t *testing.T, s *storetest.Memory) { must.Do(t, newLock(t, s, "").Release(t.Context(), "x")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, waits := range []bool{false, true} {
				if waits && name == "somebody in the queue" {
					continue // a later entry does not matter
				}
				synctest.Test(t, func(t *testing.T) {
					s := storetest.NewMemory()
					var holder *waitingHost
					if waits {
						holder = enter(t, s, "holder", lock.Record{})
					}
					trap := storetest.Before(s, storetest.Writes(defaultKey), func() { test.change(t, s) })
					b := enter(t, trap, "b", lock.Record{})
					if waits {
						holder.mustRelease(t)
					}
					if b.got(t) {
						t.Fatal("b has a slot nevertheless")
					}
					test.free(t, s)
					if !b.got(t) {
						t.Error("b has no slot")
					}
				})
			}
		})
	}
}

func TestPlaceThatIsLostRightBeforeTheSlotIsTakenIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		holder := enter(t, s, "holder", lock.Record{})
		b := enter(t, storetest.Before(s, storetest.Writes(defaultKey), func() {
			must.Do(t, s.Revoke(t.Context(), read(t, s, prefix+"queue/b").Lease))
		}), "b", lock.Record{})
		c := enter(t, s, "c", lock.Record{})
		holder.mustRelease(t)
		if b.got(t) || !c.got(t) {
			t.Error("the slot is not with c")
		}
		c.mustRelease(t)
		if !b.got(t) {
			t.Error("b has no slot")
		}
	})
}

func TestChangesOfOneRevisionAreAllSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := enter(t, s, "a", lock.Record{})
		mustPause(t)(lock.NewGroups(s, 1).Pause(t.Context(), lock.PauseInfo{}, 0))
		b := enter(t, s, "b", lock.Record{})
		_, _, err := s.Commit(t.Context(), nil, []lock.Op{
			{Key: prefix + "pause-all", Delete: true},
			{Key: defaultKey, Value: []byte(`{"semaphore":1,"max":2,"holders":["a"]}`)},
		})
		must.Do(t, err)
		if !b.got(t) || !a.got(t) {
			t.Errorf("b waits for %v", b.last())
		}
	})
}

func TestCompactionDuringAWaitLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a, b, c := enter(t, s, "a", lock.Record{}), enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{})
		for _, h := range []*waitingHost{a, b, c} {
			put(t, s, "other", "x")
			s.Compact()
			if !h.got(t) {
				t.Fatalf("%s has no slot", h.id)
			}
			h.mustRelease(t)
		}
		wantNothingLeft(t, s)
	})
}
