package processes

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
)

// queueKey is the key of a host's place in the queue.
func (g *group) queueKey(id string) string { return g.prefix + "/queue/" + id }

// awaitKey waits until a key exists, or does not.
func (g *group) awaitKey(key string, exists bool) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	response, err := g.client.Get(ctx, key)
	must.Do(g.t, err)
	if len(response.Kvs) > 0 == exists {
		return
	}
	for watched := range g.client.Watch(ctx, key, clientv3.WithRev(response.Header.Revision+1)) {
		must.Do(g.t, watched.Err())
		for _, e := range watched.Events {
			if e.Type == clientv3.EventTypePut == exists {
				return
			}
		}
	}
	g.t.Fatalf("timed out waiting for %s: exists=%t", key, exists)
}

// enqueue starts a host that needs a reboot, and waits until it is in the queue.
func enqueue(t testing.TB, g *group, conf string) *host {
	t.Helper()
	h := startPending(t, conf)
	g.awaitKey(g.queueKey(h.id), true)
	h.awaitStatus("waiting for a slot")
	return h
}

// Who looks into the journal afterwards finds who held the slot that a host waited for, and is not flooded.
func TestJournalSaysWhoHoldsTheSlotThatIsWaitedFor(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	g.recordOf("other", "web-7", "boot")
	if !g.lock("other") {
		t.Fatal("no slot is free")
	}
	since := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC).Local().Format(time.DateTime + " MST")
	first, second := enqueue(t, g, g.conf()), enqueue(t, g, g.conf())
	first.awaitLog("level=INFO", `msg="waiting for a slot"`, `holders="other (web-7) since `+since+`"`, `behind=""`)
	first.awaitStatus("held by other (web-7) since " + since)
	second.awaitLog("level=INFO", `msg="waiting for a slot"`, `holders=other`, "behind="+first.id)
	g.swap(func(s *semaphore) bool { s.Holders = []string{"another"}; return true })
	first.awaitLog(`msg="waiting for a slot"`, "holders=another")
	for h, want := range map[*host]int{first: 2, second: 1} {
		if got := h.logged(`msg="waiting for a slot"`); got != want {
			t.Errorf("%d lines say who holds the slot, want %d:\n%s", got, want, h.Log())
		}
	}
	g.unlock("another")
	first.awaitReboot()
}

// enqueueBehindOther lets "other" take the slot, and n hosts queue for it one after
// another.
func enqueueBehindOther(t testing.TB, g *group, n int) []*host {
	t.Helper()
	if !g.lock("other") {
		t.Fatal("no slot is free")
	}
	var fleet []*host
	for i := range n {
		h := enqueue(t, g, g.conf())
		if i == 0 {
			h.awaitStatus("first in the queue", "held by other")
		} else {
			h.awaitStatus("in the queue behind " + fleet[i-1].id)
		}
		fleet = append(fleet, h)
	}
	return fleet
}

// wantEmpty waits until nobody holds a slot, and checks that only the document is
// left behind.
func (g *group) wantEmpty() {
	g.t.Helper()
	g.awaitHolders()
	if keys := g.keys(); !slices.Equal(keys, []string{g.key()}) {
		g.t.Errorf("left behind: %v", keys)
	}
}

func severalHolders(s semaphore) bool { return len(s.Holders) > 1 }

// wantOrder checks who has held the one slot so far: one after another, and each
// of them once.
func (g *group) wantOrder(want ...string) {
	g.t.Helper()
	g.wantNever("two holders of one slot", severalHolders)
	var order []string
	last := ""
	for _, s := range g.seen() {
		holder := ""
		if len(s.Holders) > 0 {
			holder = s.Holders[0]
		}
		if holder != last && holder != "" {
			order = append(order, holder)
		}
		last = holder
	}
	if !slices.Equal(order, want) {
		g.t.Errorf("they got the slot in the order %v, want %v", order, want)
	}
}

