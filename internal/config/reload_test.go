package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestReloadThatWouldLoseSettingsByAccidentIsRefused(t *testing.T) {
	const missing = "(missing)"
	const queueing = "GROUP=stable\nREBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_GROUP=lb\n"
	const shut = "REBOOT_STRATEGY=reboot\nREBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\n"
	tests := []struct {
		name         string
		etc, usr     string
		environ      string
		toEtc, toUsr string
		want         string // what the only error begins with, "" for none
	}{
		{name: "file gone", etc: queueing, toEtc: missing, want: "ETC is missing, and LOCKSMITHD_GROUP, REBOOT_STRATEGY came from it: "},
		{name: "file truncated", etc: queueing, toEtc: "", want: "ETC has no settings any more, and LOCKSMITHD_GROUP, REBOOT_STRATEGY came from it: "},
		{name: "comments only", etc: queueing, toEtc: "# " + queueing[:12], want: "ETC has no settings any more, and "},
		{name: "lines that set nothing", etc: queueing, toEtc: "locksmith:\n  reboot_strategy: etcd-lock\n", want: "ETC has no settings any more, and "},
		{name: "cut off before the strategy", etc: queueing, toEtc: "GROUP=stable\n", want: "REBOOT_STRATEGY is not set any more, and was etcd-lock: "},
		{name: "strategy empty", etc: queueing, toEtc: "GROUP=stable\nREBOOT_STRATEGY=\n", want: "REBOOT_STRATEGY is empty (ETC:2), and was etcd-lock: "},
		{name: "strategy misspelt", etc: queueing, toEtc: "REBOOT-STRATEGY=etcd-lock\nLOCKSMITHD_GROUP=lb\n", want: "REBOOT_STRATEGY is not set any more, and was etcd-lock: "},
		{name: "a window in a file that is gone", etc: shut, toEtc: missing, want: "ETC is missing, and REBOOT_WINDOW_LENGTH, REBOOT_WINDOW_START came from it: "},
		{name: "the weaker file gone", etc: "LOCKSMITHD_GROUP=lb\n", usr: "REBOOT_STRATEGY=etcd-lock\n", toEtc: "LOCKSMITHD_GROUP=lb\n", toUsr: missing, want: "USR is missing, and REBOOT_STRATEGY came from it: "},
		{name: "a weaker file would say something else", etc: queueing, usr: "REBOOT_STRATEGY=reboot\n", toEtc: missing, toUsr: "REBOOT_STRATEGY=reboot\n", want: "ETC is missing, and LOCKSMITHD_GROUP, REBOOT_STRATEGY came from it: "},

		{name: "moved to the other file", etc: queueing, toEtc: missing, toUsr: queueing},
		{name: "no lock is meant", etc: queueing, toEtc: "REBOOT_STRATEGY=reboot\n"},
		{name: "off is meant", etc: queueing, toEtc: "REBOOT_STRATEGY=off\n"},
		{name: "the stronger file says it instead", etc: "LOCKSMITHD_GROUP=lb\n", usr: "REBOOT_STRATEGY=etcd-lock\n", toEtc: "REBOOT_STRATEGY=reboot\n", toUsr: missing},
		{name: "a single setting is meant", etc: queueing + "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\n", toEtc: "REBOOT_STRATEGY=etcd-lock\n"},
		{name: "nothing of ours was in it", etc: "GROUP=stable\n", toEtc: missing},
		{name: "nothing of it was in force", etc: queueing, usr: "LOCKSMITHD_GROUP=x\n", toEtc: queueing, toUsr: missing},
		{name: "a drop-in has the strategy", etc: "GROUP=stable\n", environ: "REBOOT_STRATEGY=etcd-lock", toEtc: missing},
		{name: "the default was in force", etc: "REBOOT_STRATEGY=reboot\n", toEtc: missing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			etcPath, usrPath := filepath.Join(root, etc), filepath.Join(root, usr)
			write := func(path, content string) {
				if content != missing {
					writeFile(t, path, content)
				} else {
					must.Do(t, os.RemoveAll(path))
				}
			}
			write(etcPath, test.etc)
			write(usrPath, test.usr)
			l := NewLoader(Options{Program: Daemon, Root: root, Environ: []string{test.environ}})
			mustReload(t, l)

			write(etcPath, test.toEtc)
			write(usrPath, test.toUsr)
			want := strings.NewReplacer("ETC", etcPath, "USR", usrPath).Replace(test.want)
			for range 2 { // a refused one is not taken for what is in force
				_, err := l.Load()
				switch {
				case want == "" && err != nil:
					t.Fatal(err)
				case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "REBOOT_STRATEGY=reboot") || strings.Contains(err.Error(), "\n")):
					t.Fatalf("error %v, want one line that begins with %q and says what to write", err, want)
				}
			}

			// A reboot without a lock can be chosen, and the old configuration comes back.
			for _, conf := range []string{"REBOOT_STRATEGY=reboot\n", test.etc} {
				write(etcPath, conf)
				write(usrPath, conf)
				mustReload(t, l)
			}
		})
	}
}

