package processes

import (
	"slices"
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// An update is installed, whether update_engine runs or not. Come back, it may say otherwise.
func TestUpdateEngineThatLeavesTakesNothingBackUntilItSaysSo(t *testing.T) {
	t.Parallel()
	h := startPending(t, updateconf.ShutWindow())
	h.awaitStatus("waiting", "for the reboot window")
	must.Do(t, h.Engine.Leave())
	// The daemon knows of it by now: it gets its messages in order.
	conn := bustest.For(t).Connect(h.Bus)
	must.Do(t, conn.Emit("/com/coreos/update1", "com.coreos.update1.Manager.StatusUpdate", "malformed"))
	h.awaitLog("malformed")
	h.awaitStatus("waiting", "for the reboot window")

	h.Engine.Set(needReboot)
	must.Do(t, h.Engine.Appear())
	must.Do(t, h.Engine.Leave())
	h.Engine.Set(idle)
	must.Do(t, h.Engine.Appear())
	h.awaitIdle()

	h.Engine.Set(needReboot)
	must.Do(t, h.Engine.Leave())
	must.Do(t, h.Engine.Appear())
	h.awaitStatus("waiting", "for the reboot window")
	h.wantNoReboot()
}

// The plan is dropped, here and below, and the lock released where it is held.
func TestUpdateWithdrawnWhileWaitingForTheWindow(t *testing.T) {
	t.Parallel()
	h := startPending(t, updateconf.ShutWindow())
	h.awaitStatus("for the reboot window")
	h.wantCoordinator("reboot", "reboot-planned")
	must.Do(t, h.Engine.Announce(idle))
	h.awaitIdle()
	h.wantCoordinator("reboot", "running")
	// The window opens, and nothing comes of it.
	h.reload("REBOOT_STRATEGY=reboot\n")
	h.awaitLog("the new configuration is in force")
	h.awaitIdle()
	h.wantNoReboot()
}

func TestUpdateWithdrawnWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		// Its place in the queue goes because it gives it up: it does not run out.
		lease, stop := g.keepAlive(g.queueKey(h.id))
		defer stop()
		must.Do(t, h.Engine.Announce(idle))
		h.awaitIdle()
		must.Eventually(t, patience, "the end of the lease of its place", func() bool {
			left, err := g.client.TimeToLive(soon(t), lease)
			must.Do(t, err)
			return left.TTL < 0
		})
		if keys := g.keys(); !slices.Equal(keys, []string{g.key()}) {
			t.Errorf("left behind: %v", keys)
		}
		g.unlock("other")
		// The slot is free, and somebody else takes it.
		other := startHost(t, g.conf())
		other.announce()
		other.awaitReboot()
		h.wantNoReboot()
		g.wantNever("the host whose update is gone took a slot", holds(h.id))
	})
}

func TestUpdateWithdrawnWhileHoldingTheLock(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHolding(t, g, g.conf())
		must.Do(t, h.Engine.Announce(idle))
		g.awaitHolders()
		h.awaitIdle()
		h.wantNoReboot()
		if keys := g.keys(); len(keys) != 1 {
			t.Errorf("left behind: %v", keys)
		}
	})
}

// update_engine took the update back without a word: it is asked once more
// right before the reboot.
func TestUpdateWithdrawnInSilenceIsFoundOutBeforeTheReboot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startWaiting(t, g, g.conf())
	h.Engine.Set(idle)
	g.unlock("other")
	h.awaitIdle()
	g.awaitHolders()
	h.wantNoReboot()
	g.await("the slot to be free", func(s semaphore) bool { return s.Semaphore == 1 })
}
