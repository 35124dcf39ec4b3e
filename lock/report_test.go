package lock_test

import (
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

// booted returns the lock of a host in a boot.
func booted(t testing.TB, s lock.Store, id, boot string) *lock.Lock {
	t.Helper()
	l := newLock(t, s, "")
	l.Identify(lock.Record{Hostname: "web-" + id, BootID: boot}, nil)
	return l
}

// sick makes hosts take a slot for a version, boot, and report that they are unwell. It returns the lock of the first.
func sick(t testing.TB, s lock.Store, version string, ids ...string) *lock.Lock {
	t.Helper()
	for _, id := range ids {
		_, err := newLock(t, s, "").TryAcquire(t.Context(), id, lock.Record{Hostname: "web-" + id, BootID: "1", Version: version})
		must.Do(t, err)
	}
	for _, id := range ids {
		must.Do(t, booted(t, s, id, "2").Report(t.Context(), id, unwell))
	}
	return booted(t, s, ids[0], "2")
}

var unwell = lock.Report{Phase: lock.Unwell, Why: "after-reboot: 20-etcd: no quorum\x1b", Pause: true}

func withSlots(t testing.TB, n int) *storetest.Memory {
	t.Helper()
	s := storetest.NewMemory()
	_, _, err := newLock(t, s, "").SetMax(t.Context(), n)
	must.Do(t, err)
	return s
}

func record(t testing.TB, s lock.Store, id string) lock.Record {
	t.Helper()
	_, r, err := newLock(t, s, "").Holder(t.Context(), id)
	must.Do(t, err)
	return r
}

func unwellHosts(t testing.TB, s lock.Store) []lock.UnwellHost {
	t.Helper()
	o, err := newLock(t, s, "").Overview(t.Context())
	must.Do(t, err)
	return o.Unwell
}

func TestUnwellHostPausesItsVersionAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withSlots(t, 2)
		full := enter(t, s, "full", lock.Record{Version: "1"})
		_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{Hostname: "web-a", BootID: "1", Version: "1"})
		must.Do(t, err)
		bad := []*waitingHost{enter(t, s, "b", lock.Record{Version: "1"}), enter(t, s, "c", lock.Record{Version: "1"}), enter(t, s, "d", lock.Record{})}
		fix := enter(t, s, "e", lock.Record{Version: "2"})
		bad = append(bad, enter(t, s, "behind the fix", lock.Record{Version: "1"}))
		a := booted(t, s, "a", "2")
		must.Do(t, a.Report(t.Context(), "a", unwell))
		bad = append(bad, enter(t, s, "f", lock.Record{Version: "1"}))

		says := `paused for version 1, since host web-a (a) is unwell: after-reboot: 20-etcd: no quorum\x1b`
		for _, h := range bad {
			if w := h.last(); w.String() != says || !w.Outside {
				t.Errorf("%s waits: %v", h.id, w)
			}
		}
		if q := queueIDs(t, s); !slices.Equal(q, []string{"e"}) {
			t.Errorf("the queue is %v", q)
		}
		full.mustRelease(t)
		if !fix.got(t) {
			t.Errorf("the fix waits: %v", fix.last())
		}
		fix.mustRelease(t)
		for _, h := range bad {
			if h.got(t) {
				t.Errorf("%s has a slot for the version that is paused", h.id)
			}
		}
		for id, version := range map[string]string{"x": "", "y": "1"} {
			var paused *lock.PausedError
			if _, err := newLock(t, s, "").TryAcquire(t.Context(), id, lock.Record{Version: version}); !errors.As(err, &paused) || paused.Error() != says || paused.Pause.Version != "1" {
				t.Errorf("by hand, for version %q: %v", version, err)
			}
		}
		r, err := newLock(t, s, "").Resume(t.Context())
		if err != nil || r.Pause != nil || len(r.Unwell) != 1 || r.Unwell[0].ID != "a" {
			t.Errorf("resume: %+v, %v", r, err)
		}
		synctest.Wait()
		got := 0
		for range bad {
			for _, h := range bad {
				if h.got(t) && slices.Contains(holdersIn(t, s), h.id) {
					got++
					h.mustRelease(t)
				}
			}
		}
		if got != len(bad) {
			t.Errorf("%d of %d have had a slot after resume", got, len(bad))
		}
		must.Do(t, a.ReleaseWell(t.Context(), "a"))
		wantNothingLeft(t, s)
	})
}

