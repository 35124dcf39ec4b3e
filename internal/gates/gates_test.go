package gates

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
)

// systemd is a service manager that starts units as a test wants it to.
type systemd struct {
	hooks.Units // answers nothing else
	start       func(ctx context.Context) error
	started     []string
}

func (s *systemd) ResetFailed(context.Context, string) error { return nil }

func (s *systemd) hooks(root string) *hooks.Hooks { return &hooks.Hooks{Root: root, Units: s} }

func (s *systemd) Start(ctx context.Context, unit string) error {
	s.started = append(s.started, unit)
	return s.start(ctx)
}

func ok(context.Context) error { return nil }

// expect expects an obstacle of a kind with a text, which may end in "*"; "" for none.
func expect(t *testing.T, got *policy.Obstacle, kind policy.ObstacleKind, text string) {
	t.Helper()
	start, cut := strings.CutSuffix(text, "*")
	switch {
	case text == "":
		if got != nil {
			t.Errorf("held back by %+v", got)
		}
	case got == nil:
		t.Errorf("held back by nothing, want %q", text)
	case got.Kind != kind || !strings.HasPrefix(got.Text, start) || !cut && got.Text != text:
		t.Errorf("held back by %s %q, want %s %q", got.Kind, got.Text, kind, text)
	}
}

func TestNothingConfiguredHoldsNothingBack(t *testing.T) {
	g := Gates{Root: t.TempDir()}
	expect(t, g.Ask(t.Context(), policy.Need{Version: "1"}), "", "")
	g.MaxAttempts = 2
	expect(t, g.Ask(t.Context(), policy.Need{Version: "1"}), "", "")
	if entries, err := os.ReadDir(g.Root); err != nil || len(entries) > 0 {
		t.Errorf("it wrote %v, %v", entries, err)
	}
}

func TestAttemptsThatFailedEndWithAnotherVersion(t *testing.T) {
	g := Gates{Root: t.TempDir(), MaxAttempts: 2}
	h := history.New(g.Root)
	ask := func(version, want string) {
		t.Helper()
		expect(t, g.Ask(t.Context(), policy.Need{Version: version}), policy.Attempts, want)
	}
	const ends = `; another version or "locksmithctl unhold" ends that`
	fail := func(version, boot, next string) {
		must.Do(t, errors.Join(h.Begin(t.Context(), history.Reboot{BootID: boot, Version: version, OSVersion: "0"}), h.Ended(t.Context(), next, "came back with 0")))
	}
	fail("1", "a", "b")
	ask("1", "")
	fail("1", "b", "c")
	ask("1", "2 reboots that did not bring up version 1 (came back with 0)"+ends)
	ask("2", "")
	ask("", "")
	g.MaxAttempts = 3
	ask("1", "")
	g.MaxAttempts = 0
	ask("1", "")
	g.MaxAttempts = 2
	_, _, err := h.Reset(t.Context())
	must.Do(t, err)
	ask("1", "")
	fail("", "c", "d")
	fail("", "d", "e")
	ask("", "2 reboots after which this host was not well (came back with 0)"+ends)

	path := filepath.Join(g.Root, history.DefaultPath)
	must.Do(t, os.WriteFile(path, []byte("{"), 0o600))
	expect(t, g.Ask(t.Context(), policy.Need{Version: "1"}), policy.Unrecorded,
		"what is known of earlier reboots: read "+path+`: it is not what locksmith wrote: unexpected end of JSON input; "locksmithctl unhold" begins a new one`)
	g.MaxAttempts = 0
	ask("1", "")
}

func TestScriptsSayNo(t *testing.T) {
	for _, dir := range []string{"/etc", "/run", "/usr/lib"} {
		s := &systemd{start: ok}
		root := t.TempDir()
		g := Gates{Root: root, Hooks: s.hooks(root), Facts: hooks.Facts{Group: "lb", Reason: "an update"}}
		ask := func(want string) {
			t.Helper()
			expect(t, g.Ask(t.Context(), policy.Need{Version: "4230.2.1"}), policy.MayReboot, want)
		}
		folder := filepath.Join(g.Root, dir, "locksmith/may-reboot.d")
		must.Do(t, os.MkdirAll(folder, 0o755))
		must.Do(t, os.WriteFile(filepath.Join(folder, ".keep"), nil, 0o644))
		must.Do(t, os.Symlink("/dev/null", filepath.Join(folder, "20-masked")))
		ask("")
		if s.started != nil {
			t.Errorf("started %v although there are no scripts", s.started)
		}
		must.Do(t, os.WriteFile(filepath.Join(folder, "10-backup"), nil, 0o755))
		ask("")
		if len(s.started) != 1 || s.started[0] != "locksmith-may-reboot.service" {
			t.Errorf("started %v", s.started)
		}
		told, err := os.ReadFile(filepath.Join(root, hooks.EnvironmentPath))
		const want = "LOCKSMITH_PHASE=\"may-reboot\"\nLOCKSMITH_GROUP=\"lb\"\nLOCKSMITH_VERSION=\"4230.2.1\"\nLOCKSMITH_REASON=\"an update\"\n"
		if must.Do(t, err); !strings.HasPrefix(string(told), want) {
			t.Errorf("the scripts are told\n%s", told)
		}
		s.start = func(context.Context) error { return errors.New("10-backup: a backup is running\x1b[2J") }
		ask(`may-reboot.d: 10-backup: a backup is running\x1b[2J`)
		s.start = func(context.Context) error { return errors.New(strings.Repeat("x", 5000)) }
		ask("may-reboot.d: " + strings.Repeat("x", 512) + "...")

		// Whether there are scripts is not known.
		must.Do(t, errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o644)))
		s.start = ok
		ask("may-reboot.d: *")
	}
}

func TestScriptsHaveHalfAMinuteToAnswer(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "etc/locksmith/may-reboot.d")
	must.Do(t, os.MkdirAll(folder, 0o755))
	must.Do(t, os.WriteFile(filepath.Join(folder, "10-slow"), nil, 0o755))
	synctest.Test(t, func(t *testing.T) {
		s := &systemd{start: func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		g := Gates{Root: root, Hooks: s.hooks(root)}
		began := time.Now()
		expect(t, g.Ask(t.Context(), policy.Need{}), policy.MayReboot, "may-reboot.d: no answer within 30s")
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the window shuts"))
		expect(t, g.Ask(ctx, policy.Need{}), policy.MayReboot, "may-reboot.d: the window shuts")
	})
}
