package config

import (
	"strings"
	"testing"
	"time"
)

func TestSentinels(t *testing.T) {
	for conf, want := range map[string]Config{
		"": {SentinelPeriod: time.Hour},
		"LOCKSMITHD_REBOOT_SENTINEL=/run//needed":                                                  {Sentinel: "/run/needed", SentinelPeriod: time.Hour},
		"LOCKSMITHD_REBOOT_SENTINEL_COMMAND=needs-restarting":                                      {SentinelCommand: "needs-restarting", SentinelPeriod: time.Hour},
		"LOCKSMITHD_REBOOT_SENTINEL_COMMAND=\" sysupdate \"\nLOCKSMITHD_REBOOT_SENTINEL_PERIOD=1m": {SentinelCommand: "sysupdate", SentinelPeriod: time.Minute},
		"LOCKSMITHD_REBOOT_SENTINEL_COMMAND=\"! needs-restarting -r\"":                             {SentinelCommand: "! needs-restarting -r", SentinelPeriod: time.Hour},
		"LOCKSMITHD_REBOOT_SENTINEL_COMMAND=\nLOCKSMITHD_REBOOT_SENTINEL_PERIOD=":                  {SentinelPeriod: time.Hour},
	} {
		for _, program := range []Program{Daemon, CLI} {
			c := mustLoad(t, Options{Program: program, Root: newRoot(t, map[string]string{etc: conf}), Check: PartSentinel})
			if c.Sentinel != want.Sentinel || c.SentinelCommand != want.SentinelCommand || c.SentinelPeriod != want.SentinelPeriod || len(c.Warnings) > 0 {
				t.Errorf("%s, %q: got %+v", program, conf, c)
			}
		}
	}
}

func TestWrongSentinelsAreRefused(t *testing.T) {
	for conf, want := range map[string]string{
		"LOCKSMITHD_REBOOT_SENTINEL=reboot-required":   "write one that begins with a slash",
		"LOCKSMITHD_REBOOT_SENTINEL=/run/":             "it is not the path of a file",
		"LOCKSMITHD_REBOOT_SENTINEL_PERIOD=59s":        "write 1m or more, such as 1h",
		"LOCKSMITHD_REBOOT_SENTINEL_PERIOD=0":          "write 1m or more, such as 1h",
		"LOCKSMITHD_REBOOT_SENTINEL_PERIOD=3600":       "write 1m or more, such as 1h",
		"LOCKSMITHD_REBOOT_SENTINEL_PERIOD=8761h":      "8760h at most",
		"LOCKSMITHD_REBOOT_SENTINEL_PERIOD=-9999999h":  "write 1m or more",
		"LOCKSMITHD_REBOOT_SENTINEL_PERIOD=every hour": "write 1m or more",
	} {
		name, _, _ := strings.Cut(conf, "=")
		_, err := Load(Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: conf})})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), name+"=") {
			t.Errorf("%s: %v, want one that says %q", conf, err, want)
		}
	}
}

func TestCommandWithTheInverseExitStatusIsWarnedOf(t *testing.T) {
	for command, warned := range map[string]bool{
		"needs-restarting": false, "needs-restarting -r": true, "dnf needs-restarting -r": true, "/usr/bin/needs-restarting --reboothint": true,
		"! needs-restarting -r": false, "needrestart": false, "test -e /run/reboot": false,
	} {
		root := newRoot(t, map[string]string{etc: "LOCKSMITHD_REBOOT_SENTINEL_COMMAND=\"" + command + "\""})
		c := mustLoad(t, Options{Program: Daemon, Root: root})
		if got := len(c.Warnings) == 1 && strings.Contains(c.Warnings[0], "write needs-restarting alone"); got != warned || !warned && len(c.Warnings) > 0 {
			t.Errorf("%s: the warnings are %q", command, c.Warnings)
		}
	}
}
