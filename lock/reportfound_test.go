package lock_test

import (
	"errors"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// A report goes on from what the host has found, so that each costs one call.
func TestReportsAfterALookCostACallEach(t *testing.T) {
	s := storetest.NewMemory()
	_, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{Hostname: "web-a", BootID: "1", Version: "1"})
	must.Do(t, err)
	l, before := booted(t, s, "a", "2"), s.Calls()
	held, _, err := l.Holder(t.Context(), "a")
	if err != nil || !held {
		t.Fatal(held, err)
	}
	must.Do(t, l.Report(t.Context(), "a", lock.Report{Phase: lock.Checking}))
	must.Do(t, l.Report(t.Context(), "a", unwell))
	must.Do(t, l.Report(t.Context(), "a", lock.Report{Phase: lock.Delaying}))
	must.Do(t, l.ReleaseWell(t.Context(), "a"))
	if n := s.Calls() - before; n != 5 {
		t.Errorf("it took %d calls", n)
	}
	if hosts, u := holdersIn(t, s), unwellHosts(t, s); len(hosts) != 0 || len(u) != 0 {
		t.Errorf("in the end there are %v, %v", hosts, u)
	}
}

// What it has found may be outdated.
func TestReportLearnsWhatHasHappenedSinceTheLook(t *testing.T) {
	again := lock.Report{Phase: lock.Unwell, Why: "still no quorum", Pause: true}
	for name, c := range map[string]struct {
		since   func(t *testing.T, s lock.Store)
		report  lock.Report
		held    bool
		resumed bool
	}{
		"resumed": {func(t *testing.T, s lock.Store) {
			_, err := newLock(t, s, "").Resume(t.Context())
			must.Do(t, err)
		}, again, true, true},
		"freed by hand": {func(t *testing.T, s lock.Store) { must.Do(t, newLock(t, s, "").Release(t.Context(), "a")) }, again, false, false},
		"freed by hand, and nothing new to report": {func(t *testing.T, s lock.Store) {
			must.Do(t, newLock(t, s, "").Release(t.Context(), "a"))
		}, unwell, false, false},
		"another max": {func(t *testing.T, s lock.Store) {
			_, _, err := newLock(t, s, "").SetMax(t.Context(), 7)
			must.Do(t, err)
		}, again, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := withSlots(t, 2)
			a := sick(t, s, "1", "a")
			_, _, err := a.Holder(t.Context(), "a")
			must.Do(t, err)
			c.since(t, s)
			err = a.Report(t.Context(), "a", c.report)
			if _, notHeld := errors.AsType[*lock.NotHeldError](err); err != nil != !c.held || notHeld == c.held {
				t.Errorf("the report ended with %v", err)
			}
			if u := unwellHosts(t, s); len(u) != 1 || u[0].Resumed != c.resumed {
				t.Errorf("the unwell hosts are %+v", u)
			}
			if r := record(t, s, "a"); c.held && r.PhaseWhy != c.report.Why {
				t.Errorf("the record says %q", r.PhaseWhy)
			}
			if now, err := newLock(t, s, "").Status(t.Context()); err != nil || name == "another max" && now.Max != 7 {
				t.Errorf("the semaphore is %+v, %v", now, err)
			}
		})
	}
}
