package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

func TestHooksAndGates(t *testing.T) {
	type settings struct {
		BeforeRebootTimeout, HealthTimeout, ReleaseDelay, MinUptime, RebootJitter time.Duration
		BootComplete                                                              bool
		HealthFailure                                                             HealthFailure
		MaxAttempts                                                               int
	}
	defaults := settings{10 * time.Minute, 10 * time.Minute, 0, 0, 0, true, HealthPause, 2}
	for conf, change := range map[string]func(*settings){
		"":                                        func(*settings) {},
		"LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=1s":     func(s *settings) { s.BeforeRebootTimeout = time.Second },
		"LOCKSMITHD_HEALTH_TIMEOUT=1h":            func(s *settings) { s.HealthTimeout = time.Hour },
		"LOCKSMITHD_RELEASE_DELAY=5m":             func(s *settings) { s.ReleaseDelay = 5 * time.Minute },
		"LOCKSMITHD_MIN_UPTIME=24h":               func(s *settings) { s.MinUptime = 24 * time.Hour },
		"LOCKSMITHD_REBOOT_JITTER=30m":            func(s *settings) { s.RebootJitter = 30 * time.Minute },
		"LOCKSMITHD_BOOT_COMPLETE=false":          func(s *settings) { s.BootComplete = false },
		"LOCKSMITHD_HEALTH_FAILURE=hold":          func(s *settings) { s.HealthFailure = HealthHold },
		"LOCKSMITHD_HEALTH_FAILURE=release":       func(s *settings) { s.HealthFailure = HealthRelease },
		"LOCKSMITHD_MAX_ATTEMPTS=1":               func(s *settings) { s.MaxAttempts = 1 },
		"LOCKSMITHD_MAX_ATTEMPTS=2147483647":      func(s *settings) { s.MaxAttempts = 2147483647 },
		"LOCKSMITHD_MAX_ATTEMPTS=":                func(*settings) {},
		"REBOOT_STRATEGY=etcd-lock":               func(*settings) {},
		"LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=8760h":  func(s *settings) { s.BeforeRebootTimeout = maxDuration },
		"LOCKSMITHD_HEALTH_FAILURE=\"pause\"":     func(*settings) {},
		"LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=\"\"\n": func(*settings) {},
	} {
		want := defaults
		change(&want)
		for _, program := range []Program{Daemon, CLI} {
			c := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf}), Check: PartHooks | PartGates})
			got := settings{c.BeforeRebootTimeout, c.HealthTimeout, c.ReleaseDelay, c.MinUptime, c.RebootJitter, c.BootComplete, c.HealthFailure, c.MaxAttempts}
			if got != want || len(c.Warnings) > 0 {
				t.Errorf("%s, %q: %+v, want %+v; the warnings are %q", program, conf, got, want, c.Warnings)
			}
		}
	}
}

func TestWrongSettingsOfHooksAndGatesAreRefused(t *testing.T) {
	for conf, right := range map[string]string{
		"LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=0":   "write 1s or more, such as 10m",
		"LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=10":  "write 1s or more, such as 10m",
		"LOCKSMITHD_HEALTH_TIMEOUT=-1m":        "write 1s or more, such as 10m",
		"LOCKSMITHD_HEALTH_TIMEOUT=8761h":      "8760h at most",
		"LOCKSMITHD_RELEASE_DELAY=-1m":         "write 0 or more, such as 5m",
		"LOCKSMITHD_MIN_UPTIME=day":            "write 0 or more, such as 1h",
		"LOCKSMITHD_REBOOT_JITTER=-30m":        "write 0 or more, such as 30m",
		"LOCKSMITHD_BOOT_COMPLETE=no":          "write true or false",
		"LOCKSMITHD_HEALTH_FAILURE=Pause":      "write pause, hold or release",
		"LOCKSMITHD_HEALTH_FAILURE=resume":     "write pause, hold or release",
		"LOCKSMITHD_MAX_ATTEMPTS=0":            "write a whole number from 1 to 2147483647",
		"LOCKSMITHD_MAX_ATTEMPTS=-1":           "write a whole number from 1 to 2147483647",
		"LOCKSMITHD_MAX_ATTEMPTS=2147483648":   "write a whole number from 1 to 2147483647",
		"LOCKSMITHD_MAX_ATTEMPTS=unlimited":    "write a whole number from 1 to 2147483647",
		"LOCKSMITHD_MAX_ATTEMPTS=1.5":          "write a whole number from 1 to 2147483647",
		"LOCKSMITHD_BEFORE_REBOOT_TIMEOUT=\n1": "",
	} {
		root := newRoot(t, map[string]string{etc: conf})
		name, _, _ := strings.Cut(conf, "=")
		_, err := Load(Options{Program: Daemon, Root: root})
		switch {
		case right == "":
			if err != nil {
				t.Errorf("%s: %v", conf, err)
			}
		case err == nil || !strings.Contains(err.Error(), right) || !strings.HasPrefix(err.Error(), name+"=") || !strings.Contains(err.Error(), "update.conf:1"):
			t.Errorf("%s: %v, want one that says %q", conf, err, right)
		}
		if _, err := Load(Options{Program: CLI, Root: root, Check: PartEtcd | PartWindow | PartLogin}); err != nil {
			t.Errorf("%s: a command that does not use it: %v", conf, err)
		}
	}
}

