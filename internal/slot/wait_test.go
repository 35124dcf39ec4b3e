package slot_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestWaitSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		f := newFleet(t, store)
		must.Do(t, newHost(t, "a", "web-1").start(store).Acquire(t.Context(), policy.Lock{}, quiet))
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
		store := storetest.NewMemory()
		f := newFleet(t, store)
		must.Do(t, newHost(t, "a", "web-1").start(store).Acquire(t.Context(), policy.Lock{}, quiet))
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
		must.Do(t, newHost(t, "a", "web-1").start(store).Acquire(t.Context(), policy.Lock{}, quiet))
		s := newHost(t, "b", "web-2").start(store)
		must.Do(t, s.Set(1, time.Hour))
		b := wait(t, s)
		must.Receive(t, patience, "what it waits for", b.says)
		c := wait(t, newHost(t, "c", "web-3").start(store))
		must.Receive(t, patience, "what it waits for", c.says)
		f.expectQueue("b", "c")

		must.Do(t, s.Set(1, time.Hour)) // as before
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

func TestWhoFreesAnExpiredSlotIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		gone := newHost(t, "a", "web-1").start(store)
		must.Do(t, gone.Set(1, time.Hour))
		must.Do(t, gone.Acquire(t.Context(), policy.Lock{Version: "2.0"}, quiet))
		s := newHost(t, "b", "web-2").start(store)
		var told []string
		s.Freed = func(holder, version string) { told = append(told, holder+" "+version) }
		must.Do(t, s.Acquire(t.Context(), policy.Lock{Version: "2.0"}, quiet))
		if !slices.Equal(told, []string{"web-1 2.0"}) {
			t.Errorf("told was %q", told)
		}
	})
}
