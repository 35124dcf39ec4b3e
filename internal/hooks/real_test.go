package hooks

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
)

// TestHooksWithARealSystemd boots systemd in a container, with locksmithctl, our units, the ready examples, and the
// units that docs/hooks.md shows.
func TestHooksWithARealSystemd(t *testing.T) {
	if nspawntest.Inside() {
		realHost{t, &Hooks{Units: systemd.Units{Connect: systemd.ConnectSystemBus}, Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}}.all()
		return
	}
	nspawntest.Require(t)
	m := nspawntest.New(t, "/")
	m.Build("/usr/bin/locksmithctl", "../../locksmithctl")
	for pattern, dir := range map[string]string{
		"../../systemd/locksmith-*":  "/usr/lib/systemd/system/",
		"../../packaging/examples/*": "/usr/share/doc/locksmith/examples/",
	} {
		files, err := filepath.Glob(pattern)
		must.Do(t, err)
		if len(files) == 0 {
			t.Fatalf("there is no %s", pattern)
		}
		for _, name := range files {
			m.Copy(dir+filepath.Base(name), name, 0o755)
		}
	}
	page, err := os.ReadFile("../../docs/hooks.md")
	must.Do(t, err)
	for _, example := range regexp.MustCompile("(?s)```ini\n# (/etc/systemd/system/[a-z-]+\\.service)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		m.Write("/documented/"+filepath.Base(example[1]), example[2])
	}
	for name, body := range map[string]string{
		"drain-db": "echo $LOCKSMITH_VERSION > /run/db-drained", "undrain-db": "rm -f /run/db-drained", "check-db": "[ ! -e /run/db-broken ]",
	} {
		m.Write("/usr/local/bin/"+name, "#!/bin/sh\n"+body+"\n")
		must.Do(t, os.Chmod(m.Path("/usr/local/bin/"+name), 0o755))
	}
	m.Write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	m.RunTest()
}

// realHost is the host in the container, as seen from inside.
type realHost struct {
	*testing.T
	hooks *Hooks
}

func (h realHost) all() {
	h.Run("nothing is hooked", func(t *testing.T) { realHost{t, h.hooks}.nothing() })
	h.Run("scripts are told why they run", func(t *testing.T) { realHost{t, h.hooks}.facts() })
	h.Run("a failure names the script", func(t *testing.T) { realHost{t, h.hooks}.failure() })
	h.Run("what a script leaves ends with the unit", func(t *testing.T) { realHost{t, h.hooks}.leftBehind() })
	h.Run("an undo stops what it undoes", func(t *testing.T) { realHost{t, h.hooks}.undo() })
	h.Run("units of the documentation", func(t *testing.T) { realHost{t, h.hooks}.documented() })
	h.Run("boot-complete.target", func(t *testing.T) { realHost{t, h.hooks}.bootComplete() })
	h.Run("examples of checks", func(t *testing.T) { realHost{t, h.hooks}.checks() })
}

// write writes a file that is removed at the end of the test.
func (h realHost) write(name, content string) {
	h.Helper()
	must.Do(h, os.MkdirAll(filepath.Dir(name), 0o755))
	must.Do(h, os.WriteFile(name, []byte(content), 0o755))
	h.Cleanup(func() { must.Do(h, os.Remove(name)) })
}

func (h realHost) script(name, body string) {
	h.Helper()
	h.write("/etc/locksmith/"+name, "#!/bin/sh\n"+body+"\n")
}

// command runs a program, and returns its output and whether it succeeded.
func (h realHost) command(name string, args ...string) (string, bool) {
	h.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err == nil
}

// unit installs and enables a unit; content says into which targets it is hooked.
func (h realHost) unit(name, content string) {
	h.Helper()
	must.Do(h, os.WriteFile("/etc/systemd/system/"+name, []byte(content), 0o644))
	if out, ok := h.command("systemctl", "enable", name); !ok { // this also makes systemd read the units again
		h.Fatalf("systemctl enable %s: %s", name, out)
	}
	h.Cleanup(func() {
		h.command("systemctl", "disable", name)
		h.command("systemctl", "reset-failed", name)
		must.Do(h, os.Remove("/etc/systemd/system/"+name))
	})
}

// run runs a phase.
func (h realHost) run(p Phase) error {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	return h.hooks.Run(ctx, p, Facts{"lb", "4230.2.1", `an "update"`, "9e8d"})
}

