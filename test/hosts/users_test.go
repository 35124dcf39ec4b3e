package hosts

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/updateconf"
)

func TestAUserWhoIsLoggedInIsToldAndTheRebootComesWhenTheyHaveLeft(t *testing.T) {
	t.Parallel()
	f, h := startOne(t)
	before := h.awaitUp()
	// Neither a user's manager nor a session that is not a person's counts as somebody at work.
	h.do("loginctl", "enable-linger", "joe")
	for _, class := range []string{"background", "greeter"} {
		h.do("systemd-run", "--uid=joe", "--property=PAMName=login", "--setenv=XDG_SESSION_CLASS="+class, "sleep", "infinity")
		eventually(t, "a session of class "+class, func() bool {
			return strings.Contains(h.do("sh", "-c", "loginctl --no-legend list-sessions | while read id rest; do loginctl show-session -p Class $id; done"), class)
		})
	}
	op := h.login("op")
	h.announce("4081.2.0")
	h.awaitStatus("users are logged in (op)", "shutdown -c")
	f.awaitHolders(h)
	op.await("System reboot in 5 minutes!", "4081.2.0", "shutdown -c")
	if s := h.scheduled(); !strings.Contains(s, "Reboot scheduled for") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.wantNoReboot(before)
	// A process that runs after the logout keeps the session in the state closing.
	op.enter("setsid sleep 1000 & exit")
	h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()
	if s := h.scheduled(); strings.Contains(s, "Reboot scheduled for") {
		t.Errorf("after the reboot shutdown --show: %s", s)
	}
}

// Users cannot hide behind logind's answer about their session.
func TestAUserWithAnUnreadableSessionIsToldAndDoesNotHoldTheRebootUp(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_LOGIN_DELAY=20s\n")
	before := h.awaitUp()
	op := h.login("op")
	op.enter("longsession &")
	op.await("the session has a long display")
	h.announce("4081.2.0")
	h.awaitStatus("users are logged in (op)")
	op.await("System reboot in 20 seconds!")
	h.awaitReboot(before)
}

func TestARebootThatAUserCancelsIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	h, other := f.hosts[0], f.hosts[1]
	before := h.awaitUp()
	op := h.login("op")
	h.announce("4081.2.0")
	op.await("System reboot in 5 minutes!")
	f.awaitHolders(h)
	h.do("shutdown", "-c")
	h.awaitStatus("cancelled")
	f.awaitHolders()
	h.wantNoReboot(before)
	// Other hosts reboot in the meantime.
	otherBefore := other.awaitUp()
	other.announce("4081.2.0")
	other.awaitReboot(otherBefore)
	h.wantNoReboot(before)
	// The time until the next attempt counts from the cancellation.
	h.write("/etc/flatcar/update.conf", f.conf("LOCKSMITHD_LOGIN_DELAY=10s", "LOCKSMITHD_LOGIN_RETRY=1m"))
	h.do("systemctl", "reload", "locksmithd")
	op.await("System reboot in 10 seconds!")
	h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()
}

func TestNoSlotIsTakenForUsersWhoseTimeWouldOutlastTheWindow(t *testing.T) {
	t.Parallel()
	f, h := startOne(t, updateconf.Window(-time.Hour, time.Hour+20*time.Minute), "LOCKSMITHD_LOGIN_DELAY=30m")
	before := h.awaitUp()
	op := h.login("op")
	h.announce("4081.2.0")
	h.awaitStatus("held back by users who are logged in (op)", "window shuts")
	f.awaitHolders()
	h.wantNoReboot(before)
	h.write("/etc/flatcar/update.conf", f.conf(updateconf.OpenWindow()))
	h.do("systemctl", "reload", "locksmithd")
	op.await("System reboot in 5 minutes!")
	f.awaitHolders(h)
}

func TestADaemonThatIsStoppedCallsTheRebootOff(t *testing.T) {
	t.Parallel()
	f, h := startOne(t)
	before := h.awaitUp()
	f.holdForUser(h)
	h.do("systemctl", "stop", "locksmithd")
	f.awaitHolders()
	if s := h.scheduled(); !strings.Contains(s, "No scheduled shutdown") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.wantNoReboot(before)
}

// logind does not know of a shutdown that it was not asked for. The slot covers that shutdown, too.
func TestAHostRebootedWithoutLogindKeepsItsSlotUntilItIsBack(t *testing.T) {
	t.Parallel()
	f, h := startOne(t)
	before := h.awaitUp()
	f.holdForUser(h)
	f.wantHeldWhileDown(h)
	h.do("systemctl", "start", "--no-block", "reboot.target")
	h.awaitReboot(before)
	f.awaitHolders()
}

