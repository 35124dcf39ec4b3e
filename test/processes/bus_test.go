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

// And it does not spin, as 0.7 did.
func TestBusKilledEndsTheDaemonOnceForSystemdToRestartIt(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHost(t, g.conf())
	h.awaitIdle()
	must.Do(t, h.Bus.Kill())
	h.wantExit(1)
	h.awaitLog("level=ERROR", "locksmithd ends", "the connection to the system bus is lost")
	if n := h.logged("level=ERROR"); n != 1 {
		t.Errorf("it logged %d errors", n)
	}
	// Whole seconds are what a loop burns, and starting takes a fraction of one.
	var exit *exec.ExitError
	if !errors.As(h.Daemon().Err(), &exit) {
		t.Fatal("it did not fail")
	}
	if cpu := exit.UserTime() + exit.SystemTime(); cpu > 5*time.Second {
		t.Errorf("it used the CPU for %v", cpu)
	}
	h.restartBus()
	h.start()
	h.awaitIdle()
	h.announce()
	h.awaitReboot()
	g.awaitHolders(h.id)
}

// The same with a slot held: nobody can say whether the host is going down, so
// the slot is kept, and the next daemon goes on with it.
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

// And with a wait for a slot under way.
func TestBusKilledWhileWaitingForTheLockEndsTheDaemon(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startWaiting(t, g, g.conf())
	must.Do(t, h.Bus.Kill())
	h.wantExit(1)
	g.wantNever("it took a slot", holds(h.id))
}

// Without a bus at start there is nothing to do but to say so and be started again.
func TestBusAbsentAtStartIsAFailureThatNamesIt(t *testing.T) {
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

// The bus drops one of the daemon's connections, and stays. Which one it is makes no
// difference: the next start goes on.
func TestOneConnectionToTheBusLostEndsTheDaemon(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"for signals", "for calls"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h, proxy := newProxiedHost(t, g.conf())
			must.Do(t, h.Logind.SetSessions(someUser))
			h.Engine.Set(needReboot)
			h.start()
			h.awaitStatus("users are logged in")
			if n := proxy.count(); n != 2 {
				t.Fatalf("it has %d connections to the bus, not 2", n)
			}
			proxy.cut(i)
			h.wantExit(1)
			h.awaitLog("level=ERROR", "locksmithd ends", "the connection to the system bus is lost")
			if n := h.logged("level=ERROR"); n != 1 {
				t.Errorf("it logged %d errors", n)
			}
			must.Do(t, h.Logind.SetSessions())
			h.start()
			h.awaitReboot()
			g.wantHeldThroughout(h.id)
		})
	}
}
