package hosts

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// suite describes the hosts of a run.
type suite struct {
	release  string // of Debian; "" with a base
	base     string // the suite that it is a copy of
	packages string // besides the distribution's minimum, or besides the base; those with a minus at their end are removed
}

// suites are the hosts that -suite can choose. docs/compatibility.md lists the systemd version of each, and when
// it is tested.
var suites = map[string]suite{
	"bookworm": {release: "bookworm", packages: common},
	"trixie":   {release: "trixie", packages: common},
	// The other bus, and an authority for what logind does not allow by itself.
	"trixie-polkit": {base: "trixie", packages: "dbus-broker,polkitd,dbus-,dbus-daemon-"},
	"sid":           {release: "sid", packages: common},
}

const common = "dbus,systemd,systemd-sysv,libpam-systemd,iproute2,procps,unattended-upgrades,needrestart"

// cachedRoot returns the folder with the root file system of a suite, made from the mirror that apt uses here and
// cached below the user's cache folder. To get a newer one, remove it.
func cachedRoot(name string) (string, error) {
	suite, ok := suites[name]
	if !ok {
		return "", fmt.Errorf("unknown suite %q: it is one of %q", name, slices.Sorted(maps.Keys(suites)))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache for the root of the hosts: %w", err)
	}
	mirror, err := mirror()
	if err != nil {
		return "", fmt.Errorf("make the root of the hosts: %w", err)
	}
	cache = filepath.Join(cache, "locksmith-e2e")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// One process at a time: the next one finds the root made.
	lock, err := os.OpenFile(filepath.Join(cache, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	from := suite.release
	if suite.base != "" {
		if from, err = cachedRoot(suite.base); err != nil {
			return "", err
		}
	}
	key := sha256.Sum256([]byte(strings.Join([]string{mirror, from, suite.packages}, "\n")))
	root := filepath.Join(cache, fmt.Sprintf("%s-%x", name, key[:8]))
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	making := root + ".making"
	if err := os.RemoveAll(making); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "making the root of the hosts, once: %s from %s\n", name, mirror)
	if err := suite.fill(making, from, mirror); err != nil {
		return "", fmt.Errorf("make the root of the hosts: %w", err)
	}
	return root, os.Rename(making, root)
}

// fill makes the root of a suite in a folder that does not exist, from the mirror, or from the root of its base.
func (s suite) fill(root, from, mirror string) error {
	if s.base == "" {
		out, err := exec.Command("debootstrap", "--variant=minbase", "--include="+s.packages, from, root, mirror).CombinedOutput()
		if err != nil {
			return fmt.Errorf("debootstrap: %w\n%s", err, tail(out))
		}
		return nil
	}
	return sh(fmt.Sprintf(`
		cp --archive %s %[2]s
		export DEBIAN_FRONTEND=noninteractive
		chroot %[2]s apt-get --quiet update
		chroot %[2]s apt-get --quiet --yes --no-install-recommends install %[3]s
		chroot %[2]s apt-get clean`, from, root, strings.ReplaceAll(s.packages, ",", " ")))
}

// The hosts are as their row in docs/compatibility.md says.
func TestHostMatchesTheTable(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/compatibility.md")
	must.Do(t, err)
	row := regexp.MustCompile("(?m)^\\| `" + suiteName + "` \\| [^|]* \\| (\\d+) \\| ([^|]*) \\| ([^|]*) \\|").FindStringSubmatch(string(document))
	if row == nil {
		t.Fatalf("docs/compatibility.md has no row for %q", suiteName)
	}
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	if got := h.do("systemctl", "--version"); !strings.HasPrefix(got, "systemd "+row[1]+" ") {
		t.Errorf("the host has %q, but the table says systemd %s", got, row[1])
	}
	bus, polkit := "dbus-daemon", "no"
	if h.unit("dbus.service", "Id") == "dbus-broker.service" {
		bus = "dbus-broker"
	}
	if h.unit("polkit.service", "LoadState") == "loaded" {
		polkit = "yes"
	}
	if bus != row[2] || polkit != row[3] {
		t.Errorf("the host has the bus %s and polkit %s, but the table says %s and %s", bus, polkit, row[2], row[3])
	}
}

// mirror returns the mirror of this machine's own packages. A Debian mirror has every release.
func mirror() (string, error) {
	out, err := exec.Command("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").Output()
	if err != nil {
		return "", fmt.Errorf("read /etc/os-release: %w", err)
	}
	release := strings.TrimSpace(string(out))
	out, err = exec.Command("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if uri, ok := strings.CutPrefix(strings.TrimSpace(line), release+" main "); ok {
			return uri, nil
		}
	}
	return "", fmt.Errorf("apt knows no mirror of %q with component main: run apt-get update", release)
}

// tail returns the last lines of some output.
func tail(out []byte) []byte {
	lines := bytes.SplitAfter(out, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-40):], nil)
}
