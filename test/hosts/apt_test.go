package hosts

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

// upgrade runs what the daily timers of apt start: it fetches the lists of packages, and then runs unattended-upgrades.
func (h *host) upgrade() {
	h.t.Helper()
	h.do("systemctl", "start", "apt-daily.service")
	h.do("systemctl", "start", "apt-daily-upgrade.service")
}

// beginSlowInstallation has apt install the package slow, and waits until that is under way.
func (h *host) beginSlowInstallation() {
	h.t.Helper()
	h.do("apt-get", "update")
	h.beginSlow("apt-get", "--yes", "install", slow)
}

// beginSlow begins what installs the package slow, and waits until it is under way.
func (h *host) beginSlow(args ...string) {
	h.t.Helper()
	h.do(append([]string{"systemd-run", "--unit=installation", "--setenv=DEBIAN_FRONTEND=noninteractive"}, args...)...)
	eventually(h.t, "the installation", func() bool { return h.run("test", "-e", slowBegun).status == 0 })
}

// wantInstalled fails if a package of the repository is not installed.
func (h *host) wantInstalled(names ...string) {
	h.t.Helper()
	for _, name := range names {
		if got := h.do("dpkg-query", "--show", "--showformat=${Status} ${Version}", name); got != "install ok installed 2" {
			h.t.Errorf("on %s the package %s is %q", h.name, name, got)
		}
	}
}

// wantReason is for a witness: the record of the slot of a host that is down must have the parts of a reason.
func (f *fleet) wantReason(parts ...string) func(*host) error {
	return func(h *host) error {
		r, err := f.client.Get(f.t.Context(), "coreos.com/updateengine/rebootlock/groups/"+f.group+"/holders/"+h.id)
		if err != nil || len(r.Kvs) != 1 {
			return fmt.Errorf("read the record of its slot: %+v, %w", r, err)
		}
		var record struct{ Reason string }
		if err := json.Unmarshal(r.Kvs[0].Value, &record); err != nil || !contains.All(record.Reason, parts...) {
			return fmt.Errorf("the record of its slot is %s", r.Kvs[0].Value)
		}
		return nil
	}
}

// Real unattended-upgrades, with its own configuration, its hook for kernels and its own service, which delays
// shutdowns. needrestart, which runs after it, makes no difference.
func TestHostsThatUnattendedUpgradesUpgradesRebootOneAtATime(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addDebian(3, kernelMeta, kernel, daemonInUse)
	without := f.hosts[2]
	without.chroot("dpkg --purge needrestart")
	f.start()
	// None takes the slot before all have been upgraded.
	other := machineID()
	without.do("locksmithctl", "lock", other)
	witness := f.oneAtATime(f.wantReason("/run/reboot-required", kernel, daemonInUse))
	for _, h := range f.hosts {
		h.upgrade()
		h.wantInstalled(kernelMeta, kernel, daemonInUse)
		if log := h.do("cat", "/var/log/unattended-upgrades/unattended-upgrades.log"); !contains.All(log, "Packages that will be upgraded: ", kernelMeta) {
			t.Errorf("the log of unattended-upgrades on %s is\n%s", h.name, log)
		}
		if _, err := os.Stat(filepath.Join(h.root, "usr/sbin/needrestart")); (err != nil) != (h == without) {
			t.Errorf("needrestart on %s: %v", h.name, err)
		}
	}
	for _, h := range f.hosts {
		h.awaitStatus("reboot needed since", "/run/reboot-required", kernel, daemonInUse, "waiting for a slot")
	}
	without.do("locksmithctl", "unlock", other)
	for _, h := range f.hosts {
		h.awaitBoot(2)
		h.awaitStatus("idle: no reboot is needed")
	}
	f.awaitHolders()
	witness.check(t, 3)
	for _, h := range f.hosts {
		h.do("test", "!", "-e", "/run/reboot-required")
	}
}

// aptAtWork is what the status says while apt inhibits shutdowns.
var aptAtWork = []string{"reboot needed since", slow, "held back by", `"APT is installing or removing packages" (APT, root): block inhibitor`}

// installing is what the status says of an installation that has no inhibitor.
const installing = "held back by an installation of packages, which has locked /var/lib/dpkg/lock-frontend"

