package processes

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// 0.7 kept it until the window opened, and no other host could reboot.
func TestLockFromBeforeThisBootIsReleasedFirstThoughARebootIsPendingAndTheWindowShut(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		for name, record := range map[string]string{"no record": "", "record of another boot": "another-boot"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				g := newGroup(t, s)
				h := newHost(t, g.conf(shutWindow()))
				g.lock(h.id)
				if record != "" {
					g.record(h.id, record)
				}
				h.Engine.Set(needReboot)
				h.start()
				g.awaitHolders()
				h.awaitStatus("for the reboot window")
				h.wantNoReboot()
				if keys := g.keys(); len(keys) != 1 {
					t.Errorf("left behind: %v", keys)
				}
			})
		}
	})
}

// Another host has the same machine id, and a slot: this one leaves that alone, says
// so, and does not reboot on it. People sort it out.
func TestSlotOfAnotherHostWithTheSameMachineIDIsLeftAlone(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		g.lock(h.id)
		g.recordOf(h.id, "the-original", "its-boot")
		h.Engine.Set(needReboot)
		h.start()
		h.awaitStatus("two hosts have the machine id", "the-original", "run locksmithctl unlock "+h.id)
		h.wantNoReboot()
		g.wantHeldThroughout(h.id)
		g.unlock(h.id)
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// The same with the window open: the slot is given back before a new one is
// taken, for others may have waited for it since before the boot.
func TestLockFromBeforeThisBootIsReleasedBeforeTheNextReboot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	g.lock(h.id)
	h.Engine.Set(needReboot)
	h.start()
	h.awaitReboot()
	g.awaitHolders(h.id)
	h.awaitLog("settling")
	if history := g.seen(); len(history) != 3 || len(history[1].Holders) != 0 {
		t.Errorf("the slot was not given back in between: %v", history)
	}
}

// The daemon was restarted between lock and reboot, and goes on: a slot of this
// very boot is kept if the reboot may go ahead now.
func TestLockTakenDuringThisBootIsKeptForThePendingReboot(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf(openWindow()))
		g.lock(h.id)
		g.record(h.id, h.bootID())
		h.Engine.Set(needReboot)
		h.start()
		h.awaitReboot()
		g.wantHeldThroughout(h.id)
	})
}

// And else it is not.
func TestLockTakenDuringThisBootIsReleasedWhenNoRebootMayGoAhead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status bustest.Status
		window string
	}{
		"nothing pending": {idle, openWindow()},
		"window shut":     {needReboot, shutWindow()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := newHost(t, g.conf(test.window))
			g.lock(h.id)
			g.record(h.id, h.bootID())
			h.Engine.Set(test.status)
			h.start()
			g.awaitHolders()
			h.wantNoReboot()
		})
	}
}

// As 0.7 does (docs/compatibility.md, section 3).
func TestLockTakenByHandWhileStoppedIsReleasedAtStart(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHost(t, g.conf())
		h.awaitIdle()
		h.terminate()
		h.ctl("lock")
		g.awaitHolders(h.id)
		h.start()
		g.awaitHolders()
		h.awaitIdle()
		h.wantNoReboot()
	})
}

// locksmithctl reboot takes a slot and reboots now, whatever the window says; the
// daemon frees it after the boot.
func TestRebootByHandIsFreedByTheDaemonAfterTheBoot(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHost(t, g.conf(shutWindow()))
		h.awaitIdle()
		h.ctl("reboot", "-force")
		h.awaitReboot()
		g.awaitHolders(h.id)
		must.Do(t, h.Halt())
		g.wantHeldThroughout(h.id)
		must.Do(t, h.Boot())
		g.awaitHolders()
	})
}

// A daemon that is killed between lock and reboot goes on where it was.
func TestKilledBetweenLockAndRebootKeepsTheLockAndReboots(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ hold, release func(h *host) error }{
		"while users have their delay": {
			hold:    func(h *host) error { return h.Logind.SetSessions(someUser) },
			release: func(h *host) error { return h.Logind.SetSessions() },
		},
		"while logind hangs": {
			hold: func(h *host) error { h.Logind.Hang("Reboot"); return nil },
			release: func(h *host) error {
				h.Logind.Heal("Reboot")
				must.Eventually(h.t, patience, "the reboot to begin", func() bool { return h.Logind.Shutdown().Type == "reboot" })
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				h := newHost(t, g.conf())
				must.Do(t, test.hold(h))
				h.Engine.Set(needReboot)
				h.start()
				g.awaitHolders(h.id)
				if name == "while logind hangs" {
					h.awaitReboot()
				} else {
					h.awaitStatus("users are logged in")
				}
				h.Daemon().Kill()
				must.Do(t, test.release(h))
				h.start()
				if name == "while logind hangs" { // it has gone on meanwhile
					h.awaitStatus("a slot is held; logind has not answered a call, and may carry it out until")
				} else {
					h.awaitReboot()
				}
				g.wantHeldThroughout(h.id)
				h.reboot()
				g.awaitHolders()
				h.awaitIdle()
			})
		})
	}
}

