package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
)

// What a vendor requires of a boot counts without a line of ours, unless the settings say that it does not. Told to
// hold, an unwell host keeps its slot, and stops nobody who finds another one free.
func TestBootThatIsNotCompleteHoldsTheSlot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	conf := g.conf("LOCKSMITHD_MAX=2", "LOCKSMITHD_HEALTH_TIMEOUT=3s", "LOCKSMITHD_HEALTH_FAILURE=hold")
	h := newHost(t, conf)
	h.Logind.SetUnit("greenboot-healthcheck.service", bustest.Unit{Run: bustest.Exits(1, "20-disk: no space is left")})
	h.Logind.SetUnit("boot-complete.target", bustest.Unit{Requires: []string{"greenboot-healthcheck.service"}})
	h.startPending()
	h.awaitReboot()
	h.reboot()
	h.awaitStatus("this host is unwell after its reboot", "boot-complete.target: greenboot-healthcheck.service failed with exit status 1: 20-disk: no space is left")
	g.awaitHolders(h.id)

	other := startPending(t, conf)
	other.awaitReboot()
	g.awaitHolders(h.id, other.id)
	other.reboot()
	g.awaitHolders(h.id)

	h.reload(conf + "LOCKSMITHD_BOOT_COMPLETE=false\nLOCKSMITHD_RELEASE_DELAY=1h\n")
	h.awaitStatus("this host is well, and gives the slot back")
	g.awaitHolders(h.id)
	h.reload(conf + "LOCKSMITHD_BOOT_COMPLETE=false\n")
	g.awaitHolders()
	h.awaitIdle()
}
