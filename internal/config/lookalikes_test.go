package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// warningsOf returns the warnings about a host's update.conf, with ETC for its path.
func warningsOf(t testing.TB, root string, o Options) string {
	t.Helper()
	o.Root = root
	c, err := Load(o)
	must.Do(t, err)
	return strings.NewReplacer(filepath.Join(root, etc), "ETC", filepath.Join(root, settingsFiles()[0]), "CONF").Replace(strings.Join(c.Warnings, "\n"))
}

func TestWhatLooksLikeASettingIsWarnedAboutAndDoesNotCount(t *testing.T) {
	passed := func(line, name string) string {
		return "ETC:" + line + ": this line is ignored and does not set " + name + ": write " + name + "=VALUE, with "
	}
	yaml := func(line, name string) string {
		return "ETC:" + line + ": this line looks like YAML, is ignored and does not set " + name + ": write " + name + "=VALUE"
	}
	glued := func(line, name, variable string) string {
		return "ETC:" + line + ": " + name + " does not set " + variable + ", which has become part of its value: write " + variable + "=VALUE on a line of its own, and close quotes before it"
	}
	for _, test := range []struct{ conf, want string }{
		{"GROUP=stable\nreboot-strategy: off\n", yaml("2", "REBOOT_STRATEGY")},
		{"locksmith:\n  reboot_strategy: \"off\"\n  window_start: Thu 04:00\n  window_length: 1h\n  group: lb\n  etcd_endpoints: http://x:1\n",
			yaml("2", "REBOOT_STRATEGY") + "\n" + yaml("3", "LOCKSMITHD_REBOOT_WINDOW_START") + "\n" + yaml("4", "LOCKSMITHD_REBOOT_WINDOW_LENGTH") + "\n" +
				yaml("5", "LOCKSMITHD_GROUP") + "\n" + yaml("6", "LOCKSMITHD_ENDPOINT")},
		{"#cloud-config\ncoreos:\n  update:\n    reboot-strategy: 'off'\n    group: stable\n", yaml("4", "REBOOT_STRATEGY")},
		{"{\n\"REBOOT_STRATEGY\":\"off\",\n}\n", yaml("2", "REBOOT_STRATEGY")},
		{"- REBOOT_STRATEGY: off\n", yaml("1", "REBOOT_STRATEGY")},
		{"REBOOT-STRATEGY=off\n", passed("1", "REBOOT_STRATEGY") + "the name spelled like this"},
		{"export REBOOT_STRATEGY=off\n", passed("1", "REBOOT_STRATEGY") + "nothing before it"},
		{"\ufeffREBOOT_STRATEGY=off\n", passed("1", "REBOOT_STRATEGY") + "nothing before it"},
		{"REBOOT_STRATEGY off\n", passed("1", "REBOOT_STRATEGY") + "nothing before it"},
		{"[Service]\nEnvironment=REBOOT_STRATEGY=off\n", "ETC:2: Environment= belongs in a unit, and does not set REBOOT_STRATEGY here: write REBOOT_STRATEGY=VALUE"},
		{"[Service]\nEnvironment=\"REBOOT_STRATEGY=off\" \"LOCKSMITHD_GROUP=lb\"\n",
			"ETC:2: Environment= belongs in a unit, and does not set REBOOT_STRATEGY, LOCKSMITHD_GROUP here: write REBOOT_STRATEGY=VALUE"},
		{"GROUP=stableREBOOT_STRATEGY=off", glued("1", "GROUP", "REBOOT_STRATEGY")},
		{"LOCKSMITHD_GROUP=\"lb\"LOCKSMITHD_ENDPOINT=http://x:1\n", glued("1", "LOCKSMITHD_GROUP", "LOCKSMITHD_ENDPOINT")},
		{"GROUP=stable LOCKSMITHD_REBOOT_WINDOW_START=4:00\n", glued("1", "GROUP", "LOCKSMITHD_REBOOT_WINDOW_START")},
		{"GROUP=\"stable\nREBOOT_STRATEGY=off\n", glued("1", "GROUP", "REBOOT_STRATEGY")},
		{"GROUP=stable\\\nREBOOT_STRATEGY=off\n", glued("1", "GROUP", "REBOOT_STRATEGY")},
		{"GROUP=stable\\nREBOOT_STRATEGY=off\\n\n", glued("1", "GROUP", "REBOOT_STRATEGY")},
		{"GROUP=stable\n# last lineREBOOT_STRATEGY=off\n", "ETC:2: REBOOT_STRATEGY is part of a comment, and is not set: write REBOOT_STRATEGY=VALUE on a line of its own"},
		{"LOCKSMITHD_GROUP=lb\\n\n", `ETC:1: the value of LOCKSMITHD_GROUP has a \n in it, which does not end the line: begin a new line there, or leave the \n out`},
		{"LOCKSMITHD_GROUP=\"lb\\n\"\n", `ETC:1: the value of LOCKSMITHD_GROUP has a \n in it, which does not end the line: begin a new line there, or leave the \n out`},
		{"stableREBOOT_STRATEGY=off\n", "ETC:1: stableREBOOT_STRATEGY is not a setting of this file, did you mean REBOOT_STRATEGY?"},
		{"stableLOCKSMITHD_GROUP=off\n", "ETC:1: stableLOCKSMITHD_GROUP is not a setting of this file, did you mean LOCKSMITHD_GROUP?"},

		// What real files have as well, and comments.
		{"GROUP=stable\nSERVER=https://update.example.com/v1/update/\n", ""},
		{"GROUP=ab51a000-02dc-4fc7-a6b0-c42881c89856\nSERVER=disabled\nMACHINE_ALIAS=\"web 1\"\nDOWNLOAD_USER=u\nDOWNLOAD_PASSWORD=p\nPCR_POLICY_SERVER=http://x\n", ""},
		{"# REBOOT_STRATEGY=off\n#REBOOT_STRATEGY=off\n;LOCKSMITHD_GROUP=lb\n# such as \"REBOOT_STRATEGY=off\", or LOCKSMITHD_GROUP=lb\n", ""},
		{"[Update]\nSERVER=x\nname: y\nserver: z\ngroup: stable\nversion: 1\n", ""},
		{"\nGROUP=stable\nREBOOT_STRATEGY=\"reboot\"\nLOCKSMITHD_REBOOT_WINDOW_START=\"Thu 04:00\"\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=\"1h\"", ""},
		{"COREOS_PUBLIC_IPV4=1.2.3.4\nETCDCTL_ENDPOINTS=http://x:2379\nTZ=UTC\nhttp_proxy=http://proxy:3128\nHTTPS_PROXY=http://proxy:3128\nGROUPS=a\nMAX=1\nDEBUG=1\nENDPOINT=x\n", ""},
	} {
		root := newRoot(t, map[string]string{etc: test.conf})
		for _, program := range []Program{Daemon, CLI} {
			if got := warningsOf(t, root, Options{Program: program}); got != test.want {
				t.Errorf("%s, %q: the warnings are\n%s\nwant\n%s", program, test.conf, got, test.want)
			}
		}
		c := mustLoad(t, Options{Program: Daemon, Root: root})
		if c.Strategy != StrategyReboot {
			t.Errorf("%q: the strategy is %s", test.conf, c.Strategy)
		}
	}
}