// The file is there and has settled before the installation is over.
func TestAnInstallationKeepsAHostFromTheSlotUntilItIsOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addDebian(2, slow)
	f.addDebian(1, daemonInUse)
	h, byDpkg, other := f.hosts[0], f.hosts[1], f.hosts[2]
	f.start()
	before, byDpkgBefore := h.awaitUp(), byDpkg.awaitUp()
	h.beginSlowInstallation()
	// dpkg asks for no inhibitor.
	byDpkg.beginSlow("dpkg", "--install", "/srv/packages/"+slow+"_2_all.deb")
	// Others have the slot meanwhile.
	otherBefore := other.awaitUp()
	other.upgrade()
	h.awaitStatus(aptAtWork...)
	h.wantRefused("held back by", "APT is installing or removing packages", "an installation of packages, which has locked")
	byDpkg.awaitStatus("reboot needed since", slow, installing)
	byDpkg.wantRefused(installing)
	other.awaitReboot(otherBefore)
	f.awaitHolders()
	h.wantNoReboot(before)
	byDpkg.wantNoReboot(byDpkgBefore)
	witness := f.oneAtATime(f.wantReason(slow))
	h.do("touch", slowGo)
	byDpkg.do("touch", slowGo)
	h.awaitReboot(before)
	byDpkg.awaitReboot(byDpkgBefore)
	for _, h := range []*host{h, byDpkg} {
		h.wantInstalled(slow)
		h.awaitStatus("idle: no reboot is needed")
	}
	f.awaitHolders()
	witness.check(t, 2)
}

// Between two packages apt has no inhibitor.
func TestAHostDoesNotRebootInTheMiddleOfUnattendedUpgrades(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addDebian(1, stopsUpgrade)
	h := f.hosts[0]
	f.start()
	before := h.awaitUp()
	h.do("systemctl", "start", "apt-daily.service")
	h.do("systemctl", "start", "--no-block", "apt-daily-upgrade.service")
	h.awaitStatus("reboot needed since", stopsUpgrade, installing)
	h.wantNoReboot(before)
	f.wantHeldWhileDown(h)
	h.do("pkill", "-CONT", "-o", "-f", upgradeProcess)
	h.awaitReboot(before)
	if log := h.do("cat", "/var/log/unattended-upgrades/unattended-upgrades.log"); !strings.Contains(log, "All upgrades installed") {
		t.Errorf("the log of unattended-upgrades is\n%s", log)
	}
	h.awaitStatus("idle: no reboot is needed")
	f.awaitHolders()
}

// The slot is held, and the host is being drained.
func TestAnInstallationThatBeginsAfterTheSlotWasTakenEndsTheAttempt(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addDebian(1, daemonInUse, slow)
	h := f.hosts[0]
	h.script("before-reboot", "50-drain", "touch /run/drain-begun\n"+until("/run/drain-go"))
	f.start()
	before := h.awaitUp()
	h.upgrade()
	eventually(t, "the drain", func() bool { return h.run("test", "-e", "/run/drain-begun").status == 0 })
	f.awaitHolders(h)
	h.beginSlowInstallation()
	h.do("touch", "/run/drain-go")
	h.awaitStatus(aptAtWork...)
	f.awaitHolders()
	h.wantNoReboot(before)
	f.wantHeldWhileDown(h)
	h.do("touch", slowGo)
	h.awaitReboot(before)
	h.wantInstalled(daemonInUse, slow)
	h.awaitStatus("idle: no reboot is needed")
	f.awaitHolders()
}

