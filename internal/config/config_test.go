package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock/etcd"
)

const (
	etc = "/etc/flatcar/update.conf"
	usr = "/usr/share/flatcar/update.conf"
)

// newRoot returns a directory with these files below it, by path.
func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		writeFile(t, filepath.Join(root, path), content)
	}
	return root
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t *testing.T, load func() (*Config, error)) *Config {
	t.Helper()
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Config) setting(t *testing.T, name string) Setting {
	t.Helper()
	for _, s := range c.Settings {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no setting %q", name)
	return Setting{}
}

func TestDefaults(t *testing.T) {
	for _, program := range []Program{Daemon, CLI} {
		c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: program, Root: t.TempDir()}) })
		if c.Strategy != StrategyReboot || c.Window != nil || c.Group != "" || c.Debug || !slices.Equal(c.TriggerGroups, []string{"wheel", "sudo"}) {
			t.Errorf("%s: defaults are %+v", program, c)
		}
		names := c.Etcd.Names
		c.Etcd.Names = etcd.Names{}
		if program == CLI && (c.Etcd != etcd.Config{Endpoints: "http://127.0.0.1:2379", DefaultEndpoint: true} || names[etcd.OptionEndpoint] != "LOCKSMITHD_ENDPOINT in /etc/flatcar/update.conf") {
			t.Errorf("default etcd settings are %+v", c.Etcd)
		}
		if len(c.Settings) != len(Definitions()) || len(c.Warnings) != 0 {
			t.Errorf("%s: settings %v, warnings %q", program, c.Settings, c.Warnings)
		}
		for i, s := range c.Settings {
			if d := Definitions()[i]; s.Name != d.Name || s.Value != d.Default || s.Origin != (Origin{Kind: FromDefault}) || s.Origin.String() != "default" {
				t.Errorf("%s: %s is %+v (%s), want its default", program, d.Name, s, s.Origin)
			}
		}
	}
}

// Every source has its own value, and is taken away from the strongest on.
func TestPrecedenceOfEverySetting(t *testing.T) {
	values := map[string][]string{ // right values, from the flag to the weakest file
		nameStrategy:       {"", "off", "etcd-lock", "reboot"},
		nameWindowStart:    {"", "04:00", "05:00", "06:00"},
		nameWindowLength:   {"", "1h", "2h", "3h"},
		nameWindowTimezone: {"", "UTC", "Europe/Berlin", "Asia/Tokyo"},
		nameEndpoint:       {"http://a:1", "http://b:1", "http://c:1", "http://d:1"},
		nameDebug:          {"true", "false", "1", "0"},
	}
	for _, program := range []Program{Daemon, CLI} {
		for _, d := range Definitions() {
			t.Run(string(program)+"/"+d.Name, func(t *testing.T) {
				v := values[d.Name]
				if v == nil {
					v = []string{"a", "b", "c", "d"}
				}
				environ := d.Variable
				if program == CLI && d.CLIVariable != "" {
					environ = d.CLIVariable
				}
				root := newRoot(t, map[string]string{
					etc: "\n" + d.Variable + "=" + v[2],
					usr: d.Variable + "='" + v[3] + "'\n",
				})
				o := Options{
					Program: program,
					Root:    root,
					Flags:   []Flag{{d.Flag, v[0]}},
					Environ: []string{environ + "=" + v[1]},
				}
				check := func(value string, origin Origin, text string) {
					t.Helper()
					// Settings that need others make an error; this is not about them.
					c, _ := Load(o)
					s := c.setting(t, d.Name)
					want := value
					if d.Secret {
						want = hidden
					}
					if s.Value != want || s.Origin != origin || s.Origin.String() != text {
						t.Errorf("got %q from %+v (%s), want %q from %+v (%s)", s.Value, s.Origin, s.Origin, want, origin, text)
					}
				}
				if d.Flag != "" {
					check(v[0], Origin{Kind: FromFlag, Name: "-" + d.Flag}, "flag -"+d.Flag)
				}
				o.Flags = nil
				check(v[1], Origin{Kind: FromEnvironment, Name: environ}, "environment "+environ)
				o.Environ = nil
				path := filepath.Join(root, etc)
				check(v[2], Origin{FromFile, d.Variable, path, 2}, path+":2")
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				path = filepath.Join(root, usr)
				check(v[3], Origin{FromFile, d.Variable, path, 1}, path+":1")
			})
		}
	}
}

func TestEmptyValueHidesWeakerOnesAndMeansDefault(t *testing.T) {
	root := newRoot(t, map[string]string{
		usr: "REBOOT_STRATEGY=reboot\nREBOOT_STRATEGY=off\nLOCKSMITHD_GROUP=usr\n",
		etc: "REBOOT_STRATEGY=etcd-lock\nREBOOT_STRATEGY=\"\"\n",
	})
	c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: Daemon, Root: root}) })
	if c.Strategy != StrategyReboot {
		t.Errorf("strategy is %q", c.Strategy)
	}
	want := "default, because REBOOT_STRATEGY is empty (" + filepath.Join(root, etc) + ":2)"
	if s := c.setting(t, nameStrategy); s.Value != "reboot" || s.Origin.String() != want {
		t.Errorf("strategy is %q, %q, want %q", s.Value, s.Origin, want)
	}

	o := Options{Program: CLI, Root: root, Environ: []string{"LOCKSMITHCTL_GROUP="}}
	if c := mustLoad(t, func() (*Config, error) { return Load(o) }); c.Group != "" {
		t.Errorf("group is %q", c.Group)
	}
	o = Options{Program: CLI, Root: root, Flags: []Flag{{"group", ""}}}
	if c := mustLoad(t, func() (*Config, error) { return Load(o) }); c.Group != "" {
		t.Errorf("group is %q", c.Group)
	}
}

