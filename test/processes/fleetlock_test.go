package processes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
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

// forgetFleetLock makes the host's file say that it has given its slot back, as locksmithctl unlock does, which root
// may run.
func (h *host) forgetFleetLock() {
	h.t.Helper()
	path := h.Path(fleetLockFile)
	data, err := os.ReadFile(path)
	must.Do(h.t, err)
	must.Do(h.t, os.WriteFile(path, []byte(strings.Replace(string(data), `"asked"`, `"none"`, 1)), 0o600))
}

// grantAndKill makes the server kill the daemon when it has granted the slot, before it answers.
func (p permits) grantAndKill(h *host) {
	p.Break(fleetlocktest.Only("pre-reboot", func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
		handler.ServeHTTP(httptest.NewRecorder(), r)
		h.Daemon().Kill()
		fleetlocktest.Drop(w, r, handler)
	}))
}

// A daemon that is killed between the server's grant and its own note of it does not lose the slot: it gives it back,
// or uses it.
func TestFleetLockDaemonIsKilledWithTheGrant(t *testing.T) {
	t.Parallel()
	for name, pending := range map[string]bool{"the reboot is still needed": true, "it is not": false} {
		for also, unlocked := range map[string]bool{"": false, ", after locksmithctl unlock": true} {
			t.Run(name+also, func(t *testing.T) {
				t.Parallel()
				p := newPermits(t)
				h := startHost(t, p.conf())
				h.awaitIdle()
				if unlocked { // while the daemon waits between two requests
					p.Hold(0)
					p.Take("other")
					h.announce()
					h.awaitStatus("waiting for a slot", "held by other")
					h.forgetFleetLock()
					p.Free("other")
				}
				p.grantAndKill(h)
				if !unlocked {
					h.announce()
				}
				must.Receive(t, patience, "the end of the daemon", h.Daemon().Done())
				p.awaitHolders(h.id)
				if state := h.fleetLockState(); state != "asked" {
					t.Errorf("the file says %q", state)
				}
				p.Break(nil)
				if pending {
					h.startPending()
					h.awaitReboot()
					p.awaitHolders(h.id)
					return
				}
				h.Engine.Set(idle)
				h.start()
				p.awaitHolders()
				h.awaitIdle()
			})
		}
	}
}

// The strategy was changed while the daemon did not run. The slot is given back where it was taken.
func TestFleetLockSlotIsGivenBackUnderAnotherStrategy(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"reboot", "off", "etcd-lock\nLOCKSMITHD_ENDPOINT=http://127.0.0.1:1"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			p := newPermits(t)
			h := p.startWithUser()
			h.Daemon().Kill()
			must.Do(t, h.Configure("REBOOT_STRATEGY="+strategy+"\n"))
			p.Break(fleetlocktest.Raw(503, "text/plain", "down"))
			h.start()
			h.awaitLog("may still be held, and could not be given back", "503 Service Unavailable", "locksmithctl unlock", fleetLockFile)
			p.awaitHolders(h.id)
			p.Break(nil)
			if strategy == "off" {
				h.wantExit(0)
				h.start()
				h.wantExit(0)
			}
			p.awaitHolders()
		})
	}
}

// The settings name another server since the daemon has run last.
func TestFleetLockSlotIsGivenBackToAnotherServer(t *testing.T) {
	t.Parallel()
	p, other := newPermits(t), newPermits(t)
	h := p.startWithUser()
	h.Daemon().Kill()
	must.Do(t, h.Configure(other.conf()))
	h.start()
	p.awaitHolders()
	other.awaitHolders(h.id)
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

// A server that does not take the slot back at the reload gets it later, also after a configuration that was refused.
func TestReloadFromAFleetLockServerThatIsDown(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	h := p.startWithUser()
	p.Break(fleetlocktest.Raw(503, "text/plain", "down"))
	h.reload("REBOOT_STRATEGY=reboot\n")
	h.awaitLog("may still be held, and could not be given back", "503 Service Unavailable", fleetLockFile)
	h.awaitStatus("users are logged in")
	h.write("etc/machine-id", "not-hexadecimal\n")
	h.reload("REBOOT_STRATEGY=fleet-lock\nLOCKSMITHD_FLEETLOCK_URL=" + p.url + "\n")
	h.awaitStatus("the new configuration is refused", "LOCKSMITHD_FLEETLOCK_ID=machine-id takes it as it is")
	h.write("etc/machine-id", h.id+"\n")
	p.awaitHolders(h.id)
	p.Break(nil)
	p.awaitHolders()
	h.wantNoReboot()
}

// A daemon that may not run gives nothing back: the slot is that of the one that runs.
func TestSecondDaemonLeavesTheSlotOfTheFirst(t *testing.T) {
	t.Parallel()
	p := newPermits(t)
	h := p.startWithUser()
	p.Calls()
	for strategy, status := range map[string]int{"reboot": 1, "off": 0} {
		must.Do(t, h.Configure("REBOOT_STRATEGY="+strategy+"\n"))
		if second := h.run(locksmithd()); second.status != status {
			t.Errorf("the second daemon under %s: %+v", strategy, second)
		}
	}
	if calls := p.Calls(); len(calls) > 0 {
		t.Errorf("the server got %q", calls)
	}
	p.awaitHolders(h.id)
	if state := h.fleetLockState(); state != "granted" {
		t.Errorf("the file says %q", state)
	}
}
