// Package simhost simulates hosts of a fleet on one machine, for tests and for the demo.
//
// Each host has a directory in place of /, a message bus with a scripted update_engine and logind, and a real
// locksmithd process. Nothing here needs privilege, and Close leaves no process behind. A host does not reboot by
// itself: Halt and Boot are the two halves of a reboot, and the caller decides when they happen.
package simhost

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/proc"
)

// Options describe a host.
type Options struct {
	Locksmithd   string // path of the binary
	Locksmithctl string // the same, for the units that run scripts and the sentinel command; "": the host has no such units
	Dir          string // takes the place of /; made if it is missing
	MachineID    string
	UpdateConf   string   // content of /etc/flatcar/update.conf
	Args         []string // more arguments for locksmithd
	Env          []string // more environment for locksmithd
	Journal      bool     // locksmithd's standard error is a stream of the journal, whose socket may be below Dir
}

// Host is a simulated host. Its methods are safe for concurrent use.
type Host struct {
	Bus    *bustest.Bus
	Engine *bustest.Engine
	Logind *bustest.Logind
	o      Options
	notify *net.UnixConn

	mu      sync.Mutex
	daemon  *proc.Process // nil before the first start
	log     bytes.Buffer
	notices []string // to its service manager, sd_notify(3)
	status  string   // the last STATUS= of daemon
	changed chan struct{}
}

// New makes a host whose bus, update_engine and logind run, but not its locksmithd.
func New(o Options) (_ *Host, err error) {
	h := &Host{o: o, changed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make simulated host %s: %w", o.MachineID, err), h.Close())
		}
	}()
	for _, dir := range []string{"etc/flatcar", "proc/sys/kernel/random", "run/update-engine"} {
		if err := os.MkdirAll(h.Path(dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(h.Path("etc/machine-id"), []byte(o.MachineID+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := h.Configure(o.UpdateConf); err != nil {
		return nil, err
	}
	if err := h.newBootID(); err != nil {
		return nil, err
	}
	if h.Bus, err = bustest.Start(bustest.System); err != nil {
		return nil, err
	}
	h.Engine, h.Logind = bustest.NewEngine(h.Bus), bustest.NewLogind(h.Bus)
	if err := errors.Join(h.Engine.Appear(), h.Logind.Appear()); err != nil {
		return nil, err
	}
	if o.Locksmithctl != "" {
		h.addUnits()
	}
	// The path of a socket has at most 108 bytes, so the socket is beside that of the bus.
	socket := filepath.Join(filepath.Dir(strings.TrimPrefix(h.Bus.Address(), "unix:path=")), "notify")
	if h.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		return nil, err
	}
	if err := passCredentials(h.notify); err != nil {
		return nil, err
	}
	go h.listen(h.notify)
	return h, nil
}

// Path returns the path here of a path of the host.
func (h *Host) Path(path string) string { return filepath.Join(h.o.Dir, path) }

// Configure replaces /etc/flatcar/update.conf.
func (h *Host) Configure(updateConf string) error {
	return os.WriteFile(h.Path("etc/flatcar/update.conf"), []byte(updateConf), 0o644)
}

// Rename changes the host's name, which is this machine's at first.
func (h *Host) Rename(hostname string) error {
	return os.WriteFile(h.Path("proc/sys/kernel/hostname"), []byte(hostname+"\n"), 0o644)
}

// SetOSVersion replaces the version of the operating system, which is not known at first.
func (h *Host) SetOSVersion(version string) error {
	return os.WriteFile(h.Path("etc/os-release"), []byte("ID=flatcar\nVERSION_ID="+version+"\n"), 0o644)
}

// AddScript puts a script into the folder of a phase, such as after-reboot. They run only with Options.Locksmithctl.
func (h *Host) AddScript(phase hooks.Phase, name, script string) error {
	folder := h.Path("etc/locksmith/" + string(phase) + ".d")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name), []byte(script), 0o755)
}

// Start starts locksmithd, as systemd does at boot or after a failure.
func (h *Host) Start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon != nil && h.daemon.Running() {
		return errors.New("start locksmithd: it is running already")
	}
	cmd := exec.Command(h.o.Locksmithd, append([]string{"--root=" + h.o.Dir}, h.o.Args...)...)
	cmd.Env = append([]string{
		"DBUS_SYSTEM_BUS_ADDRESS=" + h.Bus.Address(),
		"NOTIFY_SOCKET=" + h.notify.LocalAddr().String(),
		"GOMAXPROCS=1",
	}, h.o.Env...)
	if tz, ok := os.LookupEnv("TZ"); ok { // otherwise the host's zone applies
		cmd.Env = append([]string{"TZ=" + tz}, cmd.Env...)
	}
	cmd.Stdout, cmd.Stderr = (*logWriter)(h), (*logWriter)(h)
	if h.o.Journal {
		stream, err := h.stream(cmd)
		if err != nil {
			return fmt.Errorf("start locksmithd: %w", err)
		}
		defer stream.Close()
	}
	daemon, err := proc.Start(cmd)
	if err != nil {
		return fmt.Errorf("start locksmithd: %w", err)
	}
	h.daemon, h.status = daemon, ""
	h.change()
	return nil
}