func TestDaemonAndCLIReadTheirOwnVariablesAndTheFilesOfBoth(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "LOCKSMITHD_GROUP=file\nREBOOT_STRATEGY=etcd-lock\nLOCKSMITHCTL_ENDPOINT=http://x:1\nGROUP=beta\n"})
	environ := []string{"LOCKSMITHD_ENDPOINT=http://d:1", "LOCKSMITHCTL_ENDPOINT=http://c:1", "GROUP=stable"}
	for program, endpoint := range map[Program]string{Daemon: "http://d:1", CLI: "http://c:1"} {
		c := mustLoad(t, func() (*Config, error) {
			return Load(Options{Program: program, Root: root, Environ: environ})
		})
		if c.Group != "file" || c.Strategy != StrategyEtcdLock || c.Etcd.Endpoints != endpoint {
			t.Errorf("%s: group %q, strategy %q, endpoints %q", program, c.Group, c.Strategy, c.Etcd.Endpoints)
		}
	}
	// The daemon's environment is not that of a shell: there its variables do not count.
	c := mustLoad(t, func() (*Config, error) {
		return Load(Options{Program: CLI, Root: root, Environ: []string{"LOCKSMITHD_GROUP=environ"}})
	})
	if c.Group != "file" {
		t.Errorf("locksmithctl took the group %q of LOCKSMITHD_GROUP in its environment", c.Group)
	}
}

func TestAllEndpointsAreUsed(t *testing.T) {
	tests := []struct {
		name    string
		flags   []Flag
		environ string
		want    string
	}{
		{"commas", nil, "http://a:1, http://b:2,,http://c:3,", "http://a:1,http://b:2,http://c:3"},
		{"repeated flag", []Flag{{"endpoint", "http://a:1"}, {"endpoint", "http://b:2"}}, "http://c:3", "http://a:1,http://b:2"},
		{"repeated flag with commas", []Flag{{"endpoint", "http://a:1"}, {"endpoint", "http://b:2,http://c:3"}}, "", "http://a:1,http://b:2,http://c:3"},
		{"one empty flag of several", []Flag{{"endpoint", ""}, {"endpoint", "http://b:2"}}, "", "http://b:2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := mustLoad(t, func() (*Config, error) {
				return Load(Options{Program: CLI, Root: t.TempDir(), Flags: test.flags, Environ: []string{"LOCKSMITHCTL_ENDPOINT=" + test.environ}})
			})
			if c.Etcd.Endpoints != test.want {
				t.Errorf("got %q, want %q", c.Etcd.Endpoints, test.want)
			}
		})
	}
}

func TestLastOfOtherRepeatedFlagsWins(t *testing.T) {
	c := mustLoad(t, func() (*Config, error) {
		return Load(Options{Program: CLI, Root: t.TempDir(), Flags: []Flag{{"group", "a"}, {"debug", "true"}, {"group", "b"}, {"debug", "false"}}})
	})
	if c.Group != "b" || c.Debug {
		t.Errorf("group %q, debug %v", c.Group, c.Debug)
	}
}

func TestWindowVariables(t *testing.T) {
	tests := []struct {
		name, etc, usr string
		environ        []string
		want           string // "" for no window
	}{
		{"new names", "LOCKSMITHD_REBOOT_WINDOW_START='Thu 04:00'\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1h\n", "", nil, "Thu 04:00 for 1h"},
		{"old names", "REBOOT_WINDOW_START=1:00\nREBOOT_WINDOW_LENGTH=1h30m\n", "", nil, "01:00 for 1h30m"},
		{"one of each", "REBOOT_WINDOW_START=1:00\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=2h\n", "", nil, "01:00 for 2h"},
		{"new before old", "REBOOT_WINDOW_START=1:00\nREBOOT_WINDOW_LENGTH=1h\n", "LOCKSMITHD_REBOOT_WINDOW_START=2:00\n", nil, "02:00 for 1h"},
		{"an empty new one counts as unset", "LOCKSMITHD_REBOOT_WINDOW_START=\nREBOOT_WINDOW_START=1:00\nREBOOT_WINDOW_LENGTH=1h\n", "", nil, "01:00 for 1h"},
		{"an empty new one hides a weaker new one", "LOCKSMITHD_REBOOT_WINDOW_START=\nREBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_START=3:00\n", "LOCKSMITHD_REBOOT_WINDOW_START=2:00\n", nil, "03:00 for 1h"},
		{"both empty", "REBOOT_WINDOW_START=\nREBOOT_WINDOW_LENGTH=\n", "REBOOT_WINDOW_START=2:00\nREBOOT_WINDOW_LENGTH=1h\n", nil, ""},
		{"old name in the environment", "REBOOT_WINDOW_START=1:00\nREBOOT_WINDOW_LENGTH=1h\n", "", []string{"REBOOT_WINDOW_START=5:00"}, "05:00 for 1h"},
	}
	for _, program := range []Program{Daemon, CLI} {
		for _, test := range tests {
			t.Run(string(program)+"/"+test.name, func(t *testing.T) {
				root := newRoot(t, map[string]string{etc: test.etc, usr: test.usr})
				c := mustLoad(t, func() (*Config, error) {
					return Load(Options{Program: program, Root: root, Environ: test.environ})
				})
				got := ""
				if c.Window != nil {
					got = c.Window.String()
				}
				if got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		}
	}
}

func TestWindowTimezone(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=Asia/Tokyo\n"})
	c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: Daemon, Root: root}) })
	if at := time.Date(2024, 5, 1, 19, 30, 0, 0, time.UTC); !c.Window.Open(at) || c.Window.Open(at.Add(9*time.Hour)) {
		t.Error("the window is not that of Tokyo")
	}
}

