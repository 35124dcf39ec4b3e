package main

import (
	"cmp"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/nspawntest"
)

// unitCase is a host whose locksmithd gets its settings from the unit.
type unitCase struct {
	name  string
	files map[string]string // below /etc/systemd/system/locksmithd.service.d, or absolute
	want  string            // lines of config, with single blanks, that must be among those shown

	manager string // a variable for all services
	onlyBus bool   // only systemd knows everything, and not the files
	closed  string // a path that only root can read
	differs string // the setting that locksmithctl does not take over
	says    string // on standard error
}

func unitCases() []unitCase {
	const conf, dropIns = "/etc/flatcar/update.conf", "/etc/systemd/system/locksmithd.service.d/"
	lock := "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=http://conf:1\nLOCKSMITHD_GROUP=conf\n"
	env := func(value string) string { return "[Service]\nEnvironment=" + value + "\n" }
	exec := func(args string) string { return "[Service]\nExecStart=\nExecStart=" + args + "\n" }
	return []unitCase{
		{name: "no drop-in", files: map[string]string{conf: lock}, want: "group conf " + conf + ":3"},
		{name: "drop-in", files: map[string]string{"10-etcd.conf": env("LOCKSMITHD_ENDPOINT=http://drop-in:1") + "Environment=LOCKSMITHD_GROUP=lb REBOOT_STRATEGY=etcd-lock\n"},
			want: "strategy etcd-lock drop-in 10-etcd.conf\nendpoint http://drop-in:1 drop-in 10-etcd.conf\ngroup lb drop-in 10-etcd.conf"},
		{name: "nearly a setting", files: map[string]string{"1.conf": env("LOCKSMITHD_GRUOP=lb")}, want: "group (none) default", says: "LOCKSMITHD_GRUOP (drop-in 1.conf): locksmithd does not read it, did you mean LOCKSMITHD_GROUP?"},
		{name: "quotes and escapes", files: map[string]string{"1.conf": env(`"LOCKSMITHD_GROUP=a b" 'LOCKSMITHD_MAX=3' LOCKSMITHD_LOGIN_DELAY=1\x6d LOCKSMITHD_LOGIN_RETRY="\062"\u0068`)},
			want: "group a b drop-in 1.conf\nmax 3 drop-in 1.conf\nlogin-delay 1m drop-in 1.conf\nlogin-retry 2h drop-in 1.conf"},
		{name: "mistakes", files: map[string]string{"1.conf": "x\n[Unit]\nEnvironment=LOCKSMITHD_GROUP=unit\n[Service]\nno line\nEnvironment=LOCKSMITHD_GROUP=a x 1=2 'LOCKSMITHD_MAX=3\nEnvironment=LOCKSMITHD_LOCK_TTL=1\\q2m\n"},
			want: "group a drop-in 1.conf\nmax 1 default\nlock-ttl (none) default"},
		{name: "continued lines", files: map[string]string{"1.conf": "# comment \\\n[Service]\nEnvironment= \\\n  LOCKSMITHD_GROUP=a \\\n# LOCKSMITHD_MAX=2 \\\n  LOCKSMITHD_MAX=3\\\n;x\n\nEnvironment=LOCKSMITHD_LOCK_TTL=1h\\\\\n"},
			want: "group a drop-in 1.conf\nmax 3 drop-in 1.conf"},
		{name: "specifiers", files: map[string]string{"1.conf": env("LOCKSMITHD_GROUP=%H-%N-%p-%n-100%% LOCKSMITHD_ENDPOINT=http://%m:1")}, want: "group host-locksmithd-locksmithd-locksmithd.service-100% drop-in 1.conf"},
		{name: "update.conf wins over a drop-in", files: map[string]string{conf: lock, "1.conf": env("LOCKSMITHD_GROUP=lb LOCKSMITHD_MAX=3")}, want: "group conf " + conf + ":3\nmax 3 drop-in 1.conf"},
		{name: "the same in both", files: map[string]string{conf: lock, "1.conf": env("LOCKSMITHD_GROUP=conf")}, want: "group conf " + conf + ":3"},
		{name: "an empty value in update.conf wins, too", files: map[string]string{conf: "LOCKSMITHD_GROUP=\n", "1.conf": env("LOCKSMITHD_GROUP=lb")}, want: "group (none) default, because LOCKSMITHD_GROUP is empty (" + conf + ":1)"},
		{name: "an empty value in a drop-in", files: map[string]string{"1.conf": env("LOCKSMITHD_MAX="), "/run/systemd/system/locksmithd.service.d/0.conf": env("LOCKSMITHD_MAX=3")}, want: "max 1 default, because LOCKSMITHD_MAX is empty (drop-in 1.conf)"},
		{name: "another file", files: map[string]string{conf: lock, "/etc/l.env": "LOCKSMITHD_GROUP=env\n", "1.conf": "[Service]\nEnvironmentFile=/etc/l.env\n"}, want: "group env /etc/l.env:1\nendpoint http://conf:1 " + conf + ":2"},
		{name: "several files", files: map[string]string{"/etc/l/b.env": "LOCKSMITHD_GROUP=b\n", "/etc/l/a.env": "LOCKSMITHD_GROUP=a\nLOCKSMITHD_MAX=2\n", "/etc/l/c": "LOCKSMITHD_GROUP=c", "1.conf": "[Service]\nEnvironmentFile=-/etc/missing\nEnvironmentFile=/etc/l/*.env\nEnvironmentFile=-/etc/none/*\n"},
			want: "group b /etc/l/b.env:1\nmax 2 /etc/l/a.env:2"},
		{name: "broken file", files: map[string]string{"/etc/l.env": "LOCKSMITHD_GROUP=env\nLOCKSMITHD_MAX=\xff\n", "1.conf": "[Service]\nEnvironmentFile=-/etc/l.env\n"}, want: "group (none) default", says: "systemd ignores the whole file"},
		{name: "reset environment", files: map[string]string{"1.conf": env("LOCKSMITHD_GROUP=a LOCKSMITHD_MAX=2"), "2.conf": "[Service]\nEnvironment=\nEnvironment=LOCKSMITHD_MAX=3\n"}, want: "group (none) default\nmax 3 drop-in 2.conf"},
		{name: "reset files", files: map[string]string{conf: lock, "1.conf": "[Service]\nEnvironmentFile=\nEnvironment=LOCKSMITHD_GROUP=a\n"}, want: "group a drop-in 1.conf\nendpoint http://conf:1 " + conf + ":2"},
		{name: "unset", files: map[string]string{conf: lock, "1.conf": env("LOCKSMITHD_MAX=3 LOCKSMITHD_LOCK_TTL=1h") + "UnsetEnvironment=LOCKSMITHD_MAX LOCKSMITHD_GROUP LOCKSMITHD_LOCK_TTL=2h\n"}, want: "max 1 default\nlock-ttl 1h drop-in 1.conf\ngroup conf " + conf + ":3"},
		{name: "flags", files: map[string]string{conf: lock, "20-flags.conf": exec("/usr/lib/locksmith/locksmithd -group=flag --endpoint http://a:1 -endpoint=http://b:1 -debug --root=/")},
			want: "group flag drop-in 20-flags.conf\nendpoint http://a:1,http://b:1 drop-in 20-flags.conf\ndebug true drop-in 20-flags.conf"},
		{name: "variables in flags", files: map[string]string{"/etc/metadata": "IP=10.0.0.1\nFLAGS='-debug -etcd-cafile=/ca.pem'\n", "1.conf": exec(`/usr/lib/locksmith/locksmithd "-endpoint=http://${IP}:2379" $FLAGS $NONE -group=$$x$IP${NONE}`) + "EnvironmentFile=/etc/metadata\n"},
			want: "endpoint http://10.0.0.1:2379 drop-in 1.conf\netcd-cafile /ca.pem drop-in 1.conf\ngroup $x$IP drop-in 1.conf"},
		{name: "unknown flag", files: map[string]string{"1.conf": exec("/usr/lib/locksmith/locksmithd -grup=x")}, says: "drop-in 1.conf: locksmithd does not start with these flags: flag provided but not defined: -grup", differs: "all"},
		{name: "in a shell", files: map[string]string{"1.conf": exec("-/bin/sh -c 'exec /usr/lib/locksmith/locksmithd'") + "Environment=LOCKSMITHD_GROUP=lb\n"}, want: "group lb drop-in 1.conf"},
		{name: "order of drop-ins", files: map[string]string{
			"50-b.conf": env("LOCKSMITHD_GROUP=etc"),
			"/run/systemd/system/locksmithd.service.d/50-b.conf":        env("LOCKSMITHD_GROUP=run LOCKSMITHD_MAX=2"),
			"/run/systemd/system/locksmithd.service.d/60-c.conf":        env("LOCKSMITHD_LOCK_TTL=1h"),
			"/run/systemd/system.attached/locksmithd.service.d/70.conf": env("LOCKSMITHD_LOCK_TTL=2h"),
			"/etc/systemd/system/service.d/80.conf":                     env("LOCKSMITHD_LOCK_TTL=3h"),
			"/etc/systemd/system/service.d/50-b.conf":                   env("LOCKSMITHD_LOGIN_DELAY=1m"),
		}, want: "group etc drop-in 50-b.conf\nmax 1 default\nlock-ttl 3h drop-in 80.conf\nlogin-delay 5m default"},
		{name: "masked drop-in", files: map[string]string{"1.conf": "-> /dev/null", "/run/systemd/system/locksmithd.service.d/1.conf": env("LOCKSMITHD_GROUP=run")}, want: "group (none) default"},
		{name: "linked drop-in", files: map[string]string{"1.conf": "-> /etc/elsewhere", "/etc/elsewhere": env("LOCKSMITHD_GROUP=lb")}, want: "group lb drop-in 1.conf"},
		{name: "unit of its own", files: map[string]string{"/etc/systemd/system/locksmithd.service": "[Service]\nType=oneshot\nEnvironment=LOCKSMITHD_GROUP=own\nExecStart=/usr/lib/locksmith/locksmithd\n", conf: lock},
			want: "group own unit locksmithd.service\nendpoint http://conf:1 " + conf + ":2"},
		{name: "environment of systemd", manager: "LOCKSMITHD_GROUP=manager", want: "group manager environment of systemd", onlyBus: true},
		{name: "unreadable drop-in", files: map[string]string{"1.conf": env("LOCKSMITHD_GROUP=lb")}, want: "group lb ", closed: dropIns + "1.conf"},
		{name: "unreadable drop-ins", files: map[string]string{"1.conf": env("LOCKSMITHD_GROUP=lb")}, want: "group lb ", closed: dropIns},
		{name: "unreadable file", files: map[string]string{"1.conf": "[Service]\nEnvironmentFile=/etc/l.env\n", "/etc/l.env": "LOCKSMITHD_GROUP=lb\n"}, want: "group lb /etc/l.env:1", closed: "/etc/l.env"},
		{name: "file in an unreadable folder", files: map[string]string{"1.conf": "[Service]\nEnvironmentFile=-/etc/closed/l.env\n", "/etc/closed/l.env": "LOCKSMITHD_GROUP=lb\n"}, want: "group lb /etc/closed/l.env:1", closed: "/etc/closed"},
		{name: "files in an unreadable folder", files: map[string]string{"1.conf": "[Service]\nEnvironmentFile=-/etc/shut/*.env\n", "/etc/shut/l.env": "LOCKSMITHD_GROUP=lb\n"}, want: "group lb /etc/shut/l.env:1", closed: "/etc/shut"},
		{name: "window", files: map[string]string{conf: "REBOOT_WINDOW_START=04:00\n", "1.conf": env("LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h REBOOT_WINDOW_LENGTH=2h LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC")},
			want: "window-start 04:00 " + conf + ":1\nwindow-length 1h drop-in 1.conf\nwindow-timezone UTC drop-in 1.conf"},
		{name: "password", files: map[string]string{"1.conf": env("LOCKSMITHD_ETCD_USERNAME=u LOCKSMITHD_ETCD_PASSWORD=secret")}, want: "etcd-username u drop-in 1.conf\netcd-password (none) default", differs: "etcd-password",
			says: `locksmithctl: LOCKSMITHD_ETCD_USERNAME="u" (drop-in 1.conf): locksmithd has the password from drop-in 1.conf, and locksmithctl does not read it there: `},
		{name: "password in a flag", files: map[string]string{"1.conf": exec("/usr/lib/locksmith/locksmithd -etcd-username=u -etcd-password=secret")}, differs: "etcd-password", says: "has the password from drop-in 1.conf"},
		{name: "credential", files: map[string]string{conf: "LOCKSMITHD_ETCD_USERNAME=u\n", "/etc/secret": "s", "1.conf": "[Service]\nLoadCredential=locksmithd.etcd-password:/etc/secret\n"}, want: "etcd-password-file (none) default", differs: "etcd-password-file",
			says: "locksmithd has the password from credential locksmithd.etcd-password of drop-in 1.conf, and locksmithctl does not read it there"},
		{name: "key as a credential", files: map[string]string{"/etc/secret": "s", "1.conf": env("LOCKSMITHD_ETCD_CERTFILE=/etc/secret") + "SetCredential=locksmithd.etcd-key:x\n"}, differs: "etcd-keyfile",
			says: "locksmithd has the key from credential locksmithd.etcd-key of drop-in 1.conf, and locksmithctl does not read it there: write it into a file that only root can read, and set LOCKSMITHD_ETCD_KEYFILE"},
		{name: "password in update.conf", files: map[string]string{conf: "LOCKSMITHD_ETCD_PASSWORD=secret\n", "1.conf": env("LOCKSMITHD_ETCD_USERNAME=u")}, want: "etcd-password (hidden) " + conf + ":1"},
		{name: "not known", files: map[string]string{"1.conf": "[Service]\nPassEnvironment=LOCKSMITHD_GROUP X\n"}, says: "locksmithd may have LOCKSMITHD_GROUP from the environment that systemd was started with"},
	}
}

