package systemd

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
)

// TestRealUnits boots systemd in a container, of this machine and of each root that package hosts has made, with the
// unit files of this folder, and starts them there.
func TestRealUnits(t *testing.T) {
	if os.Getenv(realVariable) != "" {
		startRealUnits(t)
		return
	}
	nspawntest.Require(t)
	roots := nspawntest.Roots(t)
	roots["this machine"] = "/"
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		t.Run(name, func(t *testing.T) { bootRealUnits(t, roots[name]) })
	}
}

func bootRealUnits(t *testing.T, root string) {
	m := nspawntest.New(t, root)
	self, err := os.Executable()
	must.Do(t, err)
	binary, err := os.ReadFile(self)
	must.Do(t, err)
	must.Do(t, os.WriteFile(m.Path("/systemd.test"), binary, 0o755))
	m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n")
	m.Write("/etc/group", "root:x:0:\nmessagebus:x:101:\n")
	for _, pattern := range []string{"*.service", "*.target"} {
		files, err := filepath.Glob(pattern)
		must.Do(t, err)
		for _, name := range files {
			data, err := os.ReadFile(name)
			must.Do(t, err)
			m.Write("/usr/lib/systemd/system/"+name, strings.ReplaceAll(string(data), "/usr/bin/locksmithctl", "/systemd.test"))
		}
	}
	m.Write("/etc/systemd/system/test.service", `[Unit]
Requires=dbus.service
After=dbus.service
[Service]
Type=oneshot
Environment=`+realVariable+`=units
ExecStart=/bin/sh -c '/systemd.test -test.v -test.run=^TestRealUnits$$; systemctl --force --force poweroff'
StandardOutput=append:/out/log
StandardError=append:/out/log
`)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	status, console, err := m.Boot(ctx, "test.service")
	log := m.Read("/out/log")
	if err != nil || !strings.Contains(log, "--- PASS: TestRealUnits ") {
		t.Errorf("the container ended with %d, %v:\n%s\n%s", status, err, log, console)
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "systemd 2") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// runScripts stands in for `locksmithctl hooks scripts PHASE`.
func runScripts(phase string) int {
	scripts, _ := filepath.Glob("/etc/locksmith/" + phase + ".d/*")
	for _, script := range scripts {
		_ = NotifyStatus("running " + filepath.Base(script))
		if out, err := exec.Command(script).CombinedOutput(); err != nil {
			_ = NotifyStatus(filepath.Base(script) + ": " + strings.TrimSpace(string(out)))
			return 3
		}
	}
	return 0
}

func startRealUnits(t *testing.T) {
	var u Units
	ctx := t.Context()
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	show := func(unit, property string) string {
		t.Helper()
		return run("systemctl", "show", "--value", "--property="+property, unit)
	}
	write := func(path, text string) {
		t.Helper()
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.Do(t, os.WriteFile(path, []byte(text), 0o755))
	}
	script := func(phase, text string) {
		t.Helper()
		write("/etc/locksmith/"+phase+".d/10-drain", "#!/bin/sh\n"+text+"\n")
	}
	lines := func() int {
		data, _ := os.ReadFile("/out/lines")
		return strings.Count(string(data), "\n")
	}
	fails := func(unit, want string, failed ...FailedUnit) {
		t.Helper()
		err := u.Start(ctx, unit)
		failure, ok := errors.AsType[*JobError](err)
		if !ok || err.Error() != want || !slices.Equal(failure.Failed, failed) || errors.Is(err, ErrNoUnit) {
			t.Errorf("start %s: %#v, %v\nwant %q, %+v", unit, err, err, want, failed)
		}
	}
	step := func(name string) { t.Logf("%s: %s", time.Now().Format(time.TimeOnly), name) }
	begun := func() {
		must.Eventually(t, patience, "the script to begin", func() bool { return os.Remove("/run/begun") == nil })
	}
	t.Log(run("systemctl", "--version"))

	step("Without scripts nothing runs, and that is a success.")
	for _, name := range hookUnits {
		if name != "locksmith-may-reboot" {
			must.Do(t, u.Start(ctx, name+".target"))
		}
		must.Do(t, u.Start(ctx, name+".service"))
		if show(name+".service", "ConditionResult") != "no" || show(name+".service", "ExecMainStartTimestampMonotonic") != "0" {
			t.Errorf("%s.service runs without scripts", name)
		}
		must.Do(t, os.MkdirAll("/etc/locksmith/"+strings.TrimPrefix(name, "locksmith-")+".d", 0o755))
		must.Do(t, u.Start(ctx, name+".service"))
		if show(name+".service", "ExecMainStartTimestampMonotonic") != "0" {
			t.Errorf("%s.service runs with an empty folder", name)
		}
	}

	step("Each start runs everything again, however often.")
	write("/run/locksmith/hooks.env", "LOCKSMITH_VERSION=4230.2.1\n")
	script("before-reboot", `echo "$LOCKSMITH_PHASE $LOCKSMITH_VERSION $HOME" >> /out/lines`)
	for range 20 {
		must.Do(t, u.Start(ctx, testTarget))
	}
	if data, err := os.ReadFile("/out/lines"); err != nil || string(data) != strings.Repeat("before-reboot 4230.2.1 /root\n", 20) {
		t.Errorf("20 starts write %q, %v", data, err)
	}

	step("A failure says what failed, and the next start is a fresh one.")
	script("before-reboot", "echo cannot reach the balancer; exit 3")
	for range 2 {
		fails(testTarget, testTarget+": "+testService+" failed with exit status 3: 10-drain: cannot reach the balancer",
			FailedUnit{testService, "exit-code", 3, "10-drain: cannot reach the balancer"})
	}
	script("before-reboot", "exit 0")
	must.Do(t, u.Start(ctx, testTarget))

	step("The end of the context stops what hangs, with all that it has started, even if it does not want to.")
	script("before-reboot", "trap '' TERM; sleep 1234 & touch /run/begun; while :; do sleep 1234; done")
	late := errors.New("too late")
	for _, end := range []string{"the context", "Stop"} {
		cancelled, cancel := context.WithCancelCause(ctx)
		ended := make(chan error, 1)
		go func() { ended <- u.Start(cancelled, testTarget) }()
		begun()
		if end == "Stop" {
			must.Do(t, u.Stop(ctx, testTarget))
		} else {
			cancel(late)
		}
		err := must.Receive(t, patience, "the end of Start", ended)
		cancel(nil)
		_, failed := errors.AsType[*JobError](err)
		if end == "Stop" && !failed || end != "Stop" && (!errors.Is(err, late) || !strings.Contains(err.Error(), "still starting: "+testService+": running 10-drain")) {
			t.Errorf("ended by %s: %v", end, err)
		}
		must.Eventually(t, patience, "the service to end", func() bool { // on a slow machine later than Start
			state := show(testService, "ActiveState")
			return state == "failed" || state == "inactive"
		})
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		must.Do(t, err)
		for _, process := range processes {
			if command, err := os.ReadFile(process); err == nil && string(command) == "sleep\x001234\x00" {
				t.Errorf("ended by %s: the script still runs as %s", end, process)
			}
		}
	}

	// systemd may be replaced in the middle.
	script("before-reboot", "touch /run/begun; until [ -e /run/go ]; do sleep .1; done; echo no; exit 1")
	ended := make(chan error, 1)
	go func() { ended <- u.Start(ctx, testTarget) }()
	begun()
	run("systemctl", "daemon-reexec")
	write("/run/go", "")
	if err := must.Receive(t, patience, "the end of Start", ended); err == nil || !strings.Contains(err.Error(), "exit status 3: 10-drain: no") {
		t.Errorf("with another systemd: %v", err)
	}
	script("before-reboot", "exit 0")

	step("A unit that is hooked in is waited for, and its failure is the target's.")
	hook := func(name, command string) {
		t.Helper()
		write("/etc/systemd/system/"+name, "[Service]\nType=oneshot\nExecStart=/bin/sh -c '"+command+"'\n[Install]\nRequiredBy="+testTarget+"\n")
		run("systemctl", "daemon-reload")
		run("systemctl", "enable", name)
	}
	hook("hook.service", "sleep .3; echo hook >> /out/lines")
	before := lines()
	must.Do(t, u.Start(ctx, testTarget))
	if lines() != before+1 {
		t.Error("the target does not wait for the unit that is hooked in")
	}
	if names, err := u.PullsIn(ctx, testTarget); err != nil || !slices.Equal(names, []string{"hook.service", testService}) {
		t.Errorf("the target pulls in %q, %v", names, err)
	}
	hook("hook.service", "exit 4")
	fails(testTarget, testTarget+": hook.service failed with exit status 4", FailedUnit{"hook.service", "exit-code", 4, ""})
	hook("hook.service", "kill -9 $$$$")
	fails(testTarget, testTarget+": hook.service was killed by signal 9 (SIGKILL)", FailedUnit{"hook.service", "signal", 9, ""})
	must.Do(t, os.Remove("/etc/systemd/system/hook.service"))
	run("systemctl", "daemon-reload")
	fails(testTarget, testTarget+": hook.service does not exist", FailedUnit{"hook.service", "not-found", 0, ""})
	must.Do(t, os.Remove("/etc/systemd/system/"+testTarget+".requires/hook.service"))
	run("systemctl", "daemon-reload")
	must.Do(t, u.Start(ctx, testTarget))

	step("A failed state is reset.")
	script("may-reboot", "echo a backup runs; exit 1")
	fails("locksmith-may-reboot.service", "locksmith-may-reboot.service failed with exit status 3: 10-drain: a backup runs",
		FailedUnit{"locksmith-may-reboot.service", "exit-code", 3, "10-drain: a backup runs"})
	must.Do(t, u.ResetFailed(ctx, "locksmith-may-reboot.service"))
	must.Do(t, u.ResetFailed(ctx, "missing.service"))
	if failed := run("systemctl", "--failed", "--no-legend", "--plain", "--no-pager"); strings.Contains(failed, "may-reboot") {
		t.Errorf("failed units: %s", failed)
	}

	step("What somebody else starts goes on.")
	must.Do(t, u.Start(ctx, "boot-complete.target"))
	must.Do(t, u.Start(ctx, "boot-complete.target"))
	run("systemctl", "stop", "boot-complete.target")
	write("/etc/systemd/system/check.service", "[Unit]\nBefore=boot-complete.target\n[Service]\nType=oneshot\nExecStart=sleep 1000\n[Install]\nRequiredBy=boot-complete.target\n")
	run("systemctl", "daemon-reload")
	run("systemctl", "enable", "check.service")
	for _, other := range []bool{true, false} {
		if other {
			run("systemctl", "start", "--no-block", "check.service")
			must.Eventually(t, patience, "the check to begin", func() bool { return show("check.service", "ActiveState") == "activating" })
		}
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		if err := u.Start(short, "boot-complete.target"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("boot-complete.target hangs: %v", err)
		}
		cancel()
		if state := show("check.service", "ActiveState"); (state == "activating") != other {
			t.Errorf("started by another %v: the check is %s", other, state)
		}
		must.Do(t, u.Stop(ctx, "check.service"))
	}

	step("No unit.")
	run("systemctl", "mask", "locksmith-may-reboot.service")
	for _, name := range []string{"missing.target", "locksmith-may-reboot.service"} {
		if err := u.Start(ctx, name); !errors.Is(err, ErrNoUnit) {
			t.Errorf("start %s: %v", name, err)
		}
		if _, err := u.PullsIn(ctx, name); !errors.Is(err, ErrNoUnit) {
			t.Errorf("what %s pulls in: %v", name, err)
		}
		must.Do(t, u.Stop(ctx, name))
	}
	if err := u.Start(ctx, "no unit"); err == nil || errors.Is(err, ErrNoUnit) {
		t.Errorf("start what is not a name: %v", err)
	}
}