// The window is on the clock that the host has now, whichever zone and rules it had when the
// settings were loaded.
func TestWindowFollowsTheTimeZoneOfTheHost(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\n"})
	host := func(name string) {
		t.Helper()
		path := filepath.Join(root, "etc/localtime")
		if err := os.Symlink(filepath.Join("/usr/share/zoneinfo", name), path+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	berlin := time.Date(2024, 1, 1, 3, 30, 0, 0, time.UTC)
	tokyo := time.Date(2024, 1, 1, 19, 30, 0, 0, time.UTC)

	host("Europe/Berlin")
	for _, program := range []Program{Daemon, CLI} {
		host("Europe/Berlin")
		c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: program, Root: root}) })
		if !c.Window.Open(berlin) || c.Window.Open(tokyo) {
			t.Errorf("%s: the window is not in local time", program)
		}
		host("Asia/Tokyo")
		if c.Window.Open(berlin) || !c.Window.Open(tokyo) {
			t.Errorf("%s: the window has not followed", program)
		}
		if start, _ := c.Window.Next(berlin); start.Format("15:04 MST") != "04:00 JST" {
			t.Errorf("%s: the window opens next %v", program, start)
		}
	}
}

// TZ in update.conf is the daemon's zone, as systemd gives it to it, and so that of locksmithctl's
// window. That of a shell is not.
func TestWindowIsInTheTimeZoneOfTheDaemon(t *testing.T) {
	const conf = "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\n"
	for _, test := range []struct {
		name, conf string
		program    Program
		environ    string
		want       string
		warning    string
	}{
		{"nothing", "", Daemon, "", "UTC", ""},
		{"file", "TZ=Asia/Tokyo\n", Daemon, "TZ=Asia/Tokyo", "JST", ""},
		{"file that has changed", "TZ=Asia/Tokyo\n", Daemon, "", "JST", ""},
		{"drop-in", "", Daemon, "TZ=:Asia/Tokyo", "JST", ""},
		{"empty drop-in", "", Daemon, "TZ=", "UTC", ""},
		{"file", "TZ=Asia/Tokyo\n", CLI, "", "JST", ""},
		{"shell", "", CLI, "TZ=Asia/Tokyo", "UTC", ""},
		{"shell and file", "TZ=Europe/Berlin\n", CLI, "TZ=Asia/Tokyo", "CET", ""},
		{"unknown", "TZ=Tokyo\n", Daemon, "", "UTC", `TZ="Tokyo" (ETC:1): it is not a time zone, and UTC counts`},
		{"rules", "TZ=CET-1CEST,M3.5.0,M10.5.0\n", CLI, "", "UTC", `TZ="CET-1CEST,M3.5.0,M10.5.0" (ETC:1): it is not a time zone, and UTC counts`},
		{"setting", "TZ=Asia/Tokyo\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=Europe/Berlin\n", CLI, "", "CET", ""},
		{"setting of the start", "TZ=Asia/Tokyo\nLOCKSMITHD_REBOOT_WINDOW_START=CRON_TZ=Europe/Berlin 0 4 * * *\n", CLI, "", "CET", ""},
		{"the start says UTC where the host has none", "LOCKSMITHD_REBOOT_WINDOW_START=CRON_TZ=UTC 0 4 * * *\n", CLI, "", "UTC", ""},
	} {
		root := newRoot(t, map[string]string{etc: test.conf + conf})
		c := mustLoad(t, func() (*Config, error) {
			return Load(Options{Program: test.program, Root: root, Environ: []string{test.environ}})
		})
		start, _ := c.Window.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
		if got := start.Format("15:04 MST"); got != "04:00 "+test.want {
			t.Errorf("%s, %s: the window opens %s, want %s", test.program, test.name, got, test.want)
		}
		warnings := strings.ReplaceAll(strings.Join(c.Warnings, "\n"), filepath.Join(root, etc), "ETC")
		if (warnings == "") != (test.warning == "") || !strings.HasPrefix(warnings, test.warning) {
			t.Errorf("%s, %s: the warnings are %q, want %q", test.program, test.name, warnings, test.warning)
		}
	}
}

