package slot_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// A host takes a bad update, says that it is unwell, takes the fix with the slot that it has, and is well.
func TestReportsOfAHostThatTakesABadUpdate(t *testing.T) {
	eachStore(t, func(t *testing.T, store slot.Store) {
		h, f := newHost(t, "a", "web-1"), newFleet(t, store)
		h.write("/etc/os-release", "VERSION_ID=1.0")
		s := h.start(store)
		must.Do(t, s.Set(1, time.Hour))
		must.Do(t, s.Acquire(t.Context(), policy.Lock{Version: "2.0", NewOS: true}, quiet))
		must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Draining}))
		if r := f.record("a"); r.Phase != lock.Draining || r.OSVersion != "1.0" || r.TTL != time.Hour {
			t.Errorf("the record is %+v", r)
		}

		h.boot("boot 2")
		h.write("/etc/os-release", "VERSION_ID=2.0")
		s = h.start(store)
		must.Do(t, s.Set(1, time.Hour))
		if found, purpose, err := s.Inspect(t.Context()); found != policy.HeldSinceBefore || purpose.Version != "2.0" || purpose.OSVersion != "1.0" || purpose.Unbooted || !purpose.Taken.Equal(f.record("a").Since) || err != nil {
			t.Errorf("Inspect says %v, %+v, %v", found, purpose, err)
		}
		must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Unwell, Why: "20-etcd: no quorum", Pause: true}))
		o, err := f.Overview(t.Context())
		must.Do(t, err)
		if len(o.Unwell) != 1 || o.Unwell[0].Version != "2.0" || o.Unwell[0].Hostname != "web-1" || o.Holders[0].Record.PhaseWhy != "20-etcd: no quorum" || o.Holders[0].Record.TTL != 0 {
			t.Errorf("the overview is %+v", o)
		}

		must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Leaving, Again: true, Version: "2.1", NewOS: true}))
		r := f.record("a")
		if r.Version != "2.1" || r.OSVersion != "2.0" || r.TTL != time.Hour || r.BootID != "boot 2" || r.Token == "" || r.By != "locksmithd" || r.Phase != lock.Rebooting {
			t.Errorf("the record is %+v", r)
		}
		expectInspect(t, h.start(store), policy.HeldThisBoot)

		h.boot("boot 3")
		s = h.start(store)
		expectInspect(t, s, policy.HeldSinceBefore)
		must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Delaying}))
		must.Do(t, s.Release(t.Context()))
		f.expectHolders()
		var notHeld *lock.NotHeldError
		if err := s.Report(t.Context(), policy.Report{Phase: policy.Checking}); !errors.As(err, &notHeld) {
			t.Errorf("without a slot the report says %v", err)
		}
	})
}

// Without a new version of the operating system there is nothing to compare after the reboot.
func TestRecordHasTheOSVersionOnlyWhereItIsToChange(t *testing.T) {
	store := storetest.NewMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	h.write("/etc/os-release", "VERSION_ID=1.0")
	s := h.start(store)
	must.Do(t, s.Acquire(t.Context(), policy.Lock{}, quiet))
	if r := f.record("a"); r.OSVersion != "" {
		t.Errorf("the record is %+v", r)
	}
	must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Draining, Again: true, Version: "linux 6.1"}))
	if r := f.record("a"); r.OSVersion != "" || r.Version != "linux 6.1" {
		t.Errorf("the record is %+v", r)
	}
}

func TestReleaseOfAWellHostEndsItsPause(t *testing.T) {
	store := storetest.NewMemory()
	h, f := newHost(t, "a", "web-1"), newFleet(t, store)
	must.Do(t, h.start(store).Acquire(t.Context(), policy.Lock{Version: "2.0", NewOS: true}, quiet))
	h.boot("boot 2")
	s := h.start(store)
	must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Unwell, Pause: true}))
	must.Do(t, s.Release(t.Context()))
	_, err := f.TryAcquire(t.Context(), "b", lock.Record{Version: "2.0"})
	must.Do(t, err)
}

func TestWaitForAPausedVersionSaysWhichHostIsUnwell(t *testing.T) {
	store := storetest.NewMemory()
	sick := newHost(t, "a", "web-1")
	must.Do(t, sick.start(store).Acquire(t.Context(), policy.Lock{Version: "1.2.3", NewOS: true}, quiet))
	sick.boot("boot 2")
	must.Do(t, sick.start(store).Report(t.Context(), policy.Report{Phase: policy.Unwell, Why: "20-etcd: no quorum", Pause: true}))

	var log bytes.Buffer
	other := newHost(t, "b", "web-2")
	s, err := slot.New(store, "", other.root, other.thisBoot(), slog.New(slog.NewTextHandler(&log, nil)))
	must.Do(t, err)
	w := wait(t, s)
	const says = "paused for version 1.2.3, since host web-1 (a) is unwell: 20-etcd: no quorum"
	if got := <-w.says; got != says {
		t.Errorf("it waits: %s", got)
	}
	w.stop(nil)
	<-w.ended
	if n := strings.Count(log.String(), says); n != 1 || strings.Contains(log.String(), "waiting for a slot") {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}

// Nothing but a full reboot boots another version of the operating system.
func TestSlotSaysWhetherItsVersionCanHaveBeenBooted(t *testing.T) {
	store := storetest.NewMemory()
	for _, test := range []struct {
		purpose  policy.Lock
		boot     string
		unbooted bool
	}{
		{policy.Lock{Version: "2.0", NewOS: true}, "boot 1+1", true},
		{policy.Lock{Version: "2.0", NewOS: true}, "boot 2", false},
		{policy.Lock{Version: "2.0", NewOS: true}, "boot 2+1", false},
		{policy.Lock{Version: "linux 6.1"}, "boot 1+1", false},
	} {
		h := newHost(t, "a", "web-1")
		h.write("/etc/os-release", "VERSION_ID=1.0")
		h.boot("boot 1")
		must.Do(t, h.start(store).Acquire(t.Context(), test.purpose, quiet))
		h.boot(test.boot)
		s := h.start(store)
		if held, purpose, err := s.Inspect(t.Context()); held != policy.HeldSinceBefore || err != nil || purpose.Unbooted != test.unbooted {
			t.Errorf("%+v: got %v, %+v, %v", test, held, purpose, err)
		}
		must.Do(t, s.Release(t.Context()))
	}
}
