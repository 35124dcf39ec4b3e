package hosts

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long a test waits for something that has to happen. Only a test that fails waits for so long.
var patience time.Duration

// suiteName names the suite of the hosts.
var suiteName string

// everySuite runs every test in every suite: inOneSuite and oncePerRelease skip none.
var everySuite bool

// inOneSuite leaves a test to the suite trixie, and those that are run by hand: it is about the lock and the daemon, which
// are the same whatever the systemd and the bus of a host are.
func inOneSuite(t *testing.T) {
	if !everySuite && (suiteName == "bookworm" || suiteName == "trixie-polkit") {
		t.Skip("it runs in the suite trixie, and here with -every")
	}
}

// oncePerRelease leaves a test out of the suite trixie-polkit, which is trixie with another bus and with polkit: it is about
// what a release of Debian has, such as systemd and apt.
func oncePerRelease(t *testing.T) {
	if !everySuite && suiteName == "trixie-polkit" {
		t.Skip("it runs in the suite trixie, and here with -every")
	}
}

// scratch is a file system in memory for all files of the tests. In their mount namespace it hides the machine's
// own folder.
const scratch = "/mnt"

// cgroups holds the control groups of the hosts.
var cgroups string

// The variables that isolate sets for the tests: the root of the hosts, and the name of their control group.
const (
	rootVariable   = "LOCKSMITH_E2E_ROOT"
	cgroupVariable = "LOCKSMITH_E2E_CGROUP"
)

// TestMain runs the tests as the first process of namespaces of their own.
func TestMain(m *testing.M) {
	flag.DurationVar(&patience, "patience", 3*time.Minute, "how long a test waits for what has to happen")
	flag.StringVar(&suiteName, "suite", "bookworm", "what the hosts are: bookworm, trixie, trixie-polkit or sid")
	flag.BoolVar(&everySuite, "every", false, "run every test, also those that this suite leaves to trixie")
	rootOnly := flag.Bool("root-only", false, "make the root of the hosts if it is missing, and run no test")
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", strconv.Itoa(atOnce())); err != nil {
			panic(err)
		}
	}
	status, err := 0, error(nil)
	switch root := os.Getenv(rootVariable); {
	case *rootOnly:
		_, err = findRoot(suiteName)
	case root == "":
		status, err = isolate(suiteName)
	default:
		if err = setUp(root); err == nil {
			status = m.Run()
			err = sh("find " + cgroups + " -depth -type d -exec rmdir {} +")
		}
	}
	if err != nil {
		status = realpart.Status(err)
	}
	os.Exit(status)
}

// atOnce is how many tests of a suite run at once. Measured on two processors, which the tests of the three suites keep busy:
// with 18 at once everything took longer. The suites end at about the same time.
func atOnce() int {
	switch suiteName {
	case "trixie": // it has the most tests
		return 6
	case "trixie-polkit":
		return 3
	}
	return 4
}

// isolate runs this program again in namespaces of its own, with hosts of a suite.
func isolate(suite string) (status int, err error) {
	if os.Getenv("LOCKSMITH_DEB") == "" || os.Getenv("LOCKSMITH_NEXT_DEB") == "" {
		return 0, &realpart.Missing{Part: "the package to test (LOCKSMITH_DEB, LOCKSMITH_NEXT_DEB)", Remedy: "make e2e, as root"}
	}
	root, err := findRoot(suite)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), rootVariable+"="+root, fmt.Sprintf("%s=locksmith-e2e-%d", cgroupVariable, os.Getpid()))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	p, err := proc.Start(cmd)
	if err != nil {
		return 0, fmt.Errorf("start the tests in namespaces of their own: %w", err)
	}
	if status := proc.ExitStatus(p.Err()); status >= 0 {
		return status, nil
	}
	return 0, fmt.Errorf("the tests: %w", p.Err())
}

// findRoot returns the folder with the root of the hosts of a suite, on a machine that has what they need.
func findRoot(suite string) (string, error) {
	for _, err := range []error{
		realpart.Root("hosts with a real systemd"), realpart.Tool("debootstrap", "debootstrap"), realpart.Tool("systemd-nspawn", "systemd-container"),
		realpart.Tool("nsenter", "util-linux"), realpart.Tool("ip", "iproute2"), realpart.Tool("mksquashfs", "squashfs-tools"),
	} {
		if err != nil {
			return "", err
		}
	}
	return cachedRoot(suite)
}