func TestNamesAreComparedBehindTheirPrefix(t *testing.T) {
	for name, want := range map[string]string{
		// Of other versions, forks and formats.
		"LOCKSMITH_STRATEGY":               "REBOOT_STRATEGY",
		"LOCKSMITHD_STRATEGY":              "REBOOT_STRATEGY",
		"LOCKSMITHD_REBOOT_STRATEGY":       "REBOOT_STRATEGY",
		"COREOS_REBOOT_STRATEGY":           "REBOOT_STRATEGY",
		"LOCKSMITHD_WINDOW_START":          "LOCKSMITHD_REBOOT_WINDOW_START",
		"LOCKSMITHD_WINDOW_LENGTH":         "LOCKSMITHD_REBOOT_WINDOW_LENGTH",
		"LOCKSMITHD_ENDPOINTS":             "LOCKSMITHD_ENDPOINT",
		"LOCKSMITHD_ETCD_ENDPOINTS":        "LOCKSMITHD_ENDPOINT",
		"LOCKSMITHD_ETCD_ENDPOINT":         "LOCKSMITHD_ENDPOINT",
		"LOCKSMITH_ENDPOINT":               "LOCKSMITHD_ENDPOINT",
		"LOCKSMITHCTL_ENDPOINT":            "LOCKSMITHD_ENDPOINT",
		"LOCKSMITHD_LOCK_GROUP":            "LOCKSMITHD_GROUP",
		"LOCKSMITHD_ETCD_CA_FILE":          "LOCKSMITHD_ETCD_CAFILE",
		"LOCKSMITHD_CAFILE":                "LOCKSMITHD_ETCD_CAFILE",
		"LOCKSMITHD_ETCD_CERT":             "LOCKSMITHD_ETCD_CERTFILE",
		"LOCKSMITHD_ETCD_KEY_FILE":         "LOCKSMITHD_ETCD_KEYFILE",
		"LOCKSMITHD_USERNAME":              "LOCKSMITHD_ETCD_USERNAME",
		"LOCKSMITHD_PASSWORD":              "LOCKSMITHD_ETCD_PASSWORD",
		"LOCKSMITHD_TTL":                   "LOCKSMITHD_LOCK_TTL",
		"LOCKSMITHD_TIMEZONE":              "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE",
		"REBOOT_WINDOW_TIMEZONE":           "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE",
		"LOCKSMITHD_TRIGGER_GROUP":         "LOCKSMITHD_TRIGGER_GROUPS",
		"LOCKSMITHCTL_REBOOT_WINDOW_START": "LOCKSMITHD_REBOOT_WINDOW_START",

		// Misspelt.
		"LOCKSMITHD_GRUOP":    "LOCKSMITHD_GROUP",
		"LOCKSMTHD_GROUP":     "LOCKSMITHD_GROUP",
		"locksmithd_group":    "LOCKSMITHD_GROUP",
		"Reboot_Strategy":     "REBOOT_STRATEGY",
		"REBOOT_STRTEGY":      "REBOOT_STRATEGY",
		"REBOT_STRATEGY":      "REBOOT_STRATEGY",
		"REBOOTSTRATEGY":      "REBOOT_STRATEGY",
		"REBOOT_WINDOW_STRAT": "REBOOT_WINDOW_START",
		"LOCKSMITHD_MAXX":     "LOCKSMITHD_MAX",
		"LOCKSMITHD_DEBG":     "LOCKSMITHD_DEBUG",

		// Not similar to anything: a guess would be nonsense.
		"LOCKSMITHD_ID":                          "",
		"LOCKSMITHD_TZ":                          "",
		"LOCKSMITHD_FOO":                         "",
		"LOCKSMITHD_MIN":                         "",
		"LOCKSMITHD_":                            "",
		"LOCKSMITHD":                             "",
		"LOCKSMITHD_COLOUR":                      "",
		"LOCKSMITHD_FILE":                        "",
		"LOCKSMITHD_LENGTH":                      "",
		"GROUP":                                  "",
		"GROUPS":                                 "",
		"MAX":                                    "",
		"SERVER":                                 "",
		"":                                       "",
		"_":                                      "",
		strings.Repeat("LOCKSMITHD_GROUP", 1000): "",
	} {
		if got := newVocabulary().intended(name); got != want {
			t.Errorf("%.80s is taken for %q, want %q", name, got, want)
		}
	}
}