// A time-to-live has to cover everything from taking the slot to giving it back, and a window everything before the
// reboot. Time-outs that nobody has set do not count, since most hosts have no hooks.
func TestWarningsOfTimesThatAreTooShortForHooks(t *testing.T) {
	const ttl = "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_LOCK_TTL="
	const window = "REBOOT_WINDOW_START=04:00\nREBOOT_WINDOW_LENGTH="
	const before, health, release = "\nLOCKSMITHD_BEFORE_REBOOT_TIMEOUT=15m", "\nLOCKSMITHD_HEALTH_TIMEOUT=1h", "\nLOCKSMITHD_RELEASE_DELAY=10m"
	for conf, warning := range map[string]string{
		ttl + "30m":                               "",
		ttl + "39m" + before:                      `LOCKSMITHD_LOCK_TTL="39m"`,
		ttl + "40m" + before:                      "",
		ttl + "80m" + health:                      "including the 5m0s of logged-in users and the 1h0m0s of LOCKSMITHD_HEALTH_TIMEOUT, the host",
		ttl + "34m" + release:                     " and the 10m0s of LOCKSMITHD_RELEASE_DELAY, the host",
		ttl + "35m" + release:                     "",
		ttl + "109m" + before + health + release:  "users, the 15m0s of LOCKSMITHD_BEFORE_REBOOT_TIMEOUT, the 1h0m0s of LOCKSMITHD_HEALTH_TIMEOUT and the 10m0s of LOCKSMITHD_RELEASE_DELAY, the host",
		ttl + "110m" + before + health + release:  "",
		window + "20m" + before:                   "it is too short for the hooks before a reboot, which may take 15m0s, and for logged-in users, who have 5m0s: write 21m0s or more, or a shorter LOCKSMITHD_BEFORE_REBOOT_TIMEOUT",
		window + "21m" + before:                   "",
		window + "21m" + before + health:          "",
		window + "6m":                             "",
		before + health + release:                 "",
		"LOCKSMITHD_BLACKOUT=2026-12-24" + before: "",
	} {
		c := mustLoad(t, Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: conf})})
		if got := strings.Join(c.Warnings, "\n"); (warning == "") != (got == "") || !strings.Contains(got, warning) {
			t.Errorf("%s: the warnings are %q, want %q", conf, got, warning)
		}
	}
}

