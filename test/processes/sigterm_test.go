package processes

import (
	"os"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// SIGTERM ends the daemon at once in every state, with status 0. The daemon releases its slot unless the host is
// going down, which needs the slot.
func TestSIGTERMEndsTheDaemonAndKeepsTheLockOnlyForAReboot(t *testing.T) {
	t.Parallel()
	holdDuringLoginDelay := func(h *host) {
		h.t.Helper()
		must.Do(h.t, h.Logind.SetSessions(someUser))
		h.announce()
		h.awaitStatus("users are logged in")
	}
	for name, test := range map[string]struct {
		window string
		other  bool // another host holds the slot
		reach  func(h *host)
		kept   bool
	}{
		"idle": {reach: func(h *host) { h.awaitIdle() }},
		"waiting for the window": {window: updateconf.ShutWindow(), reach: func(h *host) {
			h.announce()
			h.awaitStatus("for the reboot window")
		}},
		"waiting for a slot": {other: true, reach: func(h *host) {
			h.announce()
			h.awaitStatus("waiting for a slot", "held by other")
		}},
		"waiting to try again": {reach: func(h *host) {
			h.Logind.Refuse("Reboot", accessDenied, "not today")
			h.announce()
			h.awaitStatus("waiting", "trying again")
		}},
		"holding the lock during the login delay": {reach: holdDuringLoginDelay},
		"holding the lock when somebody else shuts the host down": {kept: true, reach: func(h *host) {
			holdDuringLoginDelay(h)
			must.Do(h.t, h.Logind.SetPreparing(true))
		}},
		"holding the lock when it is unknown whether the host goes down": {kept: true, reach: func(h *host) {
			holdDuringLoginDelay(h)
			h.Logind.Hang("PreparingForShutdown")
		}},
		"after the reboot was accepted": {kept: true, reach: func(h *host) {
			h.announce()
			h.awaitReboot()
			h.awaitStatus("rebooting")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			if test.other {
				g.lock("other")
			}
			h := startHost(t, g.conf(test.window))
			test.reach(h)
			h.terminate()
			h.await("STOPPING=1", func() bool { return h.noticed("STOPPING=1") == 1 })
			if test.kept {
				g.wantHeldThroughout(h.id)
				return
			}
			if keys := g.keys(); len(keys) > 1 {
				t.Errorf("left behind: %v", keys)
			}
			if history := g.seen(); len(history) > 0 && holds(h.id)(history[len(history)-1]) {
				t.Errorf("the slot is still held: %v", history)
			}
		})
	}
}

// SIGTERM also ends a daemon that has no state yet, because the bus does not answer.
func TestSIGTERMDuringTheStartIsACleanEnd(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	must.Do(t, h.Bus.Pause())
	h.start()
	must.Eventually(t, patience, "the coordinator file", func() bool {
		_, err := os.Stat(h.coordinatorPath())
		return err == nil
	})
	h.terminate()
}

func TestSIGTERMEndsTheDaemonThoughEtcdIsDown(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	g := newGroup(t, s)
	p := etcdtest.MustProxy(t, s)
	conf := g.confAt(p.Endpoint())
	t.Run("at start", func(t *testing.T) {
		p.Refuse()
		h := startHost(t, conf)
		h.awaitStatus("starting", "the last attempt failed")
		h.terminate()
	})
	t.Run("at start, silent", func(t *testing.T) {
		must.Do(t, p.BlackHole())
		h := startHost(t, conf)
		h.awaitStatus("starting")
		h.terminate()
	})
	t.Run("holding the lock", func(t *testing.T) {
		must.Do(t, p.Pass())
		h := startHolding(t, g, conf)
		must.Do(t, p.BlackHole())
		h.terminate()
		h.awaitLog("level=ERROR", "without knowing whether the slot was given back")
		// The next daemon releases it.
		must.Do(t, p.Pass())
		h.Engine.Set(idle)
		h.start()
		h.awaitIdle()
		g.awaitHolders()
	})
}