// Before Flatcar the file had another path. What is there now is a link, or nobody reads it.
func TestOldUpdateConfThatIsNotReadIsWarnedAbout(t *testing.T) {
	const old = "etc/coreos/update.conf"
	const conf = "GROUP=stable\nREBOOT_STRATEGY=off\nLOCKSMITHD_GROUP=lb\n"
	root := newRoot(t, map[string]string{old: conf})
	warning := filepath.Join(root, old) + ":2: this file is not read, and does not set REBOOT_STRATEGY, LOCKSMITHD_GROUP: write it into CONF"
	if got := warningsOf(t, root, Options{Program: Daemon}); got != warning {
		t.Errorf("got\n%s\nwant\n%s", got, warning)
	}
	writeFile(t, filepath.Join(root, etc), "REBOOT_STRATEGY=reboot\n")
	if got := warningsOf(t, root, Options{Program: Daemon}); got != warning {
		t.Errorf("got\n%s\nwant\n%s", got, warning)
	}

	writeFile(t, filepath.Join(root, etc), "LOCKSMITHD_GROUP=lb\nREBOOT_STRATEGY=off\n") // a copy
	if got := warningsOf(t, root, Options{Program: Daemon}); got != "" {
		t.Errorf("a copy: %s", got)
	}
	writeFile(t, filepath.Join(root, old), "GROUP=stable\n")
	writeFile(t, filepath.Join(root, etc), "")
	if got := warningsOf(t, root, Options{Program: Daemon}); got != "" {
		t.Errorf("without settings: %s", got)
	}
	must.Do(t, os.RemoveAll(filepath.Join(root, "etc/coreos")))
	must.Do(t, os.Symlink("flatcar", filepath.Join(root, "etc/coreos")))
	writeFile(t, filepath.Join(root, etc), conf)
	if got := warningsOf(t, root, Options{Program: Daemon}); got != "" {
		t.Errorf("a link: %s", got)
	}
}

