package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/lock/etcd"
)

func TestTriggerGroups(t *testing.T) {
	for value, want := range map[string][]string{
		"":                        {"wheel", "sudo"},
		"core":                    {"core"},
		"a b":                     {"a", "b"},
		"a,b":                     {"a", "b"},
		" a , b_c-d.e ,, Domain$": {"a", "b_c-d.e", "Domain$"},
	} {
		root := newRoot(t, map[string]string{etc: "LOCKSMITHD_TRIGGER_GROUPS=\"" + strings.ReplaceAll(value, "$", `\$`) + "\"\n"})
		c := mustLoad(t, Options{Program: Daemon, Root: root})
		if !slices.Equal(c.TriggerGroups, want) {
			t.Errorf("%q gives %q, want %q", value, c.TriggerGroups, want)
		}
	}
}

func TestEveryDefinitionSaysWhoNeedsItAndHowItIsParsed(t *testing.T) {
	parsedTogether := []string{nameWindowStart, nameWindowLength}
	names := map[string]bool{}
	for _, d := range Definitions() {
		if names[d.Name] || d.Variable == "" || d.Description == "" || d.Part == 0 || (d.parse == nil) != slices.Contains(parsedTogether, d.Name) {
			t.Errorf("the definition of %s is not whole, or not the only one", d.Name)
		}
		names[d.Name] = true
	}
	for o := etcd.OptionEndpoint; o <= etcd.OptionPasswordFile; o++ {
		if !names[o.String()] {
			t.Errorf("option %s of etcd is not a setting", o)
		}
	}
}

// A wrong value is refused at start. The error names the setting, its value and its place, in a line of its own.
func TestWrongSettingsAreRefusedByName(t *testing.T) {
	dir := newRoot(t, map[string]string{"garbage.pem": "garbage"})
	garbage := filepath.Join(dir, "garbage.pem")
	const https = "LOCKSMITHD_ENDPOINT=https://10.0.0.1:2379\n"
	tests := []struct {
		name string
		conf string
		want []string // a line each, what it begins with and what it contains
	}{
		{"strategy", "REBOOT_STRATEGY=best-effort\n", []string{`REBOOT_STRATEGY="best-effort" (CONF:1): |etcd-lock, fleet-lock, reboot or off`}},
		{"strategy in capitals", "REBOOT_STRATEGY=Etcd-Lock\n", []string{`REBOOT_STRATEGY="Etcd-Lock" (CONF:1): |etcd-lock, fleet-lock, reboot or off`}},
		{"strategy with a space", "REBOOT_STRATEGY=\" off\"\n", []string{`REBOOT_STRATEGY=" off" (CONF:1): |etcd-lock, fleet-lock, reboot or off`}},
		{"strategy that is not text", "REBOOT_STRATEGY=off\x01\n", []string{`REBOOT_STRATEGY="off\x01" (CONF:1): |etcd-lock, fleet-lock, reboot or off`}},
		{"strategy that is long", "REBOOT_STRATEGY=" + strings.Repeat("x", 5000) + "\n", []string{`REBOOT_STRATEGY="` + strings.Repeat("x", 100) + `..." (CONF:1): |etcd-lock, fleet-lock, reboot or off`}},
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
		{"CA file without a certificate", "LOCKSMITHD_ETCD_CAFILE=" + garbage + "\n" + https, []string{`LOCKSMITHD_ETCD_CAFILE="` + garbage + `" (CONF:1): |certificate`}},
		{"certificate file without one", "LOCKSMITHD_ETCD_CERTFILE=" + garbage + "\nLOCKSMITHD_ETCD_KEYFILE=" + garbage + "\n" + https, []string{`LOCKSMITHD_ETCD_CERTFILE="` + garbage + `" (CONF:1): |` + garbage}},
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
		{"several for etcd", "LOCKSMITHD_ENDPOINT=https://a,b\nLOCKSMITHD_ETCD_CAFILE=/missing\nLOCKSMITHD_ETCD_CERTFILE=/c\nLOCKSMITHD_ETCD_USERNAME=u\n", []string{
			`LOCKSMITHD_ENDPOINT="https://a,b" (CONF:1): |"b" has no scheme`, `LOCKSMITHD_ETCD_CERTFILE="/c" (CONF:3): |without LOCKSMITHD_ETCD_KEYFILE`,
			`LOCKSMITHD_ETCD_USERNAME="u" (CONF:4): |without LOCKSMITHD_ETCD_PASSWORD`, `LOCKSMITHD_ETCD_CAFILE="/missing" (CONF:2): |no such file`,
		}},
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

// What package etcd says about a failed connection has the settings' names as they were given.
func TestEtcdOptionsAreCalledAsTheyWereGiven(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "LOCKSMITHD_ENDPOINT=https://a:1\nLOCKSMITHD_ETCD_USERNAME=\n"})
	c := mustLoad(t, Options{Program: CLI, Root: root, Flags: []Flag{{"etcd-username", "u"}}, Environ: []string{"LOCKSMITHCTL_ETCD_PASSWORD=p"}})
	for option, want := range map[etcd.Option]string{
		etcd.OptionEndpoint: "LOCKSMITHD_ENDPOINT in " + filepath.Join(root, etc),
		etcd.OptionUsername: "-etcd-username",
		etcd.OptionPassword: "environment LOCKSMITHCTL_ETCD_PASSWORD",
		etcd.OptionCAFile:   "LOCKSMITHD_ETCD_CAFILE in /etc/locksmith/locksmith.conf",
	} {
		if got := c.Etcd.Names[option]; got != want {
			t.Errorf("option %s is called %q, want %q", option, got, want)
		}
	}
	if c.Etcd.DefaultEndpoint {
		t.Error("the endpoint counts as the default")
	}
}

// What a command does not use cannot stop it: a slot can be unlocked although the window is wrong, and a daemon
// that never uses etcd starts although a file for it is missing.
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