// A host that waits outside the queue costs nothing, and sees at once that somebody has taken a slot for it.
func TestHostOutsideTheQueueWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withSlots(t, 2)
		sick(t, s, "1", "a")
		b := enter(t, s, "b", lock.Record{Version: "1"})
		before := s.Calls()
		for range 100 {
			lockFor(t.Context(), t, newLock(t, s, "other"), "z")
			must.Do(t, newLock(t, s, "other").Release(t.Context(), "z"))
		}
		calls := s.Calls()
		time.Sleep(3*time.Hour + time.Minute)
		if n := s.Calls() - calls; n > 6 {
			t.Errorf("three hours outside the queue take %d calls, %d before", n, calls-before)
		}
		_, err := newLock(t, s, "").TryAcquire(t.Context(), "b", lock.Record{Version: "2"})
		must.Do(t, err)
		if !b.got(t) {
			t.Errorf("b waits: %v", b.last())
		}
	})
}

// Whatever a client has read before, it takes no slot for a version once the report about it is there.
func TestTakeThatHasNotSeenTheReportFails(t *testing.T) {
	for name, arrange := range map[string]func(t *testing.T, s *storetest.Memory){
		"at once": func(*testing.T, *storetest.Memory) {},
		"with an entry for another version": func(t *testing.T, s *storetest.Memory) {
			sick(t, s, "0", "other")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := withSlots(t, 3)
				arrange(t, s)
				hooked := storetest.Before(s, storetest.Writes(prefix+"holders/b"), func() { sick(t, s, "1", "a") })
				b := enter(t, hooked, "b", lock.Record{Version: "1"})
				if b.got(t) || !b.last().Outside {
					t.Errorf("b has a slot: %v, or waits: %v", b.got(t), b.last())
				}
				hooked = storetest.Before(s, storetest.Writes(prefix+"holders/c"), func() { must.Do(t, booted(t, s, "a", "3").Report(t.Context(), "a", unwell)) })
				if _, err := newLock(t, hooked, "").TryAcquire(t.Context(), "c", lock.Record{}); !isPaused(err) {
					t.Errorf("by hand: %v", err)
				}
			})
		})
	}
}

// The events of the document and of the unwell host may come apart.
func TestHeadDoesNotTrustTheDocumentAlone(t *testing.T) {
	for _, entries := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			s := withSlots(t, 2)
			if entries > 0 {
				sick(t, s, "0", "other")
				_, _, err := newLock(t, s, "").SetMax(t.Context(), 3)
				must.Do(t, err)
			}
			full := enter(t, s, "full", lock.Record{Version: "1"})
			_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{Version: "1"})
			must.Do(t, err)
			late := &storetest.Hooked{Store: s, After: func(c *storetest.Call) {
				if c.Method == storetest.Wait {
					for key := range c.Snapshot.Values {
						if strings.Contains(key, "/unwell/") {
							delete(c.Snapshot.Values, key)
						}
					}
				}
			}}
			stopped := newFrozenStore(late)
			b := enter(t, stopped, "b", lock.Record{Version: "1"})
			stopped.freeze()
			must.Do(t, booted(t, s, "a", "2").Report(t.Context(), "a", unwell))
			full.mustRelease(t)
			stopped.thaw()
			if b.got(t) || !b.last().Outside {
				t.Errorf("b has a slot: %v, or waits: %v", b.got(t), b.last())
			}
		})
	}
}

