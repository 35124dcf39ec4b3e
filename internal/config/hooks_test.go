package config

import (
	"strings"
	"testing"
	"time"
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
		ttl + "80m" + health:                      "the 5m0s of logged-in users, the 1h0m0s of LOCKSMITHD_HEALTH_TIMEOUT included",
		ttl + "34m" + release:                     "the 10m0s of LOCKSMITHD_RELEASE_DELAY included",
		ttl + "35m" + release:                     "",
		ttl + "109m" + before + health + release:  "write 1h50m0s or more",
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
