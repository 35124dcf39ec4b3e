package slot_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// memory is a store in memory, which has no connection.
type memory struct{ *storetest.Memory }

func newMemory() memory { return memory{storetest.NewMemory()} }

func (memory) Close() error { return nil }

// host is a simulated host, as its files show it.
type host struct {
	t    testing.TB
	root string
}

// newHost returns a host in its first boot.
func newHost(t testing.TB, machineID, name string) host {
	h := host{t, t.TempDir()}
	h.write("/etc/machine-id", machineID)
	h.rename(name)
	h.boot("boot 1 of " + name)
	return h
}

func (h host) write(path, content string) {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(content+"\n"), 0o600))
}

func (h host) rename(name string) { h.write("/proc/sys/kernel/hostname", name) }
func (h host) boot(id string)     { h.write("/proc/sys/kernel/random/boot_id", id) }

// start returns the slot of a new process on the host.
func (h host) start(store slot.Store) *slot.Slot { return h.startIn("", store) }

func (h host) startIn(group string, store slot.Store) *slot.Slot {
	h.t.Helper()
	s, err := slot.New(store, group, h.root, slog.New(slog.DiscardHandler))
	must.Do(h.t, err)
	s.Owner = "the token of a process"
	return s
}

// fleet is the lock as an operator sees it.
type fleet struct {
	t testing.TB
	*lock.Lock
}

func newFleet(t testing.TB, store lock.Store) fleet {
	l, err := lock.New(store, "", 1)
	must.Do(t, err)
	return fleet{t, l}
}

func (f fleet) record(id string) lock.Record {
	f.t.Helper()
	held, record, err := f.Holder(f.t.Context(), id)
	if !held || err != nil {
		f.t.Fatalf("%s holds a slot: %v, %v", id, held, err)
	}
	return record
}

func (f fleet) expectHolders(want ...string) {
	f.t.Helper()
	s, err := f.Status(f.t.Context())
	if must.Do(f.t, err); !slices.Equal(s.Holders, want) {
		f.t.Errorf("the slots are held by %q, want %q", s.Holders, want)
	}
}

func (f fleet) expectQueue(want ...string) {
	f.t.Helper()
	o, err := f.Overview(f.t.Context())
	must.Do(f.t, err)
	var ids []string
	for _, w := range o.Queue {
		ids = append(ids, w.ID)
	}
	if !slices.Equal(ids, want) {
		f.t.Errorf("in the queue are %q, want %q", ids, want)
	}
}

func quiet(string) {}

func expectInspect(t testing.TB, s *slot.Slot, want policy.Holding) {
	t.Helper()
	if got, err := s.Inspect(t.Context()); got != want || err != nil {
		t.Errorf("Inspect says %v, %v, want %v", got, err, want)
	}
}

func expectStillHeld(t testing.TB, s *slot.Slot, want bool) {
	t.Helper()
	if got, err := s.StillHeld(t.Context()); got != want || err != nil {
		t.Errorf("StillHeld says %v, %v, want %v", got, err, want)
	}
}

// waiting is an Acquire that goes on.
type waiting struct {
	stop  context.CancelCauseFunc
	says  chan string // what it waits for
	ended chan error
}

func wait(t testing.TB, s *slot.Slot) waiting {
	ctx, cancel := context.WithCancelCause(t.Context())
	w := waiting{cancel, make(chan string, 100), make(chan error, 1)}
	go func() { w.ended <- s.Acquire(ctx, "1.2.3", func(by string) { w.says <- by }) }()
	return w
}

func TestInspectSaysInWhichBootTheSlotWasTaken(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		s := h.start(store)
		expectInspect(t, s, policy.NotHeld)
		must.Do(t, s.Acquire(t.Context(), "", quiet))
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

// A slot that is still held may be one that was taken in an earlier boot: it makes no difference, as it does not
// for one that an operator has taken for this host.
func TestStillHeldComparesNoBootsAndWritesNothing(t *testing.T) {
	store := newMemory()
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
		must.Do(t, s.Acquire(t.Context(), "1.2.3", quiet))
		r := f.record("a")
		token, err := os.ReadFile(filepath.Join(h.root, "/var/lib/locksmith/token"))
		must.Do(t, err)
		if r.Token == "" || !strings.HasPrefix(string(token), r.Token) || r.Since.Before(begin) {
			t.Errorf("the record is %+v with the tokens %q on the disk, begun at %v", r, token, begin)
		}
		r.Token, r.Since = "", time.Time{}
		if want := (lock.Record{Hostname: "web-1", BootID: "boot 1 of localhost", By: "locksmithd", Version: "1.2.3", TTL: time.Hour}); r != want {
			t.Errorf("the record is %+v, want %+v", r, want)
		}
		must.Do(t, s.Release(t.Context()))
		f.expectHolders()
		must.Do(t, s.Release(t.Context())) // of none
	})
}

