package hosts

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// runUntilTheEnd runs a program on a host that may end all processes meanwhile, which can leave nsenter stopped.
func (h *host) runUntilTheEnd(b *boot, args ...string) result {
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	return b.run(ctx, args...)
}

// awaitSoftReboot waits until systemd has counted n soft reboots, in the same boot of the kernel.
func (h *host) awaitSoftReboot(before *boot, n int) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("soft reboot %d of %s", n, h.name), func() bool {
		r := h.runUntilTheEnd(before, "systemctl", "show", "--property=SoftRebootsCount")
		return strings.TrimSpace(r.stdout) == fmt.Sprintf("SoftRebootsCount=%d", n)
	})
	h.wantNoReboot(before)
	if id := h.readBootID(before); id != before.id {
		h.t.Errorf("after soft reboot %d of %s the boot id of the kernel is %s, and was %s", n, h.name, id, before.id)
	}
}

// The first one is asked for by packages while a user is logged in, the second by packages, too soon, and by hand, and
// the third is one in spite of an inhibitor, for which systemd 257 is asked instead of logind.
func TestAHostWithASoftRebootGivesItsSlotBackAfterHooksAndChecks(t *testing.T) {
	t.Parallel()
	f, h := startOne(t, "LOCKSMITHD_REBOOT_MODE=soft-reboot", "LOCKSMITHD_REBOOT_SENTINEL=/run/reboot-required", "LOCKSMITHD_LOGIN_DELAY=10s")
	h.record()
	before := h.awaitUp()
	if suiteName == "bookworm" { // systemd 252
		h.sendNeedReboot("root")
		after := h.awaitReboot(before)
		h.awaitStatus("idle")
		f.awaitHolders()
		h.wantNotDrained()
		if journal := h.do("journalctl", "--unit=locksmithd", "--boot=-1", "--output=cat"); !strings.Contains(journal, "every gate is open; a full reboot, because this systemd is older than 256") {
			t.Errorf("the journal of the boot before %s does not say why it was a full reboot:\n%s", after.id, journal)
		}
		if r := h.runUntilTheEnd(after, "locksmithctl", "reboot"); !strings.Contains(r.stderr, "this is a full reboot, because this systemd is older than 256") {
			t.Errorf("locksmithctl reboot: %+v", r)
		}
		return
	}

	// Where the host boots as a whole, systemd may report the end of that only once this has ended.
	h.script("after-reboot", "50-check", until("/run/checked")+"\nrecord 50-check")
	var hooks []string
	back := func(n int) {
		t.Helper()
		h.awaitSoftReboot(before, n)
		h.awaitHook("after-reboot", recorder, n)
		h.awaitStatus("checking whether this host is well after its reboot")
		f.awaitHolders(h)
		h.do("touch", "/run/checked")
		h.awaitStatus("idle")
		f.awaitHolders()
		h.do("rm", "/run/checked")
		hooks = append(hooks, "before-reboot:"+recorder, "after-reboot:"+recorder, "after-reboot:50-check")
		h.wantHooks(hooks...)
		if r := h.run("test", "-e", "/run/locksmith/drained"); r.status != 1 {
			t.Errorf("%s has the mark of a drained host", h.name)
		}
		if s := h.scheduled(); strings.Contains(s, "scheduled for") {
			t.Errorf("after the reboot shutdown --show: %s", s)
		}
	}
	op := h.login("op")
	h.do("touch", "/run/reboot-required")
	op.await("System reboot in 10 seconds!")
	back(1)
	h.awaitJournal("every gate is open; a soft reboot instead of a full one")
	h.awaitStatus("idle", "/run/reboot-required does not count, because it is from before the last soft reboot")

	h.do("touch", "/run/reboot-required")
	h.awaitStatus("held back by the last soft reboot, which is not an hour ago")
	h.sendNeedReboot("root")
	back(2)

	h.do("shutdown", "-r", "+60")
	h.inhibit("backup")
	if r := h.run("locksmithctl", "reboot"); r.status != 1 || !strings.Contains(r.stderr, "backup") {
		t.Errorf("locksmithctl reboot with an inhibitor: %+v", r)
	}
	if r := h.runUntilTheEnd(before, "locksmithctl", "reboot", "-force"); !strings.Contains(r.stderr, "this is a soft reboot instead of a full one") {
		t.Errorf("locksmithctl reboot -force: %+v", r)
	}
	back(3)
}
