package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/grant"
	"github.com/locksmithd/locksmith/internal/htpasswd"
	"github.com/locksmithd/locksmith/internal/readfile"
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
		groups: readfile.Follow[map[string]grant.Group](dir),
	}
	s.reload()
	before := s.groups.Content()
	write("web.conf", window)
	write("web.users", line)
	write("db.conf", window+"LOCKSMITHD_MAX=2\n")
	s.reload()
	if now := s.groups.Content(); now["web"] != before["web"] || now["db"] == before["db"] || now["db"].Max != 2 || before["web"].Users == nil {
		t.Errorf("the groups are %+v, and were %+v", now, before)
	}
}

// What goes wrong while the files are read may be over a moment later, and then the files are as they were.
func TestGroupsThatCannotBeUsedAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		dir := filepath.Join(root, config.GroupsDir)
		must.Do(t, os.MkdirAll(dir, 0o755))
		must.Do(t, os.WriteFile(filepath.Join(dir, "web.conf"), []byte("LOCKSMITHD_LOCK_TTL=5m\n"), 0o600))
		var log strings.Builder
		notes := 0 // that this is short
		var failure error
		reads := 0
		s := &servedGroups{
			dir: dir, root: root, zone: &zone.Zone{}, note: func(string) { notes++ }, passwords: htpasswd.NewChecker(),
			log: slog.New(slog.NewTextHandler(&log, nil)), changed: make(chan struct{}, 1),
			groups:  readfile.Follow[map[string]grant.Group](dir),
			allowed: func(map[string]grant.Group) error { reads++; return failure },
		}
		later := func() int {
			time.Sleep(time.Second)
			return len(s.current())
		}
		failure = errors.New("too many open files")
		s.reload()
		if n := later() + later(); n != 0 || reads != 3 || strings.Count(log.String(), "too many") != 1 {
			t.Errorf("after %d reads the log is %s", reads, log.String())
		}
		failure = errors.New("input/output error")
		if later() != 0 || strings.Count(log.String(), "input/output error") != 1 {
			t.Errorf("the log is %s", log.String())
		}
		failure = nil
		if n := later() + later(); n != 2 || reads != 5 || notes != 1 {
			t.Errorf("there are %d groups, the files were read %d times, and there are %d notes", s.number(), reads, notes)
		}
		if s.reload(); reads != 6 || notes != 2 {
			t.Errorf("on request there are %d reads and %d notes", reads, notes)
		}
	})
}

// The process has no file descriptor left when a file changes, so that its warnings come with the next try.
func TestWarningsOfGroupsThatCouldNotBeReadForAMoment(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, config.GroupsDir)
	must.Do(t, os.MkdirAll(dir, 0o755))
	const content = "LOCKSMITHD_LOCK_TTL=5m\n" // which is short
	must.Do(t, os.WriteFile(filepath.Join(dir, "web.conf"), []byte(content), 0o600))
	synctest.Test(t, func(t *testing.T) {
		var notes []string
		s := &servedGroups{
			dir: dir, root: root, zone: &zone.Zone{}, passwords: htpasswd.NewChecker(),
			note: func(text string) { notes = append(notes, text) },
			log:  slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1),
			groups:  readfile.Follow[map[string]grant.Group](dir),
			allowed: func(map[string]grant.Group) error { return nil },
		}
		var limit syscall.Rlimit
		must.Do(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		must.Do(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: limit.Max}))
		s.reload()
		must.Do(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		if s.number()+len(notes) > 0 {
			t.Fatalf("there are %d groups, and the notes are %q", s.number(), notes)
		}
		for range 3 {
			time.Sleep(time.Second)
			if n := len(s.current()); n != 1 || len(notes) != 1 {
				t.Errorf("there are %d groups, and the notes are %q", n, notes)
			}
		}
	})
}
