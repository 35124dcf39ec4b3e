package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

// hookLog is the file on a host's disk to which hooks add a line each time they run.
const hookLog = "/var/log/hooks"

// hookRun is one line of it.
type hookRun struct {
	Boot, Hook, Phase, Group, Version, Reason, ID string
}

// String names what ran.
func (r hookRun) String() string { return r.Phase + ":" + r.Hook }

// recorder is the script of each phase that does nothing but record that the phase ran.
const recorder = "00-record"

// record makes a host record when its hooks run. Other hooks are recorded that run `record NAME`.
func (h *host) record() {
	h.t.Helper()
	h.executable("/usr/local/bin/record", `printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(cat /proc/sys/kernel/random/boot_id)" "$1" \
	"$LOCKSMITH_PHASE" "$LOCKSMITH_GROUP" "$LOCKSMITH_VERSION" "$LOCKSMITH_REASON" "$LOCKSMITH_MACHINE_ID" >> `+hookLog)
	for _, phase := range []string{"before-reboot", "reboot-cancelled", "after-reboot"} {
		h.script(phase, recorder, "record "+recorder)
	}
}

// script puts a script into the folder of a phase.
func (h *host) script(phase, name, body string) {
	h.t.Helper()
	h.executable("/etc/locksmith/"+phase+".d/"+name, body)
}

func (h *host) executable(path, body string) {
	h.t.Helper()
	h.write(path, "#!/bin/sh\n"+body+"\n")
	must.Do(h.t, os.Chmod(filepath.Join(h.root, path), 0o755))
}

// service installs and enables a unit on a host that is up.
func (h *host) service(name, content string) {
	h.t.Helper()
	h.write("/etc/systemd/system/"+name, content)
	h.do("systemctl", "--quiet", "enable", name)
}

// until is the body of a script that takes until a file is there.
func until(file string) string {
	return "until [ -e " + file + " ]; do sleep 0.1; done"
}

// hookRuns returns what hooks have recorded, over all boots.
func (h *host) hookRuns() (runs []hookRun) {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.root, hookLog))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must.Do(h.t, err)
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 7 {
			h.t.Fatalf("%s of %s has the line %q", hookLog, h.name, line)
		}
		runs = append(runs, hookRun{f[0], f[1], f[2], f[3], f[4], f[5], f[6]})
	}
	return runs
}

// awaitHook waits until a hook has run n times, and returns the last of them.
func (h *host) awaitHook(phase, hook string, n int) hookRun {
	h.t.Helper()
	var found []hookRun
	eventually(h.t, fmt.Sprintf("%d runs of %s of %s on %s", n, hook, phase, h.name), func() bool {
		found = slices.DeleteFunc(h.hookRuns(), func(r hookRun) bool { return r.Phase != phase || r.Hook != hook })
		return len(found) >= n
	})
	return found[n-1]
}

// wantHooks fails unless exactly these hooks, as "PHASE:HOOK", have run, in this order.
func (h *host) wantHooks(want ...string) {
	h.t.Helper()
	var got []string
	for _, r := range h.hookRuns() {
		got = append(got, r.String())
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("on %s these hooks have run:\n%q\nwant\n%q", h.name, got, want)
	}
}

// wantNotDrained fails unless each run of before-reboot has ended in a reboot, or in reboot-cancelled. No attempt is
// under way.
func (h *host) wantNotDrained() {
	h.t.Helper()
	current := h.awaitUp().id
	var boot string
	drained := false
	for i, r := range h.hookRuns() {
		if r.Hook != recorder {
			continue
		}
		if r.Boot != boot { // the reboot ended the drain
			boot, drained = r.Boot, false
		}
		wrong := ""
		switch {
		case r.Phase == "before-reboot" && drained:
			wrong = "runs before-reboot again, and has not undone the last one"
		case r.Phase == "reboot-cancelled" && !drained:
			wrong = "undoes what it has not begun"
		case r.Phase == "after-reboot" && drained:
			wrong = "checks its health while it is drained"
		}
		if wrong != "" {
			h.t.Errorf("%s %s, in line %d of %v", h.name, wrong, i+1, h.hookRuns())
		}
		drained = r.Phase == "before-reboot"
	}
	if drained && boot == current {
		h.t.Errorf("%s is left drained: %v", h.name, h.hookRuns())
	}
	if r := h.run("test", "-e", "/run/locksmith/drained"); r.status != 1 {
		h.t.Errorf("%s has the mark of a drained host", h.name)
	}
}

// overview is what locksmithctl status says of a group.
type overview struct {
	Holders []struct {
		ID, Version string
		OSVersion   string `json:"os_version"`
		Phase       string
		PhaseWhy    string `json:"phase_why"`
	}
	Queue  []struct{ ID string }
	Unwell []struct {
		ID, Version, Why string
		Resumed, Left    bool
	}
}

func (h *host) overview() (o overview) {
	h.t.Helper()
	must.Do(h.t, json.Unmarshal([]byte(h.do("locksmithctl", "status", "-o", "json")), &o))
	return o
}

// runs makes a host that is off, or between two boots, run a version of the operating system.
func (h *host) runs(version string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.root, "etc/os-release"), []byte("ID=debian\nVERSION_ID="+version+"\n"), 0o644); err != nil {
		h.t.Error(err)
	}
}

// update makes update_engine announce a version, which the next boot brings up. If also is not nil, it runs while the
// host is down.
func (h *host) update(version string, also func()) {
	h.t.Helper()
	h.whileDown = func() {
		h.runs(version)
		if also != nil {
			also()
		}
	}
	h.announce(version)
}

// withdraw makes update_engine take its update back, and waits until the host is idle.
func (h *host) withdraw() {
	h.t.Helper()
	h.do("rm", "/run/update-engine-status")
	h.do("systemctl", "reload", "update-engine")
	h.awaitStatus("idle")
}

// wantRefused fails unless a reboot by hand is refused, and the refusal has all the parts.
func (h *host) wantRefused(parts ...string) {
	h.t.Helper()
	if r := h.run("locksmithctl", "reboot"); r.status != 1 || !contains.All(r.stderr, parts...) {
		h.t.Errorf("locksmithctl reboot on %s: %+v, want status 1 and %q", h.name, r, parts)
	}
}
