package systemd

import (
	"context"
	"errors"
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

// realVariable is set when this test runs in the container that it boots: to "host" in a service, to
// "session" in a user's session.
const realVariable = "LOCKSMITH_REAL_LOGIND"

// TestRealLogind boots systemd in a container that has only this machine's /usr, and calls the real logind
// there with every method of this package, Reboot last.
func TestRealLogind(t *testing.T) {
	switch os.Getenv(realVariable) {
	case "":
		bootRealLogind(t)
	case "host":
		askRealLogind(t)
	case "session":
		l := realLogind(t)
		sessions, err := l.Sessions(t.Context())
		must.Do(t, err)
		others, err := l.OtherSessions(t.Context())
		if err != nil || len(others) != len(sessions)-1 || slices.ContainsFunc(others, func(s Session) bool { return s.User == "root" }) {
			t.Errorf("others than this one %+v, all %+v, %v", others, sessions, err)
		}
	}
}

func bootRealLogind(t *testing.T) {
	nspawntest.Require(t)
	if found, err := filepath.Glob("/lib/*/security/pam_systemd.so"); err != nil || len(found) == 0 {
		t.Fatal("nobody can log in to a container without pam_systemd: install the package libpam-systemd")
	}
	self, err := os.Executable()
	must.Do(t, err)
	binary, err := os.ReadFile(self)
	must.Do(t, err)
	m := nspawntest.New(t, "/")
	must.Do(t, os.WriteFile(m.Path("/systemd.test"), binary, 0o755))
	m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\nann:x:1001:1001::/tmp:/bin/sh\n")
	m.Write("/etc/group", "root:x:0:\nmessagebus:x:101:\nann:x:1001:\n")
	m.Write("/etc/pam.d/test", "account required pam_permit.so\nauth required pam_permit.so\nsession required pam_systemd.so\n")
	// Processes of a session do not always end on SIGTERM.
	m.Write("/etc/systemd/system.conf", "[Manager]\nDefaultTimeoutStopSec=1s\n")
	m.Write("/etc/systemd/system/test.service", `[Unit]
Requires=dbus.service systemd-logind.service
After=dbus.service systemd-logind.service
[Service]
Type=oneshot
Environment=`+realVariable+`=host
ExecStart=/bin/sh -c '/systemd.test -test.v -test.run=^TestRealLogind$$ || systemctl --force --force poweroff'
StandardOutput=append:/out/log
StandardError=append:/out/log
`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	status, console, err := m.Boot(ctx, "test.service")
	if log := m.Read("/out/log"); err != nil || status != nspawntest.Rebooted || !strings.Contains(log, "--- PASS: TestRealLogind ") {
		t.Errorf("the container ended with %d, %v, and not with a reboot after a test that passed:\n%s\n%s", status, err, log, console)
	}
}

func realLogind(t *testing.T) *Logind {
	t.Helper()
	conn, err := ConnectSystemBus(t.Context())
	must.Do(t, err)
	t.Cleanup(func() { conn.Close() })
	return NewLogind(conn)
}

func askRealLogind(t *testing.T) {
	l := realLogind(t)
	ctx := t.Context()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		if args[0] == "shutdown" { // is systemctl by another name, and not installed everywhere
			cmd = exec.CommandContext(ctx, "systemctl")
			cmd.Args = args
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	hold := func(args ...string) { // runs until the test ends
		t.Helper()
		must.Do(t, exec.CommandContext(ctx, args[0], args[1:]...).Start())
	}

	// Sessions.
	if others, err := l.OtherSessions(ctx); err != nil || len(others) > 0 {
		t.Errorf("nobody but this service: %+v, %v", others, err)
	}
	if sessions, err := l.Sessions(ctx); err != nil || len(sessions) > 0 {
		t.Errorf("nobody is logged in: %+v, %v", sessions, err)
	}
	for unit, class := range map[string]string{"person": "user", "cron": "background", "login-screen": "greeter"} {
		run("systemd-run", "--unit="+unit, "-p", "User=ann", "-p", "PAMName=test", "-p", "Environment=XDG_SESSION_CLASS="+class, "sleep", "1000")
	}
	must.Eventually(t, patience, "three sessions", func() bool { return strings.Count(run("loginctl", "--no-legend", "--no-pager"), "\n") >= 3 })
	sessions, err := l.Sessions(ctx)
	if err != nil || len(sessions) != 1 || sessions[0].ID == "" || sessions[0].User != "ann" || sessions[0].UID != 1001 {
		t.Errorf("ann is logged in: %+v, %v", sessions, err)
	}
	run("systemd-run", "--wait", "-p", "PAMName=test", "-p", "User=root", "-p", "Environment=XDG_SESSION_CLASS=user", "-p", "StandardOutput=append:/out/log",
		"-p", "Environment="+realVariable+"=session", "/systemd.test", "-test.run=^TestRealLogind$")
	run("systemctl", "stop", "person")
	must.Eventually(t, patience, "ann to leave", func() bool { s, err := l.Sessions(ctx); return err == nil && len(s) == 0 })

	// Scheduled shutdowns.
	if s, err := l.Scheduled(ctx); err != nil || s != (Shutdown{}) {
		t.Errorf("nothing is scheduled: %+v, %v", s, err)
	}
	must.Do(t, l.Cancel(ctx))
	at := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	must.Do(t, l.Schedule(ctx, at, "System reboot in 1 hour!\nWhy not?"))
	if s, err := l.Scheduled(ctx); err != nil || s.Type != "reboot" || !s.At.Equal(at) || s.Message != `System reboot in 1 hour!\nWhy not?` {
		t.Errorf("a reboot is scheduled: %+v, %v", s, err)
	}
	// Before 255, shutdown asks systemd itself; either way it shows what is scheduled.
	if shown := run("shutdown", "--show"); !strings.Contains(strings.ToLower(shown), "reboot scheduled") {
		t.Errorf("shutdown --show says %q", shown)
	}
	run("shutdown", "-c")
	if s, err := l.Scheduled(ctx); err != nil || s != (Shutdown{}) {
		t.Errorf("a user has cancelled it: %+v, %v", s, err)
	}
	run("shutdown", "-P", "+10", "disks are swapped")
	if s, err := l.Scheduled(ctx); err != nil || s.Type != "poweroff" || s.Message != "disks are swapped" || s.At.Before(time.Now()) {
		t.Errorf("a user has scheduled another one: %+v, %v", s, err)
	}
	must.Do(t, l.Schedule(ctx, at, "ours"))
	if s, err := l.Scheduled(ctx); err != nil || s.Type != "reboot" || s.Message != "ours" {
		t.Errorf("ours replaces it: %+v, %v", s, err)
	}
	must.Do(t, l.Cancel(ctx))
	if s, err := l.Scheduled(ctx); err != nil || s != (Shutdown{}) || message(t, l) != "" {
		t.Errorf("cancelled: %+v, %v, the message is %q", s, err, message(t, l))
	}

	// Inhibitors.
	if i, err := l.Inhibitors(ctx); err != nil || len(i) > 0 {
		t.Errorf("nobody inhibits: %+v, %v", i, err)
	}
	hold("systemd-inhibit", "--what=shutdown", "--mode=delay", "--who=slow", "--why="+strings.Repeat("x", 100_000), "sleep", "1000")
	hold("systemd-inhibit", "--what=sleep", "--who=film", "--why=it runs", "sleep", "1000")
	must.Eventually(t, patience, "two inhibitors", func() bool {
		list := run("systemd-inhibit", "--list", "--no-pager")
		return strings.Contains(list, "slow") && strings.Contains(list, "film")
	})
	if i, err := l.Inhibitors(ctx); err != nil || len(i) > 0 {
		t.Errorf("nobody blocks a shutdown: %+v, %v", i, err)
	}
	run("systemd-run", "--unit=backup", "systemd-inhibit", "--what=sleep:shutdown", "--who=backup\x1b[2J", "--why=nightly run", "sleep", "1000")
	var inhibitors []Inhibitor
	must.Eventually(t, patience, "the inhibitor to be listed", func() bool { inhibitors, err = l.Inhibitors(ctx); return err == nil && len(inhibitors) == 1 })
	if i := inhibitors[0]; i.Who != `backup\x1b[2J` || i.Why != "nightly run" || i.User != "root" || i.PID == 0 {
		t.Errorf("it is %+v", i)
	}
	run("systemctl", "stop", "backup")
	must.Eventually(t, patience, "the inhibitor to go", func() bool { inhibitors, err = l.Inhibitors(ctx); return err == nil && len(inhibitors) == 0 })

	// The reboot. logind waits five seconds for inhibitors of mode delay.
	if down, err := l.GoingDown(ctx); err != nil || down {
		t.Errorf("before: going down %v, %v", down, err)
	}
	_, err = l.Reboot(ctx, FullReboot, false)
	must.Do(t, err)
	if down, err := l.GoingDown(ctx); err != nil || !down {
		t.Errorf("after: going down %v, %v", down, err)
	}
	if s, err := l.Scheduled(ctx); err != nil || s.Type != "reboot" || !s.At.IsZero() {
		t.Errorf("after: %+v is scheduled, %v", s, err)
	}
	for _, force := range []bool{false, true} {
		if _, err := l.Reboot(ctx, FullReboot, force); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "OperationInProgress") {
			t.Errorf("again, forced %v: %v", force, err)
		}
	}
}
