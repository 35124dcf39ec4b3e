package hooks

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
)

// manager stands in for systemd: it notes what it is asked, and answers as it is told.
type manager struct {
	calls                        []string
	units                        map[string][]string // what targets pull in; others do not exist
	startErr, stopErr, pullsInEr error
	resetErr                     error
	onStart                      func()
}

func (m *manager) Start(_ context.Context, unit string) error {
	m.calls = append(m.calls, "start "+unit)
	if m.onStart != nil {
		m.onStart()
	}
	return m.startErr
}

func (m *manager) Stop(_ context.Context, unit string) error {
	m.calls = append(m.calls, "stop "+unit)
	return m.stopErr
}

func (m *manager) ResetFailed(ctx context.Context, unit string) error {
	m.calls = append(m.calls, "reset "+unit)
	return errors.Join(m.resetErr, ctx.Err())
}

func (m *manager) PullsIn(_ context.Context, unit string) ([]string, error) {
	units, found := m.units[unit]
	switch {
	case m.pullsInEr != nil:
		return nil, m.pullsInEr
	case !found:
		return nil, systemd.ErrNoUnit
	}
	return units, nil
}

func (h host) hooks(m *manager) (*Hooks, *strings.Builder) {
	var log strings.Builder
	return &Hooks{Root: h.root, Units: m, Log: slog.New(slog.NewTextHandler(&log, nil))}, &log
}

func TestHookedIsWhatWouldRun(t *testing.T) {
	broken := errors.New("no answer")
	for _, test := range []struct {
		name string
		m    manager
		make func(h host)
		want map[Phase]bool
		err  error
	}{
		{name: "nothing, and no units of ours"},
		{name: "only our services", m: manager{units: map[string][]string{
			"locksmith-before-reboot.target": {"locksmith-before-reboot.service"},
			"locksmith-after-reboot.target":  {"locksmith-after-reboot.service"},
		}}},
		{name: "a unit", m: manager{units: map[string][]string{
			"locksmith-before-reboot.target":    {"drain.service", "locksmith-before-reboot.service"},
			"locksmith-reboot-cancelled.target": {"locksmith-reboot-cancelled.service", "undrain.service"},
		}}, want: map[Phase]bool{BeforeReboot: true, RebootCancelled: true}},
		{name: "a script", make: func(h host) { h.script("/etc/locksmith/may-reboot.d/a", "") }, want: map[Phase]bool{MayReboot: true}},
		{name: "a broken script", make: func(h host) { h.write("/run/locksmith/after-reboot.d/a", "", 0o644) }, want: map[Phase]bool{AfterReboot: true}},
		{name: "a masked script", make: func(h host) { h.link("/etc/locksmith/after-reboot.d/a", "/dev/null") }},
		{name: "systemd does not answer", m: manager{pullsInEr: broken}, err: broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			if test.make != nil {
				test.make(h)
			}
			hooks, _ := h.hooks(&test.m)
			for _, p := range Phases() {
				got, err := hooks.Hooked(t.Context(), p)
				if got != test.want[p] || !errors.Is(err, test.err) && p != MayReboot {
					t.Errorf("%s: %v (%v), want %v (%v)", p, got, err, test.want[p], test.err)
				}
			}
		})
	}
}

func TestRunStartsTheUnitOfThePhaseWithItsFacts(t *testing.T) {
	for p, unit := range map[Phase]string{
		MayReboot: "locksmith-may-reboot.service", BeforeReboot: "locksmith-before-reboot.target", AfterReboot: "locksmith-after-reboot.target",
	} {
		h := newHost(t)
		m := &manager{startErr: errors.New("failed")}
		hooks, _ := h.hooks(m)
		told := ""
		m.onStart = func() { told = h.read(EnvironmentPath) }
		if err := hooks.Run(t.Context(), p, Facts{"lb", "4230.2.1", "an update", "9e8d"}); err != m.startErr {
			t.Errorf("the run ends with %v, want %v", err, m.startErr)
		}
		if want := []string{"start " + unit, "reset " + p.Service()}; !slices.Equal(m.calls, want) {
			t.Errorf("%s: the calls are %q, want %q", p, m.calls, want)
		}
		if want := `LOCKSMITH_PHASE="` + string(p) + `"
LOCKSMITH_GROUP="lb"
LOCKSMITH_VERSION="4230.2.1"
LOCKSMITH_REASON="an update"
LOCKSMITH_MACHINE_ID="9e8d"
`; told != want {
			t.Errorf("%s: hooks are told\n%s\nwant\n%s", p, told, want)
		}
	}
}

