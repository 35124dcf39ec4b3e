package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/htpasswd"
	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/test/must"
)

// A file that is written again as it was, or another group's, does not disturb requests that wait.
func TestGroupWhoseFilesSayTheSameIsTheSame(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, config.GroupsDir)
	must.Do(t, os.MkdirAll(dir, 0o755))
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(path+"~", []byte(content), 0o600))
		must.Do(t, os.Rename(path+"~", path))
	}
	const window = "LOCKSMITHD_REBOOT_WINDOW_START='Sat 02:00'\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1h\n"
	line := userLine(t, "web", "sesame")
	write("web.conf", window)
	write("web.users", line)
	write("db.conf", window)
	s := &servedGroups{
		dir: dir, root: root, zone: &zone.Zone{}, note: func(string) {}, passwords: htpasswd.NewChecker(),
		log: slog.New(slog.DiscardHandler), allowed: func(map[string]grant.Group) error { return nil }, changed: make(chan struct{}, 1),
	}
	s.reload()
	before := s.groups
	write("web.conf", window)
	write("web.users", line)
	write("db.conf", window+"LOCKSMITHD_MAX=2\n")
	s.reload()
	if now := s.groups; now["web"] != before["web"] || now["db"] == before["db"] || now["db"].Max != 2 || before["web"].Users == nil {
		t.Errorf("the groups are %+v, and were %+v", now, before)
	}
}
