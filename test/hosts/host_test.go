package hosts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// The network of the hosts, and of the tests at .0.1.
const (
	bridge  = "hosts"
	network = "10.77"
)

// rebooted is nspawn's exit status when the container wants to be started again.
const rebooted = 133

var hosts atomic.Int64

// host is a machine: a container with a disk and an address of its own. It comes up
// again by itself after a reboot, until powerOff.
type host struct {
	t       testing.TB
	name    string
	id      string // its machine id
	address string
	dir     string
	root    string // its disk, which is also there while it is down

	// whileDown, if set, is run between the end of one boot and the next one.
	whileDown func()

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	boots   []*boot
	failed  error // it does not come up any more
	off     bool
	console bytes.Buffer
}

// boot is one run of a host.
type boot struct {
	n      int // the first is 1
	nspawn *proc.Process
	cgroup string
	leader int // the host's PID 1, as seen from here; 0 until it runs
	ready  bool
	id     string
}

// newHost makes a host that is off.
func newHost(t testing.TB, conf string) *host {
	t.Helper()
	n := int(hosts.Add(1))
	h := &host{
		t: t, name: fmt.Sprintf("h%d", n), id: machineID(),
		address: fmt.Sprintf("%s.%d.%d", network, 1+n/200, 1+n%200),
		dir:     filepath.Join(scratch, fmt.Sprintf("h%d", n)),
		off:     true, changed: make(chan struct{}),
	}
	h.root = filepath.Join(h.dir, "root")
	must.Do(t, mountOverlay(layers, h.dir))
	t.Cleanup(func() {
		if t.Failed() {
			h.dump()
		}
		h.powerOff()
		must.Do(t, syscall.Unmount(h.root, syscall.MNT_DETACH))
		must.Do(t, os.RemoveAll(h.dir))
	})
	h.write("/etc/machine-id", h.id+"\n")
	h.write("/etc/hostname", h.name+"\n")
	h.write("/etc/network-address", "ADDRESS="+h.address+"/16\n")
	h.write("/etc/flatcar/update.conf", conf)
	return h
}

// startHost makes a host and waits until it is up.
func startHost(t testing.TB, conf string) *host {
	t.Helper()
	h := newHost(t, conf)
	h.powerOn()
	h.awaitUp()
	return h
}

func machineID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// write writes a file on the host's disk, whether it is up or not.
func (h *host) write(path, content string) {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(content), 0o644))
}

// powerOn starts the host, which is off.
func (h *host) powerOn() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.off {
		h.t.Fatalf("%s is on already", h.name)
	}
	h.off = false
	must.Do(h.t, h.start())
}

// start begins the next boot.
func (h *host) start() error {
	b := &boot{n: len(h.boots) + 1}
	// One for each boot: in one that has been killed before, Linux 6.18 kills what is
	// started there.
	b.cgroup = fmt.Sprintf("%s/%s-%d", cgroups, h.name, b.n)
	if err := os.Mkdir(b.cgroup, 0o755); err != nil {
		return err
	}
	group, err := os.Open(b.cgroup)
	if err != nil {
		return err
	}
	defer group.Close()
	notify := &net.UnixAddr{Name: filepath.Join(h.dir, fmt.Sprintf("notify%d", b.n)), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", notify)
	if err != nil {
		return err
	}
	cmd := exec.Command("systemd-nspawn", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=pipe",
		"--machine="+h.name, "--directory="+h.root, "--network-bridge="+bridge, "--link-journal=no", "--boot")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.Name)
	cmd.Stdout, cmd.Stderr = h, h
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if b.nspawn, err = proc.Start(cmd); err != nil {
		return errors.Join(err, socket.Close())
	}
	h.boots = append(h.boots, b)
	h.signal()
	go h.listen(b, socket)
	go func() {
		<-b.nspawn.Done()
		socket.Close()
		h.ended(b)
	}()
	return nil
}

// listen learns from nspawn when a boot is under way, and when it is done.
func (h *host) listen(b *boot, socket *net.UnixConn) {
	buffer := make([]byte, 4096)
	for {
		n, err := socket.Read(buffer)
		if err != nil {
			return // closed at the end of the boot
		}
		for line := range strings.Lines(string(buffer[:n])) {
			line = strings.TrimSpace(line)
			h.mu.Lock()
			if pid, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				b.leader, _ = strconv.Atoi(pid)
			}
			if line == "READY=1" {
				b.ready = true
			}
			h.signal()
			h.mu.Unlock()
		}
	}
}

// ended starts the next boot if the last one ended in a reboot.
func (h *host) ended(b *boot) {
	status := proc.ExitStatus(b.nspawn.Err())
	h.mu.Lock()
	off := h.off
	h.mu.Unlock()
	if off {
		return
	}
	if h.whileDown != nil {
		h.whileDown()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.signal()
	switch {
	case h.off:
	case status != rebooted:
		h.failed = fmt.Errorf("boot %d of %s ended: %v", b.n, h.name, b.nspawn.Err())
	default:
		if err := h.start(); err != nil {
			h.failed = fmt.Errorf("boot %s: %w", h.name, err)
		}
	}
}

// powerOff cuts the power: nothing on the host gets to do anything any more.
func (h *host) powerOff() {
	h.mu.Lock()
	h.off = true
	var last *boot
	if len(h.boots) > 0 {
		last = h.boots[len(h.boots)-1]
	}
	h.mu.Unlock()
	if last == nil {
		return
	}
	must.Do(h.t, os.WriteFile(filepath.Join(last.cgroup, "cgroup.kill"), []byte("1"), 0o644))
	<-last.nspawn.Done()
	must.Eventually(h.t, patience, "the end of "+h.name, func() bool {
		events, err := os.ReadFile(filepath.Join(last.cgroup, "cgroup.events"))
		return err == nil && bytes.Contains(events, []byte("populated 0"))
	})
}

// Write takes what appears on the console.
func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.console.Write(p)
}