func TestReportOfUnknownOutcome(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest, storetest.HoldRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := withSlots(t, 1)
			_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{BootID: "1", Version: "1", TTL: time.Hour})
			must.Do(t, err)
			a := booted(t, s, "a", "2")
			s.FailCommits(fault)
			must.Do(t, a.Report(t.Context(), "a", unwell))
			s.Deliver()
			if u := unwellHosts(t, s); len(u) != 1 || u[0].Version != "1" || u[0].BootID != "2" || record(t, s, "a").Phase != lock.Unwell {
				t.Errorf("fault %d: unwell are %+v", fault, u)
			}
			again := &lock.Record{Hostname: "web-a", BootID: "2", Version: "2", TTL: time.Hour}
			s.FailCommits(fault)
			must.Do(t, a.Report(t.Context(), "a", lock.Report{Phase: lock.Draining, Again: again}))
			s.Deliver()
			if r := record(t, s, "a"); r.Version != "2" || r.TTL != time.Hour || r.Phase != lock.Draining || s.Leases() > 2 {
				t.Errorf("fault %d: the record is %+v; there are %d leases", fault, r, s.Leases())
			}
			s.FailCommits(storetest.CutOff)
			if err := a.Report(t.Context(), "a", unwell); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("fault %d: cut off, the report says %v", fault, err)
			}
			// The one that was cut off must not come after what the host says next.
			s.Break(nil)
			s.Heal()
			must.Do(t, a.Report(t.Context(), "a", lock.Report{Phase: lock.Delaying}))
			s.Deliver()
			if r := record(t, s, "a"); r.Phase != lock.Delaying {
				t.Errorf("fault %d: the record is %+v", fault, r)
			}
		})
	}
}

func TestReportSaysSinceWhenAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withSlots(t, 1)
		since := time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC)
		taken := lock.Record{Hostname: "web-a", BootID: "1", Hardware: "h", Token: "t", Since: since, By: "locksmithd", Version: "1", OSVersion: "0"}
		_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", taken)
		must.Do(t, err)
		a := booted(t, s, "a", "2")
		began := time.Now().UTC()
		for _, r := range []lock.Report{{Phase: lock.Checking}, {Phase: lock.Checking, Why: "20-etcd"}} {
			must.Do(t, a.Report(t.Context(), "a", r))
			want := taken
			want.Phase, want.PhaseSince, want.PhaseWhy = r.Phase, began, r.Why
			if got := record(t, s, "a"); got != want {
				t.Errorf("the record is %+v, want %+v", got, want)
			}
			time.Sleep(time.Minute)
			calls, revision := s.Calls(), read(t, s, defaultKey).ModRevision
			must.Do(t, a.Report(t.Context(), "a", r))
			if n := s.Calls() - calls; n != 2 || read(t, s, defaultKey).ModRevision != revision { // ours, and that of this test
				t.Errorf("the same report again took %d calls, or wrote", n)
			}
		}
		must.Do(t, a.Report(t.Context(), "a", unwell))
		time.Sleep(time.Minute)
		worse := lock.Report{Phase: lock.Unwell, Why: "worse", Pause: true}
		must.Do(t, a.Report(t.Context(), "a", worse))
		if u := unwellHosts(t, s); len(u) != 1 || !u[0].Since.Equal(began.Add(2*time.Minute)) || u[0].Why != "worse" {
			t.Errorf("unwell are %+v", u)
		}
		must.Do(t, a.Report(t.Context(), "a", unwell))
		if got := record(t, s, "a"); !got.PhaseSince.Equal(began.Add(2*time.Minute)) || got.PhaseWhy != `after-reboot: 20-etcd: no quorum\x1b` {
			t.Errorf("the record is %+v", got)
		}
	})
}

