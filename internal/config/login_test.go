package config

import (
	"strings"
	"testing"
	"time"
)

func TestWhatUsersCanPostpone(t *testing.T) {
	for conf, want := range map[string][3]time.Duration{
		"":                             {5 * time.Minute, time.Hour, 0},
		"LOCKSMITHD_LOGIN_DELAY=0":     {0, time.Hour, 0},
		"LOCKSMITHD_LOGIN_DELAY=90s":   {90 * time.Second, time.Hour, 0},
		"LOCKSMITHD_LOGIN_RETRY=1m":    {5 * time.Minute, time.Minute, 0},
		"LOCKSMITHD_MAX_POSTPONE=168h": {5 * time.Minute, time.Hour, 168 * time.Hour},
		"LOCKSMITHD_MAX_POSTPONE=":     {5 * time.Minute, time.Hour, 0},
	} {
		for _, program := range []Program{Daemon, CLI} {
			c := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf})})
			if got := [3]time.Duration{c.LoginDelay, c.LoginRetry, c.MaxPostpone}; got != want {
				t.Errorf("%s, %q: %v, want %v", program, conf, got, want)
			}
		}
	}
}

func TestWrongDurationsAreRefused(t *testing.T) {
	for conf, right := range map[string]string{
		"LOCKSMITHD_LOGIN_DELAY=5":        "write 0 or more, such as 5m",
		"LOCKSMITHD_LOGIN_DELAY=-1s":      "write 0 or more, such as 5m",
		"LOCKSMITHD_LOGIN_DELAY=8761h":    "8760h at most",
		"LOCKSMITHD_LOGIN_RETRY=0":        "write 1m or more, such as 1h",
		"LOCKSMITHD_LOGIN_RETRY=59s":      "write 1m or more, such as 1h",
		"LOCKSMITHD_MAX_POSTPONE=-24h":    "write more than 0, such as 24h, or 0",
		"LOCKSMITHD_MAX_POSTPONE=a-while": "write more than 0, such as 24h, or 0",
	} {
		root := newRoot(t, map[string]string{etc: conf})
		name, _, _ := strings.Cut(conf, "=")
		_, err := Load(Options{Program: Daemon, Root: root})
		if err == nil || !strings.Contains(err.Error(), right) || !strings.HasPrefix(err.Error(), name+"=") || !strings.Contains(err.Error(), "update.conf:1") {
			t.Errorf("%s: %v, want one that says %q", conf, err, right)
		}
		if _, err := Load(Options{Program: CLI, Root: root, Check: PartEtcd}); err != nil {
			t.Errorf("%s: a command that does not use it: %v", conf, err)
		}
	}
}

func TestWarningsOfTimesThatAreTooShort(t *testing.T) {
	const lock = "REBOOT_STRATEGY=etcd-lock\n"
	const window = "REBOOT_WINDOW_START=04:00\nREBOOT_WINDOW_LENGTH="
	for conf, warning := range map[string]string{
		lock + "LOCKSMITHD_LOCK_TTL=29m59s":                        "LOCKSMITHD_LOCK_TTL=\"29m59s\"",
		lock + "LOCKSMITHD_LOCK_TTL=30m":                           "",
		lock + "LOCKSMITHD_LOCK_TTL=1h\nLOCKSMITHD_LOGIN_DELAY=1h": "write 1h20m0s or more",
		lock:                                     "",
		"LOCKSMITHD_LOCK_TTL=1m":                 "", // it is not used
		window + "5m59s":                         "REBOOT_WINDOW_LENGTH=\"5m59s\"",
		window + "6m":                            "",
		window + "5m\nLOCKSMITHD_LOGIN_DELAY=4m": "",
		window + "59s\nLOCKSMITHD_LOGIN_DELAY=0": "",
		window + "10m30s\nLOCKSMITHD_LOGIN_DELAY=10m": "shorter LOCKSMITHD_LOGIN_DELAY",
	} {
		c := mustLoad(t, Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: conf})})
		if got := strings.Join(c.Warnings, "\n"); (warning == "") != (got == "") || !strings.Contains(got, warning) {
			t.Errorf("%s: the warnings are %q, want %q", conf, got, warning)
		}
	}
}
