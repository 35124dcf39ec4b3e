package processes

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The daemon exits instead of spinning, as 0.7 did.
func TestBusKilledEndsTheDaemonOnceForSystemdToRestartIt(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHost(t, g.conf())
	h.awaitIdle()
	must.Do(t, h.Bus.Kill())
	h.wantExit(1)
	h.awaitLog("level=ERROR", "locksmithd ends", "the connection to the system bus is lost")
	if n := h.logged("level=ERROR"); n != 1 {
		t.Errorf("the daemon logged %d errors, want 1", n)
	}
	// A busy loop takes whole seconds of CPU time, a start only a fraction of one.
	var exit *exec.ExitError
	if !errors.As(h.Daemon().Err(), &exit) {
		t.Fatal("the daemon did not fail")
	}
	if cpu := exit.UserTime() + exit.SystemTime(); cpu > 5*time.Second {
		t.Errorf("the daemon used %v of CPU time", cpu)
	}
	h.restartBus()
	h.start()
	h.awaitIdle()
	h.announce()
	h.awaitReboot()
	g.awaitHolders(h.id)
}

// Without the bus the daemon cannot know whether the host is going down, so it keeps the slot, and the next daemon
// continues with it.
func TestBusKilledWhileHoldingTheLockKeepsItForTheNextStart(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHolding(t, g, g.conf())
		must.Do(t, h.Bus.Kill())
		h.wantExit(1)
		must.Do(t, h.Logind.SetSessions())
		h.restartBus()
		h.start()
		h.awaitReboot()
		g.wantHeldThroughout(h.id)
	})
}

func TestBusKilledWhileWaitingForTheLockEndsTheDaemon(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startWaiting(t, g, g.conf())
	must.Do(t, h.Bus.Kill())
	h.wantExit(1)
	g.wantNever("the host took a slot", holds(h.id))
}

// Without a bus the daemon can only report that and be restarted.
func TestBusAbsentAtStartIsAnErrorThatNamesTheBus(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	must.Do(t, h.Bus.Kill())
	h.start()
	h.wantExit(1)
	if n := h.logged("level=ERROR", "connect to the system bus at "+h.Bus.Address()); n != 1 || strings.Count(h.Log(), "\n") != 1 {
		t.Errorf("the log is not the one line that names the bus:\n%s", h.Log())
	}
	h.restartBus()
	h.start()
	h.awaitIdle()
}

// The bus drops one of the daemon's connections but keeps running. The daemon ends, whichever connection it is,
// and the next start continues.
func TestOneConnectionToTheBusLostEndsTheDaemon(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"for signals", "for calls"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h, proxy := newProxiedHost(t, g.conf())
			must.Do(t, h.Logind.SetSessions(someUser))
			h.startPending()
			h.awaitStatus("users are logged in")
			must.Eventually(t, patience, "the third connection, for those who read", func() bool { return proxy.count() == 3 })
			proxy.cut(i)
			h.wantExit(1)
			h.awaitLog("level=ERROR", "locksmithd ends", "the connection to the system bus is lost")
			if n := h.logged("level=ERROR"); n != 1 {
				t.Errorf("the daemon logged %d errors, want 1", n)
			}
			must.Do(t, h.Logind.SetSessions())
			h.start()
			h.awaitReboot()
			g.wantHeldThroughout(h.id)
		})
	}
}
