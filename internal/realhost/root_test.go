package realhost

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// packages are what a host has beside the distribution's minimum.
const packages = "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,procps"

// cachedRoot returns the folder of a root file system with the packages of this
// machine's distribution, from the mirror that apt uses here. It is made when there
// is none yet, below the user's cache folder.
func cachedRoot() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache for the root of the hosts: %w", err)
	}
	mirror, suite, err := distribution()
	if err != nil {
		return "", fmt.Errorf("make the root of the hosts: %w", err)
	}
	cache = filepath.Join(cache, "locksmith-e2e")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// One at a time: who comes second finds it made.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	key := sha256.Sum256([]byte(strings.Join([]string{mirror, suite, packages}, "\n")))
	root := filepath.Join(cache, fmt.Sprintf("%s-%x", suite, key[:8]))
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	making := root + ".making"
	if err := os.RemoveAll(making); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "making the root of the hosts, once: %s from %s\n", suite, mirror)
	out, err := exec.Command("debootstrap", "--variant=minbase", "--include="+packages, suite, making, mirror).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make the root of the hosts: debootstrap: %w\n%s", err, tail(out))
	}
	return root, os.Rename(making, root)
}

// distribution returns the mirror and the suite of this machine's own packages.
func distribution() (mirror, suite string, err error) {
	out, err := exec.Command("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").Output()
	if err != nil {
		return "", "", fmt.Errorf("read /etc/os-release: %w", err)
	}
	suite = strings.TrimSpace(string(out))
	out, err = exec.Command("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if uri, ok := strings.CutPrefix(strings.TrimSpace(line), suite+" main "); ok {
			return uri, suite, nil
		}
	}
	return "", "", fmt.Errorf("apt knows no mirror of %q with component main: run apt-get update", suite)
}

// tail returns the last lines of some output.
func tail(out []byte) []byte {
	lines := bytes.SplitAfter(out, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-40):], nil)
}