func TestABlockInhibitorHoldsTheRebootBackBeforeTheLock(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	h, other := f.hosts[0], f.hosts[1]
	before := h.awaitUp()
	h.inhibit("backup")
	h.announce("4081.2.0")
	h.awaitStatus("held back by", "backup", "nightly copy", "root")
	f.awaitHolders()
	otherBefore := other.awaitUp()
	other.announce("4081.2.0")
	other.awaitReboot(otherBefore)
	h.wantNoReboot(before)
	h.do("systemctl", "stop", "backup")
	h.awaitReboot(before)
	f.awaitHolders()
}

func TestAHostLeavesTheQueueWhenAnInhibitorAppears(t *testing.T) {
	t.Parallel()
	_, h := startOne(t)
	before := h.awaitUp()
	someone := machineID()
	h.do("locksmithctl", "lock", someone)
	h.announce("4081.2.0")
	h.awaitStatus("waiting for a slot", "held by "+someone)
	h.inhibit("backup")
	h.awaitStatus("held back by", "backup")
	if status := h.do("locksmithctl", "status", "-o", "wide"); strings.Contains(status, "PLACE") {
		t.Errorf("the queue is not empty:\n%s", status)
	}
	h.do("locksmithctl", "unlock", someone)
	h.wantNoReboot(before)
	h.do("systemctl", "stop", "backup")
	h.awaitReboot(before)
}

func TestPastMaxPostponeNeitherUsersNorInhibitorsHoldTheRebootBack(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_LOGIN_DELAY=10s\nLOCKSMITHD_MAX_POSTPONE=20s\n")
	before := h.awaitUp()
	op := h.login("op")
	h.inhibit("backup")
	h.announce("4081.2.0")
	h.awaitStatus("held back by", "backup", "until")
	op.await("System reboot in 10 seconds!", "cannot be cancelled")
	h.awaitReboot(before)
}

func TestAShutdownOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	before := h.awaitUp()
	h.do("shutdown", "-P", "+600", "new power supply")
	h.announce("4081.2.0")
	h.awaitStatus("held back by", "poweroff")
	if s := h.scheduled(); !strings.Contains(s, "Shutdown scheduled for") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.wantNoReboot(before)
	h.do("shutdown", "-c")
	h.awaitReboot(before)
}

func TestWithoutLogindTheHostWaits(t *testing.T) {
	t.Parallel()
	f, h := startOne(t)
	before := h.awaitUp()
	h.do("systemctl", "mask", "--runtime", "--now", "systemd-logind")
	h.announce("4081.2.0")
	h.awaitStatus("reboot needed since", "held back by", "logind")
	f.awaitHolders()
	h.wantNoReboot(before)
	h.do("systemctl", "unmask", "--runtime", "systemd-logind")
	h.do("systemctl", "start", "systemd-logind")
	h.awaitReboot(before)
}

func TestRebootByHandIsRefusedWhileSomebodyIsAtWork(t *testing.T) {
	t.Parallel()
	f, h := startOne(t, updateconf.ShutWindow())
	before := h.awaitUp()
	refused := func(parts ...string) {
		t.Helper()
		r := h.run("locksmithctl", "reboot")
		if r.status != 1 || !contains.All(r.stderr, append(parts, "-force")...) {
			t.Errorf("locksmithctl reboot: %+v, want status 1 and %q", r, parts)
		}
		f.awaitHolders()
	}
	refused("held back by the reboot window, which opens")
	h.write("/etc/flatcar/update.conf", f.conf())
	h.inhibit("backup")
	op := h.login("op")
	refused("backup", "nightly copy", "root", "users who are logged in (op on pts/")
	h.do("systemctl", "stop", "backup")
	refused("users who are logged in (op on pts/")
	if r := h.runAs("op", "locksmithctl", "reboot"); r.status != 1 || !strings.Contains(r.stderr, "only root") {
		t.Errorf("op runs locksmithctl reboot: %+v", r)
	}
	op.enter("exit")
	eventually(t, "the end of the session", func() bool { return !strings.Contains(h.do("loginctl", "--no-legend", "list-sessions"), " op ") })

	// The caller's own session does not block the reboot, nor does run0 where it exists, and -wait waits for the
	// slot.
	someone := machineID()
	h.do("locksmithctl", "lock", someone)
	root := h.login("root")
	root.enter("$(command -v run0) locksmithctl reboot -wait")
	root.await("held by " + someone)
	h.wantNoReboot(before)
	f.wantHeldWhileDown(h)
	h.do("locksmithctl", "unlock", someone)
	after := h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()

	h.inhibit("backup")
	h.login("op")
	refused("backup", "users who are logged in (op on pts/")
	h.run("locksmithctl", "reboot", "-force")
	h.awaitReboot(after)
	f.awaitHolders()
}
