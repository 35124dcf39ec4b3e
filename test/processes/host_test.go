package processes

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/realpart"
	"github.com/locksmithd/locksmith/test/simhost"
)

var (
	needReboot = bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: "4081.2.0", NewSize: 400 << 20}
	idle       = bustest.Status{Operation: bustest.OperationIdle}

	// someUser is a session that delays a reboot while the lock is held.
	someUser = bustest.Session{ID: "1", UID: 1000, Name: "user"}
)

// host is a simulated host in a test.
type host struct {
	*simhost.Host
	t  testing.TB
	id string
}

var hosts atomic.Int64

// option changes how a host is made.
type option func(*simhost.Options)

func withArgs(args ...string) option { return func(o *simhost.Options) { o.Args = args } }

func withEnv(env ...string) option { return func(o *simhost.Options) { o.Env = env } }

// newHost makes a host with an update.conf. Its locksmithd does not run yet. At the end of the test newHost checks
// that the log shows no crash, and prints the log if the test failed.
func newHost(t testing.TB, conf string, options ...option) *host {
	t.Helper()
	o := simhost.Options{
		Locksmithd: locksmithd(),
		Dir:        t.TempDir(),
		MachineID:  fmt.Sprintf("%032x", hosts.Add(1)),
		UpdateConf: conf,
	}
	for _, set := range options {
		set(&o)
	}
	sim, err := simhost.New(o)
	realpart.Must(t, err)
	h := &host{Host: sim, t: t, id: o.MachineID}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host %s: %v", h.id, err)
		}
		log := h.Log()
		for _, crash := range []string{"DATA RACE", "panic:", "fatal error:", "goroutine 1 "} {
			if strings.Contains(log, crash) {
				t.Errorf("locksmithd crashed: %q in its log", crash)
			}
		}
		if t.Failed() {
			t.Logf("log of host %s:\n%s\nits last status: %s", h.id, log, h.Status())
		}
	})
	return h
}

// startHost makes a host and starts its locksmithd.
func startHost(t testing.TB, conf string, options ...option) *host {
	t.Helper()
	h := newHost(t, conf, options...)
	h.start()
	return h
}

// startPending starts a host whose update_engine reports that a reboot is needed.
func startPending(t testing.TB, conf string, options ...option) *host {
	t.Helper()
	h := newHost(t, conf, options...)
	h.startPending()
	return h
}

// startWaiting starts a host that waits for the slot that "other" holds.
func startWaiting(t testing.TB, g *group, conf string) *host {
	t.Helper()
	if !g.lock("other") {
		t.Fatal("no slot is free")
	}
	h := startHost(t, conf)
	h.announce()
	h.awaitStatus("waiting for a slot", "held by other")
	return h
}

// startHolding starts a host that holds a slot and waits for a user to leave.
func startHolding(t testing.TB, g *group, conf string) *host {
	t.Helper()
	h := newHost(t, conf)
	must.Do(t, h.Logind.SetSessions(someUser))
	h.startPending()
	h.awaitStatus("users are logged in")
	g.awaitHolders(h.id)
	return h
}

// startBehindProxy starts a host, idle, that reaches the lock of a new group through a proxy.
func startBehindProxy(t testing.TB, s *etcdtest.Server) (*group, *etcdtest.RPCProxy, *host) {
	t.Helper()
	g, p := newGroup(t, s), etcdtest.MustRPCProxy(t, s)
	h := startHost(t, g.confAt(p.Endpoint()))
	h.awaitIdle()
	return g, p, h
}

func (h *host) start() {
	h.t.Helper()
	must.Do(h.t, h.Start())
}

// startPending starts locksmithd while update_engine reports that a reboot is needed.
func (h *host) startPending() {
	h.t.Helper()
	h.Engine.Set(needReboot)
	h.start()
}

// await waits until a condition on the host's log, status, notifications or daemon holds.
func (h *host) await(what string, holds func() bool) {
	h.t.Helper()
	must.Await(h.t, patience, what, func() (<-chan struct{}, bool) {
		changed := h.Changed() // before the check, so that no change is missed
		return changed, holds()
	})
}

// awaitStatus waits for a status line that has all the parts.
func (h *host) awaitStatus(parts ...string) {
	h.t.Helper()
	h.await(fmt.Sprintf("the status %q", parts), func() bool { return contains.All(h.Status(), parts...) })
}

// awaitLog waits for a line of the log that has all the parts.
func (h *host) awaitLog(parts ...string) {
	h.t.Helper()
	h.await(fmt.Sprintf("%q in the log", parts), func() bool { return h.logged(parts...) > 0 })
}

// logged counts the lines of the log that have all the parts.
func (h *host) logged(parts ...string) int {
	return contains.Lines(h.Log(), parts...)
}

