package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
)

func TestNotificationsAreChosen(t *testing.T) {
	for _, test := range []struct {
		name, conf string
		url        notify.URL
		events     []notify.Type
		wrong      string // what the error is, with CONF for the file; "" for none
	}{
		{name: "nothing is set", events: notify.Types()},
		{name: "a web hook", conf: "LOCKSMITHD_NOTIFY_URL=https://hooks.example/services/KEY\n", url: "https://hooks.example/services/KEY", events: notify.Types()},
		{name: "events", conf: "LOCKSMITHD_NOTIFY_EVENTS=\"unwell, rollout-stopped unwell\"\n", events: []notify.Type{notify.Unwell, notify.RolloutStopped}},
		{name: "no events", conf: "LOCKSMITHD_NOTIFY_EVENTS=\n", events: notify.Types()},
		{name: "an unknown event", conf: "LOCKSMITHD_NOTIFY_EVENTS=unwell,reboot\n", wrong: `LOCKSMITHD_NOTIFY_EVENTS="unwell,reboot" (CONF:1): "reboot" is not an event: ` +
			"write some of reboot-begins, back-and-well, hook-failed, unwell, rollout-stopped, resumed, slot-expired and attempts-used-up, separated by commas or spaces, or leave it empty for all"},
		{name: "another protocol", conf: "LOCKSMITHD_NOTIFY_URL=slack://KEY/services\n", wrong: "LOCKSMITHD_NOTIFY_URL=(hidden) (CONF:1): it is not the URL of a web hook: " +
			"write http:// or https://, the host, and what follows it, such as https://hooks.example/services/KEY"},
		{name: "a fragment", conf: "LOCKSMITHD_NOTIFY_URL=https://hooks.example/KEY#here\n", wrong: `LOCKSMITHD_NOTIFY_URL="https://hooks.example/(hidden)" (CONF:1): ` +
			"it has a fragment, which is never sent: leave out what begins with #"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newRoot(t, map[string]string{etc: test.conf})
			c, err := Load(Options{Program: Daemon, Root: root})
			if test.wrong != "" {
				if got := strings.ReplaceAll(errorText(err), filepath.Join(root, etc), "CONF"); got != test.wrong {
					t.Errorf("the error is\n%s\nwant\n%s", got, test.wrong)
				}
				return
			}
			must.Do(t, err)
			if c.Notify.URL != test.url || !slices.Equal(c.Notify.Events, test.events) {
				t.Errorf("got %q and %v, want %q and %v", string(c.Notify.URL), c.Notify.Events, string(test.url), test.events)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDoubtfulNotificationsAreWarnedAbout(t *testing.T) {
	root := newRoot(t, map[string]string{etc: "LOCKSMITHD_NOTIFY_URL=http://hooks.example/KEY\n"})
	must.Do(t, os.Chmod(filepath.Join(root, etc), 0o644))
	folder := filepath.Join(root, "etc/locksmith/notify.d")
	must.Do(t, os.MkdirAll(folder, 0o755))
	must.Do(t, os.WriteFile(filepath.Join(folder, "10-mail"), []byte("#!/bin/sh\n"), 0o644))
	c := mustLoad(t, Options{Program: Daemon, Root: root})
	want := `LOCKSMITHD_NOTIFY_URL="http://hooks.example/(hidden)" (CONF:1): everybody on the way to the server can read it, and all that is sent: write https there
LOCKSMITHD_NOTIFY_URL="http://hooks.example/(hidden)" (CONF:1): users other than its owner may read CONF (mode 0644): run chmod 600 CONF
FOLDER/10-mail: it is not executable: chmod +x FOLDER/10-mail: until that is fixed, it gets no notifications`
	got := strings.NewReplacer(folder, "FOLDER", filepath.Join(root, etc), "CONF").Replace(strings.Join(c.Warnings, "\n"))
	if got != want {
		t.Errorf("the warnings are\n%s\nwant\n%s", got, want)
	}
}

// A web hook in the unit, which every user can read there, is not taken from it, like a password.
func TestWebHookInTheUnitIsTheDaemonsAlone(t *testing.T) {
	const url = "https://hooks.example/services/KEY"
	service := &systemd.Service{
		Environment: []string{"LOCKSMITHD_NOTIFY_URL=" + url}, Origins: map[string]string{"LOCKSMITHD_NOTIFY_URL": "drop-in 10-hook.conf"},
	}
	c := mustLoad(t, Options{Program: CLI, Root: newRoot(t, nil), Service: service})
	if c.Notify.URL != "" || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "LOCKSMITHD_NOTIFY_URL: locksmithd has it from ") || strings.Contains(c.Warnings[0], "KEY") {
		t.Errorf("got %q, and the warnings %q", string(c.Notify.URL), c.Warnings)
	}
}
