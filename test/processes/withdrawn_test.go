package processes

import (
	"slices"
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// An update stays installed when update_engine leaves the bus. When it is back, its status may withdraw the
// update.
func TestUpdateEngineThatLeavesDoesNotWithdrawTheUpdate(t *testing.T) {
	t.Parallel()
	h := startPending(t, updateconf.ShutWindow())
	h.awaitStatus("waiting", "for the reboot window")
	must.Do(t, h.Engine.Leave())
	// Messages arrive in order, so once this signal is logged the daemon knows that update_engine has left.
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

// A withdrawn update cancels the reboot, in this and the next tests, and releases the slot if the host holds one.
func TestUpdateWithdrawnWhileWaitingForTheWindow(t *testing.T) {
	t.Parallel()
	h := startPending(t, updateconf.ShutWindow())
	h.awaitStatus("for the reboot window")
	h.wantCoordinator("reboot", "reboot-planned")
	must.Do(t, h.Engine.Announce(idle))
	h.awaitIdle()
	h.wantCoordinator("reboot", "running")
	// The window opens, and no reboot follows.
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
		// The lease of its queue entry must be revoked, not expire.
		lease, stop := g.keepAlive(g.queueKey(h.id))
		defer stop()
		must.Do(t, h.Engine.Announce(idle))
		h.awaitIdle()
		must.Eventually(t, patience, "the end of the lease of its queue entry", func() bool {
			left, err := g.client.TimeToLive(soon(t), lease)
			must.Do(t, err)
			return left.TTL < 0
		})
		if keys := g.keys(); !slices.Equal(keys, []string{g.key()}) {
			t.Errorf("left behind: %v", keys)
		}
		g.unlock("other")
		// The slot is free, and another host takes it.
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

// update_engine withdraws the update without a signal: the daemon asks again right before the reboot.
func TestUpdateWithdrawnWithoutASignalIsNoticedBeforeTheReboot(t *testing.T) {
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