func TestTriggerGroups(t *testing.T) {
	for value, want := range map[string][]string{
		"":                        {"wheel", "sudo"},
		"core":                    {"core"},
		"a b":                     {"a", "b"},
		"a,b":                     {"a", "b"},
		" a , b_c-d.e ,, Domain$": {"a", "b_c-d.e", "Domain$"},
	} {
		root := newRoot(t, map[string]string{etc: "LOCKSMITHD_TRIGGER_GROUPS=\"" + strings.ReplaceAll(value, "$", `\$`) + "\"\n"})
		c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: Daemon, Root: root}) })
		if !slices.Equal(c.TriggerGroups, want) {
			t.Errorf("%q gives %q, want %q", value, c.TriggerGroups, want)
		}
	}
}

// A wrong value is refused at start, with the setting, its value and its place
// named: one line each.
func TestWrongSettingsAreRefusedByName(t *testing.T) {
	dir := newRoot(t, map[string]string{"garbage.pem": "garbage"})
	garbage := filepath.Join(dir, "garbage.pem")
	const https = "LOCKSMITHD_ENDPOINT=https://10.0.0.1:2379\n"
	tests := []struct {
		name string
		conf string
		want []string // a line each, what it begins with and what it contains
	}{
		{"strategy", "REBOOT_STRATEGY=best-effort\n", []string{`REBOOT_STRATEGY="best-effort" (CONF:1): |etcd-lock, reboot or off`}},
		{"strategy in capitals", "REBOOT_STRATEGY=Etcd-Lock\n", []string{`REBOOT_STRATEGY="Etcd-Lock" (CONF:1): |etcd-lock, reboot or off`}},
		{"strategy with a space", "REBOOT_STRATEGY=\" off\"\n", []string{`REBOOT_STRATEGY=" off" (CONF:1): |etcd-lock, reboot or off`}},
		{"strategy that is not text", "REBOOT_STRATEGY=off\x01\n", []string{`REBOOT_STRATEGY="off\x01" (CONF:1): |etcd-lock, reboot or off`}},
		{"strategy that is long", "REBOOT_STRATEGY=" + strings.Repeat("x", 5000) + "\n", []string{`REBOOT_STRATEGY="` + strings.Repeat("x", 100) + `..." (CONF:1): |etcd-lock, reboot or off`}},
		{"window start without length", "#\nLOCKSMITHD_REBOOT_WINDOW_START=4:00\n", []string{`LOCKSMITHD_REBOOT_WINDOW_START="4:00" (CONF:2): |without LOCKSMITHD_REBOOT_WINDOW_LENGTH`}},
		{"window length without start", "REBOOT_WINDOW_LENGTH=1h\n", []string{`REBOOT_WINDOW_LENGTH="1h" (CONF:1): |without REBOOT_WINDOW_START`}},
		{"window start", "REBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_START=2:00pm\n", []string{`REBOOT_WINDOW_START="2:00pm" (CONF:2): |14:00`}},
		{"window start with more after it", "REBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_START=14:00foo\n", []string{`REBOOT_WINDOW_START="14:00foo" (CONF:2): |14:00`}},
		{"window length of zero", "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=0s\n", []string{`REBOOT_WINDOW_LENGTH="0s" (CONF:2): |1h30m`}},
		{"window length without a unit", "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=60\n", []string{`REBOOT_WINDOW_LENGTH="60" (CONF:2): |1h30m`}},
		{"window length of a day", "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=24h\n", []string{`REBOOT_WINDOW_LENGTH="24h" (CONF:2): |24h`}},
		{"time zone", "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=Europe/Berln\n", []string{`LOCKSMITHD_REBOOT_WINDOW_TIMEZONE="Europe/Berln" (CONF:1): |such as Europe/Berlin`}},
		{"time zone outside of the database", "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=../../../etc/localtime\n", []string{`LOCKSMITHD_REBOOT_WINDOW_TIMEZONE="../../../etc/localtime" (CONF:1): |such as Europe/Berlin`}},
		{"time zone and window", "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=X\nREBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1\n", []string{
			`LOCKSMITHD_REBOOT_WINDOW_TIMEZONE="X" (CONF:1): |`, `REBOOT_WINDOW_LENGTH="1" (CONF:3): |`,
		}},
		{"group that escapes its key", "LOCKSMITHD_GROUP=..\n", []string{`LOCKSMITHD_GROUP=".." (CONF:1): |group`}},
		{"group with a line feed", "LOCKSMITHD_GROUP='a\nb'\n", []string{`LOCKSMITHD_GROUP="a\nb" (CONF:1): |group`}},
		{"debug", "LOCKSMITHD_DEBUG=yes\n", []string{`LOCKSMITHD_DEBUG="yes" (CONF:1): |true or false`}},
		{"trigger groups", "LOCKSMITHD_TRIGGER_GROUPS='wheel;sudo'\n", []string{`LOCKSMITHD_TRIGGER_GROUPS="wheel;sudo" (CONF:1): |wheel sudo`}},
		{"no trigger groups", "LOCKSMITHD_TRIGGER_GROUPS=,\n", []string{`LOCKSMITHD_TRIGGER_GROUPS="," (CONF:1): |root`}},
		{"endpoint without a scheme", "LOCKSMITHD_ENDPOINT=10.0.0.1:2379\n", []string{`LOCKSMITHD_ENDPOINT="10.0.0.1:2379" (CONF:1): |http`}},
		{"endpoint with another scheme", "LOCKSMITHD_ENDPOINT=ftp://10.0.0.1:2379\n", []string{`LOCKSMITHD_ENDPOINT="ftp://10.0.0.1:2379" (CONF:1): |http`}},
		{"endpoint without a host", "LOCKSMITHD_ENDPOINT=http://\n", []string{`LOCKSMITHD_ENDPOINT="http://" (CONF:1): |http`}},
		{"no endpoint", "LOCKSMITHD_ENDPOINT=' , '\n", []string{`LOCKSMITHD_ENDPOINT=" , " (CONF:1): |http://127.0.0.1:2379`}},
		{"certificate without its key", "LOCKSMITHD_ETCD_CERTFILE=/cert.pem\n", []string{`LOCKSMITHD_ETCD_CERTFILE="/cert.pem" (CONF:1): |without LOCKSMITHD_ETCD_KEYFILE`}},
		{"key without its certificate", "LOCKSMITHD_ETCD_KEYFILE=/key.pem\n", []string{`LOCKSMITHD_ETCD_KEYFILE="/key.pem" (CONF:1): |without LOCKSMITHD_ETCD_CERTFILE`}},
		{"missing CA", "LOCKSMITHD_ETCD_CAFILE=/does/not/exist.pem\n" + https, []string{`LOCKSMITHD_ETCD_CAFILE="/does/not/exist.pem" (CONF:1): |no such file`}},
		{"CA that is none", "LOCKSMITHD_ETCD_CAFILE=" + garbage + "\n" + https, []string{`LOCKSMITHD_ETCD_CAFILE="` + garbage + `" (CONF:1): |certificate`}},
		{"certificate that is none", "LOCKSMITHD_ETCD_CERTFILE=" + garbage + "\nLOCKSMITHD_ETCD_KEYFILE=" + garbage + "\n" + https, []string{`LOCKSMITHD_ETCD_CERTFILE="` + garbage + `" (CONF:1): |` + garbage}},
		{"user without a password", "LOCKSMITHD_ETCD_USERNAME=root\n", []string{`LOCKSMITHD_ETCD_USERNAME="root" (CONF:1): |without LOCKSMITHD_ETCD_PASSWORD`}},
		{"password without a user", "LOCKSMITHD_ETCD_PASSWORD=geheim\n", []string{`LOCKSMITHD_ETCD_PASSWORD=(hidden) (CONF:1): |without LOCKSMITHD_ETCD_USERNAME`}},
		{"time-to-live of 59s", "LOCKSMITHD_LOCK_TTL=59s\n", []string{`LOCKSMITHD_LOCK_TTL="59s" (CONF:1): |from 1m to 8760h`}},
		{"time-to-live of -1m", "LOCKSMITHD_LOCK_TTL=-1m\n", []string{`LOCKSMITHD_LOCK_TTL="-1m" (CONF:1): |from 1m to 8760h`}},
		{"time-to-live of 8760h1s", "LOCKSMITHD_LOCK_TTL=8760h1s\n", []string{`LOCKSMITHD_LOCK_TTL="8760h1s" (CONF:1): |from 1m to 8760h`}},
		{"time-to-live of 30", "LOCKSMITHD_LOCK_TTL=30\n", []string{`LOCKSMITHD_LOCK_TTL="30" (CONF:1): |from 1m to 8760h`}},
		{"time-to-live of 0s", "LOCKSMITHD_LOCK_TTL=0s\n", []string{`LOCKSMITHD_LOCK_TTL="0s" (CONF:1): |from 1m to 8760h`}},
		{"max of -1", "LOCKSMITHD_MAX=-1\n", []string{`LOCKSMITHD_MAX="-1" (CONF:1): |from 0`}},
		{"max of +1", "LOCKSMITHD_MAX=+1\n", []string{`LOCKSMITHD_MAX="+1" (CONF:1): |from 0`}},
		{"max of 2147483648", "LOCKSMITHD_MAX=2147483648\n", []string{`LOCKSMITHD_MAX="2147483648" (CONF:1): |from 0`}},
		{"max of 99999999999999999999", "LOCKSMITHD_MAX=99999999999999999999\n", []string{`LOCKSMITHD_MAX="99999999999999999999" (CONF:1): |from 0`}},
		{"max of 1.5", "LOCKSMITHD_MAX=1.5\n", []string{`LOCKSMITHD_MAX="1.5" (CONF:1): |from 0`}},
		{"max of many", "LOCKSMITHD_MAX=many\n", []string{`LOCKSMITHD_MAX="many" (CONF:1): |from 0`}},
		{"several", "REBOOT_STRATEGY=on\nLOCKSMITHD_DEBUG=on\nREBOOT_WINDOW_START=4\n", []string{
			`REBOOT_STRATEGY="on" (CONF:1): |`, `LOCKSMITHD_DEBUG="on" (CONF:2): |`, `REBOOT_WINDOW_START="4" (CONF:3): |`,
		}},
	}
	for _, test := range tests {
		for _, program := range []Program{Daemon, CLI} {
			t.Run(string(program)+"/"+test.name, func(t *testing.T) {
				root := newRoot(t, map[string]string{etc: test.conf, usr: "REBOOT_STRATEGY=etcd-lock\n"})
				c, err := Load(Options{Program: program, Root: root})
				if err == nil {
					t.Fatal("accepted")
				}
				lines := strings.Split(err.Error(), "\n")
				if len(lines) != len(test.want) {
					t.Fatalf("%d lines, want %d:\n%v", len(lines), len(test.want), err)
				}
				for i, line := range lines {
					begin, contain, _ := strings.Cut(strings.ReplaceAll(test.want[i], "CONF", filepath.Join(root, etc)), "|")
					if rest, ok := strings.CutPrefix(line, begin); !ok || !strings.Contains(rest, contain) {
						t.Errorf("error %q, want %q and then %q", line, begin, contain)
					}
				}
				if len(c.Settings) != len(Definitions()) {
					t.Error("the settings cannot be shown")
				}
			})
		}
	}
}

