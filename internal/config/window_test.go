package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

func (w *Window) open(t time.Time) bool {
	start, _ := w.Next(t)
	return !start.After(t)
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
				c := mustLoad(t, Options{Program: program, Root: root, Environ: test.environ})
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
	c := mustLoad(t, Options{Program: Daemon, Root: root})
	if at := time.Date(2024, 5, 1, 19, 30, 0, 0, time.UTC); !c.Window.open(at) || c.Window.open(at.Add(9*time.Hour)) {
		t.Error("the window is not that of Tokyo")
	}
}

// The window is in the zone that the host has now, not in the one that it had when the settings were loaded.
func TestWindowFollowsTheTimeZoneOfTheHost(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "REBOOT_WINDOW_START=4:00\nREBOOT_WINDOW_LENGTH=1h\n"})
	host := func(name string) {
		t.Helper()
		path := filepath.Join(root, "etc/localtime")
		must.Do(t, os.Symlink(filepath.Join("/usr/share/zoneinfo", name), path+".new"))
		must.Do(t, os.Rename(path+".new", path))
	}
	berlin := time.Date(2024, 1, 1, 3, 30, 0, 0, time.UTC)
	tokyo := time.Date(2024, 1, 1, 19, 30, 0, 0, time.UTC)

	host("Europe/Berlin")
	for _, program := range []Program{Daemon, CLI} {
		host("Europe/Berlin")
		c := mustLoad(t, Options{Program: program, Root: root})
		if !c.Window.open(berlin) || c.Window.open(tokyo) {
			t.Errorf("%s: the window is not in local time", program)
		}
		host("Asia/Tokyo")
		if c.Window.open(berlin) || !c.Window.open(tokyo) {
			t.Errorf("%s: the window has not followed", program)
		}
		if start, _ := c.Window.Next(berlin); start.Format("15:04 MST") != "04:00 JST" {
			t.Errorf("%s: the window opens next %v", program, start)
		}
	}
}

// TZ in update.conf is the zone of the daemon, which has it from systemd, and so of locksmithctl's window. The TZ of a
// shell is not.
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
		c := mustLoad(t, Options{Program: test.program, Root: root, Environ: []string{test.environ}})
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
