package hosts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/updateconf"
)

const draining = "running what is hooked in before the reboot"

// drainUnit is a unit that takes part in the drain, after the scripts, and runs a command.
func drainUnit(command string) string {
	return `[Unit]
After=locksmith-before-reboot.service
[Service]
Type=oneshot
EnvironmentFile=-/run/locksmith/hooks.env
ExecStart=` + command + `
TimeoutStartSec=infinity
[Install]
RequiredBy=locksmith-before-reboot.target
`
}

func TestAHostIsDrainedWithItsSlotAndGivesItBackAfterTheHooksOfTheNextBoot(t *testing.T) {
	t.Parallel()
	f, h := startOne(t)
	h.record()
	h.script("before-reboot", "50-drain", until("/run/drained")+"\nrecord 50-drain")
	h.service("db-drain.service", drainUnit("/usr/local/bin/record db-drain"))
	h.script("after-reboot", "50-rejoin", until("/run/rejoined")+"\nrecord 50-rejoin")
	before := h.awaitUp()
	f.wantHeldWhileDown(h)
	h.announce("4081.2.0")
	h.awaitHook("before-reboot", recorder, 1)
	h.awaitStatus("for version 4081.2.0", draining)
	f.awaitHolders(h)
	if o := h.overview(); len(o.Holders) != 1 || o.Holders[0].Phase != "draining" {
		t.Errorf("during the drain locksmithctl status shows %+v", o)
	}
	h.wantNoReboot(before)
	h.do("touch", "/run/drained")

	h.awaitHook("after-reboot", recorder, 1)
	h.awaitStatus("checking whether this host is well after its reboot")
	f.awaitHolders(h)
	h.do("touch", "/run/rejoined")
	h.awaitReboot(before) // systemd may report the end of the boot only once that script has ended
	h.awaitStatus("idle")
	f.awaitHolders()
	h.wantHooks("before-reboot:00-record", "before-reboot:50-drain", "before-reboot:db-drain", "after-reboot:00-record", "after-reboot:50-rejoin")
	h.wantNotDrained()
	for _, r := range h.hookRuns() {
		reason := "a reboot is needed: update_engine"
		if r.Phase == "after-reboot" {
			reason = "the host has booted"
		}
		if want := (hookRun{r.Boot, r.Hook, r.Phase, f.group, "4081.2.0", reason, h.id}); r != want {
			t.Errorf("a hook was told %#v, want %#v", r, want)
		}
	}
}

func TestAHostWhoseDrainFailsGivesItsSlotBackAndTriesAgain(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, h := startOne(t)
	h.record()
	h.script("before-reboot", "50-drain", "echo the pool has no other member\nexit 1")
	h.service("db-drain.service", drainUnit("/usr/local/bin/record db-drain")+"[Unit]\nRequires=locksmith-before-reboot.service\n")
	before := h.awaitUp()
	h.announce("4081.2.0")
	cancelled := h.awaitHook("reboot-cancelled", recorder, 1)
	if !strings.Contains(cancelled.Reason, "the pool has no other member") || cancelled.Version != "4081.2.0" {
		t.Errorf("reboot-cancelled was told %+v", cancelled)
	}
	f.awaitHolders()
	h.awaitStatus("waiting since", "the last attempt failed: what runs before a reboot has failed", "50-drain: the pool has no other member")
	h.wantNoReboot(before)
	h.awaitHook("reboot-cancelled", recorder, 2)
	h.script("before-reboot", "50-drain", "record 50-drain")
	h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()
	if n := countRuns(h.hookRuns(), "before-reboot:db-drain"); n != 1 {
		t.Errorf("the unit that requires the scripts ran %d times, want 1", n)
	}
	h.wantNotDrained()
}

func countRuns(runs []hookRun, what string) (n int) {
	for _, r := range runs {
		if r.String() == what {
			n++
		}
	}
	return n
}

func TestADrainThatHangsIsStoppedAndUndone(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, h := startOne(t, "LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=10s")
	h.record()
	h.script("before-reboot", "50-drain", "trap '' TERM\nsetsid sleep 11111 &\nsleep 11112 &\nwhile :; do sleep 11113; done")
	h.service("db-drain.service", strings.ReplaceAll(drainUnit("/bin/sleep 11114"), "After=locksmith-before-reboot.service", ""))
	// What is left of the drain when it is undone.
	h.script("reboot-cancelled", "50-left", `pgrep --list-full --full "sleep 1111[1-4]" >> /var/log/left && exit 1; echo none >> /var/log/left`)
	before := h.awaitUp()
	h.announce("4081.2.0")
	h.awaitStatus(draining)
	f.awaitHolders(h)
	h.awaitHook("reboot-cancelled", recorder, 1)
	f.awaitHolders()
	status := h.awaitStatus("waiting since", "the last attempt failed: what runs before a reboot has failed")
	if !contains.All(status, "10s", "50-drain", "db-drain.service") {
		t.Errorf("the status does not say what hung: %s", status)
	}
	h.wantNoReboot(before)
	h.withdraw()
	if left := h.do("sort", "--unique", "/var/log/left"); left != "none\n" {
		t.Errorf("these processes of the drain were left when it was undone:\n%s", left)
	}
	h.wantNotDrained()
}

