package slot_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestInspectSaysInWhichBootTheSlotWasTaken(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		s := h.start(store)
		expectInspect(t, s, policy.NotHeld)
		must.Do(t, s.Acquire(t.Context(), policy.Lock{}, quiet))
		expectInspect(t, s, policy.HeldThisBoot)
		expectInspect(t, h.start(store), policy.HeldThisBoot)
		h.boot("boot 2")
		s = h.start(store)
		expectInspect(t, s, policy.HeldSinceBefore)
		must.Do(t, s.Release(t.Context()))
		expectInspect(t, s, policy.NotHeld)
		_, err := f.TryAcquire(t.Context(), "a", lock.Record{})
		must.Do(t, err)
		expectInspect(t, s, policy.HeldUnrecorded)
	})
}

// A slot of an earlier boot counts as still held, like one that an operator took for this host.
func TestStillHeldComparesNoBootsAndWritesNothing(t *testing.T) {
	store := storetest.NewMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	f.expectHolders()
	revision := func() int64 {
		snap, err := store.Get(t.Context())
		must.Do(t, err)
		return snap.Revision
	}
	s := h.start(store)
	before := revision()
	expectStillHeld(t, s, false)
	if after := revision(); after != before {
		t.Errorf("StillHeld has written: revision %d after %d", after, before)
	}
	for _, record := range []lock.Record{{}, {BootID: "boot 0"}} {
		_, err := f.TryAcquire(t.Context(), "a", record)
		must.Do(t, err)
		expectStillHeld(t, s, true)
		must.Do(t, f.Release(t.Context(), "a"))
		expectStillHeld(t, s, false)
	}
}

func TestRecordSaysWhoHasTakenTheSlot(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		h, f := newHost(t, "a", "localhost"), newFleet(t, store)
		s := h.start(store)
		must.Do(t, s.Set(1, time.Hour))
		h.rename("web-1") // as the network says it only now
		begin := time.Now().Truncate(time.Second)
		must.Do(t, s.Acquire(t.Context(), policy.Lock{Version: "1.2.3", NewOS: true, Reason: "libc6"}, quiet))
		r := f.record("a")
		token, err := os.ReadFile(filepath.Join(h.root, "/var/lib/locksmith/token"))
		must.Do(t, err)
		if r.Token == "" || !strings.HasPrefix(string(token), r.Token) || r.Since.Before(begin) {
			t.Errorf("the record is %+v with the tokens %q on the disk, begun at %v", r, token, begin)
		}
		r.Token, r.Since = "", time.Time{}
		if want := (lock.Record{Hostname: "web-1", BootID: "boot 1 of localhost", By: "locksmithd", Version: "1.2.3", Reason: "libc6", TTL: time.Hour}); r != want {
			t.Errorf("the record is %+v, want %+v", r, want)
		}
		must.Do(t, s.Release(t.Context()))
		f.expectHolders()
		must.Do(t, s.Release(t.Context())) // without a slot
	})
}

func TestGroupsHaveSlotsOfTheirOwn(t *testing.T) {
	store := storetest.NewMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	must.Do(t, h.startIn("db", store).Acquire(t.Context(), policy.Lock{}, quiet))
	f.expectHolders()
	db, err := lock.New(store, "db", 1)
	must.Do(t, err)
	fleet{t, db}.expectHolders("a")
}

func TestNewMaxCountsForALockThatIsCreatedLater(t *testing.T) {
	store := storetest.NewMemory()
	s := newHost(t, "a", "web-1").start(store)
	if err := s.Set(-1, 0); err == nil {
		t.Error("max -1 is accepted")
	}
	must.Do(t, s.Set(3, 0))
	must.Do(t, s.Acquire(t.Context(), policy.Lock{}, quiet))
	o, err := newFleet(t, store).Status(t.Context())
	if must.Do(t, err); o.Max != 3 {
		t.Errorf("the lock has max %d", o.Max)
	}
}

func TestSlotOfACloneIsLeftAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		f := newFleet(t, store)
		original, clone := newHost(t, "a", "web-1"), newHost(t, "a", "web-2")
		must.Do(t, original.start(store).Acquire(t.Context(), policy.Lock{}, quiet))
		s := clone.start(store)
		for what, call := range map[string]func() error{
			"Inspect":   func() error { _, _, err := s.Inspect(t.Context()); return err },
			"StillHeld": func() error { _, err := s.StillHeld(t.Context()); return err },
			"Acquire":   func() error { return s.Acquire(t.Context(), policy.Lock{}, quiet) },
			"Release":   func() error { return s.Release(t.Context()) },
		} {
			var clone *lock.CloneError
			if err := call(); !errors.As(err, &clone) || clone.Other.Hostname != "web-1" || errors.Is(err, daemon.ErrUnknown) {
				t.Errorf("%s says %v", what, err)
			}
		}
		f.expectHolders("a")
		expectStillHeld(t, original.start(store), true)
	})
}

func TestHostRenamedByItsRebootKeepsItsSlot(t *testing.T) {
	store := storetest.NewMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	must.Do(t, h.start(store).Acquire(t.Context(), policy.Lock{}, quiet))
	h.boot("boot 2")
	s := h.start(store)
	h.rename("web-9") // while the process runs
	expectInspect(t, s, policy.HeldSinceBefore)
	must.Do(t, s.Release(t.Context()))
	f.expectHolders()
}

func TestReadOnlyDiskCostsOnlyTheToken(t *testing.T) {
	store := storetest.NewMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	h.write("/var/lib/locksmith", "a file in the place of the folder")
	must.Do(t, h.start(store).Acquire(t.Context(), policy.Lock{}, quiet))
	if r := f.record("a"); r.Token != "" {
		t.Errorf("the record has the token %q", r.Token)
	}
}

func TestSlotOfAHostWithoutAnIDIsRefused(t *testing.T) {
	h := newHost(t, "a", "web-1")
	h.write("/etc/machine-id", "")
	if s, err := slot.New(storetest.NewMemory(), "", h.root, h.thisBoot(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("without a machine id it is %v, %v", s, err)
	}
	h = newHost(t, "a", "web-1")
	if s, err := slot.New(storetest.NewMemory(), "..", h.root, h.thisBoot(), slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("in the group .. it is %v", s)
	}
}

func TestConnectionLastsAsLongAsACall(t *testing.T) {
	p := etcdtest.MustProxy(t, etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{}))
	store := newEtcd(t, p.Endpoint())
	s := newHost(t, "a", "web-1").start(store)
	for what, call := range map[string]func() error{
		"Inspect":   func() error { _, _, err := s.Inspect(t.Context()); return err },
		"StillHeld": func() error { _, err := s.StillHeld(t.Context()); return err },
		"Acquire":   func() error { return s.Acquire(t.Context(), policy.Lock{}, quiet) },
		"Release":   func() error { return s.Release(t.Context()) },
	} {
		before := p.Accepted()
		must.Do(t, call())
		if p.Accepted() == before {
			t.Errorf("%s has used another call's connection", what)
		}
		must.Eventually(t, patience, "the end of the connection of "+what, func() bool { return p.Connections() == 0 })
	}
}
