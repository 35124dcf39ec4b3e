package processes

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/race"
	"github.com/locksmithd/locksmith/test/randtest"
)

// LOCKSMITHD_MAX applies to a new lock.
func TestNewLockHasTheConfiguredNumberOfSlots(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startPending(t, g.conf("LOCKSMITHD_MAX=3"))
	h.awaitReboot()
	g.awaitHolders(h.id)
	g.wantNever("another number of slots", func(s semaphore) bool { return s.Max != 3 || s.Semaphore != 3-len(s.Holders) })
}

// Max 0 is how an operator stops a fleet.
func TestMaxZeroStopsEverybody(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	h.ctl("set-max", "0")
	h.startPending()
	h.awaitStatus("max is 0, so no host may reboot")
	h.wantNoReboot()
	h.ctl("set-max", "1")
	h.awaitReboot()
}

// wantTimeToLive checks the time-to-live that a host's slot was taken with.
func (g *group) wantTimeToLive(id, want string) {
	g.t.Helper()
	response, err := g.client.Get(g.t.Context(), g.prefix+"/holders/"+id)
	must.Do(g.t, err)
	if len(response.Kvs) != 1 || !strings.Contains(string(response.Kvs[0].Value), `"ttl":"`+want+`"`) {
		g.t.Errorf("the record is %v, want the time-to-live %s", response.Kvs, want)
	}
}

// Neither setting changes which lock the host uses: one is the number of slots of a lock yet to be created, the
// other the time-to-live of the next slot.
func TestReloadOfMaxAndTimeToLiveKeepsThePlaceInTheQueue(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	fleet := enqueueBehindOther(t, g, 3)
	first, second, third := fleet[0], fleet[1], fleet[2]
	first.reload(g.conf("LOCKSMITHD_MAX=5", "LOCKSMITHD_LOCK_TTL=2h"))
	first.awaitLog("the new configuration is in force")
	second.reload(g.conf("LOCKSMITHD_LOCK_TTL=3h"))
	second.awaitLog("the new configuration is in force")
	first.awaitStatus("first in the queue")
	second.awaitStatus("in the queue behind " + first.id)
	third.awaitStatus("in the queue behind " + second.id)
	g.unlock("other")
	first.awaitReboot()
	g.wantTimeToLive(first.id, "2h0m0s")
	first.reload(g.conf()) // the holder keeps its slot, with the time-to-live that it was taken with
	first.reboot()
	second.awaitReboot()
	g.wantTimeToLive(second.id, "3h0m0s")
	third.wantNoReboot()
	g.wantOrder("other", first.id, second.id)
}

func TestMaxRaisedAndLoweredWhileHostsWait(t *testing.T) {
	t.Parallel()
	for name, setMax := range map[string]func(g *group, h *host, max string){
		"by locksmithctl": func(_ *group, h *host, max string) { h.ctl("set-max", max) },
		"by a client that knows only the document": func(g *group, _ *host, max string) {
			g.setMax(int(max[0] - '0'))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			fleet := enqueueBehindOther(t, g, 3)
			first, second, third := fleet[0], fleet[1], fleet[2]
			setMax(g, third, "3")
			first.awaitReboot()
			second.awaitReboot()
			g.awaitHolders("other", first.id, second.id)
			third.awaitStatus("first in the queue", "max is 3")
			setMax(g, third, "1")
			third.awaitStatus("first in the queue", "max is 1")
			// Three hosts hold the one slot, then two, then one: no slot is free.
			first.reboot()
			g.awaitHolders("other", second.id)
			third.awaitStatus("max is 1, held by "+second.id, ", other")
			second.reboot()
			g.awaitHolders("other")
			third.awaitStatus("max is 1, held by other")
			third.wantNoReboot()
			g.unlock("other")
			third.awaitReboot()
			third.reboot()
			g.wantEmpty()
			g.wantNever("a slot above max", func(s semaphore) bool {
				return slices.Contains(s.Holders, third.id) && (s.Max != 1 || severalHolders(s))
			})
			g.wantNever("the document is inconsistent", func(s semaphore) bool {
				return s.Semaphore != s.Max-len(s.Holders)
			})
		})
	}
}

// An operator changes max all the time while a fleet takes its updates. A host takes a slot only if one is free by
// the max of that moment, and every host reboots.
func TestMaxRaisedAndLoweredAtRandomWhileAFleetReboots(t *testing.T) {
	t.Parallel()
	n, updates := 12, 2
	if race.Enabled {
		n, updates = 6, 1 // the programs take many times as much memory
	}
	random := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	g.lock("other") // until all hosts wait
	var fleet []*host
	for range n {
		fleet = append(fleet, startPending(t, g.conf()))
	}
	g.awaitQueue(len(fleet))
	g.unlock("other")
	reboots := map[string]int{}
	slots, left := 1, updates*n
	for deadline := time.Now().Add(patience); left > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d reboots are missing; so far: %v", left, reboots)
		}
		slots = 1 + (slots+random.IntN(3))%4 // a different one of 1 to 4
		fleet[random.IntN(len(fleet))].ctl("set-max", strconv.Itoa(slots))
		for _, h := range fleet {
			if len(h.Logind.Reboots()) == 0 {
				continue
			}
			h.awaitReboot()
			h.reboot()
			left--
			if reboots[h.id]++; reboots[h.id] < updates {
				h.announce()
			}
			break // max changes before each reboot
		}
	}
	for _, h := range fleet {
		h.awaitIdle()
		h.wantNoReboot()
	}
	g.wantEmpty()
	raised, lowered, taken := 0, 0, map[string]int{}
	before := semaphore{Max: 1}
	for _, s := range g.seen() {
		for _, id := range s.Holders {
			if !slices.Contains(before.Holders, id) {
				taken[id]++
				if len(s.Holders) > min(before.Max, s.Max) {
					t.Errorf("%s took a slot that was not free: %v became %v", id, before, s)
				}
			}
		}
		if s.Semaphore != s.Max-len(s.Holders) {
			t.Errorf("the document is inconsistent: %v", s)
		}
		if s.Max > before.Max {
			raised++
		}
		if s.Max < before.Max {
			lowered++
		}
		before = s
	}
	for id, times := range reboots {
		if taken[id] < times {
			t.Errorf("host %s took a slot %d times and rebooted %d times", id, taken[id], times)
		}
	}
	if t.Logf("max was raised %d times and lowered %d times", raised, lowered); raised == 0 || lowered == 0 {
		t.Error("max was not both raised and lowered")
	}
}
