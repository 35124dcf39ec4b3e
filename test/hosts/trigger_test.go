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

// The distribution's bus lets anybody broadcast the signal.
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
		t.Errorf("it is not a warning; the warnings are %q", warnings)
	}
	h.awaitStatus("idle")
	h.wantNoReboot(before)
	h.syncJournal()
	if journal := h.journal(); strings.Contains(journal, "a reboot is needed") {
		t.Errorf("it was believed:\n%s", journal)
	}
	// Nobody but root may own the name, so that nobody else can be update_engine.
	r := h.runAs("joe", "busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", "su", "com.coreos.update1", "0")
	if r.status == 0 || !strings.Contains(r.stderr, "Access denied") {
		t.Errorf("joe asks for the name of update_engine: %+v", r)
	}
	h.sendNeedReboot("root")
	h.awaitReboot(before)
}

// sendNeedReboot has a user ask for a reboot. How it ends says little when the user is
// believed: it stays for two seconds, and the reboot may well end it.
func (h *host) sendNeedReboot(user string) result {
	h.t.Helper()
	return h.runAs(user, "locksmithctl", "send-need-reboot")
}
