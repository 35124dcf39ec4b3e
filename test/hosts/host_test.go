package hosts

import (
	"bytes"
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

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// The network of the hosts. The tests have the address .0.1.
const (
	bridge  = "hosts"
	network = "10.77"
)

// rebooted is the exit status of nspawn if the container must be started again.
const rebooted = 133

var hosts atomic.Int64

// host is a machine: a container with a disk and an address of its own. After a reboot it starts again by itself,
// until powerOff.
type host struct {
	t       testing.TB
	name    string
	id      string // that its slot has in the lock: its machine id, but for hosts that speak FleetLock
	address string
	dir     string
	root    string // its disk, which exists while the host is down, too

	// whileDown, if set, runs between the end of one boot and the start of the next.
	whileDown func()

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	boots   []*boot
	failed  error // why the host does not come up again
	off     bool
	console bytes.Buffer
}

// boot is one run of a host.
type boot struct {
	n      int // the first is 1
	nspawn *proc.Process
	cgroup string
	leader int // the PID here of the host's PID 1; 0 until it runs
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
	// The updates that are announced do not come: without a version in os-release nobody can tell.
	h.write("/etc/os-release", "ID=debian\n")
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

// write writes a file on the host's disk. The host may be on or off.
func (h *host) write(path, content string) {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(content), 0o644))
}

// powerOn starts a host that is off.
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
	// Each boot has a control group of its own: Linux 6.18 kills processes that start in one that was killed before.
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

// listen receives the notifications of nspawn: that a boot is under way, and that it is done.
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

// powerOff cuts the power: every process on the host ends at once.
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
	// The kernel removes a network after its last process.
	must.Eventually(h.t, patience, "the end of the network of "+h.name, func() bool {
		_, err := net.InterfaceByName("vb-" + h.name)
		return err != nil
	})
}

// Write receives the output on the console.
func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.console.Write(p)
}

// signal reports a change; h.mu is held.
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

// awaitReboot waits until the host is up again after the boot before, and checks that its boot id has changed.
func (h *host) awaitReboot(before *boot) *boot {
	h.t.Helper()
	after := h.awaitBoot(before.n + 1)
	if after.id == before.id {
		h.t.Fatalf("%s came up with the same boot id %s: that was not a reboot", h.name, after.id)
	}
	return after
}

// wantNoReboot fails if the host is no longer in the boot before.
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

// dump logs the console and the journal of the host after a failure.
func (h *host) dump() {
	h.t.Helper()
	h.mu.Lock()
	console := tail(h.console.Bytes())
	h.mu.Unlock()
	journal, _ := exec.Command("journalctl", "--directory="+h.root+"/var/log/journal", "--output=short-precise",
		"--no-pager", "--lines=150").CombinedOutput()
	h.t.Logf("%s, id %s, address %s; its console:\n%s\nits journal:\n%s", h.name, h.id, h.address, console, journal)
}

// running reports whether the host is on and not between two boots.
func (h *host) running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.off && len(h.boots) > 0 && h.boots[len(h.boots)-1].nspawn.Running()
}
