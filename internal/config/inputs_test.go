package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/must"
)

func TestDefaults(t *testing.T) {
	for _, program := range []Program{Daemon, CLI} {
		c := mustLoad(t, Options{Program: program, Root: t.TempDir()})
		if c.Strategy != StrategyReboot || c.Window != nil || c.Group != "" || c.Debug || !slices.Equal(c.TriggerGroups, []string{"wheel", "sudo"}) {
			t.Errorf("%s: defaults are %+v", program, c)
		}
		names := c.Etcd.Names
		c.Etcd.Names = etcd.Names{}
		if program == CLI && (c.Etcd != etcd.Config{Endpoints: "http://127.0.0.1:2379", DefaultEndpoint: true} || names[etcd.OptionEndpoint] != "LOCKSMITHD_ENDPOINT in /etc/locksmith/locksmith.conf") {
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

// Every source has its own value. The test takes them away, the strongest first.
func TestPrecedenceOfEverySetting(t *testing.T) {
	values := map[string][]string{ // right values, from the flag to the weakest file
		nameStrategy:      {"", "off", "etcd-lock", "reboot"},
		nameWindowStart:   {"", "04:00", "05:00", "06:00"},
		nameWindowLength:  {"", "1h", "2h", "3h"},
		"window-timezone": {"", "UTC", "Europe/Berlin", "Asia/Tokyo"},
		"endpoint":        {"http://a:1", "http://b:1", "http://c:1", "http://d:1"},
		"debug":           {"true", "false", "1", "0"},
	}
	for _, program := range []Program{Daemon, CLI} {
		for _, d := range Definitions() {
			t.Run(string(program)+"/"+d.Name, func(t *testing.T) {
				v := values[d.Name]
				if v == nil {
					v = []string{"a", "b", "c", "d"}
				}
				environ := d.Variable
				if program == CLI && d.Flag {
					environ = d.CLIVariable()
				}
				root := newRoot(t, map[string]string{
					etc: "\n" + d.Variable + "=" + v[2],
					usr: d.Variable + "='" + v[3] + "'\n",
				})
				o := Options{
					Program: program,
					Root:    root,
					Flags:   []Flag{{d.Name, v[0]}},
					Environ: []string{environ + "=" + v[1]},
				}
				check := func(value string, origin Origin, text string) {
					t.Helper()
					// Settings that need others make an error, which does not matter here.
					c, _ := Load(o)
					s := c.setting(t, d.Name)
					want := value
					if d.Secret {
						want = safetext.Hidden
					}
					if s.Value != want || s.Origin != origin || s.Origin.String() != text {
						t.Errorf("got %q from %+v (%s), want %q from %+v (%s)", s.Value, s.Origin, s.Origin, want, origin, text)
					}
				}
				if d.Flag {
					check(v[0], Origin{Kind: FromFlag, Name: "-" + d.Name}, "flag -"+d.Name)
				}
				o.Flags = nil
				check(v[1], Origin{Kind: FromEnvironment, Name: environ}, "environment "+environ)
				o.Environ = nil
				path := filepath.Join(root, etc)
				check(v[2], Origin{FromFile, d.Variable, path, 2}, path+":2")
				must.Do(t, os.Remove(path))
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
	c := mustLoad(t, Options{Program: Daemon, Root: root})
	if c.Strategy != StrategyReboot {
		t.Errorf("strategy is %q", c.Strategy)
	}
	want := "default, because REBOOT_STRATEGY is empty (" + filepath.Join(root, etc) + ":2)"
	if s := c.setting(t, nameStrategy); s.Value != "reboot" || s.Origin.String() != want {
		t.Errorf("strategy is %q, %q, want %q", s.Value, s.Origin, want)
	}

	o := Options{Program: CLI, Root: root, Environ: []string{"LOCKSMITHCTL_GROUP="}}
	if c := mustLoad(t, o); c.Group != "" {
		t.Errorf("group is %q", c.Group)
	}
	o = Options{Program: CLI, Root: root, Flags: []Flag{{"group", ""}}}
	if c := mustLoad(t, o); c.Group != "" {
		t.Errorf("group is %q", c.Group)
	}
}

func TestDaemonAndCLIReadTheirOwnVariablesAndTheFilesOfBoth(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "LOCKSMITHD_GROUP=file\nREBOOT_STRATEGY=etcd-lock\nLOCKSMITHCTL_ENDPOINT=http://x:1\nGROUP=beta\n"})
	environ := []string{"LOCKSMITHD_ENDPOINT=http://d:1", "LOCKSMITHCTL_ENDPOINT=http://c:1", "GROUP=stable"}
	for program, endpoint := range map[Program]string{Daemon: "http://d:1", CLI: "http://c:1"} {
		c := mustLoad(t, Options{Program: program, Root: root, Environ: environ})
		if c.Group != "file" || c.Strategy != StrategyEtcdLock || c.Etcd.Endpoints != endpoint {
			t.Errorf("%s: group %q, strategy %q, endpoints %q", program, c.Group, c.Strategy, c.Etcd.Endpoints)
		}
	}
	// A shell has another environment than the daemon, and the daemon's variables do not count there.
	c := mustLoad(t, Options{Program: CLI, Root: root, Environ: []string{"LOCKSMITHD_GROUP=environ"}})
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
			c := mustLoad(t, Options{Program: CLI, Root: t.TempDir(), Flags: test.flags, Environ: []string{"LOCKSMITHCTL_ENDPOINT=" + test.environ}})
			if c.Etcd.Endpoints != test.want {
				t.Errorf("got %q, want %q", c.Etcd.Endpoints, test.want)
			}
		})
	}
}

func TestLastOfOtherRepeatedFlagsWins(t *testing.T) {
	c := mustLoad(t, Options{Program: CLI, Root: t.TempDir(), Flags: []Flag{{"group", "a"}, {"debug", "true"}, {"group", "b"}, {"debug", "false"}}})
	if c.Group != "b" || c.Debug {
		t.Errorf("group %q, debug %v", c.Group, c.Debug)
	}
}

func TestUnreadableFilesAreNamed(t *testing.T) {
	root := newRoot(t, map[string]string{usr: "A=\xff\n"})
	must.Do(t, os.MkdirAll(filepath.Join(root, etc), 0o755))
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

// The environment of locksmithctl comes from a shell, not from the files.
func TestEnvironmentOfTheCLICountsThoughTheFileHasTheSameValue(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "REBOOT_STRATEGY=off\n"})
	c := mustLoad(t, Options{Program: CLI, Root: root, Environ: []string{"REBOOT_STRATEGY=off"}})
	if got := c.setting(t, nameStrategy).Origin.String(); got != "environment REBOOT_STRATEGY" {
		t.Errorf("strategy comes from %q", got)
	}
}

func TestFilesOverrideEachOther(t *testing.T) {
	root := t.TempDir()
	files := settingsFiles()
	for i, path := range slices.Backward(files) {
		group := fmt.Sprintf("of-file-%d", i)
		writeFile(t, filepath.Join(root, path), "\nLOCKSMITHD_GROUP="+group+"\nREBOOT_STRATEGY=reboot\n")
		c := mustLoad(t, Options{Program: Daemon, Root: root})
		if at := slices.IndexFunc(c.Settings, func(s Setting) bool { return s.Name == "group" }); c.Settings[at].Value != group || c.Settings[at].Origin.place() != filepath.Join(root, path)+":2" {
			t.Errorf("with %s, group is %+v", path, c.Settings[at])
		}
	}
	// What the package sets was not chosen on this host.
	for i, path := range slices.Backward(files) {
		root := t.TempDir()
		writeFile(t, filepath.Join(root, path), "REBOOT_STRATEGY=off\n")
		if c := mustLoad(t, Options{Program: Daemon, Root: root}); c.Strategy != StrategyOff || c.StrategySet != (i < len(files)-1) {
			t.Errorf("with %s the strategy is %q, chosen: %v", path, c.Strategy, c.StrategySet)
		}
	}
	// The name with the prefix counts first, wherever it is.
	writeFile(t, filepath.Join(root, files[len(files)-1]), "LOCKSMITHD_REBOOT_STRATEGY=off\n")
	if c := mustLoad(t, Options{Program: Daemon, Root: root}); c.Strategy != StrategyOff {
		t.Errorf("the strategy is %q", c.Strategy)
	}
}
