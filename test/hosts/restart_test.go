package hosts

import (
	"strings"
	"testing"
)

// Nothing calls the reboot off after the daemon has died. If the next daemon starts late, the host reboots by the
// schedule of the dead daemon, with its slot. If the next one starts in time, it calls the reboot off and starts
// over.
func TestARebootOfADaemonThatDiedHasItsSlotThoughLogindWasRestarted(t *testing.T) {
	t.Parallel()
	for name, restartAfter := range map[string]string{"in time": "1s", "too late": "infinity"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, h := startOne(t, "LOCKSMITHD_LOGIN_DELAY=60s")
			before := h.awaitUp()
			h.withUnit("ExecStopPost=", "RestartSec="+restartAfter)
			op := h.login("op")
			f.wantHeldWhileDown(h)
			h.announce("4081.2.0")
			h.awaitStatus("users are logged in (op)")
			f.awaitHolders(h)
			op.await("System reboot in 1 minute!")
			pid := h.unit("locksmithd", "MainPID")
			h.do("systemctl", "restart", "systemd-logind")
			h.do("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "locksmithd")
			if name == "in time" {
				eventually(t, "a new process", func() bool { now := h.unit("locksmithd", "MainPID"); return now != pid && now != "0" })
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
	f, h := startOne(t)
	before := h.awaitUp()
	h.withUnit("Restart=no")
	f.holdForUser(h)
	if s := h.scheduled(); !strings.Contains(s, "Reboot scheduled for") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.do("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "locksmithd")
	h.awaitJournal("the reboot that was scheduled with logind is called off")
	eventually(t, "the end of the unit", func() bool { return h.unit("locksmithd", "ActiveState") == "failed" })
	if s := h.scheduled(); !strings.Contains(s, "No scheduled shutdown") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.wantNoReboot(before)
	// The next daemon does not take that for a cancellation by a user.
	h.do("systemctl", "reset-failed", "locksmithd")
	h.do("systemctl", "start", "locksmithd")
	h.awaitStatus("users are logged in (op)")
}

func TestARestartKeepsThePlaceInTheQueueAndAStopDoesNot(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	_, first, second, other := startQueued(t)
	for range 2 {
		pid := first.unit("locksmithd", "MainPID")
		first.do("systemctl", "restart", "locksmithd")
		if first.unit("locksmithd", "MainPID") == pid {
			t.Error("locksmithd was not restarted")
		}
		first.awaitStatus("waiting for a slot", "held by "+other)
		second.awaitStatus("in the queue behind " + first.id)
	}
	first.do("systemctl", "stop", "locksmithd")
	second.awaitStatus("waiting for a slot", "held by "+other)
	first.do("systemctl", "start", "locksmithd")
	first.awaitStatus("in the queue behind " + second.id)
}