// TestCLIHasTheSettingsOfTheDaemonThatSystemdStarts lets a real systemd start a program that loads the settings as
// locksmithd does, from drop-ins of all kinds. locksmithctl must show the same settings, to root and to other users,
// from systemd and from the files.
func TestCLIHasTheSettingsOfTheDaemonThatSystemdStarts(t *testing.T) {
	if nspawntest.Inside() {
		for _, c := range unitCases() {
			t.Run(c.name, c.run)
		}
		return
	}
	t.Parallel()
	nspawntest.Require(t)
	m := nspawntest.New(t, "/")
	for _, name := range []string{"/usr/lib/locksmith/locksmithd", "/usr/bin/locksmithctl"} {
		m.Copy(name, "/proc/self/exe", 0o755)
	}
	m.Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\nann:x:1000:1000::/:/bin/sh\n")
	m.Write("/etc/group", "root:x:0:\nmessagebus:x:101:\nann:x:1000:\n")
	m.Write("/etc/hostname", "host\n")
	m.Copy("/usr/lib/systemd/system/locksmithd.service", "../systemd/locksmithd.service", 0o644)
	// Its name comes first, and its folder last, so that every other drop-in overrides it.
	m.Write("/usr/lib/systemd/system/locksmithd.service.d/00-test.conf", `[Unit]
ConditionVirtualization=
[Service]
Type=oneshot
Restart=no
ExecStopPost=
StandardOutput=truncate:/out/daemon
`)
	m.RunTest()
}

