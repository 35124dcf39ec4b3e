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

	"github.com/locksmithd/locksmith/test/realpart"
)

// Version is one of the etcd versions that locksmith is tested against: the two numbers of
// a series, which are also the name of a subtest.
type Version string

// The series, newest first. docs/compatibility.md says what is tested with each.
const (
	V37 Version = "3.7"
	V36 Version = "3.6"
	V35 Version = "3.5"
	V34 Version = "3.4"

	Newest = V37
	Oldest = V34
)

// newestVariable can name another program for the newest version.
const newestVariable = "LOCKSMITH_ETCD"

// binaries holds the path where make puts each etcd, below the module's folder, and the module that pins its
// version. Without a module it is the version of a Debian release.
var binaries = map[Version]struct{ path, module string }{
	V37: {"bin/etcd", "tools"},
	V36: {"bin/etcd-3.6", "tools/etcd36"},
	V35: {"bin/etcd-3.5", ""},
	V34: {"bin/etcd-3.4", ""},
}

// String returns the version as the name of a subtest.
func (v Version) String() string { return string(v) }

// Binary returns the path of v's etcd, which make puts in bin/; for Newest it is $LOCKSMITH_ETCD if that is set.
// The error is a *realpart.Missing if the program is missing or has another version.
func Binary(v Version) (string, error) {
	b, ok := binaries[v]
	if !ok {
		return "", fmt.Errorf("find etcd: no version %q, only %v", string(v), Versions())
	}
	root, err := realpart.ModuleRoot()
	if err != nil {
		return "", err
	}
	path, want := filepath.Join(root, b.path), string(v)+".x"
	if other := os.Getenv(newestVariable); v == Newest && other != "" {
		path = other
	}
	right := func(is string) bool { return strings.HasPrefix(is, string(v)+".") }
	if b.module != "" {
		if want, err = pinnedVersion(filepath.Join(root, b.module, "go.mod")); err != nil {
			return "", err
		}
		right = func(is string) bool { return is == want }
	}
	is, err := versionOf(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		is = "missing"
	case err != nil:
		return "", err
	case right(is):
		return path, nil
	}
	return "", fmt.Errorf("find etcd: %w", &realpart.Missing{Part: fmt.Sprintf("etcd %s (%s is %s)", want, path, is), Remedy: "make tools"})
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

// pinnedVersion returns the etcd server's version in a go.mod file, without the "v".
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