// At the start nothing is in force: a missing file is an empty one.
func TestStartWithoutFilesIsAccepted(t *testing.T) {
	if c := mustLoad(t, Options{Program: Daemon, Root: t.TempDir()}); c.Strategy != StrategyReboot {
		t.Errorf("the strategy is %q", c.Strategy)
	}
}

// A file may be read while it is being written. No part that is there by then loses the lock.
func TestNoBeginningOfAFileLosesTheLock(t *testing.T) {
	const conf = "# update_engine's\nGROUP=stable\nREBOOT_STRATEGY=\"etcd-lock\"\nLOCKSMITHD_GROUP=lb\nLOCKSMITHD_ENDPOINT=http://10.0.0.1:2379\n"
	root := newRoot(t, map[string]string{etc: conf})
	l := NewLoader(Options{Program: Daemon, Root: root})
	mustReload(t, l)
	for n := range conf {
		writeFile(t, filepath.Join(root, etc), conf[:n])
		if c, err := l.Load(); err == nil && c.Strategy != StrategyEtcdLock {
			t.Errorf("%q is accepted as strategy %s", conf[:n], c.Strategy)
		}
	}
}

// systemd puts the files into the environment when the daemon starts. When they are read again, the environment
// still has the old values.
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
		c := mustReload(t, l)
		got := state{c.Group, c.Etcd.Endpoints, c.setting(t, "window-timezone").Value, strings.Join(c.TriggerGroups, ","), c.Etcd.Username, c.Debug}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", when, got, want)
		}
		return c
	}
	c := check("at start", state{"old", "http://drop-in:1", "UTC", "usr", "u", false})
	for name, want := range map[string]string{
		nameStrategy:      filepath.Join(root, etc) + ":1",
		"group":           filepath.Join(root, etc) + ":2",
		"trigger-groups":  filepath.Join(root, usr) + ":2",
		"endpoint":        "environment LOCKSMITHD_ENDPOINT",
		"window-timezone": "environment LOCKSMITHD_REBOOT_WINDOW_TIMEZONE",
		"etcd-username":   "flag -etcd-username",
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

// The daemon keeps its connection, and its place in the queue, for as long as the lock is the same.
func TestLockIsTheSameUntilItsSettingsChange(t *testing.T) {
	const conf = "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=http://a:1,http://b:1\nLOCKSMITHD_GROUP=lb\n"
	root := newRoot(t, map[string]string{etc: conf})
	l := NewLoader(Options{Program: Daemon, Root: root})
	before := mustReload(t, l).Lock
	for conf, same := range map[string]bool{
		"# a new line\n" + conf + "LOCKSMITHD_MAX=7\n":                                  true,
		strings.Replace(conf, "http://a:1,http://b:1", "' http://a:1, http://b:1,'", 1): true,
		strings.Replace(conf, "http://a:1,", "", 1):                                     false,
		strings.Replace(conf, "lb", "db", 1):                                            false,
		conf + "LOCKSMITHD_ETCD_USERNAME=u\nLOCKSMITHD_ETCD_PASSWORD=p\n":               false,
		strings.Replace(conf, "LOCKSMITHD_ENDPOINT=http://a:1,http://b:1\n", "", 1):     false,
	} {
		writeFile(t, filepath.Join(root, etc), conf)
		if after := mustReload(t, l).Lock; (after == before) != same {
			t.Errorf("after a reload of %q the lock is %+v, was %+v", conf, after, before)
		}
	}
}
