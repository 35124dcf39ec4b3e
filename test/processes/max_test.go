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
	"github.com/locksmithd/locksmith/test/randtest"
)

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

// wantTimeToLive checks what the slot of a host was taken with.
func (g *group) wantTimeToLive(id, want string) {
	g.t.Helper()
	response, err := g.client.Get(g.t.Context(), g.prefix+"/holders/"+id)
	must.Do(g.t, err)
	if len(response.Kvs) != 1 || !strings.Contains(string(response.Kvs[0].Value), `"ttl":"`+want+`"`) {
		g.t.Errorf("the record is %v, want the time-to-live %s", response.Kvs, want)
	}
}

// Neither the number of slots of a lock that is yet to be created nor the time-to-live of the next slot is another lock.
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
	first.reload(g.conf()) // of one that holds a slot: it keeps that, and what it was taken with
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
			// Three hold the one slot, then two, then one: none of that is a free slot.
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
			g.wantNever("the document contradicts itself", func(s semaphore) bool {
				return s.Semaphore != s.Max-len(s.Holders)
			})
		})
	}
}

// An operator turns the knob all the time while a fleet takes its updates: whoever takes
// a slot finds one free by the max of that moment, and nobody is left behind.
func TestMaxRaisedAndLoweredAtRandomWhileAFleetReboots(t *testing.T) {
	t.Parallel()
	n, updates := 12, 2
	if raceDetector {
		n, updates = 6, 1 // the programs are many times as large
	}
	random := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	g.lock("other") // until they all wait
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
			t.Fatalf("%d reboots are still to come; so far: %v", left, reboots)
		}
		slots = 1 + (slots+random.IntN(3))%4 // another one of 1 to 4
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
			break // max is another one for each of them
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
			t.Errorf("the document contradicts itself: %v", s)
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
		t.Error("that was no test")
	}
}