func TestReportThatMakesNoSenseIsRefused(t *testing.T) {
	s := withSlots(t, 1)
	lockFor(t.Context(), t, newLock(t, s, ""), "a")
	for _, r := range []lock.Report{
		{}, {Phase: "ill"}, {Phase: lock.Checking, Pause: true}, {Phase: lock.Unwell, Again: &lock.Record{}},
		{Phase: lock.Draining, Again: &lock.Record{TTL: time.Second}},
	} {
		if err := booted(t, s, "a", "1").Report(t.Context(), "a", r); err == nil || errors.Is(err, lock.ErrUnknown) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	var notHeld *lock.NotHeldError
	if err := booted(t, s, "b", "1").Report(t.Context(), "b", unwell); !errors.As(err, &notHeld) {
		t.Errorf("without a slot: %v", err)
	}
	must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
	_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{Hostname: "another", BootID: "1", Hardware: "x"})
	must.Do(t, err)
	clone := newLock(t, s, "")
	clone.Identify(lock.Record{Hostname: "web-a", BootID: "9", Hardware: "y"}, nil)
	var isClone *lock.CloneError
	if err := clone.Report(t.Context(), "a", unwell); !errors.As(err, &isClone) {
		t.Errorf("of a clone: %v", err)
	}
	if k := keysIn(t, s, "unwell/"); len(k) > 0 {
		t.Errorf("there is %v", k)
	}
}

// A slot that was taken without a record, or with one that cannot be understood, stays a slot of an unknown boot.
func TestReportOfASlotWithoutARecord(t *testing.T) {
	for _, document := range []string{"", "\x00", `{"ttl":"1s"}`} {
		s := withSlots(t, 1)
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		if document != "" {
			put(t, s, prefix+"holders/a", document)
		}
		must.Do(t, booted(t, s, "a", "2").Report(t.Context(), "a", unwell))
		r := record(t, s, "a")
		r.PhaseSince = time.Time{}
		if want := (lock.Record{Hostname: "web-a", Phase: lock.Unwell, PhaseWhy: `after-reboot: 20-etcd: no quorum\x1b`}); r != want {
			t.Errorf("with the record %q: %+v", document, r)
		}
	}
}

func TestHostThatIsAliveAndUnwellIsNotRobbedOfItsSlot(t *testing.T) {
	for _, reported := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := withSlots(t, 1)
			_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{BootID: "1", Version: "1", TTL: time.Hour})
			must.Do(t, err)
			b := enter(t, s, "b", lock.Record{Version: "2"})
			if reported {
				must.Do(t, booted(t, s, "a", "2").Report(t.Context(), "a", lock.Report{Phase: lock.Checking}))
			}
			if k := keysIn(t, s, "alive/"); (len(k) == 0) != reported {
				t.Errorf("there is %v", k)
			}
			time.Sleep(24 * time.Hour)
			if b.got(t) == reported {
				t.Errorf("a has said that it is alive: %v, and b has its slot: %v", reported, b.got(t))
			}
			if !reported {
				return
			}
			// It reboots again, and does not come back.
			again := &lock.Record{BootID: "2", Version: "2", TTL: time.Hour}
			must.Do(t, booted(t, s, "a", "2").Report(t.Context(), "a", lock.Report{Phase: lock.Draining, Again: again}))
			time.Sleep(time.Hour - time.Second)
			if b.got(t) {
				t.Error("b has the slot before the time is over")
			}
			time.Sleep(2 * time.Second)
			if !b.got(t) {
				t.Errorf("b waits: %v", b.last())
			}
		})
	}
}

func TestResumeHoldsForTheSameBoot(t *testing.T) {
	s := withSlots(t, 3)
	a := sick(t, s, "1", "a")
	_, err := a.Resume(t.Context())
	must.Do(t, err)
	worse := unwell
	worse.Why = "something else"
	must.Do(t, a.Report(t.Context(), "a", worse))
	_, err = newLock(t, s, "").TryAcquire(t.Context(), "b", lock.Record{Version: "1"})
	must.Do(t, err)
	if r, err := a.Resume(t.Context()); err != nil || len(r.Unwell) > 0 {
		t.Errorf("a second resume: %+v, %v", r, err)
	}
	must.Do(t, booted(t, s, "a", "3").Report(t.Context(), "a", unwell))
	if _, err = newLock(t, s, "").TryAcquire(t.Context(), "c", lock.Record{Version: "1"}); !isPaused(err) {
		t.Errorf("unwell after another boot: %v", err)
	}
}

