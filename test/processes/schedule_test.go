package processes

import (
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// A daemon that dies during the login delay leaves a scheduled reboot, which the next daemon cancels in any case.
func TestKilledDuringTheUsersDelayCancelsTheScheduledReboot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	first := h.awaitSchedule()
	h.Daemon().Kill()
	g.awaitHolders(h.id)
	must.Do(t, h.Configure(g.conf()+updateconf.ShutWindow()))
	h.start()
	h.awaitStatus("for the reboot window")
	if s := h.Logind.Shutdown(); s.Type != "" {
		t.Errorf("%+v is still scheduled", s)
	}
	g.awaitHolders()

	// With the window open the daemon starts over.
	h.reload(g.conf())
	if second := h.awaitSchedule(); !second.At.After(first.At) {
		t.Errorf("scheduled for %v, before for %v", second.At, first.At)
	}
	g.awaitHolders(h.id)
}

// SIGTERM and a withdrawn update call the scheduled reboot off, and then release the slot.
func TestScheduledRebootIsCalledOffBeforeTheLockIsReleased(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(h *host){
		"stopped":   func(h *host) { h.terminate() },
		"withdrawn": func(h *host) { must.Do(h.t, h.Engine.Announce(idle)); h.awaitIdle() },
		"window shut": func(h *host) {
			h.signal(syscall.SIGHUP) // with the configuration written below
			h.awaitStatus("for the reboot window")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startHolding(t, g, g.conf())
			must.Do(t, h.Configure(g.conf()+updateconf.ShutWindow()))
			end(h)
			if s := h.Logind.Shutdown(); s.Type != "" {
				t.Errorf("%+v is still scheduled", s)
			}
			g.awaitHolders()
		})
	}
}

func TestRebootThatCannotBeCalledOffKeepsTheLock(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	h.Logind.Refuse("CancelScheduledShutdown", accessDenied, "not today")
	must.Do(t, h.Engine.Announce(idle))
	h.awaitStatus("calling off the reboot scheduled with logind", "trying again", "not today")
	g.awaitHolders(h.id)
	h.Logind.Heal("CancelScheduledShutdown")
	g.awaitHolders()
	h.awaitIdle()
}

// A slot without a record of the boot may be that of a reboot that is still scheduled.
func TestSlotWithoutARecordIsKeptWhileARebootStands(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	h.awaitSchedule()
	h.Daemon().Kill()
	g.record(h.id, "")
	h.Logind.Refuse("CancelScheduledShutdown", accessDenied, "not today")
	must.Do(t, h.Configure(g.conf()+updateconf.ShutWindow()))
	h.start()
	h.awaitStatus("asking logind whether a reboot still stands", "trying again", "not today")
	h.awaitLog("a slot is held, and not recorded since which boot")
	g.wantHeldThroughout(h.id)
	h.Logind.Heal("CancelScheduledShutdown")
	g.awaitHolders()
	if s := h.Logind.Shutdown(); s.Type != "" {
		t.Errorf("%+v is still scheduled", s)
	}
}
