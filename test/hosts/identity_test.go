package hosts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// holdAtTheEnd gives the host a service that, once started, delays shutdowns until it is stopped. A host that has
// asked for its reboot then stays up, with its slot.
func (h *host) holdAtTheEnd() {
	h.t.Helper()
	h.write("/etc/systemd/logind.conf.d/delay.conf", "[Login]\nInhibitDelayMaxSec=1h\n")
	h.write("/etc/systemd/system/delay.service", "[Service]\nExecStart=systemd-inhibit --what=shutdown --mode=delay sleep infinity\n")
}

// These hosts can be recognized only by their disk, since containers share the hardware.
func TestAHostRenamedByItsRebootReleasesItsSlot(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	f.add(1)
	h := f.hosts[0]
	f.start()
	before := h.awaitUp()
	h.write("/etc/hostname", h.name+".example.com\n")
	h.announce("4081.2.0")
	h.awaitReboot(before)
	if got, want := strings.TrimSpace(h.do("cat", "/proc/sys/kernel/hostname")), h.name+".example.com"; got != want {
		t.Fatalf("the name of the host is %q, want %q", got, want)
	}
	f.awaitHolders()
	h.awaitStatus("idle")
	h.awaitJournal("settling", "from before this boot")
	if got, want := h.do("stat", "--format=%a %U", "/var/lib/locksmith", "/var/lib/locksmith/token"), "700 root\n600 root\n"; got != want {
		t.Errorf("the tokens have the mode %q, want %q", got, want)
	}
}

// The second host is a copy of the first, from before the slot that the first holds.
func TestACloneLeavesTheSlotAlone(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	f := newFleet(t)
	f.add(2)
	h, clone := f.hosts[0], f.hosts[1]
	h.holdAtTheEnd()
	h.powerOn()
	before := h.awaitUp()
	h.awaitStatus("idle")
	h.announce("4081.2.0")
	before = h.awaitReboot(before)
	f.awaitHolders()
	h.awaitStatus("idle")

	token, err := os.ReadFile(filepath.Join(h.root, "var/lib/locksmith/token"))
	must.Do(t, err)
	clone.write("/var/lib/locksmith/token", string(token))
	clone.write("/etc/machine-id", h.id+"\n")
	h.do("systemctl", "start", "delay")
	eventually(t, "the delay inhibitor", func() bool {
		return strings.Contains(h.do("systemd-inhibit", "--list", "--no-legend"), "delay")
	})
	h.announce("4081.2.1")
	h.awaitStatus("rebooting: logind was asked")
	f.awaitHolders(h)

	clone.powerOn()
	up := clone.awaitUp()
	clone.announce("4081.2.1")
	clone.awaitStatus("two hosts have the machine id "+h.id, "this is "+clone.name+", but "+h.name+" has", "they differ in disk and name;")
	if r := clone.run("locksmithctl", "unlock"); r.status != 1 || !strings.Contains(r.stderr, "they differ in disk and name;") {
		t.Errorf("locksmithctl unlock: %+v", r)
	}
	clone.wantNoReboot(up)
	f.awaitHolders(h)

	h.do("systemctl", "stop", "delay")
	h.awaitReboot(before)
	clone.awaitReboot(up)
	f.awaitHolders()
}

// The unit starts, and the daemon warns about what it cannot write.
func TestAHostWithAReadOnlyDiskReboots(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f := newFleet(t)
	f.add(1)
	h := f.hosts[0]
	h.write("/etc/systemd/system/read-only.service", `[Unit]
# logind does not start without a writable disk.
After=systemd-logind.service
Before=locksmithd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount --bind -o ro /var/lib /var/lib
`)
	h.write("/etc/systemd/system/locksmithd.service.d/read-only.conf", "[Unit]\nRequires=read-only.service\n")
	f.start()
	before := h.awaitUp()
	if r := h.run("touch", "/var/lib/x"); r.status == 0 {
		t.Fatal("the disk is writable")
	}
	h.announce("4081.2.0")
	h.awaitReboot(before)
	f.awaitHolders()
	h.awaitStatus("idle")
	if log := h.do("journalctl", "--unit=locksmithd", "--output=cat", "--no-pager"); !strings.Contains(log, "a reboot that renames this host") {
		t.Errorf("the journal does not warn:\n%s", log)
	}
}
