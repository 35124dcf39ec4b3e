package hosts

import (
	"strings"
	"testing"
)

func TestAMemberOfWheelRebootsOneHostWithoutEtcd(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitStatus("idle")
	before := h.awaitUp()
	h.sendNeedReboot("op")
	h.awaitReboot(before)
	h.awaitStatus("idle")
}

// The distribution's bus allows anybody to broadcast the signal.
func TestARebootSignalOfAnybodyElseIsRefusedWithUserAndProcess(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	before := h.awaitUp()
	if r := h.sendNeedReboot("joe"); r.status != 1 || !strings.Contains(r.stderr, `nothing was sent, because locksmithd would not believe user "joe"`) {
		t.Errorf("locksmithctl send-need-reboot: %+v", r)
	}
	if r := h.runAs("joe", "env", "LOCKSMITHD_TRIGGER_GROUPS=joe", "locksmithctl", "send-need-reboot"); r.status != 0 {
		t.Errorf("locksmithctl send-need-reboot: %+v", r)
	}
	h.awaitJournal(`user \"joe\"`, `process \"locksmithctl\"`)
	warnings := h.do("journalctl", "--boot", "--unit=locksmithd", "--priority=warning..warning", "--output=cat")
	if !strings.Contains(warnings, "joe") {
		t.Errorf("there is no warning about joe; the warnings are %q", warnings)
	}
	h.awaitStatus("idle")
	h.wantNoReboot(before)
	h.syncJournal()
	if journal := h.journal(); strings.Contains(journal, "a reboot is needed") {
		t.Errorf("the daemon accepted the signal:\n%s", journal)
	}
	// Only root may own the name, so nobody else can pose as update_engine.
	r := h.runAs("joe", "busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", "su", "com.coreos.update1", "0")
	if r.status == 0 || !strings.Contains(r.stderr, "Access denied") {
		t.Errorf("joe asks for the name of update_engine: %+v", r)
	}
	h.sendNeedReboot("root")
	h.awaitReboot(before)
}