func TestResumeOfUnknownOutcome(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest, storetest.HoldRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := withSlots(t, 2)
			sick(t, s, "1", "a", "b")
			s.FailCommits(fault)
			r, err := newLock(t, s, "").Resume(t.Context())
			if err != nil || len(r.Unwell) != 2 || r.Unwell[0].ID != "a" || r.Unwell[1].ID != "b" {
				t.Errorf("fault %d: resume returned %+v, %v", fault, r, err)
			}
			s.Deliver()
			for _, u := range unwellHosts(t, s) {
				if !u.Resumed {
					t.Errorf("fault %d: there is %+v", fault, u)
				}
			}
		})
	}
	s := withSlots(t, 1)
	sick(t, s, "1", "a")
	s.FailCommits(storetest.CutOff)
	if _, err := newLock(t, s, "").Resume(t.Context()); !errors.Is(err, lock.ErrUnknown) {
		t.Errorf("cut off, resume returned %v", err)
	}
}

// What becomes of the pause that a host has caused.
func TestPauseOfAVersionEndsOnceItsHostIsWell(t *testing.T) {
	ctx := t.Context()
	for name, test := range map[string]struct {
		then  func(t *testing.T, s *storetest.Memory, a *lock.Lock)
		still string // what TryAcquire for the versions "1", "2" and "" says: p is paused
	}{
		"it stays unwell": {func(*testing.T, *storetest.Memory, *lock.Lock) {}, "p-p"},
		"it says that it is well": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Delaying}))
		}, "---"},
		"it is well and gives its slot back": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.ReleaseWell(ctx, "a"))
		}, "---"},
		"it does not pause any more": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Unwell}))
		}, "---"},
		"its slot is freed by hand": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			must.Do(t, newLock(t, s, "").Release(ctx, "a"))
		}, "p-p"},
		"it frees the slot by hand itself": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Release(ctx, "a"))
		}, "p-p"},
		"an operator frees what the overview shows": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			o, err := a.Overview(ctx)
			must.Do(t, err)
			must.Do(t, a.ReleaseRecord(ctx, o.Holders[0]))
		}, "p-p"},
		"it is resumed": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			_, err := a.Resume(ctx)
			must.Do(t, err)
		}, "---"},
		"it is about to take the fix": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Draining, Again: &lock.Record{BootID: "2", Version: "2"}}))
		}, "p--"},
		"it did not take the fix, and is unwell": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Draining, Again: &lock.Record{BootID: "2", Version: "2"}}))
			must.Do(t, a.Report(ctx, "a", unwell))
		}, "p-p"},
		"it did not take the fix, and is well": {func(t *testing.T, _ *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Draining, Again: &lock.Record{BootID: "2", Version: "2"}}))
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Checking}))
			must.Do(t, a.ReleaseWell(ctx, "a"))
		}, "---"},
		"it is well with the fix": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Draining, Again: &lock.Record{BootID: "2", Version: "2"}}))
			must.Do(t, booted(t, s, "a", "3").ReleaseWell(ctx, "a"))
		}, "p--"},
		"it tries the same version again, and is well": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Draining, Again: &lock.Record{BootID: "2", Version: "1"}}))
			must.Do(t, booted(t, s, "a", "3").ReleaseWell(ctx, "a"))
		}, "---"},
		"it is resumed, and well with the fix": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			must.Do(t, a.Report(ctx, "a", lock.Report{Phase: lock.Draining, Again: &lock.Record{BootID: "2", Version: "2"}}))
			_, err := a.Resume(ctx)
			must.Do(t, err)
			must.Do(t, booted(t, s, "a", "3").ReleaseWell(ctx, "a"))
		}, "---"},
		// It gives back a slot that it took while it was unwell, without a reboot: that says nothing about its health.
		"its next attempt ends without a reboot": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			must.Do(t, newLock(t, s, "").Release(ctx, "a"))
			_, err := a.TryAcquire(ctx, "a", lock.Record{Hostname: "web-a", BootID: "2", Version: "2"})
			must.Do(t, err)
			must.Do(t, a.ReleaseWell(ctx, "a"))
		}, "p-p"},
		"its entry cannot be understood": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			put(t, s, prefix+"unwell/a", "{")
		}, "ppp"},
		"its entry cannot be understood, and it is resumed": {func(t *testing.T, s *storetest.Memory, a *lock.Lock) {
			put(t, s, prefix+"unwell/a", "{")
			_, err := a.Resume(ctx)
			must.Do(t, err)
		}, "---"},
	} {
		t.Run(name, func(t *testing.T) {
			s := withSlots(t, 5)
			a := sick(t, s, "1", "a")
			test.then(t, s, a)
			now := ""
			for i, version := range []string{"1", "2", ""} {
				_, err := newLock(t, s, "").TryAcquire(ctx, string(rune('x'+i)), lock.Record{Version: version})
				switch {
				case err == nil:
					now += "-"
				case isPaused(err) && strings.Contains(err.Error(), "web-a (a)") != (test.still == "ppp"):
					now += "p"
				default:
					t.Error(err)
				}
			}
			if now != test.still {
				t.Errorf("the versions 1, 2 and none are %s, want %s; unwell are %+v", now, test.still, unwellHosts(t, s))
			}
		})
	}
}