func TestGroupsHaveSlotsOfTheirOwn(t *testing.T) {
	store := newMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	must.Do(t, h.startIn("db", store).Acquire(t.Context(), "", quiet))
	f.expectHolders()
	db, err := lock.New(store, "db", 1)
	must.Do(t, err)
	fleet{t, db}.expectHolders("a")
}

func TestWaitSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		f := newFleet(t, store)
		must.Do(t, newHost(t, "a", "web-1").start(store).Acquire(t.Context(), "", quiet))
		w := wait(t, newHost(t, "b", "web-2").start(store))
		synctest.Wait()
		if by := <-w.says; !strings.Contains(by, "held by a (web-1)") {
			t.Errorf("it waits for %q", by)
		}
		for len(w.says) > 0 {
			<-w.says
		}
		store.Break(storetest.ErrFault)
		time.Sleep(time.Minute)
		if by := <-w.says; !strings.Contains(by, storetest.ErrFault.Error()) {
			t.Errorf("without a store it waits for %q", by)
		}
		store.Break(nil)
		time.Sleep(time.Minute)
		must.Do(t, f.Release(t.Context(), "a"))
		must.Do(t, must.Receive(t, patience, "the end", w.ended))
		f.expectHolders("b")
	})
}

func TestPlaceInTheQueueIsKeptForTheNextProcessOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		f := newFleet(t, store)
		must.Do(t, newHost(t, "a", "web-1").start(store).Acquire(t.Context(), "", quiet))
		hostB, hostC := newHost(t, "b", "web-2"), newHost(t, "c", "web-3")
		b := wait(t, hostB.start(store))
		synctest.Wait()
		c := wait(t, hostC.start(store))
		synctest.Wait()
		f.expectQueue("b", "c")

		b.stop(daemon.ErrKeepPlace)
		if err := must.Receive(t, patience, "the end", b.ended); err == nil || errors.Is(err, daemon.ErrUnknown) {
			t.Errorf("stopped, it ends with %v", err)
		}
		f.expectQueue("b", "c")
		b = wait(t, hostB.start(store))
		synctest.Wait()
		f.expectQueue("b", "c")

		b.stop(nil)
		if err := must.Receive(t, patience, "the end", b.ended); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled, it ends with %v", err)
		}
		f.expectQueue("c")
		must.Do(t, f.Release(t.Context(), "a"))
		must.Do(t, must.Receive(t, patience, "the end", c.ended))
	})
}

func TestNewTimeToLiveKeepsThePlaceInTheQueue(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		f := newFleet(t, store)
		must.Do(t, newHost(t, "a", "web-1").start(store).Acquire(t.Context(), "", quiet))
		s := newHost(t, "b", "web-2").start(store)
		must.Do(t, s.Set(1, time.Hour))
		b := wait(t, s)
		must.Receive(t, patience, "what it waits for", b.says)
		c := wait(t, newHost(t, "c", "web-3").start(store))
		must.Receive(t, patience, "what it waits for", c.says)
		f.expectQueue("b", "c")

		must.Do(t, s.Set(1, time.Hour)) // which is what it was
		must.Do(t, s.Set(1, 2*time.Hour))
		must.Do(t, s.Set(1, 3*time.Hour))
		for by := ""; !strings.Contains(by, "held by a (web-1)"); by = must.Receive(t, patience, "what it waits for", b.says) {
		}
		f.expectQueue("b", "c")
		must.Do(t, f.Release(t.Context(), "a"))
		must.Do(t, must.Receive(t, patience, "the end", b.ended))
		if ttl := f.record("b").TTL; ttl != 3*time.Hour {
			t.Errorf("the slot has a time-to-live of %v", ttl)
		}
		must.Do(t, s.Set(1, time.Hour)) // with no wait
		c.stop(nil)
		if err := must.Receive(t, patience, "the end", c.ended); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled, it ends with %v", err)
		}
	})
}

func TestNewMaxIsThatOfALockWhichIsCreated(t *testing.T) {
	store := newMemory()
	s := newHost(t, "a", "web-1").start(store)
	if err := s.Set(-1, 0); err == nil {
		t.Error("max -1 is taken")
	}
	must.Do(t, s.Set(3, 0))
	must.Do(t, s.Acquire(t.Context(), "", quiet))
	o, err := newFleet(t, store).Status(t.Context())
	if must.Do(t, err); o.Max != 3 {
		t.Errorf("the lock has max %d", o.Max)
	}
}

