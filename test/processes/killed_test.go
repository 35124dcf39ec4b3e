package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// A daemon that is killed between lock and reboot continues after a restart.
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
				h.startPending()
				g.awaitHolders(h.id)
				if name == "while logind hangs" {
					h.awaitReboot()
				} else {
					h.awaitStatus("users are logged in")
				}
				h.Daemon().Kill()
				must.Do(t, test.release(h))
				h.start()
				if name == "while logind hangs" { // which has carried the call out meanwhile
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

// If the update was withdrawn meanwhile, the daemon releases the slot.
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

// A host that is going down keeps its slot, although a daemon that starts in that time finds no update: the reboot
// that logind was asked for may be under way.
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
