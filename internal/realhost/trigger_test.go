package realhost

import "testing"

func TestAMemberOfWheelRebootsOneHostWithoutEtcd(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitStatus("idle")
	before := h.awaitUp()
	h.sendNeedReboot("op")
	h.awaitReboot(before)
	h.awaitStatus("idle")
}

// sendNeedReboot has a user ask for a reboot. Its status says little: the program stays
// for two seconds, and the reboot may well end it.
func (h *host) sendNeedReboot(user string) result {
	h.t.Helper()
	return h.runAs(user, "locksmithctl", "send-need-reboot")
}
