package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
				} else if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			write(etcPath, test.etc)
			write(usrPath, test.usr)
			l := NewLoader(Options{Program: Daemon, Root: root, Environ: []string{test.environ}})
			mustLoad(t, l.Load)

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

			// The way out, and back.
			for _, conf := range []string{"REBOOT_STRATEGY=reboot\n", test.etc} {
				write(etcPath, conf)
				write(usrPath, conf)
				mustLoad(t, l.Load)
			}
		})
	}
}

// At the start nothing is in force: a missing file is an empty one.
func TestStartWithoutFilesIsAccepted(t *testing.T) {
	if c := mustLoad(t, NewLoader(Options{Program: Daemon, Root: t.TempDir()}).Load); c.Strategy != StrategyReboot {
		t.Errorf("the strategy is %q", c.Strategy)
	}
}

// A file may be read while it is being written: no beginning of it loses the lock.
func TestNoBeginningOfAFileLosesTheLock(t *testing.T) {
	const conf = "# update_engine's\nGROUP=stable\nREBOOT_STRATEGY=\"etcd-lock\"\nLOCKSMITHD_GROUP=lb\nLOCKSMITHD_ENDPOINT=http://10.0.0.1:2379\n"
	root := newRoot(t, map[string]string{etc: conf})
	l := NewLoader(Options{Program: Daemon, Root: root})
	mustLoad(t, l.Load)
	for n := range conf {
		writeFile(t, filepath.Join(root, etc), conf[:n])
		if c, err := l.Load(); err == nil && c.Strategy != StrategyEtcdLock {
			t.Errorf("%q is accepted as strategy %s", conf[:n], c.Strategy)
		}
	}
}