// showDaemonSettings stands in for locksmithd: it shows the daemon's settings, a line each.
func showDaemonSettings() {
	o := config.Options{Program: config.Daemon, Environ: os.Environ()}
	flags := flag.NewFlagSet("locksmithd", flag.ExitOnError)
	config.AddFlags(flags, &o.Flags)
	flags.String("root", "", "")
	_ = flags.Parse(os.Args[1:]) // exits on an error
	cfg, _ := config.Load(o)     // wrong settings are shown, too
	for _, s := range cfg.Settings {
		fmt.Println(s.Name, cmp.Or(strings.Join(strings.Fields(s.Value), " "), "(none)"))
	}
}

func (c unitCase) run(t *testing.T) {
	for name, content := range c.files {
		if !filepath.IsAbs(name) {
			name = filepath.Join("/etc/systemd/system/locksmithd.service.d", name)
		}
		must.Do(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			must.Do(t, os.Symlink(target, name))
		} else {
			must.Do(t, os.WriteFile(name, []byte(content), 0o644))
		}
		defer os.Remove(name)
	}
	if c.closed != "" {
		must.Do(t, os.Chmod(c.closed, 0o600))
		defer os.Chmod(c.closed, 0o755)
	}
	systemctl := func(args ...string) {
		if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
			t.Logf("systemctl %q: %v %s", args, err, out)
		}
	}
	if c.manager != "" {
		systemctl("set-environment", c.manager)
		defer systemctl("unset-environment", c.manager[:strings.Index(c.manager, "=")])
	}
	must.Do(t, os.RemoveAll("/out/daemon"))
	systemctl("daemon-reload")
	systemctl("start", "locksmithd")
	out, _ := os.ReadFile("/out/daemon")
	daemon := string(out)
	if daemon == "" && c.differs == "" {
		t.Fatal("systemd does not start locksmithd")
	}

	for _, way := range []struct {
		name string
		bus  bool
		root bool
		args []string
	}{
		{"root, of systemd", true, true, []string{"locksmithctl", "config"}},
		{"another user, of systemd", true, false, []string{"setpriv", "--reuid=1000", "--clear-groups", "locksmithctl", "config"}},
		{"root, of the files", false, true, []string{"locksmithctl", "-root=/", "config"}},
		{"another user, of the files", false, false, []string{"setpriv", "--reuid=1000", "--clear-groups", "locksmithctl", "-root=/", "config"}},
	} {
		if c.onlyBus && !way.bus {
			continue
		}
		cmd := exec.Command(way.args[0], way.args[1:]...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, _ := cmd.Output() // it fails if settings are wrong
		if c.closed != "" && !way.root && !(way.bus && strings.HasPrefix(c.closed, "/etc/systemd/")) {
			if !strings.Contains(stderr.String(), "permission denied") {
				t.Errorf("%s: it shows\n%s%s\nbut cannot read everything", way.name, out, stderr.String())
			}
			continue
		}
		values, places := "", ""
		settings, _, _ := strings.Cut(string(out), "\n\n") // then come the triggers
		for line := range strings.Lines(settings) {
			cells := strings.Fields(strings.TrimSpace(line))
			if cells[0] == "SETTING" {
				continue
			}
			places += strings.Join(cells, " ") + "\n"
		}
		for line := range strings.Lines(daemon) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, c.differs+" ") && !strings.HasPrefix("\n"+places, "\n"+line+" ") && !strings.Contains(places, "\n"+line+" ") {
				values += line + "\n"
			}
		}
		if c.differs == "all" {
			values = ""
		}
		if values != "" {
			t.Errorf("%s: locksmithd has\n%s\nlocksmithctl shows\n%s%s", way.name, values, places, stderr.String())
		}
		for line := range strings.Lines(c.want) {
			if line = strings.TrimSpace(line); !strings.Contains("\n"+places, "\n"+line) {
				t.Errorf("%s: there is no %q in\n%s%s", way.name, line, places, stderr.String())
			}
		}
		if !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: it says\n%s\nand not %q", way.name, stderr.String(), c.says)
		}
	}
}

// If no systemd answers, locksmithctl goes on, and says nothing.
func TestSettingsAreFoundWithoutSystemd(t *testing.T) {
	silent := filepath.Join(t.TempDir(), "silent")
	listener, err := net.Listen("unix", silent)
	must.Do(t, err)
	defer listener.Close()
	for name, address := range map[string]string{
		"no bus":            "unix:path=/nowhere",
		"a bus that hangs":  "unix:path=" + silent,
		"no systemd on it":  bustest.For(t).Bus(bustest.System).Address(),
		"not even a socket": "tcp:host=localhost",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
			var stdout, stderr strings.Builder
			code := run(process{args: []string{"window"}, stdout: &stdout, stderr: &stderr, now: time.Now})
			if code != 0 || stdout.String() != "No window is set: reboots may happen at any time.\n" || stderr.String() != "" {
				t.Errorf("exit status %d\n%s%s", code, stdout.String(), stderr.String())
			}
		})
	}
}
