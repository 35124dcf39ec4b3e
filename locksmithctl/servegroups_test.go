package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// What goes wrong while the files are read may be over a moment later, and then the files are as they were.
func TestGroupsThatCannotBeUsedAreReadAgain(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, config.GroupsDir)
	must.Do(t, os.MkdirAll(dir, 0o755))
	must.Do(t, os.WriteFile(filepath.Join(dir, "web.conf"), nil, 0o600))
	var log strings.Builder
	var failure error
	reads := 0
	s := &servedGroups{
		dir: dir, root: root, zone: &zone.Zone{}, note: func(string) {}, passwords: htpasswd.NewChecker(),
		log: slog.New(slog.NewTextHandler(&log, nil)), changed: make(chan struct{}, 1),
		allowed: func(map[string]grant.Group) error { reads++; return failure },
	}
	later := func() int {
		s.checked = time.Time{}
		return len(s.current())
	}
	failure = errors.New("too many open files")
	if n := later() + later(); n != 0 || strings.Count(log.String(), "too many") != 1 {
		t.Errorf("the log is %s", log.String())
	}
	failure = errors.New("input/output error")
	if later() != 0 || strings.Count(log.String(), "input/output error") != 1 {
		t.Errorf("the log is %s", log.String())
	}
	failure = nil
	if n := later() + later(); n != 2 || reads != 4 {
		t.Errorf("there are %d groups, and the files were read %d times", len(s.groups), reads)
	}
	if s.reload(); reads != 5 {
		t.Error("the files are not read on request")
	}
}
