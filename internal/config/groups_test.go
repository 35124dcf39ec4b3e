package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/test/must"
)

const groupsDir = "/etc/locksmith/groups.d/"

func servedGroups(t *testing.T, root string) (map[string]ServedGroup, []string, error) {
	t.Helper()
	host, err := zone.Named("Europe/Berlin", nil)
	must.Do(t, err)
	return ServedGroups(root, host, nil)
}

func TestServedGroups(t *testing.T) {
	root := newRoot(t, map[string]string{
		// The host's own settings do not count.
		etc:                        "LOCKSMITHD_MAX=7\nLOCKSMITHD_GROUP=web\nLOCKSMITHD_LOCK_TTL=4h\nREBOOT_WINDOW_START=05:00\nREBOOT_WINDOW_LENGTH=1h\n",
		groupsDir + "default.conf": "",
		groupsDir + "db.conf": "# databases\nLOCKSMITHD_REBOOT_WINDOW_START='Sun 04:00'\nREBOOT_WINDOW_LENGTH=2h\n" +
			"LOCKSMITHD_BLACKOUT=2027-04-02\nLOCKSMITHD_MAX=2\nLOCKSMITHD_LOCK_TTL=90s\n",
		groupsDir + "db.users":     "not read here",
		groupsDir + "db.conf~":     "nonsense",
		groupsDir + ".db.conf.swp": "nonsense",
		groupsDir + ".db.conf":     "nonsense",
		groupsDir + "README":       "nonsense",
	})
	groups, warnings, err := servedGroups(t, root)
	must.Do(t, err)
	if names := slices.Sorted(maps.Keys(groups)); !slices.Equal(names, []string{"db", "default"}) {
		t.Fatalf("the groups are %q", names)
	}
	if g := groups["default"]; g != (ServedGroup{Max: 1}) {
		t.Errorf("default is %+v", g)
	}
	g := groups["db"]
	if w := g.Window.String(); w != "Sun 04:00 for 2h, except 2027-04-02" {
		t.Errorf("the window is %s", w)
	}
	if start, _ := g.Window.Next(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)); !start.Equal(time.Date(2027, 1, 3, 3, 0, 0, 0, time.UTC)) {
		t.Errorf("the window opens at %v, and not in the host's zone", start)
	}
	if g.Window = nil; g != (ServedGroup{Lock: "db", Max: 2, LockTTL: 90 * time.Second, Users: filepath.Join(root, groupsDir, "db.users")}) {
		t.Errorf("db is %+v", g)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "LOCKSMITHD_LOCK_TTL") || !strings.Contains(warnings[0], "db.conf:6") {
		t.Errorf("the warnings are %q", warnings)
	}
}

func TestServedGroupsThatAreWrong(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"a wrong value": {map[string]string{"db.conf": "\nLOCKSMITHD_MAX=-1\nLOCKSMITHD_BLACKOUT=christmas\n", "web.conf": "LOCKSMITHD_REBOOT_WINDOW_START=04:00"}, []string{
			`LOCKSMITHD_BLACKOUT="christmas" (DIR/db.conf:3): "christmas" is not a day or a range of days: write days as in 2026-12-23/2027-01-02; 2027-04-02`,
			`LOCKSMITHD_MAX="-1" (DIR/db.conf:2): it is not a number of slots: write a whole number from 0, with which nobody reboots, to 2147483647`,
			`LOCKSMITHD_REBOOT_WINDOW_START="04:00" (DIR/web.conf:1): it is set without LOCKSMITHD_REBOOT_WINDOW_LENGTH: set both or neither`,
		}},
		"not a setting": {map[string]string{"db.conf": "LOCKSMITHD_REBOOT_WINDOW_STRAT=04:00\nLOCKSMITHD_ENDPOINT=http://10.0.0.1\nmax 2\n"}, []string{
			`DIR/db.conf:3: "max 2" is not NAME=VALUE`,
			`DIR/db.conf:1: LOCKSMITHD_REBOOT_WINDOW_STRAT is not a setting of a group: write one of LOCKSMITHD_REBOOT_WINDOW_START, LOCKSMITHD_REBOOT_WINDOW_LENGTH, LOCKSMITHD_REBOOT_WINDOW_TIMEZONE, LOCKSMITHD_BLACKOUT, LOCKSMITHD_MAX, LOCKSMITHD_LOCK_TTL`,
			`DIR/db.conf:2: LOCKSMITHD_ENDPOINT is not a setting of a group: write one of LOCKSMITHD_REBOOT_WINDOW_START, LOCKSMITHD_REBOOT_WINDOW_LENGTH, LOCKSMITHD_REBOOT_WINDOW_TIMEZONE, LOCKSMITHD_BLACKOUT, LOCKSMITHD_MAX, LOCKSMITHD_LOCK_TTL`,
		}},
		"not a group": {map[string]string{"data_base.conf": ""}, []string{
			"DIR/data_base.conf is not named after a group: use the letters a-z and A-Z, digits, dots and hyphens before .conf",
			"DIR has no file for a group: write default.conf for the group without a name, which may be empty, or remove the folder to serve this host's own group",
		}},
		"users alone": {map[string]string{"db.users": ""}, []string{
			"DIR/db.users is for a group that is not served: write db.conf beside it, which may be empty",
		}},
		"a folder": {map[string]string{"db.conf/x": ""}, []string{"read DIR/db.conf: it is a directory, not a file"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for name, content := range c.files {
				files[groupsDir+name] = content
			}
			root := newRoot(t, files)
			groups, _, err := servedGroups(t, root)
			want := strings.ReplaceAll(strings.Join(c.want, "\n"), "DIR", filepath.Join(root, groupsDir))
			if err == nil || err.Error() != want || groups != nil {
				t.Errorf("the groups are %v, and the error is\n%v, want\n%s", groups, err, want)
			}
		})
	}
}

func TestServedGroupsWithoutAFolderAndWithLinksToNowhere(t *testing.T) {
	root := newRoot(t, nil)
	if groups, _, err := servedGroups(t, root); groups != nil || err != nil {
		t.Errorf("without a folder: %v, %v", groups, err)
	}
	must.Do(t, os.MkdirAll(filepath.Join(root, groupsDir), 0o755))
	must.Do(t, os.Symlink("nowhere", filepath.Join(root, groupsDir, "db.conf")))
	if _, _, err := servedGroups(t, root); err == nil || !strings.Contains(err.Error(), "db.conf cannot be read: it is a link") {
		t.Errorf("a link to nowhere: %v", err)
	}
}

func TestServedIsTheGroupOfTheHost(t *testing.T) {
	c := mustLoad(t, Options{Program: CLI, Root: newRoot(t, map[string]string{etc: "LOCKSMITHD_MAX=2\nLOCKSMITHD_LOCK_TTL=4h\n"})})
	groups, err := c.Served()
	if must.Do(t, err); len(groups) != 1 || groups["default"] != (ServedGroup{Max: 2, LockTTL: 4 * time.Hour}) {
		t.Errorf("the groups are %+v", groups)
	}
	c.Group = "web.1"
	if groups, err = c.Served(); err != nil || groups["web.1"].Lock != "web.1" {
		t.Errorf("the groups are %+v, %v", groups, err)
	}
	for _, name := range []string{"default", "two words", ".hidden"} {
		c.Group = name
		if _, err := c.Served(); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("group %q is served", name)
		}
	}
}