// cancellation is a way in which a drain comes to nothing.
type cancellation struct {
	name   string
	during func()   // happens while the host is drained
	after  func()   // happens once the drain has succeeded; nil if it is not to succeed
	reason string   // a part of why reboot-cancelled runs
	status []string // parts of the status then
	again  func()   // makes the next attempt possible; nil if nothing is in its way
}

func TestADrainIsUndoneWhateverCancelsTheReboot(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, h := startOne(t)
	h.record()
	h.script("before-reboot", "50-drain", until("/run/drained"))
	before := h.awaitUp()
	configure := func(more ...string) func() {
		return func() {
			h.write("/etc/flatcar/update.conf", f.conf(more...))
			h.do("systemctl", "reload", "locksmithd")
		}
	}
	do := func(args ...string) func() { return func() { h.do(args...) } }
	nothing := func() {}
	var op *terminal
	for n, c := range []cancellation{{
		name:   "the window is taken away",
		during: configure(updateconf.ShutWindow()),
		status: []string{"for the reboot window, which opens"},
		again:  configure(),
	}, {
		name:   "a blackout begins",
		during: configure(updateconf.Blackout()),
		status: []string{"for the reboot window, which opens"},
		again:  configure(),
	}, {
		name:   "the update is withdrawn",
		during: h.withdraw,
		reason: "the update was withdrawn",
		status: []string{"idle"},
	}, {
		name:   "the daemon is stopped",
		during: do("systemctl", "stop", "locksmithd"),
		again:  do("systemctl", "start", "locksmithd"),
	}, {
		name:   "the host is held",
		during: do("locksmithctl", "hold", "-reason", "disks are swapped"),
		after:  nothing,
		reason: "disks are swapped",
		status: []string{"held back by the file /etc/locksmith/hold", "disks are swapped"},
		again:  do("locksmithctl", "unhold"),
	}, {
		name: "the slot is taken away",
		during: func() {
			h.do("locksmithctl", "pause") // or the host takes another one a moment later
			h.do("locksmithctl", "unlock")
		},
		after:  nothing,
		reason: "somebody has taken the slot away",
		status: []string{"paused by"},
		again:  do("locksmithctl", "resume"),
	}, {
		name:   "a user cancels",
		during: func() { op = h.login("op") },
		after: func() {
			h.awaitStatus("users are logged in (op)")
			op.await("System reboot in 5 minutes!")
			h.do("shutdown", "-c")
		},
		reason: "a user has cancelled the reboot",
		status: []string{"cancelled"},
	}} {
		h.announce(fmt.Sprintf("4081.2.%d", n))
		h.awaitHook("before-reboot", recorder, n+1)
		h.awaitStatus(draining)
		f.awaitHolders(h)
		c.during()
		if c.after != nil {
			h.do("touch", "/run/drained")
			c.after()
		}
		if r := h.awaitHook("reboot-cancelled", recorder, n+1); !strings.Contains(r.Reason, c.reason) {
			t.Errorf("%s: reboot-cancelled was told %q, want %q", c.name, r.Reason, c.reason)
		}
		if c.status != nil {
			h.awaitStatus(c.status...)
		}
		f.awaitHolders()
		h.do("rm", "-f", "/run/update-engine-status")
		h.do("systemctl", "reload", "update-engine")
		if c.again != nil {
			c.again()
		}
		h.awaitStatus("idle")
		h.wantNoReboot(before)
		h.wantNotDrained()
		h.do("rm", "-f", "/run/drained")
		if s := h.scheduled(); !strings.Contains(s, "No scheduled shutdown") {
			t.Errorf("shutdown --show: %s", s)
		}
		if t.Failed() {
			t.Fatalf("when this cancels the drain: %s", c.name)
		}
	}
}

// The daemon that follows one that was killed undoes the drain, keeps the slot, and begins again.
func TestADrainOfADaemonThatWasKilledIsUndoneBeforeTheNextOne(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f, h := startOne(t)
	h.record()
	h.script("before-reboot", "50-drain", until("/run/drained")+"\nrecord 50-drain")
	h.withUnit("RestartSec=1s")
	before := h.awaitUp()
	f.wantHeldWhileDown(h)
	h.announce("4081.2.0")
	h.awaitHook("before-reboot", recorder, 1)
	h.awaitStatus(draining)
	pid := h.unit("locksmithd", "MainPID")
	h.do("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "locksmithd")
	eventually(t, "a new process", func() bool { now := h.unit("locksmithd", "MainPID"); return now != pid && now != "0" })
	h.awaitHook("before-reboot", recorder, 2)
	f.awaitHolders(h)
	h.wantNoReboot(before)
	h.do("touch", "/run/drained")
	h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()
	h.wantHooks("before-reboot:00-record", "reboot-cancelled:00-record", "before-reboot:00-record", "before-reboot:50-drain", "after-reboot:00-record")
	h.wantNotDrained()
}