func TestScriptsThatCannotRunAreWarnedAbout(t *testing.T) {
	const before, after, undo, may = "/etc/locksmith/before-reboot.d/", "/usr/lib/locksmith/after-reboot.d/", "/run/locksmith/reboot-cancelled.d/", "/etc/locksmith/may-reboot.d/"
	script := func(root, path string, mode os.FileMode) {
		t.Helper()
		writeFile(t, filepath.Join(root, path), "#!/bin/sh\n")
		must.Do(t, os.Chmod(filepath.Join(root, path), mode))
	}
	for _, c := range []struct {
		name  string
		setUp func(root string)
		want  []string // a warning each: what it begins with, and what it contains
	}{
		{"all are right", func(root string) { script(root, before+"10-drain", 0o755); script(root, after+"10-etcd", 0o755) }, nil},
		{"not executable", func(root string) { script(root, before+"10-drain", 0o644) },
			[]string{"ROOT" + before + "10-drain: it is not executable: chmod +x |, this host does not reboot"}},
		{"of each phase", func(root string) {
			for _, folder := range []string{before, after, undo, may} {
				must.Do(t, os.MkdirAll(filepath.Join(root, folder, "10-x"), 0o755))
			}
		}, []string{
			"ROOT" + may + "10-x: it is a directory|, this host does not reboot", "ROOT" + before + "10-x: it is a directory|, this host does not reboot",
			"ROOT" + undo + "10-x: it is a directory|is not undone", "ROOT" + after + "10-x: it is a directory|does not count as well",
		}},
		{"masked", func(root string) {
			script(root, after+"10-etcd", 0o644)
			must.Do(t, os.MkdirAll(filepath.Join(root, "/etc/locksmith/after-reboot.d"), 0o755))
			must.Do(t, os.Symlink("/dev/null", filepath.Join(root, "/etc/locksmith/after-reboot.d/10-etcd")))
		}, nil},
		{"many", func(root string) {
			for i := range 8 {
				script(root, fmt.Sprintf("%s1%d", before, i), 0o644)
			}
		}, []string{"ROOT" + before + "10: |", "ROOT" + before + "11: |", "ROOT" + before + "12: |", "ROOT" + before + "13: |", "ROOT" + before + "14: |",
			"3 more scripts of before-reboot cannot run|locksmithctl hooks"}},
		{"a folder that is a file", func(root string) { writeFile(t, filepath.Join(root, "/etc/locksmith/before-reboot.d"), "") },
			[]string{"list scripts: |not a directory"}},
		{"a name to confuse with", func(root string) { script(root, before+"1\x1b[2J\n", 0o644) }, []string{"ROOT" + before + "1|not executable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newRoot(t, nil)
			c.setUp(root)
			for _, program := range []Program{Daemon, CLI} {
				warnings := mustLoad(t, Options{Program: program, Root: root}).Warnings
				if len(warnings) != len(c.want) {
					t.Fatalf("the warnings are %q, want %d", warnings, len(c.want))
				}
				for i, w := range warnings {
					begin, then, _ := strings.Cut(c.want[i], "|")
					if w = strings.ReplaceAll(w, root, "ROOT"); !strings.HasPrefix(w, begin) || !strings.Contains(w, then) || strings.ContainsAny(w, "\n\x1b") {
						t.Errorf("the warning is %q, want %q and then %q", w, begin, then)
					}
				}
				if w := mustLoad(t, Options{Program: program, Root: root, Check: PartEtcd | PartWindow}).Warnings; len(w) > 0 {
					t.Errorf("a command that runs no hooks warns: %q", w)
				}
			}
		})
	}
}

// Where there are scripts, the default of their time-out counts.
func TestTimesAreTooShortForHooks(t *testing.T) {
	const conf = "REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_LOCK_TTL=30m\nREBOOT_WINDOW_START=04:00\nREBOOT_WINDOW_LENGTH=15m\n"
	for hook, want := range map[string]string{
		"locksmith/before-reboot.d/10-x":                                                      "the 10m0s of LOCKSMITHD_BEFORE_REBOOT_TIMEOUT, the host|write 16m0s or more",
		"locksmith/after-reboot.d/10-x":                                                       "the 10m0s of LOCKSMITHD_HEALTH_TIMEOUT, the host|",
		"locksmith/reboot-cancelled.d/10-x":                                                   "|",
		"systemd/system/locksmith-before-reboot.target.requires/db-drain.service":             "the 10m0s of LOCKSMITHD_BEFORE_REBOOT_TIMEOUT, the host|write 16m0s or more",
		"systemd/system/locksmith-after-reboot.target.wants/db-check.service":                 "the 10m0s of LOCKSMITHD_HEALTH_TIMEOUT, the host|",
		"systemd/system/locksmith-before-reboot.target.wants/locksmith-before-reboot.service": "|", // our own
	} {
		root := newRoot(t, map[string]string{etc: conf})
		path := filepath.Join(root, "etc", hook)
		writeFile(t, path, "#!/bin/sh\n")
		must.Do(t, os.Chmod(path, 0o755))
		ttl, window, _ := strings.Cut(want, "|")
		got := strings.Join(mustLoad(t, Options{Program: Daemon, Root: root}).Warnings, "\n")
		if !strings.Contains(got, ttl) || !strings.Contains(got, window) || (got == "") != (want == "|") {
			t.Errorf("%s: the warnings are %q, want %q", hook, got, want)
		}
	}
}