// setUp prepares the namespaces, and the site, the layer that all hosts share.
func setUp(root string) error {
	cgroups = "/sys/fs/cgroup/" + os.Getenv(cgroupVariable)
	err := sh(`
		mount --make-rprivate /
		# One hierarchy, whatever the machine has. Killed tests may have left empty groups there. Suites take turns to
		# remove these: rmdir fails for a group that another one has just removed.
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		exec 9< /sys/fs/cgroup
		flock 9
		for group in /sys/fs/cgroup/locksmith-e2e-*; do
			[ ! -d "$group" ] || [ -e "/proc/${group##*-}" ] || find "$group" -depth -type d -exec rmdir {} +
		done
		exec 9<&-
		mkdir ` + cgroups + `
		# systemd reports the memory of a service only with this controller.
		echo +memory > /sys/fs/cgroup/cgroup.subtree_control && echo +memory > ` + cgroups + `/cgroup.subtree_control || true
		mount -t proc proc /proc
		mount -t tmpfs -o mode=755 tmpfs ` + scratch + `
		# nspawn leaves mounts there.
		mkdir -p /run/systemd/nspawn
		mount -t tmpfs tmpfs /run/systemd/nspawn
		ip link set lo up
		# A fixed address; otherwise it would change with each host.
		ip link add ` + bridge + ` address 02:00:00:00:00:01 type bridge
		ip address add ` + network + `.0.1/16 dev ` + bridge + `
		ip link set ` + bridge + ` up`)
	if err != nil {
		return fmt.Errorf("set up the namespaces: %w", err)
	}
	if err := raise("/proc/sys/fs/inotify/max_user_instances", 2048); err != nil {
		return fmt.Errorf("set up the namespaces: %w", err)
	}
	if err := makeSite(root); err != nil {
		return fmt.Errorf("install the hosts: %w", err)
	}
	return nil
}

// raise raises a limit of the kernel for all containers of a user together. Ten hosts need all of the usual 128
// instances of inotify. The limit stays raised.
func raise(limit string, to int) error {
	data, err := os.ReadFile(limit)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err != nil || n >= to {
		return err
	}
	fmt.Fprintf(os.Stderr, "raising %s from %s to %d\n", limit, bytes.TrimSpace(data), to)
	return os.WriteFile(limit, []byte(strconv.Itoa(to)), 0)
}

// makeSite makes the layer over root that all hosts share: locksmith as installed, and its surroundings.
func makeSite(root string) error {
	if err := mountOverlay(root, scratch+"/site"); err != nil {
		return err
	}
	site := scratch + "/site/root"
	err := sh(`
		cp "$LOCKSMITH_DEB" ` + site + packageFile + `
		cp "$LOCKSMITH_NEXT_DEB" ` + site + nextPackageFile + `
		chroot ` + site + ` dpkg --install ` + packageFile + `
		cp ../../bin/etcd ` + site + `/usr/local/bin/etcd
		CGO_ENABLED=0 go build -o ` + site + `/usr/local/sbin/updateengine ./updateengine
		CGO_ENABLED=0 go build -o ` + site + `/usr/local/bin/longsession ./longsession
		cp -r testdata/site/. ` + site + `
		chroot ` + site + ` sh -ec '
			groupadd wheel
			useradd --create-home --shell /bin/sh --groups wheel op
			useradd --create-home --shell /bin/sh joe
			echo "PS1=shell:" > /etc/profile.d/prompt.sh
			printf "root:root\nop:op\njoe:joe\n" | chpasswd
			systemctl --quiet enable network.service etcd.service update-engine.service
			systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer console-getty.service
			systemctl --quiet disable unattended-upgrades.service # see newDebianHost
			# What a host in a container has no use for, and what every boot would start.
			mkdir -p /etc/systemd/system-generators
			for generator in /usr/lib/systemd/system-generators/*; do
				ln -s /dev/null "/etc/systemd/system-generators/${generator##*/}"
			done
			systemctl --quiet mask systemd-remount-fs.service systemd-sysctl.service systemd-tmpfiles-setup-dev.service \
				systemd-tmpfiles-setup-dev-early.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
				dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer
			mkdir -p /var/log/journal
			# What the first boot would do after an update: caches of libraries, of the catalog, of users.
			touch /etc/.updated /var/.updated
		'
		umount ` + site)
	if err != nil {
		return err
	}
	layers = scratch + "/site/upper:" + root
	return nil
}

// The package on the disk of each host, which is installed there, and the package of the next version, which is
// not.
const (
	packageFile     = "/var/cache/locksmith.deb"
	nextPackageFile = "/var/cache/locksmith-next.deb"
)

// layers are the lower layers of a host's file system.
var layers string

// mountOverlay mounts dir/root, a copy-on-write layer over lower layers. Writes go to dir/upper.
func mountOverlay(lower, dir string) error {
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%[2]s/upper,workdir=%[2]s/work", lower, dir)
	if err := syscall.Mount("overlay", dir+"/root", "overlay", 0, data); err != nil {
		return fmt.Errorf("mount %s/root: %w", dir, err)
	}
	return nil
}

// sh runs a shell script that ends at the first command that fails.
func sh(script string) error {
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, strings.TrimSpace(script), tail(out))
	}
	return nil
}