func TestVariablesOfTheEnvironmentThatNobodyReadsAreWarnedAbout(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "LOCKSMITHD_GRUOP=lb\n"})
	const file = "ETC:1: LOCKSMITHD_GRUOP is not a setting of this file, did you mean LOCKSMITHD_GROUP?\n"
	for _, test := range []struct {
		program Program
		environ string
		want    string
	}{
		{Daemon, "LOCKSMITHD_ENDPOINTS", "LOCKSMITHD_ENDPOINTS (environment): locksmithd does not read it, did you mean LOCKSMITHD_ENDPOINT?"},
		{Daemon, "LOCKSMITHCTL_GROUP", "LOCKSMITHCTL_GROUP (environment): locksmithd does not read it, did you mean LOCKSMITHD_GROUP?"},
		{Daemon, "LOCKSMITH_STRATEGY", "LOCKSMITH_STRATEGY (environment): locksmithd does not read it, did you mean REBOOT_STRATEGY?"},
		{Daemon, "LOCKSMITHD_FOO", "LOCKSMITHD_FOO (environment): locksmithd does not read it"},
		{Daemon, "LOCKSMITHD_GRUOP", ""}, // systemd has it from the file
		{Daemon, "LOCKSMITHD_GROUP", ""},
		{Daemon, "LOCKSMITH_URI", ""}, // another program's
		{CLI, "LOCKSMITHD_GROUP", "LOCKSMITHD_GROUP (environment): locksmithctl does not read it, did you mean LOCKSMITHCTL_GROUP?"},
		{CLI, "LOCKSMITHCTL_GRUOP", "LOCKSMITHCTL_GRUOP (environment): locksmithctl does not read it, did you mean LOCKSMITHCTL_GROUP?"},
		{CLI, "LOCKSMITHCTL_GROUP", ""},
		{CLI, "LOCKSMITH_URI", ""},
	} {
		got := warningsOf(t, root, Options{Program: test.program, Environ: []string{"PATH=/bin", "HOME=/", test.environ + "=x"}})
		if want := strings.TrimSuffix(file+test.want, "\n"); got != want {
			t.Errorf("%s, %s: the warnings are\n%s\nwant\n%s", test.program, test.environ, got, want)
		}
	}
	for _, program := range []Program{Daemon, CLI} {
		if got := warningsOf(t, t.TempDir(), Options{Program: program, Environ: []string{"LOCKSMITHD_GROUP=a", "LOCKSMITHCTL_GROUP=b"}}); got != "" {
			t.Errorf("%s: an environment for both programs: %s", program, got)
		}
	}
	got := warningsOf(t, t.TempDir(), Options{Program: Daemon, Environ: []string{"LOCKSMITHD_GROUP=lb LOCKSMITHD_MAX=2"}})
	if want := "LOCKSMITHD_GROUP (environment): LOCKSMITHD_MAX has become part of its value: write one assignment in each pair of quotes"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// Whatever is in a file, warnings are few and short, and only the lines that are settings count.