func TestUndoFirstStopsWhatItUndoes(t *testing.T) {
	h := newHost(t)
	for _, m := range []*manager{{}, {stopErr: systemd.ErrNoUnit}} {
		hooks, log := h.hooks(m)
		must.Do(t, hooks.Run(t.Context(), RebootCancelled, Facts{}))
		want := []string{"stop locksmith-before-reboot.target", "reset locksmith-before-reboot.service", "start locksmith-reboot-cancelled.target"}
		if !slices.Equal(m.calls, want) || log.Len() > 0 {
			t.Errorf("the calls are %q, want %q; the log is %q", m.calls, want, log)
		}
	}
}

// A host must not stay drained because of the lesser evil.
func TestUndoIsTriedWhateverElseFails(t *testing.T) {
	h := newHost(t)
	h.write("/run/locksmith", "a file where a folder has to be", 0o644)
	m := &manager{stopErr: errors.New("it does not stop"), resetErr: errors.New("it stays failed")}
	hooks, log := h.hooks(m)
	must.Do(t, hooks.Run(t.Context(), RebootCancelled, Facts{}))
	if m.calls[len(m.calls)-1] != "start locksmith-reboot-cancelled.target" {
		t.Errorf("the calls are %q", m.calls)
	}
	for _, want := range []string{"it does not stop", "tell hooks why they run", "not a directory"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log is %q, without %q", log, want)
		}
	}
}

func TestNothingStartsWithoutItsFacts(t *testing.T) {
	for _, p := range []Phase{MayReboot, BeforeReboot, AfterReboot} {
		h := newHost(t)
		h.write("/run/locksmith", "a file where a folder has to be", 0o644)
		m := &manager{}
		hooks, _ := h.hooks(m)
		err := hooks.Run(t.Context(), p, Facts{})
		if err == nil || !strings.Contains(err.Error(), h.path("/run/locksmith")+": not a directory") || len(m.calls) > 0 {
			t.Errorf("%s: the run ends with %v after the calls %q", p, err, m.calls)
		}
	}
}

func TestFactsAreReplacedWhole(t *testing.T) {
	h := newHost(t)
	h.write(EnvironmentPath, "LOCKSMITH_GROUP=old\n", 0o644)
	hooks, _ := h.hooks(&manager{})
	must.Do(t, hooks.Run(t.Context(), AfterReboot, Facts{Group: "lb"}))
	entries, err := os.ReadDir(h.path("/run/locksmith"))
	must.Do(t, err)
	if len(entries) != 1 || strings.Contains(h.read(EnvironmentPath), "old") {
		t.Errorf("there are %v, and the facts are\n%s", entries, h.read(EnvironmentPath))
	}
}

// The daemon asks whether a host that is unwell may reboot for the fix, and goes on with its checks meanwhile.
func TestRunsAtTheSameTimeDoNotDisturbEachOther(t *testing.T) {
	h := newHost(t)
	hooks := &Hooks{Root: h.root, Units: anything{}}
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range 50 {
				if err := hooks.Run(t.Context(), AfterReboot, Facts{}); err != nil {
					t.Errorf("the run ends with %v", err)
				}
			}
		})
	}
	done.Wait()
}

// anything is a systemd that starts any unit.
type anything struct{ Units }

func (anything) Start(context.Context, string) error { return nil }