// keepAlive keeps a key's lease alive until stop is called, so that it makes no
// difference how long a test takes.
func (g *group) keepAlive(key string) (lease clientv3.LeaseID, stop func()) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	response, err := g.client.Get(ctx, key)
	must.Do(g.t, err)
	if len(response.Kvs) == 0 || response.Kvs[0].Lease == 0 {
		g.t.Fatalf("no lease keeps %s", key)
	}
	lease = clientv3.LeaseID(response.Kvs[0].Lease)
	kept, err := g.client.KeepAlive(ctx, lease)
	must.Do(g.t, err)
	go func() {
		for range kept {
		}
	}()
	return lease, cancel
}

func TestHostsRebootInTheOrderInWhichTheyQueued(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		since := time.Now()
		fleet := enqueueBehindOther(t, g, 3)
		for _, h := range fleet {
			g.wantRecord(g.queueKey(h.id), h, since, "")
		}
		g.unlock("other")
		for i, h := range fleet {
			h.awaitReboot()
			for _, later := range fleet[i+1:] {
				later.wantNoReboot()
			}
			h.reboot()
		}
		g.wantEmpty()
		want := []string{"other"}
		for _, h := range fleet {
			want = append(want, h.id)
		}
		g.wantOrder(want...)
	})
}

// A host that hangs holds the others up for a minute at most. When it goes on, its
// place is lost, and it queues anew.
func TestHeadOfTheQueueThatHangsFallsOut(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		fleet := enqueueBehindOther(t, g, 2)
		head, second := fleet[0], fleet[1]
		must.Do(t, head.Daemon().Pause(t.Context()))
		g.awaitKey(g.queueKey(head.id), false)
		second.awaitStatus("first in the queue", "held by other")
		g.unlock("other")
		second.awaitReboot()
		g.awaitHolders(second.id)
		must.Do(t, head.Daemon().Resume(t.Context()))
		g.awaitKey(g.queueKey(head.id), true)
		head.awaitStatus("first in the queue", "held by "+second.id)
		head.wantNoReboot()
		second.reboot()
		head.awaitReboot()
		g.awaitHolders(head.id)
		head.reboot()
		g.wantEmpty()
		g.wantNever("two holders of one slot", severalHolders)
	})
}

// A head that hangs, but not for long enough to lose its place, keeps it: a slot
// that is free meanwhile is not for one that comes later.
func TestNewcomerDoesNotJumpAHeadOfTheQueueThatHangs(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		head := enqueueBehindOther(t, g, 1)[0]
		must.Do(t, head.Daemon().Pause(soon(t)))
		_, stop := g.keepAlive(g.queueKey(head.id))
		g.unlock("other")
		newcomer := enqueue(t, g, g.conf())
		newcomer.awaitStatus("in the queue behind " + head.id)
		newcomer.wantNoReboot()
		if history := g.seen(); history[len(history)-1].Semaphore != 1 {
			t.Fatalf("the slot is not free: %v", history)
		}
		must.Do(t, head.Daemon().Resume(soon(t)))
		stop()
		head.awaitReboot()
		newcomer.awaitStatus("first in the queue", "held by "+head.id)
		newcomer.wantNoReboot()
		head.reboot()
		newcomer.awaitReboot()
		newcomer.reboot()
		g.wantEmpty()
		g.wantOrder("other", head.id, newcomer.id)
	})
}