// Hosts whose version is not known pause everybody.
func TestUnwellHostWithoutAVersionPausesEverybody(t *testing.T) {
	s := withSlots(t, 3)
	sick(t, s, "", "a")
	for _, version := range []string{"", "1"} {
		if _, err := newLock(t, s, "").TryAcquire(t.Context(), "x", lock.Record{Version: version}); !isPaused(err) || !strings.HasPrefix(err.Error(), "take a slot for x: paused, since host web-a (a) is unwell: ") {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

func TestOverviewShowsUnwellHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withSlots(t, 3)
		var last lock.Overview
		go func() {
			_ = newLock(t, s, "").WatchOverview(t.Context(), func(o lock.Overview, _ error) { last = o })
		}()
		b := sick(t, s, "1", "b", "a")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(last.Unwell) != 2 || last.Unwell[0].ID != "b" || last.Unwell[1].Hostname != "web-a" || last.Pause != nil || last.Holders[0].Record.Phase != lock.Unwell {
			t.Errorf("the overview is %+v", last)
		}
		if p := last.Unwell[0].Pause(); p.String() != `paused for version 1, since host web-b (b) is unwell: after-reboot: 20-etcd: no quorum\x1b` {
			t.Error(p)
		}
		_, err := b.Resume(t.Context())
		must.Do(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(last.Unwell) != 2 || !last.Unwell[1].Resumed {
			t.Errorf("after resume the overview is %+v", last)
		}
		must.Do(t, b.ReleaseWell(t.Context(), "b"))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(last.Unwell) != 1 || len(last.Holders) != 1 {
			t.Errorf("after b is well the overview is %+v", last)
		}
	})
}

// A report that is overtaken leaves no lease behind.
func TestReportThatIsOvertakenLeavesNoLease(t *testing.T) {
	s := withSlots(t, 1)
	sick(t, s, "1", "a")
	hooked := storetest.Before(s, storetest.Writes(prefix+"holders/a"), func() { must.Do(t, newLock(t, s, "").Release(t.Context(), "a")) })
	again := &lock.Record{BootID: "2", Version: "2", TTL: time.Hour}
	var notHeld *lock.NotHeldError
	if err := booted(t, hooked, "a", "2").Report(t.Context(), "a", lock.Report{Phase: lock.Draining, Again: again}); !errors.As(err, &notHeld) || s.Leases() != 0 {
		t.Errorf("the report says %v, and there are %d leases", err, s.Leases())
	}
}