// And when the update has gone meanwhile, the slot goes too.
func TestKilledBetweenLockAndRebootReleasesWhenTheUpdateIsGone(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	h.Daemon().Kill()
	g.awaitHolders(h.id)
	h.Engine.Set(idle)
	h.start()
	g.awaitHolders()
	h.awaitIdle()
	h.wantNoReboot()
}

// A host that is going down keeps its slot, though the daemon that comes back in
// that time hears of no update: what logind was asked for may be under way.
func TestKilledWhileTheHostGoesDownKeepsTheLock(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHost(t, g.conf())
	h.awaitIdle()
	h.ctl("send-need-reboot")
	h.awaitReboot()
	h.Daemon().Kill()
	h.start()
	h.awaitStatus("a slot is held; logind has not answered a call, and may carry it out until")
	h.terminate()
	g.wantHeldThroughout(h.id)
	must.Do(t, h.Boot())
	g.awaitHolders()
}

// roll reboots a fleet for one update and returns the most hosts that were ever
// down at once. Where together is set, hosts go down only once so many have
// asked to.
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
			return fmt.Errorf("host %s was left behind", h.id)
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
			return fmt.Errorf("host %s was alone in going down", h.id)
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
	g.wantNever("the document contradicts itself", func(s semaphore) bool {
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

// Another client may change the document at any time knowing only section 5 of
// docs/compatibility.md. The host that waits watches, and does not poll.
func TestClientThatKnowsOnlyTheDocumentSharesTheLock(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			s := sharedEtcd(t, v)
			g := newGroup(t, s)
			p := etcdtest.MustRPCProxy(t, s)
			h := startWaiting(t, g, g.confAt(p.Endpoint()))
			calls := p.Calls(etcdtest.Txn) + p.Calls(etcdtest.Range)
			// Changes that do not concern it make it look again, without a question.
			g.setMax(0)
			h.awaitStatus("waiting for a slot", "max is 0")
			g.setMax(1)
			h.awaitStatus("waiting for a slot", "held by other")
			if now := p.Calls(etcdtest.Txn) + p.Calls(etcdtest.Range); now != calls {
				t.Errorf("it made %d requests while it waited", now-calls)
			}
			g.unlock("other")
			h.awaitReboot()
			if g.lock("other") {
				t.Fatal("the other client took the slot as well")
			}
			h.reboot()
			g.awaitHolders()
			if !g.lock("other") {
				t.Fatal("the slot is not free")
			}
		})
	}
}

// LOCKSMITHD_MAX counts for a lock that is new.
func TestNewLockHasTheSlotsThatAreSet(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startPending(t, g.conf("LOCKSMITHD_MAX=3"))
	h.awaitReboot()
	g.awaitHolders(h.id)
	g.wantNever("another number of slots", func(s semaphore) bool { return s.Max != 3 || s.Semaphore != 3-len(s.Holders) })
}

// How an operator stops a fleet.
func TestMaxZeroStopsEverybody(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	h.ctl("set-max", "0")
	h.Engine.Set(needReboot)
	h.start()
	h.awaitStatus("max is 0, so no host may reboot")
	h.wantNoReboot()
	h.ctl("set-max", "1")
	h.awaitReboot()
}

// Somebody unlocks the host while it is about to reboot: it does not go down
// without a slot. It takes up to a minute until the gates are asked again.
func TestSlotTakenAwayBeforeTheRebootIsNoticed(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	g.unlock(h.id)
	g.lock("other")
	must.Do(t, h.Logind.SetSessions())
	h.awaitStatus("waiting for a slot", "held by other")
	h.wantNoReboot()
	g.unlock("other")
	h.awaitReboot()
	g.wantNever("two holders of one slot", func(s semaphore) bool { return len(s.Holders) > 1 })
}
