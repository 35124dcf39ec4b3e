package sentinel

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
)

// TestCommandWithARealSystemd boots systemd in a container, with locksmithctl and the unit that runs the command.
func TestCommandWithARealSystemd(t *testing.T) {
	if nspawntest.Inside() {
		askARealSystemd(t)
		return
	}
	nspawntest.Require(t)
	m := nspawntest.New(t, "/")
	m.Build("/usr/bin/locksmithctl", "../../locksmithctl")
	m.Copy("/usr/lib/systemd/system/"+Unit, "../../systemd/"+Unit, 0o644)
	m.RunTest()
}

// askARealSystemd runs in the container.
func askARealSystemd(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	asker := Asker{Units: systemd.Units{Connect: systemd.ConnectSystemBus}, Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}
	configure := func(command string) {
		t.Helper()
		must.Do(t, os.MkdirAll("/etc/locksmith", 0o755))
		must.Do(t, os.WriteFile("/etc/locksmith/locksmith.conf", []byte("LOCKSMITHD_REBOOT_SENTINEL_COMMAND='"+command+"'\n"), 0o644))
		asker.Command = command
	}
	for _, test := range []struct{ command, want string }{
		{"echo a new kernel; echo more", "yes: a new kernel"},
		{"exit 1", "no"},
		{"echo $HOME", "yes: /root"},
		{"echo no network; exit 3", "error: the command gives no answer: exit status 3: no network"},
		{"kill -9 $$", "error: the command gives no answer: killed by SIGKILL"},
		{"no-such-command", "error: the command gives no answer: exit status 127: *"},
		{"needrestart", "*"}, // whether it is here or not
		{"sysupdate", "error: systemd-sysupdate is not installed: *"},
		{"sleep 1234 & exit 1", "no"},
		{"kill -9 $PPID", "error: locksmith-sentinel.service was killed by signal 9 (SIGKILL)*"},
	} {
		configure(test.command)
		for range 2 { // each start runs it again
			asker.Ask(t.Context()).says(t, test.command, test.want)
		}
		if failed := run("systemctl", "--failed", "--no-legend", "--plain", "--no-pager"); strings.Contains(failed, Unit) {
			t.Errorf("%s leaves a failed unit: %s", test.command, failed)
		}
	}

	// The unit's own time-out ends what hangs, with all that it has started, even if it does not want to.
	must.Do(t, os.MkdirAll("/run/systemd/system/"+Unit+".d", 0o755))
	must.Do(t, os.WriteFile("/run/systemd/system/"+Unit+".d/short.conf", []byte("[Service]\nTimeoutStartSec=2s\n"), 0o644))
	run("systemctl", "daemon-reload")
	configure("trap : TERM; sleep 4321 & while :; do sleep 4321; done")
	asker.Ask(t.Context()).says(t, asker.Command, "error: locksmith-sentinel.service did not finish in time*")
	must.Eventually(t, patience, "the end of the command", func() bool {
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		must.Do(t, err)
		for _, process := range processes {
			if command, err := os.ReadFile(process); err == nil && string(command) == "sleep\x004321\x00" {
				return false
			}
		}
		return true
	})
	run("systemctl", "mask", "--runtime", Unit)
	asker.Ask(t.Context()).says(t, "a masked unit", "error: start locksmith-sentinel.service: *")
}
