package hosts

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// debianPackage is a package of a test's own.
type debianPackage struct {
	name, version, depends string
	postinst               string // a shell script; "" for none
}

// The packages that hosts install or upgrade.
const (
	// kernel is what upgrades of kernelMeta install. As Debian's kernels do, it runs the hooks for kernels, and the one
	// of unattended-upgrades asks for a reboot.
	kernel     = "linux-image-99.1-amd64"
	kernelMeta = "linux-image-amd64"
	// daemonInUse asks for a reboot by itself, see Debian Policy, section 9.12.
	daemonInUse = "daemon-in-use"
	// slow does so as well, and then takes until the file slowGo is there. Before that it creates slowBegun.
	slow      = "slow-installation"
	slowBegun = "/run/slow-begun"
	slowGo    = "/run/slow-go"
	// stopsUpgrade does so as well, and stops the unattended-upgrades that installs it.
	stopsUpgrade = "stops-upgrade"
)

// upgradeProcess is the pattern of pkill(1) for unattended-upgrades. The oldest is the one that starts the others.
const upgradeProcess = "/usr/bin/unattended-upgrade( |$)"

// askForReboot is the shell script of Debian Policy, section 9.12.
const askForReboot = `
touch /run/reboot-required
grep -qx "$DPKG_MAINTSCRIPT_PACKAGE" /run/reboot-required.pkgs 2> /dev/null || echo "$DPKG_MAINTSCRIPT_PACKAGE" >> /run/reboot-required.pkgs
`

var (
	// installedPackages are on the hosts from the start.
	installedPackages = []debianPackage{{name: kernelMeta, version: "1"}, {name: daemonInUse, version: "1"}, {name: stopsUpgrade, version: "1"}}
	// newPackages are in the repository.
	newPackages = []debianPackage{
		{name: kernelMeta, version: "2", depends: kernel},
		{name: kernel, version: "2", postinst: `DEB_MAINT_PARAMS="$*" run-parts --report --exit-on-error --arg=99.1-amd64 --arg=/boot/vmlinuz-99.1-amd64 /etc/kernel/postinst.d`},
		{name: daemonInUse, version: "2", postinst: askForReboot},
		{name: slow, version: "2", postinst: askForReboot + "touch " + slowBegun + "\n" + until(slowGo)},
		{name: stopsUpgrade, version: "2", postinst: askForReboot + "pkill -STOP -o -f '" + upgradeProcess + "'"},
	}
)

// builtPackages is the folder of all packages, made once.
var builtPackages = sync.OnceValues(func() (string, error) {
	folder := filepath.Join(scratch, "packages")
	for repository, packages := range map[string][]debianPackage{"installed": installedPackages, "new": newPackages} {
		for _, p := range packages {
			if err := p.build(filepath.Join(folder, repository)); err != nil {
				return "", fmt.Errorf("build the package %s: %w", p.name, err)
			}
		}
	}
	return folder, nil
})

func (p debianPackage) file() string { return p.name + "_" + p.version + "_all.deb" }

func (p debianPackage) control() string {
	text := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n", p.name, p.version)
	if p.depends != "" {
		text += "Depends: " + p.depends + "\n"
	}
	return text + "Description: a package of the tests\n"
}

// build makes the package in a folder.
func (p debianPackage) build(folder string) error {
	tree := filepath.Join(folder, p.name)
	if err := os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(p.control()), 0o644); err != nil {
		return err
	}
	if p.postinst != "" {
		if err := os.WriteFile(filepath.Join(tree, "DEBIAN/postinst"), []byte("#!/bin/sh\nset -e\n"+p.postinst+"\n"), 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, filepath.Join(folder, p.file())).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return os.RemoveAll(tree)
}

// release is the index of a repository that looks like Debian's repository of security updates, which the
// configuration of unattended-upgrades allows as it is installed.
func release(codename, packages string) string {
	return fmt.Sprintf(`Origin: Debian
Label: Debian-Security
Suite: stable-security
Codename: %s-security
Architectures: all amd64 arm64
Date: Thu, 01 Jan 2026 00:00:00 UTC
SHA256:
 %x %d Packages
`, codename, sha256.Sum256([]byte(packages)), len(packages))
}

// newDebianHost makes a host that is off and that has no update_engine: its packages come from a repository on its
// disk, and the settings of locksmith's package name the file by which they ask for a reboot. The repository has
// those of the newPackages that are offered.
func newDebianHost(t testing.TB, conf string, offered ...string) *host {
	t.Helper()
	h := newHost(t, "")
	built, err := builtPackages()
	must.Do(t, err)
	must.Do(t, os.Remove(filepath.Join(h.root, "etc/flatcar/update.conf")))
	h.write("/etc/locksmith/locksmith.conf", conf)
	// The distribution's own. unattended-upgrades needs the name of its release.
	osRelease, err := os.ReadFile(filepath.Join(os.Getenv(rootVariable), "usr/lib/os-release"))
	must.Do(t, err)
	h.write("/etc/os-release", string(osRelease))
	must.Do(t, os.Remove(filepath.Join(h.root, "etc/systemd/system/update-engine.service")))
	h.chroot("systemctl --quiet mask update-engine.service; systemctl --quiet enable unattended-upgrades.service")

	packages := ""
	for _, p := range newPackages {
		deb, err := os.ReadFile(filepath.Join(built, "new", p.file()))
		must.Do(t, err)
		if slices.Contains(offered, p.name) {
			packages += fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", p.control(), p.file(), len(deb), sha256.Sum256(deb))
		}
		h.write("/srv/packages/"+p.file(), string(deb))
	}
	h.write("/srv/packages/Packages", packages)
	h.write("/srv/packages/Release", release(strings.TrimSpace(h.chroot("lsb_release --short --codename")), packages))
	h.write("/etc/apt/sources.list", "deb [trusted=yes] file:/srv/packages ./\n")
	for _, p := range installedPackages {
		deb, err := os.ReadFile(filepath.Join(built, "installed", p.file()))
		must.Do(t, err)
		h.write("/srv/"+p.file(), string(deb))
	}
	h.chroot("dpkg --install /srv/*.deb; rm /srv/*.deb")
	return h
}

// addDebian makes hosts of the fleet as newDebianHost does.
func (f *fleet) addDebian(n int, offered ...string) {
	f.t.Helper()
	for range n {
		f.hosts = append(f.hosts, newDebianHost(f.t, f.conf(), offered...))
	}
}

// chroot runs a shell script on the disk of a host that is off.
func (h *host) chroot(script string) string {
	h.t.Helper()
	cmd := exec.Command("chroot", h.root, "sh", "-ec", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("on the disk of %s: %s: %v\n%s%s", h.name, script, err, out, stderr.String())
	}
	return string(out)
}