func TestFactsCannotBreakOutOfTheirVariable(t *testing.T) {
	h := newHost(t)
	hooks, _ := h.hooks(&manager{})
	evil := "a\"b\\c`echo d`$(echo e)$HOME'\nLD_PRELOAD=/x\x00\xff"
	must.Do(t, hooks.Run(t.Context(), BeforeReboot, Facts{Group: evil, Version: strings.Repeat("x", 5000), Reason: "läuft"}))
	out, err := exec.Command("sh", "-c", `. "$1"; printf '%s\n' "$LOCKSMITH_GROUP" "${#LOCKSMITH_VERSION}" "$LOCKSMITH_REASON" "$LD_PRELOAD"`, "sh", h.path(EnvironmentPath)).Output()
	must.Do(t, err)
	want := "a\"b\\c`echo d`$(echo e)$HOME'" + `\nLD_PRELOAD=/x\x00\xff` + "\n1003\nläuft\n\n"
	if string(out) != want {
		t.Errorf("a shell reads\n%q\nwant\n%q", out, want)
	}
}

// A failed unit of ours could trip an alert that holds the next run back. It is no failed unit, also after a run whose
// time was over.
func TestFailureLeavesNoFailedUnitOfOurs(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		err  error
		want []string
	}{
		{nil, []string{"start locksmith-after-reboot.target"}},
		{context.Canceled, []string{"start locksmith-after-reboot.target", "reset locksmith-after-reboot.service"}},
	} {
		m := &manager{startErr: test.err}
		hooks, log := h.hooks(m)
		if err := hooks.Run(ctx, AfterReboot, Facts{}); err != test.err || !slices.Equal(m.calls, test.want) || log.Len() > 0 {
			t.Errorf("the run ends with %v after the calls %q; the log is %q", err, m.calls, log)
		}
	}
}

func TestHostIsDrainedUntilThatIsUndone(t *testing.T) {
	h := newHost(t)
	m := &manager{}
	hooks, _ := h.hooks(m)
	expect := func(want bool) {
		t.Helper()
		if got := hooks.Drained(); got != want {
			t.Errorf("drained is %v, want %v", got, want)
		}
	}
	expect(false)
	must.Do(t, hooks.Run(t.Context(), AfterReboot, Facts{}))
	expect(false)
	must.Do(t, hooks.Run(t.Context(), BeforeReboot, Facts{}))
	expect(true)
	m.startErr = errors.New("it fails")
	if err := hooks.Run(t.Context(), RebootCancelled, Facts{}); err == nil {
		t.Error("the undo succeeds")
	}
	expect(true)
	m.startErr = nil
	must.Do(t, hooks.Run(t.Context(), RebootCancelled, Facts{}))
	expect(false)
}

func TestUnitsThatAreNotInstalledMatterOnlyToScripts(t *testing.T) {
	for _, p := range []Phase{BeforeReboot, RebootCancelled, AfterReboot} {
		h := newHost(t)
		hooks, _ := h.hooks(&manager{startErr: systemd.ErrNoUnit})
		must.Do(t, hooks.Run(t.Context(), p, Facts{}))
		h.write("/etc/locksmith/"+string(p)+".d/10-a", "#!/bin/sh\n", 0o755)
		if err := hooks.Run(t.Context(), p, Facts{}); !errors.Is(err, systemd.ErrNoUnit) {
			t.Errorf("%s: the run ends with %v", p, err)
		}
	}
}

// /run outlives a soft reboot.
func TestSoftRebootEndsADrain(t *testing.T) {
	h := newHost(t)
	before, _ := h.hooks(&manager{})
	before.Boot = "b"
	must.Do(t, before.Run(t.Context(), BeforeReboot, Facts{}))
	again, _ := h.hooks(&manager{})
	if again.Boot = "b"; !again.Drained() {
		t.Error("another process of the same boot does not see the drain")
	}
	after, log := h.hooks(&manager{})
	if after.Boot = "b+1"; after.Drained() {
		t.Error("it is drained after the soft reboot")
	}
	if _, err := os.Lstat(filepath.Join(h.root, DrainedPath)); err == nil || log.Len() > 0 {
		t.Errorf("the mark is there yet; the log is %q", log)
	}
	must.Do(t, os.WriteFile(filepath.Join(h.root, DrainedPath), nil, 0o600))
	if !after.Drained() {
		t.Error("a mark without a boot does not count")
	}
}
