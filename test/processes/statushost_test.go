package processes

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/hostbus"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// hostDocument is a part of what `status -host -o json` prints.
type hostDocument struct {
	State    string
	Since    *time.Time
	Status   string
	Strategy string
	Group    string
	Need     *struct{ Version string }
	Gates    []struct{ Name, Answer, Why string }
	Slot     struct {
		Needed, Held bool
		BlockedBy    string `json:"blocked_by"`
	}
	Refused string `json:"config_refused"`
}

func (d hostDocument) gate(name string) string {
	for _, g := range d.Gates {
		if g.Name == name {
			return strings.TrimSpace(g.Answer + " " + g.Why)
		}
	}
	return "missing"
}

// awaitHost waits until the host's state on the bus is as it should be, and returns it.
func (h *host) awaitHost(what string, holds func(hostDocument) bool) (d hostDocument) {
	h.t.Helper()
	must.Eventually(h.t, patience, what, func() bool {
		r := h.run(locksmithctl(), "status", "-host", "-o", "json")
		if r.status != 0 && strings.Contains(r.stderr, "is not on the system bus") {
			return false // not yet
		}
		d = hostDocument{}
		if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || r.status != 0 {
			h.t.Fatalf("%+v: %v", r, err)
		}
		return holds(d)
	})
	return d
}

func TestStatusOfThisHostSaysWhyItHasNotRebooted(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	absent := func() {
		t.Helper()
		r := h.run(locksmithctl(), "status", "-host")
		if want := "locksmithctl: locksmithd is not on the system bus: it does not run, or the bus has not let it have its name: see \"systemctl status locksmithd\"\n"; r.status != 1 || r.stdout != "" || r.stderr != want {
			t.Errorf("without a daemon: %+v", r)
		}
	}
	absent()
	h.start()
	h.awaitIdle()
	d := h.awaitHost("idle", func(d hostDocument) bool { return d.State == "idle" })
	if d.Strategy != "etcd-lock" || d.Group != g.name || d.Need != nil || d.Since == nil || d.Status != h.Status() ||
		d.gate("update") != "no no reboot is needed" || d.gate("users") != "not asked asked once a reboot is needed" {
		t.Errorf("idle: %+v", d)
	}
	if r := h.run(locksmithctl(), "status", "-host"); r.status != 0 || r.stderr != "" || !strings.HasPrefix(r.stdout, "No reboot of this host is needed.\n") {
		t.Errorf("idle: %+v", r)
	}
	h.Logind.SetInhibitors(someBackup)
	h.announce()
	h.awaitStatus("held back by")
	h.awaitHost("held back", func(d hostDocument) bool {
		return strings.HasPrefix(d.gate("inhibitors"), `no "unattended backup" (rsync, `) && d.gate("users") == "yes" && d.gate("alerts") == "not asked asked once the gates before it say yes"
	})
	r := h.run(locksmithctl(), "status", "-host")
	if !contains.All(r.stdout, "This host needs a reboot, which 1 gate holds back: inhibitors.\n", "for version 4081.2.0", "unattended backup") {
		t.Errorf("held back: %+v", r)
	}
	h.reload("REBOOT_STRATEGY=nonsense\n")
	h.awaitHost("a refused configuration", func(d hostDocument) bool { return strings.Contains(d.Refused, "nonsense") })
	h.reload(g.conf())
	g.lock("other")
	h.Logind.SetInhibitors()
	d = h.awaitHost("in the queue", func(d hostDocument) bool { return strings.Contains(d.Slot.BlockedBy, "held by other") })
	for _, gate := range d.Gates {
		if (gate.Answer == "yes") != (gate.Name != "slot") {
			t.Errorf("in the queue: %+v", gate)
		}
	}
	h.terminate()
	absent()
	must.Do(t, h.Bus.Kill())
	if r := h.run(locksmithctl(), "status", "-host"); r.status != 1 || !strings.Contains(r.stderr, "connect to the system bus at "+h.Bus.Address()) {
		t.Errorf("without a bus: %+v", r)
	}
}

func TestStatusOfThisHostIsWatched(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitIdle()
	h.Logind.SetInhibitors(someBackup)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, locksmithctl(), "status", "-host", "-watch", "-o", "json")
	cmd.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + h.Bus.Address()}
	out, err := cmd.StdoutPipe()
	must.Do(t, err)
	must.Do(t, cmd.Start())
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	states := make(chan string)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var d hostDocument
			if json.Unmarshal(lines.Bytes(), &d) != nil {
				d.State = lines.Text()
			}
			select {
			case states <- d.State:
			case <-ctx.Done():
				return
			}
		}
	}()
	await := func(want string) {
		t.Helper()
		must.Eventually(t, patience, want, func() bool { return must.Receive(t, patience, "a document", states) == want })
	}
	await("idle")
	h.announce()
	await("waiting")
	h.terminate()
	h.start()
	await("waiting")
	h.Logind.SetInhibitors()
	await("rebooting")
}

// The third connection, for those who read, is one that the daemon can do without.
func TestHostGoesOnWithoutItsStateOnTheBus(t *testing.T) {
	t.Parallel()
	h, proxy := newProxiedHost(t, "REBOOT_STRATEGY=reboot\n")
	h.start()
	h.awaitIdle()
	must.Eventually(t, patience, "the third connection", func() bool { return proxy.count() == 3 })
	h.awaitHost("idle", func(d hostDocument) bool { return d.State == "idle" })
	proxy.cut(2)
	h.awaitLog("level=WARN", "the state of this host is not on the bus")
	h.awaitHost("idle again", func(d hostDocument) bool { return d.State == "idle" })
	h.announce()
	h.awaitReboot()
}

// Whoever asks without end, and waits for no answer, keeps the daemon from nothing.
func TestHostIsNotHeldUpByThoseWhoRead(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	h.awaitIdle()
	h.awaitHost("idle", func(d hostDocument) bool { return d.State == "idle" })
	before := number(t, "/proc/"+strconv.Itoa(h.Daemon().PID())+"/status", "VmRSS:")
	raw, err := net.Dial("unix", strings.TrimPrefix(h.Bus.Address(), "unix:path="))
	must.Do(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() { raw.Close(); <-ended })
	conn, err := dbus.NewConn(raw)
	must.Do(t, err)
	must.Do(t, conn.Auth(nil))
	must.Do(t, conn.Hello())
	asked := make(chan struct{})
	go func() {
		defer close(ended)
		object := conn.Object(hostbus.Object.Bus, hostbus.Object.Path)
		for i := range 20_000 {
			object.Go("org.freedesktop.DBus.Properties.GetAll", 0, make(chan *dbus.Call, 1), hostbus.Object.Interface)
			if i == 10_000 {
				close(asked)
			}
		}
	}()
	must.Receive(t, patience, "half of the calls", asked)
	h.announce()
	h.awaitReboot()
	if now := number(t, "/proc/"+strconv.Itoa(h.Daemon().PID())+"/status", "VmRSS:"); now > before+(32<<10) {
		t.Errorf("the daemon had %d KiB, and has %d", before, now)
	}
}
