package processes

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// newSoftHost makes a host whose mode is soft-reboot, with a version of systemd, and hooks that say in the log when
// they run.
func newSoftHost(t *testing.T, conf string, version int) *host {
	t.Helper()
	h := newHost(t, conf+"LOCKSMITHD_REBOOT_MODE=soft-reboot\nLOCKSMITHD_REBOOT_SENTINEL=/run/reboot-required\n", withUnits)
	must.Do(t, os.MkdirAll(h.Path("/run/systemd/system"), 0o755))
	must.Do(t, h.Logind.SetVersion(version))
	for _, phase := range []hooks.Phase{hooks.BeforeReboot, hooks.RebootCancelled, hooks.AfterReboot} {
		must.Do(t, h.AddScript(phase, "10-say", "#!/bin/sh\necho hooks of "+string(phase)+"\n"))
	}
	return h
}

func TestHostComesBackFromASoftRebootAsFromAnyOther(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newSoftHost(t, g.conf(), 257)
	h.start()
	h.awaitIdle()
	said := func(before, after int) {
		t.Helper()
		for phase, want := range map[hooks.Phase]int{hooks.BeforeReboot: before, hooks.RebootCancelled: 0, hooks.AfterReboot: after} {
			if n := strings.Count(h.Log(), "hooks of "+string(phase)); n != want {
				t.Errorf("the hooks of %s have run %d times, want %d", phase, n, want)
			}
		}
	}
	// The file of the packages stays where it is. Once it is changed the reboot is asked for by hand as well, or the file
	// would have to wait.
	changed := time.Now().Add(-50 * time.Minute)
	for n := range 2 {
		h.requireReboot("", "libc6\n")
		must.Do(t, os.Chtimes(h.Path("/run/reboot-required"), changed, changed))
		must.Do(t, os.Chtimes(h.Path("/run/reboot-required.pkgs"), changed, changed))
		if n > 0 {
			h.awaitStatus("held back by the last soft reboot, which is not an hour ago: the file of the packages has been changed since")
			h.wantNoReboot()
			h.ctl("send-need-reboot")
		}
		if call := h.awaitReboot(); call.Flags != 4|1 {
			t.Errorf("logind was asked with the flags %d, want a soft reboot that inhibitors can prevent", call.Flags)
		}
		h.awaitStatus("rebooting: logind was asked", "for a soft reboot")
		h.awaitLog("every gate is open; a soft reboot instead of a full one")
		g.awaitHolders(h.id)
		said(n+1, n)
		must.Do(t, h.Halt())
		must.Do(t, h.SoftBoot(changed.Add(10*time.Minute)))
		h.awaitStatus("idle: no reboot is needed", "/run/reboot-required does not count, because it is from before the last soft reboot")
		g.awaitHolders()
		said(n+1, n+1)
		if _, err := os.Lstat(h.Path(hooks.DrainedPath)); err == nil {
			t.Error("the host has the mark of a drained one")
		}
		changed = changed.Add(20 * time.Minute)
	}
	h.wantNoReboot()
}

// The daemon keeps a request by hand over a restart in /run, which outlives a soft reboot.
func TestRequestByHandIsForOneSoftReboot(t *testing.T) {
	t.Parallel()
	h := newSoftHost(t, "REBOOT_STRATEGY=reboot\n", 257)
	h.start()
	h.awaitIdle()
	h.ctl("send-need-reboot")
	if call := h.awaitReboot(); call.Flags != 4|1 {
		t.Errorf("logind was asked with the flags %d, want a soft reboot", call.Flags)
	}
	must.Do(t, h.Halt())
	must.Do(t, h.SoftBoot(time.Now()))
	h.awaitIdle()
	h.wantNoReboot()
}

// A daemon that is started again is in the same boot, after a soft reboot too: it knows what the one before was doing.
func TestRestartAfterASoftRebootIsNoBoot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newSoftHost(t, g.conf(), 257)
	must.Do(t, h.AddScript(hooks.BeforeReboot, "20-drain", "#!/bin/sh\nexec sleep 1000\n"))
	must.Do(t, h.SoftBoot(time.Now().Add(-2*time.Hour)))
	h.awaitIdle()
	h.requireReboot("", "linux-image-6.1.0-28-amd64\n")
	h.awaitLog("hooks of " + string(hooks.BeforeReboot))
	g.awaitHolders(h.id)
	h.Daemon().Kill()
	h.start()
	h.awaitLog("hooks of " + string(hooks.RebootCancelled))
	if n := h.logged("hooks of " + string(hooks.AfterReboot)); n > 0 {
		t.Errorf("the checks of a boot have run %d times", n)
	}
}

