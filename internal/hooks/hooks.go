package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/replacefile"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/systemd"
)

// Units starts and stops units of systemd. An error that matches systemd.ErrNoUnit means that there is no such unit.
type Units interface {
	// Start starts a unit, with what it pulls in, and waits for the end of its job. At the end of ctx it stops
	// what is still starting.
	Start(ctx context.Context, unit string) error
	// Stop stops what is still starting of a unit and of what it pulls in.
	Stop(ctx context.Context, unit string) error
	// PullsIn returns the units that a unit pulls in.
	PullsIn(ctx context.Context, unit string) ([]string, error)
	// ResetFailed makes a unit that has failed inactive.
	ResetFailed(ctx context.Context, unit string) error
}

// EnvironmentPath is the file that tells hooks why they run. Units name it in EnvironmentFile=.
const EnvironmentPath = "/run/locksmith/hooks.env"

// Facts is what hooks are told besides their phase.
type Facts struct {
	Group     string // of hosts that share a lock
	Version   string // that the host is to boot, or has booted, "" if it is not known
	Reason    string // why it reboots
	MachineID string
}

// variable returns the name of a variable of hooks.
func variable(name string) string { return "LOCKSMITH_" + name }

// Hooks runs the hooks of this host. It is safe for concurrent use, but the facts of the latest Run count for all.
type Hooks struct {
	Root  string // directory that stands for "/"
	Boot  string // the id of this boot
	Units Units
	Log   *slog.Logger
}

// Hooked reports whether there is anything to run in a phase: a script that is not masked, or a unit besides our own
// service. A script that cannot run counts, because it fails.
func (h *Hooks) Hooked(ctx context.Context, p Phase) (bool, error) {
	scripts, err := Scripts(h.Root, p)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(scripts, func(s Script) bool { return !s.Masked }) {
		return true, nil
	}
	units, err := h.PulledIn(ctx, p)
	return len(units) > 0, err
}

// PulledIn returns the units that are hooked into a phase, besides our own service.
func (h *Hooks) PulledIn(ctx context.Context, p Phase) ([]string, error) {
	if p.Target() == "" {
		return nil, nil
	}
	units, err := h.Units.PullsIn(ctx, p.Target())
	if errors.Is(err, systemd.ErrNoUnit) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the units that are hooked into %s: %w", p.Target(), err)
	}
	return slices.DeleteFunc(slices.Clone(units), func(unit string) bool { return unit == p.Service() }), nil
}

// Run runs the hooks of a phase and waits for their end, or for that of ctx. RebootCancelled first stops what is left
// of BeforeReboot, and is tried also where that, or telling the facts, fails: a host must not stay drained.
func (h *Hooks) Run(ctx context.Context, p Phase, f Facts) error {
	if p == RebootCancelled {
		if err := h.Units.Stop(ctx, BeforeReboot.unit()); err != nil && !errors.Is(err, systemd.ErrNoUnit) {
			h.Log.Warn(fmt.Sprintf("hooks of %s may still run while they are undone: %v", BeforeReboot, err))
		}
		h.resetFailed(ctx, BeforeReboot)
	}
	if p == BeforeReboot {
		if err := h.mark(); err != nil {
			return err
		}
	}
	if err := h.tell(p, f); err != nil {
		if p != RebootCancelled {
			return err
		}
		h.Log.Warn(fmt.Sprintf("%v: %s goes on without that", err, p))
	}
	err := h.Units.Start(ctx, p.unit())
	if errors.Is(err, systemd.ErrNoUnit) { // our units are not installed: that matters only to scripts
		if hooked, listErr := h.Hooked(ctx, p); listErr == nil && !hooked {
			err = nil
		}
	} else if err != nil {
		h.resetFailed(ctx, p)
	}
	if p == RebootCancelled && err == nil {
		err = h.unmark()
	}
	return err
}

// resetTimeout bounds what only changes what systemctl shows.
const resetTimeout = 10 * time.Second

// resetFailed ends the failed state of our own service, since the caller of Run is told of a failure. The state would
// stay until the next run, and an alert about failed units could keep that from ever coming.
func (h *Hooks) resetFailed(ctx context.Context, p Phase) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTimeout)
	defer cancel()
	if err := h.Units.ResetFailed(ctx, p.Service()); err != nil {
		h.Log.Debug(fmt.Sprintf("%s may stay a failed unit: %v", p.Service(), err))
	}
}

// DrainedPath is a file that is there from the begin of BeforeReboot until RebootCancelled has succeeded, or the host
// has rebooted. It has the id of the boot, because a soft reboot leaves it; one without an id counts in each boot.
const DrainedPath = "/run/locksmith/drained"

// maxBootID is more than any id of a boot has, in bytes.
const maxBootID = 256

// Drained reports whether BeforeReboot has begun in this boot, perhaps by another process, and was not undone. It
// removes what an earlier boot has left.
func (h *Hooks) Drained() bool {
	content, err := readfile.Read(filepath.Join(h.Root, DrainedPath), maxBootID)
	if err != nil {
		return !readfile.Absent(err)
	}
	if boot := strings.TrimSpace(string(content)); boot == "" || boot == h.Boot {
		return true
	}
	if err := h.unmark(); err != nil {
		h.Log.Warn("the mark of a drain before the last soft reboot stays, and does not count", "error", err)
	}
	return false
}

func (h *Hooks) mark() error {
	path := filepath.Join(h.Root, DrainedPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(h.Boot+"\n"), 0o600)
}

func (h *Hooks) unmark() error {
	if err := os.Remove(filepath.Join(h.Root, DrainedPath)); !readfile.Absent(err) {
		return err
	}
	return nil
}

// tell writes the facts to the file that the units read.
func (h *Hooks) tell(p Phase, f Facts) error {
	if err := replacefile.Write(filepath.Join(h.Root, EnvironmentPath), []byte(f.environment(p)), 0o600, 0o755); err != nil {
		return fmt.Errorf("tell hooks why they run: %w", err)
	}
	return nil
}

// maxFact bounds the value of a variable, in bytes.
const maxFact = 1000

// environment returns the facts as lines of an EnvironmentFile=, which a POSIX shell reads in the same way.
func (f Facts) environment(p Phase) string {
	return EnvironmentFile([]Variable{
		{"PHASE", string(p)}, {"GROUP", f.Group}, {"VERSION", f.Version}, {"REASON", f.Reason}, {"MACHINE_ID", f.MachineID},
	})
}

// Variable is a variable of the environment of scripts. Its name is to be prefixed with LOCKSMITH_.
type Variable struct{ Name, Value string }

// EnvironmentFile returns variables as lines of an EnvironmentFile=. Values are cut after 1000 bytes.
func EnvironmentFile(variables []Variable) string {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")
	for _, v := range variables {
		fmt.Fprintf(&b, "%s=\"%s\"\n", variable(v.Name), escape.Replace(safetext.Cut(v.Value, maxFact)))
	}
	return b.String()
}
