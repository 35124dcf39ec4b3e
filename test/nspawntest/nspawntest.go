// Package nspawntest boots a real systemd in a container for a test.
//
// The container contains only the files of New and of the test, the /usr of this machine or of another root,
// read-only, and this machine's network. It guarantees that no container outlives the test process, however that ends.
// Package hosts makes hosts with addresses and packages; this package does not.
package nspawntest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// Rebooted is the exit status of a container that must be booted again.
const Rebooted = 133

// Require skips or fails the test unless this machine can boot a container. It returns the version of its systemd.
func Require(t *testing.T) (version int) {
	t.Helper()
	realpart.Must(t, realpart.Root("a container with a real systemd"), realpart.Tool("systemd-nspawn", "systemd-container"),
		realpart.Tool("systemctl", "systemd"), realpart.Tool("unshare", "util-linux"), realpart.Tool("dbus-daemon", "dbus-daemon"))
	out, err := exec.Command("systemctl", "--version").Output()
	if err != nil {
		t.Fatalf("ask systemctl for its version: %v", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 || fields[0] != "systemd" {
		t.Fatalf("systemctl --version prints %q", out)
	}
	version, err = strconv.Atoi(fields[1])
	if err != nil {
		t.Fatalf("systemctl --version prints %q", out)
	}
	return version
}

// Machine is the disk of a container.
type Machine struct {
	t     *testing.T
	root  string
	usr   string
	extra string // a folder that is laid over usr
}

// Roots returns the roots of hosts with other versions of systemd, by the name of their suite, as far as package
// hosts has made them.
func Roots(t *testing.T) map[string]string {
	t.Helper()
	cache, err := os.UserCacheDir()
	must.Do(t, err)
	roots := map[string]string{}
	found, err := filepath.Glob(filepath.Join(cache, "locksmith-e2e", "*-*"))
	must.Do(t, err)
	for _, root := range found {
		if name := filepath.Base(root); filepath.Ext(name) == "" {
			roots[name[:strings.LastIndexByte(name, '-')]] = root
		}
	}
	return roots
}

// New makes a disk with the folders and files that systemd needs, and the /usr of a root: "/" or one of Roots.
func New(t *testing.T, root string) *Machine {
	t.Helper()
	dir := t.TempDir()
	m := &Machine{t, filepath.Join(dir, "root"), filepath.Join(root, "usr"), filepath.Join(dir, "usr")}
	for _, name := range []string{"", "usr", "out", "var", "run", "proc", "sys", "dev", "tmp", "root"} {
		must.Do(m.t, os.Mkdir(filepath.Join(m.root, name), 0o755))
	}
	must.Do(m.t, os.Mkdir(m.extra, 0o755))
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		must.Do(m.t, os.Symlink("usr/"+dir, filepath.Join(m.root, dir)))
	}
	m.Write("/etc/os-release", "ID=test\n")
	m.Write("/etc/machine-id", "uninitialized\n")
	m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n")
	m.Write("/etc/group", "root:x:0:\nmessagebus:x:101:\n")
	return m
}

// Path returns the path here of a path of the machine. Files below /usr are laid over the root's /usr.
func (m *Machine) Path(path string) string {
	if rest, ok := strings.CutPrefix(path, "/usr/"); ok {
		return filepath.Join(m.extra, rest)
	}
	return filepath.Join(m.root, path)
}

// Write writes a file that everybody may read.
func (m *Machine) Write(path, content string) {
	m.t.Helper()
	path = m.Path(path)
	must.Do(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(m.t, os.WriteFile(path, []byte(content), 0o644))
}

// Copy copies a file of this machine.
func (m *Machine) Copy(to, from string, mode fs.FileMode) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	must.Do(m.t, err)
	m.Write(to, string(data))
	must.Do(m.t, os.Chmod(m.Path(to), mode))
}

// Build builds a program from a folder of the module, and installs it.
func (m *Machine) Build(to, folder string) {
	m.t.Helper()
	program := filepath.Join(m.t.TempDir(), filepath.Base(to))
	build := exec.Command("go", "build", "-o", program, folder)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		m.t.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	m.Copy(to, program, 0o755)
}

// Read returns the content of a file, "" if it does not exist.
func (m *Machine) Read(path string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.Path(path))
	if !errors.Is(err, fs.ErrNotExist) {
		must.Do(m.t, err)
	}
	return string(data)
}

// insideVariable is set for a test that RunTest runs.
const insideVariable = "LOCKSMITH_TEST_INSIDE"

// Inside reports whether the test runs in a container, by RunTest.
func Inside() bool { return os.Getenv(insideVariable) != "" }

// RunTest boots the container and runs this very test in it, where Inside is true, as root and with a system bus. The
// test fails unless it passes there within ten minutes.
func (m *Machine) RunTest() {
	m.t.Helper()
	m.Copy("/program.test", "/proc/self/exe", 0o755)
	m.Write("/etc/systemd/system/test.service", `[Unit]
Requires=dbus.service
After=dbus.service
[Service]
Type=exec
Environment=`+insideVariable+`=1
ExecStart=/program.test -test.v -test.run=^`+m.t.Name()+`$
ExecStopPost=systemctl --force --force poweroff
StandardOutput=append:/out/log
StandardError=append:/out/log
`)
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Minute)
	defer cancel()
	_, console, err := m.Boot(ctx, "test.service")
	if log := m.Read("/out/log"); err != nil || !strings.Contains(log, "\n--- PASS: "+m.t.Name()+" ") {
		m.t.Errorf("%v\n%s\n%s", err, log, console)
	}
}

// Boot boots into a unit and waits until the container ends, as by `systemctl --force --force poweroff`. It
// returns the exit status and the end of systemd's output on the console. An error means that the container was
// killed at the end of ctx, or could not be started.
func (m *Machine) Boot(ctx context.Context, unit string) (status int, console string, err error) {
	usr := "--bind-ro=" + m.usr + ":/usr"
	if entries, err := os.ReadDir(m.extra); err == nil && len(entries) > 0 {
		usr = "--overlay-ro=" + m.usr + ":" + m.extra + ":/usr"
	}
	// The tmpfs takes the permanent mounts of nspawn. The PID namespace ends the container when nspawn is killed.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", `
		mkdir -p /run/systemd/nspawn
		mount -t tmpfs tmpfs /run/systemd/nspawn
		# One hierarchy, whatever the machine has: systemd 258 and newer need it. A killed test leaves an empty group.
		mount -t cgroup2 cgroup2 /sys/fs/cgroup
		group=$(mktemp -d /sys/fs/cgroup/locksmith-nspawn-XXXXXX)
		echo 0 > "$group/cgroup.procs"
		status=0
		SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit --console=pipe "$@" || status=$?
		echo 0 > /sys/fs/cgroup/cgroup.procs
		find "$group" -depth -type d -exec rmdir {} +
		exit $status`, "sh",
		usr, fmt.Sprintf("--machine=test-%d", os.Getpid()), "--directory="+m.root, "--boot", "systemd.unit="+unit)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal comes when the thread that started the container ends
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() && ctx.Err() == nil {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), tail(out), err
}

// tail returns the last lines of a console's output.
func tail(console []byte) string {
	lines := bytes.Split(console, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-30):], []byte("\n")))
}