func TestFullRebootWhereASoftOneIsNotPossibleOrNotEnough(t *testing.T) {
	t.Parallel()
	reboots := func(h *host, because string) {
		t.Helper()
		if call := h.awaitReboot(); call.Flags != 1 {
			t.Errorf("logind was asked with the flags %d, want a full reboot that inhibitors can prevent", call.Flags)
		}
		h.awaitLog("every gate is open; a full reboot, because " + because)
	}
	const conf = "REBOOT_STRATEGY=reboot\n"
	old := newSoftHost(t, conf, 252)
	old.start()
	old.requireReboot("", "")
	reboots(old, "this systemd is older than 256 and does not count soft reboots")
	old.awaitStatus("rebooting: logind was asked", "for a full reboot, because this systemd is older than 256")
	old.reboot()
	old.awaitLog("locksmithd has rebooted this host: a full reboot, because this systemd is older than 256")

	updated := newSoftHost(t, conf, 257)
	updated.startPending()
	reboots(updated, "nothing else boots the update of update_engine")

	mixed := newSoftHost(t, conf, 257)
	mixed.Logind.SetOld(true)
	mixed.start()
	mixed.requireReboot("", "")
	if call := mixed.awaitReboot(); call.Flags != 1 {
		t.Errorf("logind was asked with the flags %d, want a full reboot", call.Flags)
	}
	const refused = "a full reboot, because logind is older than systemd and refuses a soft reboot"
	mixed.awaitLog("logind was asked for " + refused)
	mixed.awaitStatus("rebooting: logind was asked", "for "+refused)
	mixed.reboot()
	mixed.awaitLog("locksmithd has rebooted this host: " + refused)
}

// What asked for the soft reboot is not satisfied by it: a full one follows.
func TestCommandThatASoftRebootDoesNotChangeGetsAFullReboot(t *testing.T) {
	t.Parallel()
	h := newSoftHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_REBOOT_SENTINEL_COMMAND=\"echo the kernel is another\"\n", 257)
	h.start()
	if call := h.awaitReboot(); call.Flags != 4|1 {
		t.Errorf("logind was asked with the flags %d, want a soft reboot", call.Flags)
	}
	must.Do(t, h.Halt())
	must.Do(t, h.SoftBoot(time.Now()))
	if call := h.awaitReboot(); call.Flags != 1 {
		t.Errorf("logind was asked with the flags %d, want a full reboot", call.Flags)
	}
	h.awaitLog("every gate is open; a full reboot, because the last soft reboot did not change what the sentinel command says")
}

func TestDaemonDoesNotGuessWhichBootThisIs(t *testing.T) {
	t.Parallel()
	h := newSoftHost(t, "REBOOT_STRATEGY=reboot\n", 257)
	h.Logind.Refuse("SoftRebootsCount", accessDenied, "not you")
	h.start()
	first := h.Daemon()
	h.awaitLog("asking again", "find out which boot this is", "not you")
	if s := h.Status(); s != "" {
		t.Errorf("the status is %q", s)
	}
	h.Logind.Heal("SoftRebootsCount")
	h.awaitIdle()
	if h.Daemon() != first {
		t.Error("it has ended")
	}
}

// The need for a full reboot outlives a soft one, whoever has asked for that.
func TestFileForAKernelGetsAFullRebootAfterASoftOne(t *testing.T) {
	t.Parallel()
	h := newSoftHost(t, "REBOOT_STRATEGY=reboot\n", 257)
	h.requireReboot("", "linux-image-6.1.0-28-amd64\n")
	before := time.Now().Add(-time.Hour)
	must.Do(t, os.Chtimes(h.Path("/run/reboot-required"), before, before))
	must.Do(t, os.Chtimes(h.Path("/run/reboot-required.pkgs"), before, before))
	must.Do(t, h.SoftBoot(time.Now()))
	if call := h.awaitReboot(); call.Flags != 1 {
		t.Errorf("logind was asked with the flags %d, want a full reboot", call.Flags)
	}
	h.awaitLog("every gate is open; a full reboot, because a soft one does not start another kernel, which is needed: ", "linux-image-6.1.0-28-amd64")
}

// A reload may make the file count, or not any more.
func TestFileCountsByTheModeInForce(t *testing.T) {
	t.Parallel()
	conf := func(mode string) string {
		return "REBOOT_STRATEGY=reboot\nLOCKSMITHD_REBOOT_SENTINEL=/run/reboot-required\nLOCKSMITHD_REBOOT_MODE=" + mode + "\n"
	}
	h := newHost(t, conf("soft-reboot"))
	must.Do(t, os.MkdirAll(h.Path("/run/systemd/system"), 0o755))
	must.Do(t, os.MkdirAll(h.Path("/run/locksmith"), 0o755))
	must.Do(t, os.WriteFile(h.Path("/run/locksmith/hold"), nil, 0o600))
	h.requireReboot("", "")
	before := time.Now().Add(-time.Hour)
	must.Do(t, os.Chtimes(h.Path("/run/reboot-required"), before, before))
	must.Do(t, h.Logind.SetVersion(257))
	must.Do(t, h.SoftBoot(time.Now()))
	h.awaitStatus("idle", "does not count")
	h.reload(conf("reboot"))
	h.awaitStatus("reboot needed", "held back by the file ", "/run/locksmith/hold")
	h.reload(conf("soft-reboot"))
	h.awaitStatus("idle", "does not count")
}