func TestErrorsNameFlagsAndVariablesAsTheyWereGiven(t *testing.T) {
	tests := []struct {
		program Program
		flags   []Flag
		environ []string
		want    []string
	}{
		{CLI, []Flag{{"etcd-certfile", "/c"}}, nil, []string{`-etcd-certfile="/c" (command line): `, "without -etcd-keyfile"}},
		{CLI, nil, []string{"LOCKSMITHCTL_ETCD_CERTFILE=/c"}, []string{`LOCKSMITHCTL_ETCD_CERTFILE="/c" (environment): `, "without LOCKSMITHCTL_ETCD_KEYFILE"}},
		{Daemon, nil, []string{"REBOOT_STRATEGY=etcd-lock", "LOCKSMITHD_ETCD_KEYFILE=/c"}, []string{`LOCKSMITHD_ETCD_KEYFILE="/c" (environment): `, "without LOCKSMITHD_ETCD_CERTFILE"}},
		{CLI, nil, []string{"REBOOT_WINDOW_START=4:00"}, []string{`REBOOT_WINDOW_START="4:00" (environment): `, "without REBOOT_WINDOW_LENGTH"}},
		{CLI, []Flag{{"gruop", "a"}}, nil, []string{"-gruop is not a flag"}},
		{CLI, []Flag{{"", "a"}}, nil, []string{"- is not a flag"}},
	}
	for _, test := range tests {
		_, err := Load(Options{Program: test.program, Root: t.TempDir(), Flags: test.flags, Environ: test.environ})
		if err == nil || !strings.HasPrefix(err.Error(), test.want[0]) || !strings.Contains(err.Error(), test.want[len(test.want)-1]) {
			t.Errorf("%v %v: error %q, want %q", test.flags, test.environ, err, test.want)
		}
	}
}

