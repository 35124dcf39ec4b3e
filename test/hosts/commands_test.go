package hosts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// result is the outcome of a program that has ended.
type result struct {
	stdout, stderr string
	status         int
}

// run runs a program on the host of the boot, in the namespaces of its PID 1 and in a control group of its tree,
// so that logind can tell that the program belongs to no session.
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

// do runs a program on the host as root, requires success, and returns its standard output.
func (h *host) do(args ...string) string {
	h.t.Helper()
	r := h.run(args...)
	if r.status != 0 {
		h.t.Fatalf("%s on %s: %+v", strings.Join(args, " "), h.name, r)
	}
	return r.stdout
}

// unit returns a property of a unit, as in systemctl show.
func (h *host) unit(unit, property string) string {
	h.t.Helper()
	return strings.TrimSpace(h.run("systemctl", "show", "--value", "--property="+property, unit).stdout)
}

// awaitStatus waits until the status line of locksmithd has all the parts.
func (h *host) awaitStatus(parts ...string) string {
	h.t.Helper()
	var status string
	must.Eventually(h.t, patience, fmt.Sprintf("the status %q on %s", parts, h.name), func() bool {
		status = h.status()
		return contains.All(status, parts...)
	})
	return status
}

// status returns the status line of locksmithd, or "" while the host's bus or PID 1 does not say. It asks them from
// here, which costs no program on the host: org.freedesktop.systemd1(5).
func (h *host) status() string {
	h.mu.Lock()
	leader := h.boots[len(h.boots)-1].leader
	h.mu.Unlock()
	bus, err := dbus.Connect(fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", leader))
	if err != nil {
		return ""
	}
	defer bus.Close()
	var status string
	unit := bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1/unit/locksmithd_2eservice")
	if unit.StoreProperty("org.freedesktop.systemd1.Service.StatusText", &status) != nil {
		return ""
	}
	return status
}

// eventually waits until a condition holds that a program on a host shows. It asks once a second at most: a program
// costs so much there that ten hosts that ask as often as must.Eventually would leave them no time for what is waited
// for.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for wait := 20 * time.Millisecond; !holds(); wait = min(2*wait, time.Second) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
		time.Sleep(wait)
	}
}

// journal returns the log of locksmithd in the journal of this boot.
func (h *host) journal() string {
	h.t.Helper()
	return h.run("journalctl", "--boot", "--unit=locksmithd", "--output=cat", "--no-pager").stdout
}

// syncJournal waits until all messages so far are in the journal, which programs that log do not wait for.
func (h *host) syncJournal() {
	h.t.Helper()
	h.do("journalctl", "--sync")
}

// awaitJournal waits for a line of locksmithd in the journal that has all the parts.
func (h *host) awaitJournal(parts ...string) string {
	h.t.Helper()
	var found string
	eventually(h.t, fmt.Sprintf("%q in the journal of %s", parts, h.name), func() bool {
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

// announce makes update_engine report that an update needs a reboot.
func (h *host) announce(version string) {
	h.t.Helper()
	h.do("sh", "-c", fmt.Sprintf("echo UPDATE_STATUS_UPDATED_NEED_REBOOT %s > /run/update-engine-status", version))
	h.run("systemctl", "reload", "update-engine") // the reboot may end it
}

// sendNeedReboot requests a reboot as a user. If the user is trusted, its result is meaningless: the command waits
// for two seconds, and the reboot may end it.
func (h *host) sendNeedReboot(user string) result {
	h.t.Helper()
	return h.runAs(user, "locksmithctl", "send-need-reboot")
}

// inhibit starts a service that blocks shutdowns.
func (h *host) inhibit(service string) {
	h.t.Helper()
	h.do("systemd-run", "--unit="+service, "systemd-inhibit", "--what=shutdown", "--mode=block",
		"--who="+service, "--why=nightly copy", "sleep", "infinity")
	eventually(h.t, "the inhibitor "+service, func() bool {
		return strings.Contains(h.do("systemd-inhibit", "--list", "--no-legend"), service)
	})
}

// wantCoordinator waits until the coordinator file has a strategy and a state.
func (h *host) wantCoordinator(strategy, state string) {
	h.t.Helper()
	want := fmt.Sprintf("NAME=locksmithd\nSTRATEGY=%s\nSTATE=%s\n", strategy, state)
	eventually(h.t, fmt.Sprintf("the coordinator file with %q", want), func() bool {
		return h.run("cat", "/run/update-engine/coordinator.conf").stdout == want
	})
}

// withUnit adds settings to the daemon's unit on a host that is up.
func (h *host) withUnit(settings ...string) {
	h.t.Helper()
	h.write("/etc/systemd/system/locksmithd.service.d/test.conf", "[Service]\n"+strings.Join(settings, "\n")+"\n")
	h.do("systemctl", "daemon-reload")
}

// scheduled returns logind's description of the scheduled shutdown.
func (h *host) scheduled() string {
	h.t.Helper()
	r := h.run("shutdown", "--show")
	return r.stdout + r.stderr
}
