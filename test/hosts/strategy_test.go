package hosts

import (
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/updateconf"
)

func TestARebootWaitsForTheWindowOfUpdateConf(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n"+updateconf.ShutWindow())
	before := h.awaitUp()
	h.announce("4081.2.0")
	h.awaitStatus("reboot needed since", "for version 4081.2.0", "for the reboot window, which opens")
	h.wantCoordinator("reboot", "reboot-planned")

	// systemctl status shows the state, and the log line of the transition: to, from, why, next.
	h.syncJournal()
	status := h.do("systemctl", "status", "--no-pager", "--lines=50", "locksmithd")
	for _, want := range []string{
		`Active: active \(running\)`,
		`Status: "reboot needed since .*, which opens .*"`,
		`: msg=waiting from=idle why="a reboot is needed" status="reboot needed since .*, which opens .*"`,
	} {
		if !regexp.MustCompile(want).MatchString(status) {
			t.Errorf("systemctl status shows no match for %s:\n%s", want, status)
		}
	}

	h.write("/etc/flatcar/update.conf", "REBOOT_STRATEGY=reboot\n"+updateconf.OpenWindow())
	h.wantNoReboot(before)
	h.run("systemctl", "reload", "locksmithd") // the reboot may end it
	h.awaitReboot(before)
	h.awaitStatus("idle: no reboot is needed since")
	h.wantCoordinator("reboot", "running")
}

func TestStrategyOffIsACleanExit(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=off\n")
	h.wantCoordinator("off", "disabled")
	eventually(t, "the end of locksmithd", func() bool { return h.unit("locksmithd", "ActiveState") == "inactive" })
	for property, want := range map[string]string{
		"SubState": "dead", "Result": "success",
		"ExecMainCode":   "1", // CLD_EXITED
		"ExecMainStatus": "0", "NRestarts": "0",
	} {
		if got := h.unit("locksmithd", property); got != want {
			t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	h.awaitJournal("the reboot strategy is off")
	before := h.awaitUp()
	h.sendNeedReboot("op")
	h.write("/etc/flatcar/update.conf", "REBOOT_STRATEGY=reboot\n")
	h.do("systemctl", "start", "locksmithd")
	h.awaitStatus("idle")
	h.wantNoReboot(before)
	h.sendNeedReboot("op")
	h.awaitReboot(before)
}

func TestReloadAppliesAValidConfigurationAndRefusesAnInvalidOne(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	old, f := newFleet(t), newFleet(t)
	h := startHost(t, old.conf(updateconf.ShutWindow()))
	before := h.awaitUp()
	h.announce("4081.2.0")
	h.awaitStatus("for the reboot window")
	pid := h.unit("locksmithd", "MainPID")

	h.write("/etc/flatcar/update.conf", "REBOOT_STRATEGY=ectd-lock\n")
	h.do("systemctl", "reload", "locksmithd")
	refusal := h.awaitJournal("the new configuration is refused")
	if !contains.All(refusal, "REBOOT_STRATEGY", "ectd-lock", "/etc/flatcar/update.conf") {
		t.Errorf("the refusal does not name the setting, its value and the file: %s", refusal)
	}
	h.awaitStatus("for the reboot window")

	h.write("/etc/flatcar/update.conf", f.conf(updateconf.ShutWindow()))
	h.do("systemctl", "reload", "locksmithd")
	h.awaitJournal("the new configuration is in force")
	if now := h.unit("locksmithd", "MainPID"); now != pid {
		t.Errorf("the daemon was process %s and is %s after a reload", pid, now)
	}
	f.wantHeldWhileDown(h)
	h.write("/etc/flatcar/update.conf", f.conf(updateconf.OpenWindow()))
	h.run("systemctl", "reload", "locksmithd")
	h.awaitReboot(before)
	f.awaitHolders()
}

func TestTheUnitDoesNotStartBesideAnotherCoordinator(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	const file = "/run/update-engine/coordinator.conf"
	if r := h.run("flock", "--nonblock", "--shared", file, "true"); r.status == 0 {
		t.Error("another process can lock the coordinator file while the daemon runs")
	}
	h.do("systemctl", "stop", "locksmithd")
	h.do("sh", "-c", `printf 'NAME=other-coordinator\nSTRATEGY=best\nSTATE=running\n' > `+file)
	h.do("systemd-run", "--unit=other", "flock", file, "sleep", "infinity")
	eventually(t, "the lock on the coordinator file", func() bool { return h.run("flock", "--nonblock", file, "true").status != 0 })

	if r := h.run("systemctl", "start", "locksmithd"); r.status == 0 {
		t.Errorf("systemctl start succeeds beside another coordinator: %+v", r)
	}
	h.awaitJournal(file, "other-coordinator")
	if got := h.do("cat", file); !strings.Contains(got, "NAME=other-coordinator\n") {
		t.Errorf("the file of the other coordinator is now\n%s", got)
	}
	h.do("systemctl", "stop", "other")
	// Restart=on-failure
	eventually(t, "the restart of locksmithd", func() bool { return h.unit("locksmithd", "ActiveState") == "active" })
	h.wantCoordinator("reboot", "running")
}

func TestTheUnitIsSkippedInContainersAndWhereNothingUpdates(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.do("systemctl", "stop", "locksmithd")
	h.do("touch", "/usr/.noupdate")
	h.do("systemctl", "start", "locksmithd")
	if got := h.unit("locksmithd", "ConditionResult") + h.unit("locksmithd", "ActiveState"); got != "noinactive" {
		t.Errorf("with /usr/.noupdate ConditionResult and ActiveState are %s", got)
	}
	h.do("rm", "/usr/.noupdate")
	h.do("systemctl", "start", "locksmithd")
	h.awaitStatus("idle")
	h.do("systemctl", "stop", "locksmithd")
	h.do("rm", "/etc/systemd/system/locksmithd.service.d/container.conf")
	h.do("systemctl", "daemon-reload")
	h.do("systemctl", "start", "locksmithd")
	if got := h.unit("locksmithd", "ConditionResult") + h.unit("locksmithd", "ActiveState"); got != "noinactive" {
		t.Errorf("in a container ConditionResult and ActiveState are %s", got)
	}
}