// signal tells that something changed; h.mu is held.
func (h *host) signal() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// awaitBoot waits until boot n, or a later one, is done.
func (h *host) awaitBoot(n int) *boot {
	h.t.Helper()
	var last *boot
	must.Await(h.t, patience, fmt.Sprintf("boot %d of %s", n, h.name), func() (<-chan struct{}, bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		must.Do(h.t, h.failed)
		if len(h.boots) > 0 {
			last = h.boots[len(h.boots)-1]
		}
		return h.changed, last != nil && last.n >= n && last.ready && last.leader != 0
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if last.id == "" {
		last.id = h.readBootID(last)
	}
	return last
}

// awaitUp waits until the host is up, and returns its boot.
func (h *host) awaitUp() *boot {
	h.t.Helper()
	return h.awaitBoot(1)
}

// awaitReboot waits until the host is up again after the boot before, and wants its
// boot id to be another one.
func (h *host) awaitReboot(before *boot) *boot {
	h.t.Helper()
	after := h.awaitBoot(before.n + 1)
	if after.id == before.id {
		h.t.Fatalf("%s came up with boot id %s again: that was no reboot", h.name, after.id)
	}
	return after
}

// wantNoReboot fails if the host is not in the same boot as before.
func (h *host) wantNoReboot(before *boot) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := h.boots[len(h.boots)-1]; last != before || !last.nspawn.Running() {
		h.t.Errorf("%s rebooted", h.name)
	}
}

func (h *host) readBootID(b *boot) string {
	h.t.Helper()
	r := b.run(h.t.Context(), "cat", "/proc/sys/kernel/random/boot_id")
	if r.status != 0 {
		h.t.Fatalf("read the boot id of %s: %+v", h.name, r)
	}
	return strings.TrimSpace(r.stdout)
}

// result is what a program that has ended left.
type result struct {
	stdout, stderr string
	status         int
}

// run runs a program on the host of the boot, in the namespaces of its PID 1 and in a
// control group of its own tree, where logind can tell that it belongs to no session.
func (b *boot) run(ctx context.Context, args ...string) result {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path := filepath.Join(b.cgroup, "payload/system.slice/e2e.service")
	if err := os.MkdirAll(path, 0o755); err != nil {
		return result{stderr: err.Error(), status: -1}
	}
	group, err := os.Open(path)
	if err != nil {
		return result{stderr: err.Error(), status: -1}
	}
	defer group.Close()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target=" + strconv.Itoa(b.leader),
		"--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	err = cmd.Run()
	return result{stdout.String(), stderr.String(), proc.ExitStatus(err)}
}

// run runs a program on the host, which is up, as root.
func (h *host) run(args ...string) result {
	h.t.Helper()
	h.mu.Lock()
	last := *h.boots[len(h.boots)-1]
	h.mu.Unlock()
	if last.leader == 0 {
		return result{stderr: h.name + " is down", status: -1}
	}
	return last.run(h.t.Context(), args...)
}

// runAs runs a program as a user of the host, with the groups of that user.
func (h *host) runAs(user string, args ...string) result {
	h.t.Helper()
	return h.run(append([]string{"setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups"}, args...)...)
}

// do runs a program on the host as root, wants it to succeed, and returns its output.
func (h *host) do(args ...string) string {
	h.t.Helper()
	r := h.run(args...)
	if r.status != 0 {
		h.t.Fatalf("%s on %s: %+v", strings.Join(args, " "), h.name, r)
	}
	return r.stdout
}

// unit returns a property of a unit, as systemctl show knows it.
func (h *host) unit(unit, property string) string {
	h.t.Helper()
	return strings.TrimSpace(h.run("systemctl", "show", "--value", "--property="+property, unit).stdout)
}

// awaitStatus waits until the status line of locksmithd has all the parts.
func (h *host) awaitStatus(parts ...string) string {
	h.t.Helper()
	var status string
	must.Eventually(h.t, patience, fmt.Sprintf("the status %q on %s", parts, h.name), func() bool {
		status = h.unit("locksmithd", "StatusText")
		return contains.All(status, parts...)
	})
	return status
}

// journal returns what locksmithd wrote to the journal during this boot.
func (h *host) journal() string {
	h.t.Helper()
	return h.run("journalctl", "--boot", "--unit=locksmithd", "--output=cat", "--no-pager").stdout
}

// syncJournal waits until what was logged so far is in the journal: whoever logs goes on
// before that.
func (h *host) syncJournal() {
	h.t.Helper()
	h.do("journalctl", "--sync")
}

// awaitJournal waits for a line of locksmithd in the journal that has all the parts.
func (h *host) awaitJournal(parts ...string) string {
	h.t.Helper()
	var found string
	must.Eventually(h.t, patience, fmt.Sprintf("%q in the journal of %s", parts, h.name), func() bool {
		for line := range strings.Lines(h.journal()) {
			if contains.All(line, parts...) {
				found = line
				return true
			}
		}
		return false
	})
	return found
}

// dump shows what the host has to say, after a failure.
func (h *host) dump() {
	h.t.Helper()
	h.mu.Lock()
	console := tail(h.console.Bytes())
	h.mu.Unlock()
	journal, _ := exec.Command("journalctl", "--directory="+h.root+"/var/log/journal", "--output=short-precise",
		"--no-pager", "--lines=150").CombinedOutput()
	h.t.Logf("%s, machine id %s, address %s; its console:\n%s\nits journal:\n%s", h.name, h.id, h.address, console, journal)
}
