package processes

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
)

const fleetLockFile = "var/lib/locksmith/fleetlock.json"

// permits is a FleetLock server in a test.
type permits struct {
	*fleetlocktest.Server
	t   testing.TB
	url string
}

// newPermits starts a server with one slot, which lets requests wait for it.
func newPermits(t testing.TB) permits {
	p := permits{fleetlocktest.New(1), t, ""}
	p.Hold(time.Minute)
	p.url = p.Start(t)
	return p
}

// conf returns an update.conf for the server.
func (p permits) conf(more ...string) string {
	lines := append([]string{"REBOOT_STRATEGY=fleet-lock", "LOCKSMITHD_FLEETLOCK_URL=" + p.url, "LOCKSMITHD_FLEETLOCK_ID=machine-id"}, more...)
	return strings.Join(lines, "\n") + "\n"
}

func (p permits) awaitHolders(want ...string) {
	p.t.Helper()
	must.Await(p.t, patience, fmt.Sprintf("slots held by %q", want), func() (<-chan struct{}, bool) {
		changed := p.Changed()
		return changed, slices.Equal(p.Holders(), want)
	})
}

// startWithUser starts a host that has its slot, and waits for a user to leave.
func (p permits) startWithUser() *host {
	p.t.Helper()
	h := newHost(p.t, p.conf())
	must.Do(p.t, h.Logind.SetSessions(someUser))
	h.startPending()
	h.awaitStatus("users are logged in")
	p.awaitHolders(h.id)
	return h
}

// Two hosts without etcd reboot one after another.
func TestFleetLockServerLetsHostsRebootOneAfterAnother(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	first := startHost(t, p.conf())
	first.awaitIdle()
	first.wantCoordinator("fleet-lock", "running")
	first.announce()
	first.awaitReboot()
	p.awaitHolders(first.id)
	second := startPending(t, p.conf())
	second.awaitStatus("waiting for a slot")
	second.wantCoordinator("fleet-lock", "reboot-planned")
	first.reboot()
	second.awaitReboot()
	p.awaitHolders(second.id)
	first.awaitIdle()
	second.wantCoordinator("fleet-lock", "rebooting")
	second.reboot()
	p.awaitHolders()
	second.awaitIdle()
}

// A daemon that is killed between grant and reboot continues, as it does with etcd.
func TestFleetLockSlotSurvivesKill(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	h := p.startWithUser()
	p.Calls()
	h.Daemon().Kill()
	must.Do(t, h.Logind.SetSessions())
	h.start()
	h.awaitReboot()
	for _, call := range p.Calls() {
		if strings.HasPrefix(call, "steady-state") {
			t.Errorf("it gave the slot back in between")
		}
	}
	h.reboot()
	p.awaitHolders()
	h.awaitIdle()
}

// Without its file a host gives back what it may have.
func TestFleetLockSlotOfALostFileIsGivenBack(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	h := p.startWithUser()
	h.Daemon().Kill()
	h.Engine.Set(idle)
	must.Do(t, os.Remove(h.Path(fleetLockFile)))
	h.start()
	p.awaitHolders()
	h.awaitIdle()
	h.wantNoReboot()
}

// While the server cannot be reached the host does not reboot, says so, and keeps the slot that it has from before.
func TestFleetLockServerThatIsDown(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	h := startHost(t, p.conf())
	h.awaitIdle()
	h.announce()
	h.awaitReboot()
	must.Do(t, h.Halt())
	p.Break(fleetlocktest.Raw(502, "text/html", "<html>Bad Gateway</html>"))
	must.Do(t, h.Boot())
	h.awaitStatus("giving back the slot that was held at start", "trying again", p.url+"v1/steady-state", "502 Bad Gateway with HTML, which is not an answer of FleetLock")
	p.awaitHolders(h.id)
	h.Engine.Set(needReboot)
	h.announce()
	h.wantNoReboot()
	p.Break(nil)
	h.awaitReboot()
	h.reboot()
	p.awaitHolders()
}

// A slot that the server has granted and then denies is not one.
func TestFleetLockServerThatGrantsAndThenDenies(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	h := p.startWithUser()
	p.Hold(0)
	p.Free(h.id)
	p.Refuse(&fleetlock.Error{Kind: fleetlock.KindPaused, Value: "paused by ann\x1b[31m"})
	must.Do(t, h.Logind.SetSessions())
	h.awaitLog("the server has granted a slot, and refuses it now")
	h.awaitLog("somebody has taken the slot away")
	h.wantNoReboot()
	p.Refuse(nil)
	h.awaitReboot()
	p.awaitHolders(h.id)
}

// A slot of the old lock is given back before one of the new lock is taken.
func TestReloadMovesFromFleetLockToAnotherLock(t *testing.T) {
	t.Parallel()
	p, other := newPermits(t), newPermits(t)
	h := p.startWithUser()
	h.reload(other.conf())
	other.awaitHolders(h.id)
	p.awaitHolders()
	h.reload("REBOOT_STRATEGY=reboot\n")
	other.awaitHolders()
	h.awaitStatus("users are logged in")
	h.reload(p.conf())
	p.awaitHolders(h.id)
	h.wantNoReboot()
	h.Engine.Set(idle)
	h.reload("REBOOT_STRATEGY=off\n")
	h.wantExit(0)
	p.awaitHolders()
}
