package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/systemd"
)

// runPath is the folder with what the unit of an event reads: facts, the document, and which scripts have succeeded.
const runPath = "/run/locksmith/notify"

const (
	// scriptsTimeout is a little more than TimeoutStartSec= of the unit, which usually ends it.
	scriptsTimeout = time.Minute + 15*time.Second
	// resetTimeout bounds a call that only changes what systemctl shows.
	resetTimeout = 10 * time.Second
)

// Units starts units of systemd.
type Units interface {
	// Start starts a unit and waits for the end of its job. At the end of ctx it stops what is still starting. An error
	// that matches systemd.ErrNoUnit means that there is no such unit.
	Start(ctx context.Context, unit string) error
	// ResetFailed makes a unit that has failed inactive.
	ResetFailed(ctx context.Context, unit string) error
}

// Scripts delivers events to the scripts in notify.d, in a unit for each event.
type Scripts struct {
	Root  string // directory that stands for "/"
	Units Units
	Log   *slog.Logger
}

// Any reports whether there are scripts. A folder that cannot be listed counts: the failure is shown then.
func (s Scripts) Any() bool {
	scripts, err := hooks.Scripts(s.Root, hooks.Notify)
	return err != nil || slices.ContainsFunc(scripts, func(s hooks.Script) bool { return !s.Masked })
}

// Run delivers an event to the scripts, and returns which of them failed. Those that succeed do not get the same event
// again. The end of ctx stops them. After a failure it is Run again, or it is for Forget.
func (s Scripts) Run(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeoutCause(ctx, scriptsTimeout, fmt.Errorf("it was not over within %v", scriptsTimeout))
	defer cancel()
	files := eventFiles(s.Root, e.ID)
	err := files.write(e)
	if err == nil {
		unit := "locksmith-notify@" + e.ID + ".service"
		if err = s.Units.Start(ctx, unit); err != nil {
			s.resetFailed(ctx, unit)
			err = errors.New(describe(err, unit))
		}
	}
	// After a failure the next call removes what stays, or says so.
	if removed := files.remove(err == nil); removed != nil && err == nil {
		s.warnOfFiles(removed)
	}
	return err
}

// Forget forgets which scripts have succeeded for an event that is not delivered any more.
func (s Scripts) Forget(e Event) {
	if err := eventFiles(s.Root, e.ID).remove(true); err != nil {
		s.warnOfFiles(err)
	}
}

func (s Scripts) warnOfFiles(err error) {
	s.Log.Warn("a notification for scripts stays in a file", "error", err)
}

// describe says why a unit failed, in the words of what it ran if it has said why.
func describe(err error, unit string) string {
	if errors.Is(err, systemd.ErrNoUnit) {
		return "locksmith-notify@.service is not installed"
	}
	if job, ok := errors.AsType[*systemd.JobError](err); ok && len(job.Failed) == 1 {
		if f := job.Failed[0]; f.Name == unit && f.Result == "exit-code" && f.Text != "" {
			return safetext.Cut(f.Text, maxReason)
		}
	}
	return safetext.Cut(err.Error(), maxReason)
}

// resetFailed ends the failed state of the unit, since the status says what is wrong. An alert about failed units could
// hold reboots back.
func (s Scripts) resetFailed(ctx context.Context, unit string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTimeout)
	defer cancel()
	if err := s.Units.ResetFailed(ctx, unit); err != nil {
		s.Log.Debug(fmt.Sprintf("%s may stay a failed unit: %v", unit, err))
	}
}

// Files are the paths of what the unit of an event reads and writes.
type Files struct{ Document, environment, Done string }

// FilesOf returns the files of the event with an id. It refuses ids that no event has.
func FilesOf(root, id string) (Files, error) {
	if !validID(id) {
		return Files{}, fmt.Errorf("%.50q is not the id of an event", id)
	}
	return eventFiles(root, id), nil
}

func eventFiles(root, id string) Files {
	path := filepath.Join(root, runPath, id)
	return Files{path + ".json", path + ".env", path + ".done"}
}

func (f Files) write(e Event) error {
	variables := hooks.EnvironmentFile([]hooks.Variable{
		{Name: "EVENT", Value: string(e.Type)}, {Name: "EVENT_ID", Value: e.ID}, {Name: "TIME", Value: e.Time.Format(time.RFC3339)},
		{Name: "TEXT", Value: e.Text()}, {Name: "HOST", Value: e.Host}, {Name: "GROUP", Value: e.Group},
		{Name: "VERSION", Value: e.Version}, {Name: "REASON", Value: e.Reason}, {Name: "HOOK", Value: e.Hook},
		{Name: "BY", Value: e.By}, {Name: "HOLDER", Value: e.Holder},
	})
	err := os.MkdirAll(filepath.Dir(f.Document), 0o700)
	if err == nil {
		err = os.WriteFile(f.Document, e.Document(), 0o600)
	}
	if err == nil {
		err = os.WriteFile(f.environment, []byte(variables), 0o600)
	}
	return err
}

// remove removes the files: after a failure not the one that says which scripts have succeeded.
func (f Files) remove(all bool) error {
	paths := []string{f.Document, f.environment}
	if all {
		paths = append(paths, f.Done)
	}
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