// fails checks that a phase fails, and that the error has a text.
func (h realHost) fails(p Phase, want string) {
	h.Helper()
	if err := h.run(p); err == nil || !strings.Contains(err.Error(), want) {
		h.Errorf("%s ends with %v, want %q", p, err, want)
	}
	h.noFailedUnits()
}

func (h realHost) noFailedUnits() {
	h.Helper()
	if failed, _ := h.command("systemctl", "--failed", "--no-legend", "--plain", "--no-pager", "list-units", "locksmith-*"); failed != "" {
		h.Errorf("failed units of ours: %s", failed)
	}
}

func (h realHost) succeeds(p Phase) {
	h.Helper()
	if err := h.run(p); err != nil {
		h.Errorf("%s fails: %v", p, err)
	}
	h.noFailedUnits()
}

// prints checks what locksmithctl prints.
func (h realHost) prints(success bool, want string, args ...string) {
	h.Helper()
	if got, ok := h.command("locksmithctl", args...); ok != success || !regexp.MustCompile(want).MatchString(got) {
		h.Errorf("locksmithctl %v: success %v, and it prints\n%s\nwant\n%s", args, ok, got, want)
	}
}

func (h realHost) nothing() {
	for _, p := range Phases() {
		if hooked, err := h.hooks.Hooked(h.Context(), p); hooked || err != nil {
			h.Errorf("%s is hooked: %v (%v)", p, hooked, err)
		}
		h.succeeds(p)
		h.prints(true, "^"+string(p)+": nothing to run$", "hooks", "run", string(p))
	}
	h.prints(true, "^Nothing runs around a reboot of this host.$", "hooks")
}

func (h realHost) facts() {
	for _, p := range Phases() {
		h.script(string(p)+".d/10-facts", `echo "$LOCKSMITH_PHASE,$LOCKSMITH_GROUP,$LOCKSMITH_VERSION,$LOCKSMITH_REASON,$LOCKSMITH_MACHINE_ID" > /run/facts`)
		if hooked, err := h.hooks.Hooked(h.Context(), p); !hooked || err != nil {
			h.Errorf("%s is hooked: %v (%v)", p, hooked, err)
		}
		for range 2 { // each start runs everything again
			h.succeeds(p)
			data, err := os.ReadFile("/run/facts")
			must.Do(h, err)
			if want := string(p) + `,lb,4230.2.1,an "update",9e8d` + "\n"; string(data) != want {
				h.Errorf("%s is told %q, want %q", p, data, want)
			}
			must.Do(h, os.Remove("/run/facts"))
		}
	}
}

func (h realHost) failure() {
	h.script("before-reboot.d/10-drain", "echo cannot reach the balancer; exit 3")
	h.fails(BeforeReboot, "locksmith-before-reboot.service failed with exit status 1: 10-drain: cannot reach the balancer")
	h.prints(false, "before-reboot failed: .*10-drain: cannot reach the balancer", "hooks", "run", "before-reboot")
	h.script("may-reboot.d/10-backup", "echo a backup runs; exit 1")
	h.fails(MayReboot, "10-backup: a backup runs")
	h.write("/etc/locksmith/after-reboot.d/20-check", "#!/bin/sh\n")
	must.Do(h, os.Chmod("/etc/locksmith/after-reboot.d/20-check", 0o644))
	h.fails(AfterReboot, "20-check: it is not executable: chmod +x /etc/locksmith/after-reboot.d/20-check")
	h.prints(true, `(?m)^after-reboot +1 +20-check +/etc/locksmith/after-reboot.d/20-check +it is not executable`, "hooks")
}

func (h realHost) leftBehind() {
	h.script("before-reboot.d/10-fork", "setsid sleep 1000 & echo $! > /run/left")
	// Where systemd has only version 1 of control groups, as in this container, nobody tells it that all have ended.
	if err := h.run(BeforeReboot); err != nil && !strings.Contains(err.Error(), "did not finish in time") {
		h.Errorf("the run ends with %v", err)
	}
	data, err := os.ReadFile("/run/left")
	must.Do(h, err)
	comm := "/proc/" + strings.TrimSpace(string(data)) + "/comm"
	must.Eventually(h, patience, "the end of what the script left", func() bool {
		_, err := os.Stat(comm)
		return errors.Is(err, os.ErrNotExist)
	})
}