// What package lock says about a failed connection has the settings' names as they were given.
func TestEtcdOptionsAreCalledAsTheyWereGiven(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "LOCKSMITHD_ENDPOINT=https://a:1\nLOCKSMITHD_ETCD_USERNAME=\n"})
	c := mustLoad(t, func() (*Config, error) {
		return Load(Options{Program: CLI, Root: root, Flags: []Flag{{"etcd-username", "u"}}, Environ: []string{"LOCKSMITHCTL_ETCD_PASSWORD=p"}})
	})
	for option, want := range map[etcd.Option]string{
		etcd.OptionEndpoint: "LOCKSMITHD_ENDPOINT in " + filepath.Join(root, etc),
		etcd.OptionUsername: "-etcd-username",
		etcd.OptionPassword: "environment LOCKSMITHCTL_ETCD_PASSWORD",
		etcd.OptionCAFile:   "LOCKSMITHD_ETCD_CAFILE in /etc/flatcar/update.conf",
	} {
		if got := c.Etcd.Names[option]; got != want {
			t.Errorf("option %s is called %q, want %q", option, got, want)
		}
	}
	if c.Etcd.DefaultEndpoint {
		t.Error("the endpoint counts as the default")
	}
}

// What a command does not use cannot stop it: a slot can be unlocked although the
// window is wrong, and a daemon that never uses etcd starts although a file for it is missing.
func TestOnlyWhatIsUsedIsChecked(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "REBOOT_WINDOW_START=never\nREBOOT_STRATEGY=maybe\nLOCKSMITHD_TRIGGER_GROUPS=;\n"})
	if _, err := Load(Options{Program: CLI, Root: root, Check: PartEtcd}); err != nil {
		t.Errorf("only etcd: %v", err)
	}
	for part, want := range map[Part]string{PartStrategy: "REBOOT_STRATEGY", PartWindow: "REBOOT_WINDOW_START", PartTrigger: "LOCKSMITHD_TRIGGER_GROUPS"} {
		if _, err := Load(Options{Program: CLI, Root: root, Check: part}); err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("part %d: error %q, want one about %s", part, err, want)
		}
	}

	broken := "LOCKSMITHD_ENDPOINT=https://a:1\nLOCKSMITHD_ETCD_CAFILE=/missing\nLOCKSMITHD_GROUP=..\n"
	for strategy, want := range map[string]int{"reboot": 0, "off": 0, "": 0, "etcd-lock": 2} {
		root := newRoot(t, map[string]string{etc: broken + "REBOOT_STRATEGY=" + strategy + "\n"})
		_, err := Load(Options{Program: Daemon, Root: root})
		got := 0
		if err != nil {
			got = 1 + strings.Count(err.Error(), "\n")
		}
		if got != want {
			t.Errorf("strategy %q: %d errors, want %d: %v", strategy, got, want, err)
		}
	}
}

