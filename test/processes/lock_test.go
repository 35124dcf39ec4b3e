package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// 0.7 kept the lock until the window opened, so no other host could reboot.
func TestLockFromBeforeThisBootIsReleasedFirstThoughARebootIsPendingAndTheWindowShut(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		for name, record := range map[string]string{"no record": "", "record of another boot": "another-boot"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				g := newGroup(t, s)
				h := newHost(t, g.conf(updateconf.ShutWindow()))
				g.lock(h.id)
				if record != "" {
					g.record(h.id, record)
				}
				h.startPending()
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

// A host whose machine id is that of another host with a slot leaves that slot alone, reports the conflict, and
// does not reboot. People have to resolve it.
func TestSlotOfAnotherHostWithTheSameMachineIDIsLeftAlone(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		g.lock(h.id)
		g.recordOf(h.id, "the-original", "its-boot")
		h.startPending()
		h.awaitStatus("two hosts have the machine id", "the-original", "run locksmithctl unlock "+h.id)
		h.wantNoReboot()
		g.wantHeldThroughout(h.id)
		g.unlock(h.id)
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// With the window open the host releases the slot before it takes a new one, because others may have waited for it
// since before the boot.
func TestLockFromBeforeThisBootIsReleasedBeforeTheNextReboot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	g.lock(h.id)
	h.startPending()
	h.awaitReboot()
	g.awaitHolders(h.id)
	h.awaitLog("settling")
	if history := g.seen(); len(history) != 3 || len(history[1].Holders) != 0 {
		t.Errorf("the slot was not released in between: %v", history)
	}
}

// The daemon was restarted between lock and reboot. It keeps a slot of the same boot if the reboot may go ahead
// now.
func TestLockTakenDuringThisBootIsKeptForThePendingReboot(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf(updateconf.OpenWindow()))
		g.lock(h.id)
		g.record(h.id, h.bootID())
		h.startPending()
		h.awaitReboot()
		g.wantHeldThroughout(h.id)
	})
}

func TestLockTakenDuringThisBootIsReleasedWhenNoRebootMayGoAhead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status bustest.Status
		window string
	}{
		"nothing pending": {idle, updateconf.OpenWindow()},
		"window shut":     {needReboot, updateconf.ShutWindow()},
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

// As in 0.7 (docs/compatibility.md, section 3).
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

// locksmithctl reboot takes a slot and reboots even outside the window; the daemon releases the slot after the
// boot.
func TestSlotOfARebootByHandIsReleasedByTheDaemonAfterTheBoot(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHost(t, g.conf(updateconf.ShutWindow()))
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

// The host is unlocked by hand while it is about to reboot. It does not go down without a slot. The daemon may
// take a minute to check the slot again.
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
