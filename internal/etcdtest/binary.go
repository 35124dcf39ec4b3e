package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/realpart"
)

// Version is one of the etcd versions that locksmith is tested against.
type Version string

const (
	// Newest is the etcd server that tools/go.mod pins, built by `make tools`.
	Newest Version = "newest"
	// Oldest is etcd 3.4, as in Debian's package etcd-server.
	Oldest Version = "oldest"
)

const (
	newestVariable = "LOCKSMITH_ETCD"
	oldestPath     = "/usr/bin/etcd"
	oldestSeries   = "3.4."
)

// String is the version's name, fit for a subtest.
func (v Version) String() string { return string(v) }

// Binary is the path of v's etcd: for Newest $LOCKSMITH_ETCD, or else bin/etcd
// in the folder of the module that holds the working directory; for Oldest
// /usr/bin/etcd. It is an error, which says what to install, when the program
// is missing, a *realpart.Missing, or of another version.
func Binary(v Version) (string, error) {
	switch v {
	case Newest:
		return newestBinary()
	case Oldest:
		return checkBinary(oldestPath, "apt-get install etcd-server", func(is string) bool {
			return strings.HasPrefix(is, oldestSeries)
		}, oldestSeries+"x")
	default:
		return "", fmt.Errorf("find etcd: no version %q, only %v", string(v), Versions())
	}
}

func newestBinary() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	pinned, err := pinnedVersion(filepath.Join(root, "tools", "go.mod"))
	if err != nil {
		return "", err
	}
	path := os.Getenv(newestVariable)
	if path == "" {
		path = filepath.Join(root, "bin", "etcd")
	}
	return checkBinary(path, "make tools", func(is string) bool { return is == pinned }, pinned)
}

// checkBinary is path when it is an etcd of the wanted version; remedy is the
// command that brings it about.
func checkBinary(path, remedy string, wanted func(version string) bool, want string) (string, error) {
	is, err := versionOf(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("find etcd %s: %w", want, &realpart.Missing{Part: path, Remedy: remedy})
	}
	if err != nil {
		return "", err
	}
	if !wanted(is) {
		return "", fmt.Errorf("find etcd %s: %s is %s, run `%s`", want, path, is, remedy)
	}
	return path, nil
}

// versionOf asks the etcd at path for its version, such as "3.4.23".
func versionOf(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{} // etcd takes flags from ETCD_* variables
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s --version: %w", path, err)
	}
	m := regexp.MustCompile(`(?m)^etcd Version: (\S+)$`).FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("run %s --version: no line \"etcd Version: ...\" in %q", path, out)
	}
	return string(m[1]), nil
}

// moduleRoot is the folder of locksmith's go.mod above the working directory,
// which for a test is the folder of its package.
func moduleRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module root: %w", err)
	}
	module := regexp.MustCompile(`(?m)^module github\.com/locksmithd/locksmith$`)
	for dir := wd; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find module root: %w", err)
		}
		if module.Match(data) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find module root: no go.mod of github.com/locksmithd/locksmith at or above %s", wd)
		}
	}
}

// pinnedVersion is the etcd server's version in a go.mod file, without the "v".
func pinnedVersion(goMod string) (string, error) {
	data, err := os.ReadFile(goMod)
	if err != nil {
		return "", fmt.Errorf("read pinned etcd version: %w", err)
	}
	m := regexp.MustCompile(`(?m)^\s*go\.etcd\.io/etcd/server/v3 v(\S+)`).FindSubmatch(data)
	if m == nil {
		return "", fmt.Errorf("read pinned etcd version: %s does not require go.etcd.io/etcd/server/v3", goMod)
	}
	return string(m[1]), nil
}
