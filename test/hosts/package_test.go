package hosts

import (
	"slices"
	"strings"
	"testing"
)

func TestAnUpgradeRestartsADaemonThatWaitsForASlot(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, first, second, other := startQueued(t)
	before := first.awaitUp()
	pid, version := first.unit("locksmithd", "MainPID"), first.do("locksmithctl", "-version")

	first.do("dpkg", "--install", nextPackageFile)
	if now := first.do("locksmithctl", "-version"); now == version {
		t.Errorf("after the upgrade locksmithctl is still %s", now)
	}
	eventually(t, "a new process", func() bool { now := first.unit("locksmithd", "MainPID"); return now != pid && now != "0" })
	first.awaitStatus("waiting for a slot", "held by "+other) // in the same place
	second.awaitStatus("waiting for a slot", "in the queue behind "+first.id)
	first.wantNoReboot(before)
	if got := first.unit("locksmithd", "Result"); got != "success" {
		t.Errorf("the result of locksmithd is %q", got)
	}

	witness := f.oneAtATime(nil)
	first.do("locksmithctl", "unlock", other)
	first.awaitReboot(before)
	second.awaitBoot(2)
	f.awaitHolders()
	witness.check(t, 2)
}

func TestAFreshPackageRebootsNothingUntilItIsToldTo(t *testing.T) {
	t.Parallel()
	h := startHost(t, "")
	before := h.awaitUp()
	ended := func() bool { return h.unit("locksmithd", "ActiveState") == "inactive" }
	eventually(t, "the end of locksmithd", ended)
	const advice = "REBOOT_STRATEGY is off, as installed; set it in /etc/locksmith/locksmith.conf"
	if got := h.run("systemctl", "status", "--no-pager", "locksmithd"); !strings.Contains(got.stdout, advice) {
		t.Errorf("systemctl status shows no advice: %+v", got)
	}
	h.do("dpkg", "--purge", "locksmith")
	h.do("rm", "/etc/flatcar/update.conf")
	if got := h.do("dpkg", "--install", packageFile); !strings.Contains(got, "locksmith does not reboot this host before you say so: set REBOOT_STRATEGY") {
		t.Errorf("the installation says\n%s", got)
	}
	eventually(t, "the end of the new locksmithd", ended)
	h.sendNeedReboot("op")
	h.do("touch", "/run/reboot-required")
	h.do("systemctl", "start", "locksmithd")
	eventually(t, "the end of the locksmithd that was started", ended)
	h.wantNoReboot(before)

	h.write("/etc/locksmith/locksmith.conf", "REBOOT_STRATEGY=reboot\n")
	h.do("systemctl", "restart", "locksmithd")
	h.awaitReboot(before) // for the file that the package's settings name
	h.awaitStatus("idle")
}

func TestThePackageIsRemovedPurgedAndInstalledCleanly(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	const conf = "# mine\nREBOOT_STRATEGY=reboot\n"
	h := startHost(t, conf)
	h.awaitStatus("idle")
	// All files of locksmith, except those of the tests.
	traces := func() []string {
		return strings.Fields(h.do("find", "/", "-xdev", "-ignore_readdir_race", "-iname", "*locksmith*", "-not", "-path", "/proc/*",
			"-not", "-path", packageFile, "-not", "-path", nextPackageFile, "-not", "-path", "/etc/systemd/system/locksmithd.service.d*"))
	}
	installed := traces()
	for _, path := range []string{"/usr/lib/locksmith/locksmithd", "/usr/bin/locksmithctl", "/usr/lib/systemd/system/locksmithd.service"} {
		if !slices.Contains(installed, path) && !slices.Contains(installed, strings.TrimPrefix(path, "/usr")) {
			t.Errorf("%s is not installed: %v", path, installed)
		}
	}

	h.do("dpkg", "--remove", "locksmith")
	if got := h.unit("locksmithd", "ActiveState"); got != "inactive" {
		t.Errorf("after the removal locksmithd is %s", got)
	}
	if r := h.run("pgrep", "locksmithd"); r.status == 0 {
		t.Errorf("after the removal locksmithd runs: %+v", r)
	}
	h.do("dpkg", "--install", packageFile)
	h.awaitStatus("idle")
	h.do("dpkg", "--remove", "locksmith")
	h.do("dpkg", "--purge", "locksmith")
	// systemd removes the folders of its PrivateTmp= in the background.
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Errorf("left after the purge: %v", left)
		}
	}()
	eventually(t, "the removal of all files", func() bool { left = traces(); return len(left) == 0 })
	if got := h.do("cat", "/etc/flatcar/update.conf"); got != conf {
		t.Errorf("update.conf, which the package does not own, is now %q", got)
	}

	h.do("dpkg", "--install", packageFile)
	h.awaitStatus("idle")
	if got := h.unit("locksmithd", "UnitFileState"); got != "enabled" {
		t.Errorf("after the installation locksmithd is %s", got)
	}
	before := h.awaitUp()
	h.sendNeedReboot("op")
	h.awaitReboot(before)
	h.awaitStatus("idle")

	// A unit that an administrator has disabled stays disabled.
	h.do("systemctl", "disable", "--now", "locksmithd")
	h.do("dpkg", "--install", nextPackageFile)
	if got := h.unit("locksmithd", "UnitFileState") + h.unit("locksmithd", "ActiveState"); got != "disabledinactive" {
		t.Errorf("after the upgrade of a disabled daemon its states are %s", got)
	}
}