func TestARebootOfUnattendedUpgradesItselfIsNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addDebian(1, daemonInUse)
	h := f.hosts[0]
	const conf = "/etc/apt/apt.conf.d/52reboot"
	h.write(conf, "Unattended-Upgrade::Automatic-Reboot \"true\";\nUnattended-Upgrade::Automatic-Reboot-Time \"+600\";\n")
	f.start()
	const rival = `unattended-upgrades reboots this host by itself, without the lock: set Unattended-Upgrade::Automatic-Reboot "false" in `
	if r := h.run("locksmithctl", "config"); r.status != 0 || !contains.All(r.stdout+r.stderr, rival+conf) {
		t.Errorf("locksmithctl config: %+v", r)
	}
	h.awaitJournal("unattended-upgrades reboots this host by itself", conf)

	// It has scheduled its reboot before locksmithd may reboot.
	h.do("locksmithctl", "hold")
	before := h.awaitUp()
	h.upgrade()
	h.awaitStatus("reboot needed since", daemonInUse, "held back by the file /etc/locksmith/hold")
	h.do("locksmithctl", "unhold")
	h.awaitStatus("reboot needed since", daemonInUse, "held back by a reboot that is scheduled for")
	f.awaitHolders()
	if s := h.scheduled(); !strings.Contains(s, "Reboot scheduled for") {
		t.Errorf("shutdown --show: %s", s)
	}
	h.wantNoReboot(before)
	f.wantHeldWhileDown(h)
	h.do("shutdown", "-c")
	h.awaitReboot(before)
	h.awaitStatus("idle: no reboot is needed")
	f.awaitHolders()
}

// kernelImage is a file in which needrestart finds the version of a kernel: in the header of an image for x86, or in
// its text.
func kernelImage(version string) string {
	const size = 1 << 20 // needrestart takes no smaller one for a kernel
	image := make([]byte, size)
	binary.LittleEndian.PutUint16(image[0x20e:], 0x100) // where the version is, after 0x200
	copy(image[0x300:], version)
	copy(image[0x400:], "\nLinux version "+version+"\n")
	return string(image)
}

func TestNeedrestartOfTheHostIsAskedAboutTheKernel(t *testing.T) {
	t.Parallel()
	h := newDebianHost(t, "")
	ask := h.askAgain("REBOOT_STRATEGY=reboot\nLOCKSMITHD_REBOOT_SENTINEL_COMMAND=needrestart\n")
	h.powerOn()
	h.awaitUp()
	h.do("locksmithctl", "hold")
	h.awaitStatus("idle: no reboot is needed", "needrestart does not say whether the kernel is the newest, as in a container")

	// As on a machine.
	h.executable("/usr/bin/systemd-detect-virt", "echo none; exit 1")
	ask()
	h.awaitStatus("idle: no reboot is needed", "needrestart does not know whether the kernel that runs is the newest")
	running, build := strings.TrimSpace(h.do("uname", "-r")), strings.TrimSpace(h.do("uname", "-v"))
	h.write("/boot/vmlinuz-"+running, kernelImage(running+" (root@localhost) "+build))
	ask()
	eventually(t, "an answer", func() bool {
		status := h.unit("locksmithd", "StatusText")
		return contains.All(status, "idle: no reboot is needed") && !strings.Contains(status, "needrestart")
	})
	h.write("/boot/vmlinuz-99.1-amd64", kernelImage("99.1-amd64 (root@localhost) #1"))
	ask()
	h.awaitStatus("reboot needed since", "(needrestart: the kernel "+running+" runs, and 99.1-amd64 is installed)", "held back by the file /etc/locksmith/hold")
	h.chroot("dpkg --purge needrestart")
	ask()
	h.awaitStatus("reboot needed since", "99.1-amd64", "needrestart is not installed: install the package needrestart")
}

func TestHostsHaveTheToolsOfTheTable(t *testing.T) {
	t.Parallel()
	if suiteName == "sid" { // it changes every day
		return
	}
	document, err := os.ReadFile("../../docs/compatibility.md")
	must.Do(t, err)
	h := newDebianHost(t, "")
	row := regexp.MustCompile(`(?m)^\| Debian ` + strings.TrimSpace(h.chroot(". /etc/os-release; echo $VERSION_ID")) + ` \| (\S+) \| (\S+) \| (\S+) \|$`).FindStringSubmatch(string(document))
	if row == nil {
		t.Fatal("docs/compatibility.md has no row for the tools of this release")
	}
	for i, name := range []string{"apt", "unattended-upgrades", "needrestart"} {
		version := h.chroot("dpkg-query --show --showformat='${Version}' " + name)
		if version != row[i+1] && !regexp.MustCompile(`^`+regexp.QuoteMeta(row[i+1])+`[-+~]`).MatchString(version) {
			t.Errorf("the host has %s %s, but the table says %s", name, version, row[i+1])
		}
	}
}
