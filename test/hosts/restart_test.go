package hosts

import (
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// withUnit makes settings of the daemon's unit on a host that is up.
func (h *host) withUnit(settings ...string) {
	h.t.Helper()
	h.write("/etc/systemd/system/locksmithd.service.d/test.conf", "[Service]\n"+strings.Join(settings, "\n")+"\n")
	h.do("systemctl", "daemon-reload")
}

// scheduled returns what logind says of a shutdown that is scheduled.
func (h *host) scheduled() string {
	h.t.Helper()
	r := h.run("shutdown", "--show")
	return r.stdout + r.stderr
}

// Nothing calls the reboot off when the daemon has died, and the next one is long in coming: the
// host reboots by what the dead one scheduled, and with its slot. If the next one comes in
// time, that calls it off, and begins anew.
func TestARebootOfADaemonThatDiedHasItsSlotThoughLogindWasRestarted(t *testing.T) {
	t.Parallel()
	for name, restartAfter := range map[string]string{"in time": "1s", "too late": "infinity"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.add(1, "LOCKSMITHD_LOGIN_DELAY=60s")
			f.start()
			h := f.hosts[0]
			before := h.awaitUp()
			h.withUnit("ExecStopPost=", "RestartSec="+restartAfter)
			op := h.login("op")
			h.whileDown = func() {
				if s, err := f.read(); err != nil || !slices.Equal(s.Holders, []string{h.id}) {
					t.Errorf("while the host is down the semaphore is %+v, %v", s, err)
				}
			}
			h.announce("4081.2.0")
			h.awaitStatus("users are logged in (op)")
			f.awaitHolders(h)
			op.await("System reboot in 1 minute!")
			pid := h.unit("locksmithd", "MainPID")
			h.do("systemctl", "restart", "systemd-logind")
			h.do("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "locksmithd")
			if name == "in time" {
				must.Eventually(t, patience, "a new process", func() bool { now := h.unit("locksmithd", "MainPID"); return now != pid && now != "0" })
				h.awaitStatus("users are logged in (op)")
				f.awaitHolders(h)
			} else if strings.Contains(h.scheduled(), "No scheduled") { // before systemd 257
				h.do("systemctl", "start", "locksmithd")
			}
			h.awaitReboot(before)
			h.awaitStatus("idle")
			f.awaitHolders()
		})
	}
}

func TestADaemonThatIsKilledLeavesNoRebootBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.add(1)
	f.start()
	h := f.hosts[0]
	before := h.awaitUp()
	h.withUnit("Restart=no")
	h.login("op")
	h.announce("4081.2.0")
	h.awaitStatus("users are logged in (op)")
	f.awaitHolders(h)
	if s := h.scheduled(); !strings.Contains(s, "Reboot scheduled for") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.do("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "locksmithd")
	h.awaitJournal("the reboot that was scheduled with logind is called off")
	must.Eventually(t, patience, "the end of the unit", func() bool { return h.unit("locksmithd", "ActiveState") == "failed" })
	if s := h.scheduled(); !strings.Contains(s, "No scheduled shutdown") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.wantNoReboot(before)
	// That was no user who cancelled.
	h.do("systemctl", "reset-failed", "locksmithd")
	h.do("systemctl", "start", "locksmithd")
	h.awaitStatus("users are logged in (op)")
}

func TestARestartKeepsThePlaceInTheQueueAndAStopDoesNot(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.add(2)
	f.start()
	first, second := f.hosts[0], f.hosts[1]
	other := machineID()
	first.do("locksmithctl", "lock", other)
	first.announce("4081.2.0")
	first.awaitStatus("waiting for a slot", "held by "+other)
	second.announce("4081.2.0")
	second.awaitStatus("in the queue behind " + first.id)
	for range 2 {
		pid := first.unit("locksmithd", "MainPID")
		first.do("systemctl", "restart", "locksmithd")
		if first.unit("locksmithd", "MainPID") == pid {
			t.Error("it was not restarted")
		}
		first.awaitStatus("waiting for a slot", "held by "+other)
		second.awaitStatus("in the queue behind " + first.id)
	}
	first.do("systemctl", "stop", "locksmithd")
	second.awaitStatus("waiting for a slot", "held by "+other)
	first.do("systemctl", "start", "locksmithd")
	first.awaitStatus("in the queue behind " + second.id)
}