func FuzzLookalikes(f *testing.F) {
	f.Add([]byte("GROUP=stableREBOOT_STRATEGY=off\nlocksmith:\n  group: lb\nREBOOT-STRATEGY=off\nLOCKSMITHD_GRUOP=\\n\n"))
	f.Add([]byte("# xREBOOT_STRATEGY=off\n\"LOCKSMITHD_GROUP\":\n: :\n-:\n'\n=\n"))
	for _, test := range environmentFileTests {
		f.Add([]byte(test.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := parseEnvironmentFile(data)
		if err != nil {
			return
		}
		parsed.path = etc
		all := &fragments{program: Daemon, files: confFiles{parsed}}
		warnings := lookalikes("/nowhere", all, nil)
		if len(warnings) > maxWarnings+1 {
			t.Fatalf("%d warnings", len(warnings))
		}
		for _, w := range warnings {
			if len(w) > 1000 || strings.ContainsAny(w, "\n\r") {
				t.Fatalf("the warning is %q", w)
			}
		}

		settings := environmentFile{path: etc}
		v := newVocabulary()
		for _, a := range parsed.assignments {
			if v.has(a.name) {
				settings.assignments = append(settings.assignments, a)
			}
		}
		alone := &fragments{program: Daemon, files: confFiles{settings}}
		for _, d := range Definitions() {
			if got, want := all.find(d), alone.find(d); got.value != want.value || got.origin != want.origin {
				t.Fatalf("%s is %q from %v, want %q from %v", d.Name, got.value, got.origin, want.value, want.origin)
			}
		}
	})
}

func TestWarningsAboutWhatLooksLikeASetting(t *testing.T) {
	root := newRoot(t, map[string]string{
		etc: "GROUP=stable\nSERVER=disabled\nMACHINE_ALIAS=x\nLOCKSMITHD_GRUOP=lb\nexport REBOOT_STRATEGY=off\nLOCKSMITHD_GROUP lb\nCOREOS_PUBLIC_IPV4=1\nexport X=1\n",
		usr: "reboot_strategy=off\nLOCKSMITHCTL_GROUP=a\nLOCKSMITHD_COLOUR=blue\nREBOOT_STRTEGY=off\nLOCKSMITH_ENDPOINT=x\n",
	})
	c := mustLoad(t, Options{Program: Daemon, Root: root})
	want := []string{
		"ETC:4: LOCKSMITHD_GRUOP is not a setting of this file, did you mean LOCKSMITHD_GROUP?",
		"ETC:5: this line is ignored and does not set REBOOT_STRATEGY: write REBOOT_STRATEGY=VALUE, with nothing before it",
		"ETC:6: this line is ignored and does not set LOCKSMITHD_GROUP: write LOCKSMITHD_GROUP=VALUE, with nothing before it",
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