// What a process has sent, whose end nobody saw, must not happen after the next process was told what is held.
func TestWhatAnEarlierProcessSentCannotHappenAfterInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		f.expectHolders()
		store.FailCommits(storetest.HoldRequest) // of the entry in the queue, or of the slot
		ctx, kill := context.WithTimeout(t.Context(), time.Millisecond)
		defer kill()
		if err := h.start(store).Acquire(ctx, "", quiet); err == nil {
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
		store := newMemory()
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		f.expectHolders()
		store.FailCommits(storetest.HoldRequest)
		ctx, kill := context.WithTimeout(t.Context(), time.Millisecond)
		defer kill()
		if err := h.start(store).Acquire(ctx, "", quiet); err == nil {
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
			"Inspect": func(ctx context.Context, s *slot.Slot) error { _, err := s.Inspect(ctx); return err },
			"Acquire": func(ctx context.Context, s *slot.Slot) error { return s.Acquire(ctx, "", quiet) },
			"Release": func(ctx context.Context, s *slot.Slot) error { return s.Release(ctx) },
		} {
			store := newMemory()
			h, f := newHost(t, "a", "web-1"), newFleet(t, store)
			f.expectHolders()
			s := h.start(store)
			if what == "Release" {
				must.Do(t, s.Acquire(t.Context(), "", quiet))
			}
			store.FailCommits(storetest.CutOff)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := call(ctx, s); !errors.Is(err, daemon.ErrUnknown) || !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("%s: the error of a change that may still happen is %v", what, err)
			}
			cancel()
			store.Break(nil)
			if _, err := s.StillHeld(t.Context()); !errors.Is(err, daemon.ErrUnknown) {
				t.Errorf("%s: while it may still happen, StillHeld says %v", what, err)
			}
			store.Deliver()
			expectStillHeld(t, s, what == "Acquire")
		}
	})
}

func TestRefusalIsNotAnUnknownOutcome(t *testing.T) {
	store := newMemory()
	newFleet(t, store).expectHolders()
	store.FailCommits(storetest.Refuse)
	err := newHost(t, "a", "web-1").start(store).Acquire(t.Context(), "", quiet)
	if !errors.Is(err, lock.ErrRefused) || errors.Is(err, daemon.ErrUnknown) {
		t.Errorf("refused, it ends with %v", err)
	}
}

func TestSlotOfACloneIsLeftAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		f := newFleet(t, store)
		original, clone := newHost(t, "a", "web-1"), newHost(t, "a", "web-2")
		must.Do(t, original.start(store).Acquire(t.Context(), "", quiet))
		s := clone.start(store)
		for what, call := range map[string]func() error{
			"Inspect":   func() error { _, err := s.Inspect(t.Context()); return err },
			"StillHeld": func() error { _, err := s.StillHeld(t.Context()); return err },
			"Acquire":   func() error { return s.Acquire(t.Context(), "", quiet) },
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

func TestHostThatItsRebootRenamedHasItsSlot(t *testing.T) {
	store := newMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	must.Do(t, h.start(store).Acquire(t.Context(), "", quiet))
	h.boot("boot 2")
	s := h.start(store)
	h.rename("web-9") // while the process runs
	expectInspect(t, s, policy.HeldSinceBefore)
	must.Do(t, s.Release(t.Context()))
	f.expectHolders()
}

func TestDiskThatIsReadOnlyCostsTheTokenOnly(t *testing.T) {
	store := newMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	h.write("/var/lib/locksmith", "a file in the place of the folder")
	must.Do(t, h.start(store).Acquire(t.Context(), "", quiet))
	if r := f.record("a"); r.Token != "" {
		t.Errorf("the record has the token %q", r.Token)
	}
}

func TestHostThatDoesNotKnowItselfHasNoSlot(t *testing.T) {
	for _, file := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id"} {
		h := newHost(t, "a", "web-1")
		h.write(file, "")
		if s, err := slot.New(newMemory(), "", h.root, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("without %s it is %v, %v", file, s, err)
		}
	}
	h := newHost(t, "a", "web-1")
	if s, err := slot.New(newMemory(), "..", h.root, slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("in the group .. it is %v", s)
	}
}

func TestConnectionLastsAsLongAsACall(t *testing.T) {
	p := etcdtest.MustProxy(t, etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{}))
	store := newEtcd(t, p.Endpoint())
	s := newHost(t, "a", "web-1").start(store)
	for what, call := range map[string]func() error{
		"Inspect":   func() error { _, err := s.Inspect(t.Context()); return err },
		"StillHeld": func() error { _, err := s.StillHeld(t.Context()); return err },
		"Acquire":   func() error { return s.Acquire(t.Context(), "", quiet) },
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