func TestUnreadableFilesAreNamed(t *testing.T) {
	root := newRoot(t, map[string]string{usr: "A=\xff\n"})
	if err := os.MkdirAll(filepath.Join(root, etc), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Options{Program: CLI, Root: root, Check: PartEtcd})
	if err == nil {
		t.Fatal("accepted")
	}
	want := fmt.Sprintf("read %s: it is a directory, not a file\nread %s: line 1 is not UTF-8", filepath.Join(root, etc), filepath.Join(root, usr))
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if c == nil || len(c.Settings) > 0 {
		t.Errorf("config is %v, want an empty one", c)
	}
}

func TestNoPasswordIsEverShown(t *testing.T) {
	const secret = "geh3im"
	tests := []struct {
		name    string
		conf    string
		flags   []Flag
		environ []string
	}{
		{"right", "LOCKSMITHD_ETCD_USERNAME=u\nLOCKSMITHD_ETCD_PASSWORD=" + secret + "\n", nil, nil},
		{"without a user", "LOCKSMITHD_ETCD_PASSWORD=" + secret + "\n", nil, nil},
		{"flag", "", []Flag{{"etcd-password", secret}}, nil},
		{"environment", "", nil, []string{"LOCKSMITHCTL_ETCD_PASSWORD=" + secret, "LOCKSMITHD_ETCD_PASSWORD=" + secret}},
		{"misspelt", "LOCKSMITHD_ETCD_PASWORD=" + secret + "\n", nil, nil},
		{"exported", "export LOCKSMITHD_ETCD_PASSWORD=" + secret + "\n", nil, nil},
		{"without an equals sign", "LOCKSMITHD_ETCD_PASSWORD " + secret + "\n", nil, nil},
		{"not UTF-8", "LOCKSMITHD_ETCD_PASSWORD=" + secret + "\xff\n", nil, nil},
		{"in an endpoint", "LOCKSMITHD_ENDPOINT=http://user:" + secret + "@10.0.0.1:2379\n", nil, nil},
		{"in an endpoint, with special characters", "LOCKSMITHD_ENDPOINT=http://user:" + secret + "/%@" + secret + ",@10.0.0.1:2379\n", nil, nil},
	}
	for _, test := range tests {
		for _, program := range []Program{Daemon, CLI} {
			root := newRoot(t, map[string]string{etc: test.conf, usr: "REBOOT_STRATEGY=etcd-lock\n"})
			c, err := Load(Options{Program: program, Root: root, Flags: test.flags, Environ: test.environ})
			c.Etcd = etcd.Config{} // which needs it
			if out := fmt.Sprintf("%v\n%+v", err, *c); strings.Contains(out, secret) {
				t.Errorf("%s, %s: %s", program, test.name, out)
			}
		}
	}
	root := newRoot(t, map[string]string{etc: tests[0].conf})
	c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: CLI, Root: root}) })
	if s := c.setting(t, namePassword); s.Value != "(hidden)" || c.Etcd.Password != secret {
		t.Errorf("password is %q, %+v", c.Etcd.Password, s)
	}
}

