package notify

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
)

// manager stands in for systemd.
type manager struct {
	calls []string
	start func(unit string) error
}

func (m *manager) Start(_ context.Context, unit string) error {
	m.calls = append(m.calls, "start "+unit)
	return m.start(unit)
}

func (m *manager) ResetFailed(_ context.Context, unit string) error {
	m.calls = append(m.calls, "reset "+unit)
	return nil
}

// The unit that systemd starts is run here, as locksmithctl does.
func TestScriptsAreToldTheEventOnceEach(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "etc/locksmith/notify.d")
	must.Do(t, os.MkdirAll(folder, 0o755))
	script := func(name, body string) {
		t.Helper()
		must.Do(t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	}
	out := filepath.Join(root, "out")
	script("10-mail", "cat >> "+out+"; echo >> "+out)
	script("20-broken", "echo the mail server is down; exit 1")
	script("30-chat", "cat > /dev/null; echo chat >> "+out)
	m := &manager{}
	s := Scripts{Root: root, Units: m, Log: slog.New(slog.DiscardHandler)}
	e := Event{Type: Unwell, Host: "web-1", Version: "4081.2.0", Reason: "a \"quoted\" $HOME `id` \\ reason"}.Complete(t0)
	unit, environment := "locksmith-notify@"+e.ID+".service", ""
	m.start = func(string) error {
		files, err := FilesOf(root, e.ID)
		must.Do(t, err)
		data, err := os.ReadFile(filepath.Join(root, runPath, e.ID+".env"))
		must.Do(t, err)
		environment = string(data)
		var output strings.Builder
		err = hooks.RunNotify(t.Context(), root, files.Document, files.Done, &output, &output, func(string) {})
		if err == nil {
			return nil
		}
		return &systemd.JobError{Unit: unit, Result: "failed", Failed: []systemd.FailedUnit{{Name: unit, Result: "exit-code", Text: err.Error()}}}
	}
	if !s.Any() {
		t.Error("there are no scripts")
	}
	for range 2 {
		if err := s.Run(t.Context(), e); err == nil || err.Error() != "20-broken: the mail server is down" {
			t.Errorf("the failure is %v", err)
		}
	}
	if want := []string{"start " + unit, "reset " + unit, "start " + unit, "reset " + unit}; !slices.Equal(m.calls, want) {
		t.Errorf("the calls are %q, want %q", m.calls, want)
	}
	if got, err := os.ReadFile(out); err != nil || !strings.HasSuffix(string(got), "\nchat\n") {
		t.Errorf("beside the failure the others have written %s (%v)", got, err)
	}
	script("20-broken", "exit 0")
	must.Do(t, s.Run(t.Context(), e))
	got, err := os.ReadFile(out)
	must.Do(t, err)
	document, chat, _ := strings.Cut(string(got), "\n")
	if document+"\n" != string(e.Document()) || strings.TrimSpace(chat) != "chat" {
		t.Errorf("the scripts have written\n%s\nwant the document, once, and chat, once", got)
	}
	if want := `LOCKSMITH_EVENT="unwell"
LOCKSMITH_EVENT_ID="` + e.ID + `"
LOCKSMITH_TIME="2026-11-30T04:05:06Z"
LOCKSMITH_TEXT="web-1 is unwell after its reboot for version 4081.2.0: a \"quoted\" \$HOME ` + "\\`id\\`" + ` \\ reason"
LOCKSMITH_HOST="web-1"
LOCKSMITH_GROUP=""
LOCKSMITH_VERSION="4081.2.0"
LOCKSMITH_REASON="a \"quoted\" \$HOME ` + "\\`id\\`" + ` \\ reason"
LOCKSMITH_HOOK=""
LOCKSMITH_BY=""
LOCKSMITH_HOLDER=""
`; environment != want {
		t.Errorf("the environment is\n%s\nwant\n%s", environment, want)
	}
	if left, err := os.ReadDir(filepath.Join(root, runPath)); err != nil || len(left) > 0 {
		t.Errorf("left are %v (%v)", left, err)
	}
	script("20-broken", "exit 1")
	if s.Run(t.Context(), e) == nil {
		t.Error("a script that fails is no failure")
	}
	s.Forget(e)
	s.Forget(e)
	if left, err := os.ReadDir(filepath.Join(root, runPath)); err != nil || len(left) > 0 {
		t.Errorf("of an event that was forgotten there are %v (%v)", left, err)
	}
	must.Do(t, os.RemoveAll(folder))
	if s.Any() {
		t.Error("there are scripts")
	}
}

// What cannot be removed is said once: after a success, or when there is no other attempt.
func TestFilesThatStayAreWarnedOfOnce(t *testing.T) {
	for _, failure := range []error{nil, errDown} {
		var log strings.Builder
		root := t.TempDir()
		e := Event{Type: Test}.Complete(t0)
		m := &manager{start: func(string) error {
			document := filepath.Join(root, runPath, e.ID+".json")
			must.Do(t, os.Remove(document))
			must.Do(t, os.MkdirAll(filepath.Join(document, "not-empty"), 0o700))
			return failure
		}}
		s := Scripts{Root: root, Units: m, Log: slog.New(slog.NewTextHandler(&log, nil))}
		if err := s.Run(t.Context(), e); err != nil {
			s.Forget(e)
		}
		if n := strings.Count(log.String(), "a notification for scripts stays in a file"); n != 1 {
			t.Errorf("after %v it was said %d times:\n%s", failure, n, &log)
		}
	}
}

func TestMissingUnitIsNamed(t *testing.T) {
	m := &manager{start: func(string) error { return systemd.ErrNoUnit }}
	s := Scripts{Root: t.TempDir(), Units: m, Log: slog.New(slog.DiscardHandler)}
	if err := s.Run(t.Context(), Event{Type: Test}.Complete(t0)); err == nil || err.Error() != "locksmith-notify@.service is not installed" {
		t.Errorf("the error is %v", err)
	}
	m.start = func(string) error { return errors.New(strings.Repeat("\x1b", 1<<20)) }
	if err := s.Run(t.Context(), Event{Type: Test}.Complete(t0)); err == nil || len(err.Error()) > maxReason+3 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the error is %.100v", err)
	}
}
