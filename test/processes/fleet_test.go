package processes

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// roll reboots a fleet for one update and returns how many hosts were down at once at most. If together is not 0,
// hosts go down only when so many have asked to.
func roll(t *testing.T, s *etcdtest.Server, n, slots, together int) int {
	t.Helper()
	g := newGroup(t, s)
	if slots != 1 {
		g.put(fmt.Sprintf(`{"semaphore":%d,"max":%[1]d,"holders":[]}`, slots))
	}
	var fleet []*host
	for range n {
		fleet = append(fleet, startHost(t, g.conf()))
	}
	for _, h := range fleet {
		h.awaitIdle()
	}
	var (
		mu         sync.Mutex
		down, most int
		asked      int
		enough     = make(chan struct{})
	)
	goDown := func(h *host) error {
		deadline := time.After(patience)
		select {
		case <-h.Logind.Reboots():
		case <-deadline:
			return fmt.Errorf("host %s did not reboot", h.id)
		}
		mu.Lock()
		down++
		most = max(most, down)
		if asked++; asked == together || together == 0 && asked == 1 {
			close(enough)
		}
		mu.Unlock()
		select {
		case <-enough:
		case <-deadline:
			return fmt.Errorf("host %s asked to go down, but too few others did", h.id)
		}
		if err := h.Halt(); err != nil {
			return err
		}
		mu.Lock()
		down--
		mu.Unlock()
		return h.Boot()
	}
	results := make(chan error, n)
	for _, h := range fleet {
		go func() { results <- goDown(h) }()
	}
	for _, h := range fleet {
		h.announce()
	}
	for range fleet {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	g.awaitHolders()
	for _, h := range fleet {
		h.awaitIdle()
		h.wantNoReboot()
		if !slices.ContainsFunc(g.seen(), holds(h.id)) {
			t.Errorf("host %s rebooted without a slot", h.id)
		}
	}
	g.wantNever("more holders than slots", func(s semaphore) bool { return len(s.Holders) > slots })
	g.wantNever("the document is inconsistent", func(s semaphore) bool {
		return s.Max != slots || s.Semaphore != slots-len(s.Holders)
	})
	return most
}

func TestThreeHostsWithOneSlotRebootOneAtATime(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		if most := roll(t, s, 3, 1, 0); most != 1 {
			t.Errorf("%d hosts were down at once", most)
		}
	})
}

func TestThreeHostsWithThreeSlotsRebootTogether(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) { roll(t, s, 3, 3, 3) })
}

func TestFiveHostsWithTwoSlotsRebootInPairs(t *testing.T) {
	t.Parallel()
	if most := roll(t, sharedEtcd(t, etcdtest.Newest), 5, 2, 0); most > 2 {
		t.Errorf("%d hosts were down at once", most)
	}
}