// stream makes the standard error of cmd a stream of the journal, which becomes part of the log. It returns the end
// of cmd.
func (h *Host) stream(cmd *exec.Cmd) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	info, err := w.Stat()
	if err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	stat := info.Sys().(*syscall.Stat_t)
	cmd.Env, cmd.Stderr = append(cmd.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)), w
	go func() {
		defer r.Close()
		_, _ = io.Copy((*logWriter)(h), r) // it ends with the process
	}()
	return w, nil
}

// Boot is Start after a reboot: the boot id is new, update_engine is idle, no unit runs, and /run is empty except for
// the folder of the coordinator file.
func (h *Host) Boot() error {
	if err := os.RemoveAll(h.Path("run/locksmith")); err != nil {
		return err
	}
	if err := h.newBootID(); err != nil {
		return err
	}
	return h.comeUp()
}

// comeUp starts what is started after every reboot.
func (h *Host) comeUp() error {
	h.Logind.StopUnits()
	h.Engine.Set(bustest.Status{Operation: bustest.OperationIdle})
	if err := h.Logind.SetPreparing(false); err != nil {
		return err
	}
	return h.Start()
}

// SoftBoot is Start after a soft reboot that ended at a time: update_engine is idle, and no unit runs. The boot id and
// /run stay. systemd counts that only from version 256 on, and is asked only if the host has the folder
// /run/systemd/system.
func (h *Host) SoftBoot(ended time.Time) error {
	h.Logind.SoftReboot(ended)
	return h.comeUp()
}

// Halt ends locksmithd as systemd does when the host goes down, and waits for its end.
func (h *Host) Halt() error {
	if err := h.Logind.SetPreparing(true); err != nil {
		return err
	}
	return h.Stop()
}

// Stop ends locksmithd as systemctl stop does, and waits for its end.
func (h *Host) Stop() error {
	d := h.Daemon()
	if d == nil {
		return nil
	}
	if d.Running() {
		if err := d.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop locksmithd: %w", err)
		}
	}
	if err := d.Err(); err != nil {
		return fmt.Errorf("stop locksmithd: %w", err)
	}
	return nil
}

// Daemon returns the process that was started last, or nil.
func (h *Host) Daemon() *proc.Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.daemon
}

// Log returns the output of locksmithd so far, and of the scripts that ran around reboots.
func (h *Host) Log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// Status returns the line that systemctl status would show: the last one from the process that was started last.
func (h *Host) Status() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

// Notices returns all assignments, such as READY=1, that locksmithd has sent to its service manager.
func (h *Host) Notices() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.notices)
}

// Changed returns a channel that is closed at the next change of the results of Log, Status, Notices and Daemon.
func (h *Host) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// change reports a change to those who wait; h.mu is held.
func (h *Host) change() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// Close ends all processes. The directory stays.
func (h *Host) Close() error {
	if d := h.Daemon(); d != nil {
		d.Kill()
	}
	var errs []error
	if h.notify != nil {
		errs = append(errs, h.notify.Close())
	}
	if h.Bus != nil {
		errs = append(errs, h.Engine.Close(), h.Logind.Close(), h.Bus.Close())
	}
	return errors.Join(errs...)
}

func (h *Host) newBootID() error {
	return os.WriteFile(h.Path("proc/sys/kernel/random/boot_id"), []byte(rand.Text()+"\n"), 0o644)
}

// listen receives the notifications of locksmithd to its service manager.
func (h *Host) listen(conn *net.UnixConn) {
	buffer, control := make([]byte, 1<<16), make([]byte, syscall.CmsgSpace(syscall.SizeofUcred))
	for {
		n, c, _, _, err := conn.ReadMsgUnix(buffer, control)
		if err != nil {
			return // closed
		}
		h.mu.Lock()
		// A message of a process that was killed may be read late. It is not the status of the next process.
		current := h.daemon != nil && sender(control[:c]) == h.daemon.PID()
		for line := range strings.Lines(string(buffer[:n])) {
			line = strings.TrimSuffix(line, "\n")
			h.notices = append(h.notices, line)
			if status, ok := strings.CutPrefix(line, "STATUS="); ok && current {
				h.status = status
			}
		}
		h.change()
		h.mu.Unlock()
	}
}

// passCredentials makes the kernel add the sender's process id to every message.
func passCredentials(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
	})
	return errors.Join(err, failed)
}

// sender returns the process id in the control data of a message, or 0.
func sender(control []byte) int {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return 0
	}
	credentials, err := syscall.ParseUnixCredentials(&messages[0])
	if err != nil {
		return 0
	}
	return int(credentials.Pid)
}

// logWriter appends to a host's log.
type logWriter Host

func (w *logWriter) Write(p []byte) (int, error) {
	h := (*Host)(w)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.change()
	return h.log.Write(p)
}