func (h realHost) undo() {
	must.Do(h, syscall.Mkfifo("/run/begun", 0o600))
	h.script("before-reboot.d/10-hang", "trap '' TERM; echo > /run/begun; while :; do sleep 1000; done")
	h.script("reboot-cancelled.d/10-undo", "systemctl is-active locksmith-before-reboot.service > /run/before; :")
	drained := make(chan error, 1)
	go func() { drained <- h.run(BeforeReboot) }()
	_, err := os.ReadFile("/run/begun") // waits for the script
	must.Do(h, err)
	h.succeeds(RebootCancelled)
	if err := must.Receive(h, patience, "the end of the drain", drained); err == nil {
		h.Error("the drain succeeds")
	}
	if state, err := os.ReadFile("/run/before"); err != nil || slices.Contains([]string{"activating\n", "deactivating\n"}, string(state)) {
		h.Errorf("during the undo the drain is %q (%v)", state, err)
	}
}

func (h realHost) documented() {
	files, err := filepath.Glob("/documented/*")
	must.Do(h, err)
	if len(files) != 3 {
		h.Fatalf("docs/hooks.md has the units %q, want 3", files)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		must.Do(h, err)
		h.unit(filepath.Base(name), string(data))
	}
	h.prints(true, `(?m)^before-reboot +- +db-drain.service +locksmith-before-reboot.target`, "hooks")
	h.prints(true, `(?m)^reboot-cancelled +- +db-undrain.service +locksmith-reboot-cancelled.target`, "hooks")
	h.prints(true, `(?m)^after-reboot +- +db-check.service +locksmith-after-reboot.target`, "hooks")
	for _, undo := range []Phase{RebootCancelled, AfterReboot} {
		h.succeeds(BeforeReboot)
		if data, err := os.ReadFile("/run/db-drained"); err != nil || string(data) != "4230.2.1\n" {
			h.Errorf("the unit has written %q (%v)", data, err)
		}
		h.succeeds(undo)
		if _, err := os.Stat("/run/db-drained"); !errors.Is(err, os.ErrNotExist) {
			h.Errorf("%s leaves the host drained", undo)
		}
	}
	must.Do(h, os.WriteFile("/run/db-broken", nil, 0o600))
	h.fails(AfterReboot, "db-check.service failed with exit status 1")
	must.Do(h, os.Remove("/run/db-broken"))
	h.succeeds(AfterReboot)
}

// bootComplete hooks a stand-in for greenboot's and health-checker's services into boot-complete.target, with the
// dependencies that both of them have.
func (h realHost) bootComplete() {
	h.unit("stand-in-healthcheck.service", `[Unit]
Before=boot-complete.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c '[ -e /run/green ]'
[Install]
RequiredBy=boot-complete.target
`)
	h.prints(true, `(?m)^after-reboot +first +stand-in-healthcheck.service +boot-complete.target`, "hooks")
	err := h.hooks.Units.Start(h.Context(), "boot-complete.target")
	if err == nil || !strings.Contains(err.Error(), "stand-in-healthcheck.service failed with exit status 1") {
		h.Errorf("the start of boot-complete.target ends with %v", err)
	}
	h.write("/run/green", "")
	must.Do(h, h.hooks.Units.Start(h.Context(), "boot-complete.target"))
	h.command("systemctl", "stop", "boot-complete.target", "stand-in-healthcheck.service")
}

func (h realHost) checks() {
	const examples = "/usr/share/doc/locksmith/examples/"
	must.Do(h, os.Symlink(examples+"system-running", "/etc/locksmith/after-reboot.d/10-system-running"))
	h.succeeds(AfterReboot)
	h.unit("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=none.target\n")
	h.command("systemctl", "start", "broken.service")
	h.fails(AfterReboot, "10-system-running: units have failed: broken.service")
	h.fails(AfterReboot, "10-system-running: units have failed: broken.service") // and not because it failed before
	h.command("systemctl", "reset-failed", "broken.service")
	h.succeeds(AfterReboot)
	must.Do(h, os.Remove("/etc/locksmith/after-reboot.d/10-system-running"))

	must.Do(h, os.Symlink(examples+"unit-active", "/etc/locksmith/after-reboot.d/20-unit-active"))
	h.write("/etc/systemd/system/locksmith-after-reboot.service.d/units.conf", "[Service]\nEnvironment='UNITS=dbus.service nginx.service'\n")
	h.command("systemctl", "daemon-reload")
	h.fails(AfterReboot, "20-unit-active: nginx.service is inactive")
	h.unit("nginx.service", "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=none.target\n")
	h.command("systemctl", "start", "nginx.service")
	h.succeeds(AfterReboot)
	h.command("systemctl", "stop", "nginx.service")
	must.Do(h, os.Remove("/etc/locksmith/after-reboot.d/20-unit-active"))
}