// noticed counts a notification to the service manager, such as READY=1.
func (h *host) noticed(notice string) int {
	n := 0
	for _, sent := range h.Notices() {
		if sent == notice {
			n++
		}
	}
	return n
}

// awaitIdle waits until locksmithd has nothing to do.
func (h *host) awaitIdle() {
	h.t.Helper()
	h.awaitStatus("idle: no reboot is needed")
}

// announce makes update_engine need a reboot.
func (h *host) announce() {
	h.t.Helper()
	must.Do(h.t, h.Engine.Announce(needReboot))
}

// awaitReboot waits until logind is asked to reboot.
func (h *host) awaitReboot() bustest.RebootCall {
	h.t.Helper()
	return must.Receive(h.t, patience, "logind to be asked to reboot", h.Logind.Reboots())
}

// wantNoReboot fails if logind has been asked to reboot by now.
func (h *host) wantNoReboot() {
	h.t.Helper()
	select {
	case call := <-h.Logind.Reboots():
		h.t.Errorf("logind was asked to reboot: %+v", call)
	default:
	}
}

// wantExit waits for the end of locksmithd and checks its status.
func (h *host) wantExit(want int) {
	h.t.Helper()
	must.Receive(h.t, patience, "the end of locksmithd", h.Daemon().Done())
	if got := proc.ExitStatus(h.Daemon().Err()); got != want {
		h.t.Fatalf("locksmithd ended with status %d, want %d", got, want)
	}
}

func (h *host) signal(s syscall.Signal) {
	h.t.Helper()
	must.Do(h.t, h.Daemon().Signal(s))
}

// terminate ends locksmithd as systemctl stop does, and checks that it exits with 0.
func (h *host) terminate() {
	h.t.Helper()
	h.signal(syscall.SIGTERM)
	h.wantExit(0)
}

// reboot takes the host down, as logind was asked to, and boots it.
func (h *host) reboot() {
	h.t.Helper()
	must.Do(h.t, h.Halt())
	must.Do(h.t, h.Boot())
}

// reload changes update.conf and sends SIGHUP, as systemctl reload does.
func (h *host) reload(conf string) {
	h.t.Helper()
	must.Do(h.t, h.Configure(conf))
	h.signal(syscall.SIGHUP)
}

// write writes a file below the host's root.
func (h *host) write(path, content string) {
	h.t.Helper()
	path = h.Path(path)
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(content), 0o644))
}

// bootID returns the id of the host's boot.
func (h *host) bootID() string {
	h.t.Helper()
	data, err := os.ReadFile(h.Path("proc/sys/kernel/random/boot_id"))
	must.Do(h.t, err)
	return strings.TrimSpace(string(data))
}

func (h *host) coordinatorPath() string { return h.Path("run/update-engine/coordinator.conf") }

// wantCoordinator checks the content of the coordinator file, which is written before the status line.
func (h *host) wantCoordinator(strategy, state string) {
	h.t.Helper()
	got, err := os.ReadFile(h.coordinatorPath())
	must.Do(h.t, err)
	if want := fmt.Sprintf("NAME=locksmithd\nSTRATEGY=%s\nSTATE=%s\n", strategy, state); string(got) != want {
		h.t.Errorf("the coordinator file is\n%s\nwant\n%s", got, want)
	}
}

// result is the outcome of a program that has ended.
type result struct {
	stdout, stderr string
	status         int
}

// run runs a program on the host, beside its locksmithd, until it ends.
func (h *host) run(program string, args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"--root=" + h.Path("")}, args...)...)
	cmd.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + h.Bus.Address()}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return result{stdout.String(), stderr.String(), proc.ExitStatus(err)}
}

// ctl runs locksmithctl on the host and requires success.
func (h *host) ctl(args ...string) {
	h.t.Helper()
	if r := h.run(locksmithctl(), args...); r.status != 0 {
		h.t.Fatalf("locksmithctl %v: %+v", args, r)
	}
}

// groupName returns a name for a group that only one test uses.
func groupName() string { return "e2e-" + strings.ToLower(rand.Text()[:12]) }

// someBackup is an inhibitor that blocks shutdowns.
var someBackup = bustest.Inhibitor{Who: "rsync", Why: "unattended backup"}

// awaitSchedule waits until a reboot is scheduled with logind.
func (h *host) awaitSchedule() bustest.Shutdown {
	h.t.Helper()
	return must.Receive(h.t, patience, "a reboot to be scheduled", h.Logind.Schedules())
}

const accessDenied = "org.freedesktop.DBus.Error.AccessDenied"

// restartBus starts a bus again that was killed, with all its peers.
func (h *host) restartBus() {
	h.t.Helper()
	must.Do(h.t, h.Bus.Restart())
	must.Do(h.t, h.Engine.Appear())
	must.Do(h.t, h.Logind.Appear())
}