func TestWarningsAboutWhatLooksLikeASetting(t *testing.T) {
	root := newRoot(t, map[string]string{
		etc: "GROUP=stable\nSERVER=disabled\nMACHINE_ALIAS=x\nLOCKSMITHD_GRUOP=lb\nexport REBOOT_STRATEGY=off\nLOCKSMITHD_GROUP lb\nCOREOS_PUBLIC_IPV4=1\nexport X=1\n",
		usr: "reboot_strategy=off\nLOCKSMITHCTL_GROUP=a\nLOCKSMITHD_COLOUR=blue\nREBOOT_STRTEGY=off\nLOCKSMITH_ENDPOINT=x\n",
	})
	c := mustLoad(t, func() (*Config, error) { return Load(Options{Program: Daemon, Root: root}) })
	want := []string{
		"ETC:4: LOCKSMITHD_GRUOP is not a setting of this file, did you mean LOCKSMITHD_GROUP?",
		"ETC:5: this line is passed over and does not set REBOOT_STRATEGY: write REBOOT_STRATEGY=VALUE, with nothing before it",
		"ETC:6: this line is passed over and does not set LOCKSMITHD_GROUP: write LOCKSMITHD_GROUP=VALUE, with nothing before it",
		"USR:1: reboot_strategy is not a setting of this file, did you mean REBOOT_STRATEGY?",
		"USR:2: LOCKSMITHCTL_GROUP is not a setting of this file, did you mean LOCKSMITHD_GROUP?",
		"USR:3: LOCKSMITHD_COLOUR is not a setting of this file",
		"USR:4: REBOOT_STRTEGY is not a setting of this file, did you mean REBOOT_STRATEGY?",
		"USR:5: LOCKSMITH_ENDPOINT is not a setting of this file, did you mean LOCKSMITHD_ENDPOINT?",
	}
	got := strings.Join(c.Warnings, "\n")
	got = strings.NewReplacer(filepath.Join(root, etc), "ETC", filepath.Join(root, usr), "USR").Replace(got)
	if want := strings.Join(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// systemd has put the files into the environment when the daemon started. When they are read
// again, the environment still has the old values.
func TestReloadFollowsTheFilesAndKeepsTheEnvironment(t *testing.T) {
	root := newRoot(t, map[string]string{
		usr: "REBOOT_STRATEGY=reboot\nLOCKSMITHD_TRIGGER_GROUPS=usr\n",
		etc: "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_GROUP=\"old\"\nLOCKSMITHD_DEBUG=\nLOCKSMITHD_ENDPOINT=http://file:1\n",
	})
	l := NewLoader(Options{
		Program: Daemon,
		Root:    root,
		Flags:   []Flag{{"etcd-username", "u"}, {"etcd-password", "p"}},
		Environ: []string{
			"REBOOT_STRATEGY=etcd-lock", "LOCKSMITHD_GROUP=old", "LOCKSMITHD_DEBUG=", "LOCKSMITHD_TRIGGER_GROUPS=usr", // from the files
			"LOCKSMITHD_ENDPOINT=http://drop-in:1",  // differs
			"LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC", // in no file
		},
	})
	type state struct {
		group, endpoint, zone, trigger, user string
		debug                                bool
	}
	check := func(when string, want state) *Config {
		t.Helper()
		c := mustLoad(t, l.Load)
		got := state{c.Group, c.Etcd.Endpoints, c.setting(t, nameWindowTimezone).Value, strings.Join(c.TriggerGroups, ","), c.Etcd.Username, c.Debug}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", when, got, want)
		}
		return c
	}
	c := check("at start", state{"old", "http://drop-in:1", "UTC", "usr", "u", false})
	for name, want := range map[string]string{
		nameStrategy:       filepath.Join(root, etc) + ":1",
		nameGroup:          filepath.Join(root, etc) + ":2",
		nameTriggerGroups:  filepath.Join(root, usr) + ":2",
		nameEndpoint:       "environment LOCKSMITHD_ENDPOINT",
		nameWindowTimezone: "environment LOCKSMITHD_REBOOT_WINDOW_TIMEZONE",
		nameUsername:       "flag -etcd-username",
	} {
		if got := c.setting(t, name).Origin.String(); got != want {
			t.Errorf("%s comes from %q, want %q", name, got, want)
		}
	}
	check("without a change", state{"old", "http://drop-in:1", "UTC", "usr", "u", false})

	writeFile(t, filepath.Join(root, etc), "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_GROUP=new\nLOCKSMITHD_DEBUG=1\n"+
		"LOCKSMITHD_ENDPOINT=http://other:1\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=Asia/Tokyo\nLOCKSMITHD_TRIGGER_GROUPS=etc\nLOCKSMITHD_ETCD_USERNAME=file\n")
	check("changed", state{"new", "http://drop-in:1", "UTC", "etc", "u", true})

	writeFile(t, filepath.Join(root, etc), "REBOOT_STRATEGY=etcd-lock\n")
	check("removed", state{"", "http://drop-in:1", "UTC", "usr", "u", false})

	writeFile(t, filepath.Join(root, etc), "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=http://drop-in:1\n")
	check("equal for a while", state{"", "http://drop-in:1", "UTC", "usr", "u", false})
	writeFile(t, filepath.Join(root, etc), "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=http://other:1\n")
	check("different again", state{"", "http://drop-in:1", "UTC", "usr", "u", false})

	writeFile(t, filepath.Join(root, etc), "LOCKSMITHD_GROUP=back\nREBOOT_STRATEGY=on\n")
	if _, err := l.Load(); err == nil {
		t.Error("a wrong file is accepted")
	}
	writeFile(t, filepath.Join(root, etc), "LOCKSMITHD_GROUP=back\nREBOOT_STRATEGY=etcd-lock\n")
	check("back", state{"back", "http://drop-in:1", "UTC", "usr", "u", false})
}

// The environment of locksmithctl comes from a shell, not from the files.
func TestEqualValueInTheEnvironmentOfTheCLIIsTheEnvironments(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "REBOOT_STRATEGY=off\n"})
	c := mustLoad(t, func() (*Config, error) {
		return Load(Options{Program: CLI, Root: root, Environ: []string{"REBOOT_STRATEGY=off"}})
	})
	if got := c.setting(t, nameStrategy).Origin.String(); got != "environment REBOOT_STRATEGY" {
		t.Errorf("strategy comes from %q", got)
	}
}