// It is not told that the slot is its own, finds out by reading, without another
// write, and reboots once.
func TestHeadOfTheQueueWhoseReplyIsLostFindsThatItHasTheSlot(t *testing.T) {
	t.Parallel()
	for name, fault := range lostReplies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				p := etcdtest.MustRPCProxy(t, s)
				head := startWaiting(t, g, g.confAt(p.Endpoint()))
				head.awaitStatus("first in the queue")
				second := enqueue(t, g, g.conf())
				second.awaitStatus("in the queue behind " + head.id)
				var writes atomic.Int32
				p.Every(func(method string, request []byte) bool {
					if etcdtest.Writes(method, request) {
						writes.Add(1)
					}
					return false // it counts, and does no harm
				}, nil)
				caught := p.Next(etcdtest.Writes, fault)
				daemon := head.Daemon()
				g.unlock("other")
				must.Receive(t, patience, "it to try to take the slot", caught.Forwarded)
				head.awaitReboot()
				if n := writes.Load(); n != 1 {
					t.Errorf("it wrote %d times, want once: the rest can be read", n)
				}
				if head.Daemon() != daemon || !daemon.Running() {
					t.Error("it is not the same process any more")
				}
				g.awaitHolders(head.id)
				g.wantHeldThroughout(head.id)
				second.awaitStatus("first in the queue", "held by "+head.id)
				second.wantNoReboot()
				head.reboot()
				second.awaitReboot()
				head.awaitIdle()
				head.wantNoReboot()
				second.reboot()
				g.wantEmpty()
				g.wantOrder("other", head.id, second.id)
			})
		})
	}
}

// The slot is its own, though it was never told so.
func TestHeadOfTheQueueIsKilledBetweenTheTransactionAndItsReply(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		p := etcdtest.MustRPCProxy(t, s)
		head := startWaiting(t, g, g.confAt(p.Endpoint()))
		head.awaitStatus("first in the queue")
		second := enqueue(t, g, g.conf())
		second.awaitStatus("in the queue behind " + head.id)
		record := []byte(g.prefix + "/holders/" + head.id)
		caught := p.Next(func(method string, request []byte) bool {
			return etcdtest.Writes(method, request) && bytes.Contains(request, record)
		}, etcdtest.WithholdReply)
		g.unlock("other")
		select {
		case <-caught.Forwarded:
		case <-head.Daemon().Done():
			t.Fatal("locksmithd has ended")
		case <-time.After(patience):
			t.Fatal("it does not try to take the slot")
		}
		boot := head.bootID()
		head.Daemon().Kill()
		g.awaitHolders(head.id)
		head.wantNoReboot()
		second.awaitStatus("first in the queue", "held by "+head.id)
		head.start()
		head.awaitReboot()
		if head.bootID() != boot {
			t.Error("the host has booted in between")
		}
		g.awaitHolders(head.id)
		g.wantHeldThroughout(head.id)
		second.wantNoReboot()
		head.reboot()
		second.awaitReboot()
		second.reboot()
		g.wantEmpty()
		g.wantNever("two holders of one slot", severalHolders)
	})
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

// wantTimeToLive checks what the slot of a host was taken with.
func (g *group) wantTimeToLive(id, want string) {
	g.t.Helper()
	response, err := g.client.Get(g.t.Context(), g.prefix+"/holders/"+id)
	must.Do(g.t, err)
	if len(response.Kvs) != 1 || !strings.Contains(string(response.Kvs[0].Value), `"ttl":"`+want+`"`) {
		g.t.Errorf("the record is %v, want the time-to-live %s", response.Kvs, want)
	}
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

func TestPausedGroupHoldsHostsBack(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		h.ctl("pause", "-reason=the audit")
		h.awaitStatus("first in the queue", "paused", ": the audit")
		g.unlock("other")
		// One that comes now finds a free slot, and does not take it either.
		late := enqueue(t, g, g.conf())
		late.awaitStatus("in the queue behind "+h.id, "paused", ": the audit")
		// The other reason comes after the free slot: whoever tells it knows of both.
		h.ctl("pause", "-reason=the second audit")
		h.awaitStatus("first in the queue", "paused", ": the second audit")
		h.wantNoReboot()
		late.wantNoReboot()
		g.wantNever("a slot taken during the pause", func(s semaphore) bool {
			return holds(h.id)(s) || holds(late.id)(s)
		})
		h.ctl("resume")
		h.awaitReboot()
		g.awaitHolders(h.id)
		h.reboot()
		late.awaitReboot()
		late.reboot()
		g.wantEmpty()
		g.wantNever("two holders of one slot", severalHolders)
	})
}
