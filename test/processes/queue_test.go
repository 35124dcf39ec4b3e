package processes

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The journal shows afterwards who held the slot that a host waited for, in one line for each change.
func TestJournalNamesTheHolderOfTheSlotThatAHostWaitsFor(t *testing.T) {
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
			t.Errorf("%d lines name the holder, want %d:\n%s", got, want, h.Log())
		}
	}
	g.unlock("another")
	first.awaitReboot()
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

// What a host waits for may be paused, and the next version not: its place and its slot are for that one.
func TestHostQueuesInItsPlaceForTheVersionThatIsAnnouncedMeanwhile(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	fleet := enqueueBehindOther(t, g, 2)
	first, second := fleet[0], fleet[1]
	next := needReboot
	next.NewVersion = "4081.2.1"
	must.Do(t, first.Engine.Announce(next))
	first.await("an entry for the next version", func() bool { return strings.Contains(g.get(g.queueKey(first.id)), `"version":"4081.2.1"`) })
	first.awaitStatus("for version 4081.2.1", "first in the queue", "held by other")
	second.awaitStatus("in the queue behind " + first.id)
	g.unlock("other")
	first.awaitReboot()
	second.wantNoReboot()
	if record := g.get(g.prefix + "/holders/" + first.id); !strings.Contains(record, `"version":"4081.2.1"`) {
		t.Errorf("the slot is for %s", record)
	}
}

// A host that hangs delays the others for a minute at most. When it continues, it has lost its place and queues
// again.
func TestHeadOfTheQueueThatHangsLosesItsPlace(t *testing.T) {
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

// A head that hangs too shortly to lose its place keeps it: a slot that becomes free meanwhile is not for a
// newcomer.
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

// The head gets no reply to its transaction. It reads, without another write, finds that it has the slot, and
// reboots once.
func TestHeadOfTheQueueWhoseReplyIsLostFindsThatItHasTheSlot(t *testing.T) {
	t.Parallel()
	for name, fault := range lostReplies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g, p, head, second := queueBehindProxy(t, s)
				var writes atomic.Int32
				p.Every(func(method string, request []byte) bool {
					if etcdtest.Writes(method, request) {
						writes.Add(1)
					}
					return false // only count
				}, nil)
				caught := p.Next(etcdtest.Writes, fault)
				daemon := head.Daemon()
				g.unlock("other")
				must.Receive(t, patience, "the head to try to take the slot", caught.Forwarded)
				head.awaitReboot()
				if n := writes.Load(); n != 1 {
					t.Errorf("the head wrote %d times, want once: it can read the rest", n)
				}
				if head.Daemon() != daemon || !daemon.Running() {
					t.Error("the daemon is another process")
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

// The head has the slot, although the reply never reached it.
func TestHeadOfTheQueueIsKilledBetweenTheTransactionAndItsReply(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g, p, head, second := queueBehindProxy(t, s)
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
			t.Fatal("the head does not try to take the slot")
		}
		boot := head.bootID()
		head.Daemon().Kill()
		g.awaitHolders(head.id)
		head.wantNoReboot()
		second.awaitStatus("first in the queue", "held by "+head.id)
		head.start()
		head.awaitReboot()
		if head.bootID() != boot {
			t.Error("the host has booted meanwhile")
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

func TestPausedGroupHoldsHostsBack(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		h.ctl("pause", "-reason=the audit")
		h.awaitStatus("first in the queue", "paused", ": the audit")
		g.unlock("other")
		// A newcomer finds a free slot and does not take it either.
		late := enqueue(t, g, g.conf())
		late.awaitStatus("in the queue behind "+h.id, "paused", ": the audit")
		// The second reason comes after the free slot: a host that reports it has seen both.
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

// A daemon keeps its place in the queue over systemctl restart and over a kill; systemctl stop gives the place up
// at once.
func TestRestartedDaemonKeepsItsPlaceInTheQueue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end   func(*host)
		keeps bool
	}{
		"restarted":           {func(h *host) { h.Logind.SetUnitJob("restart"); h.terminate() }, true},
		"killed":              {func(h *host) { h.Daemon().Kill() }, true},
		"stopped":             {func(h *host) { h.Logind.SetUnitJob("stop"); h.terminate() }, false},
		"asked to end":        {func(h *host) { h.terminate() }, false},
		"systemd is silent":   {func(h *host) { h.Logind.Hang("GetUnitByPID"); h.terminate() }, false},
		"restarted, and goes": {func(h *host) { h.Logind.SetUnitJob("restart"); h.Logind.SetStopping(true); h.terminate() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			first := startWaiting(t, g, g.conf())
			second := startHost(t, g.conf())
			second.announce()
			second.awaitStatus("in the queue behind " + first.id)
			c.end(first)
			if (g.get(g.queueKey(first.id)) != "") != c.keeps {
				t.Errorf("the daemon keeps its place: %v, want %v", !c.keeps, c.keeps)
			}
			first.start()
			if c.keeps {
				first.awaitStatus("waiting for a slot", "held by other")
				second.awaitStatus("in the queue behind " + first.id)
				return
			}
			first.awaitStatus("in the queue behind " + second.id)
		})
	}
}
