package config

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/systemd"
)

// maxWarned bounds the scripts of a phase that are warned about one by one, and the bytes of each warning.
const (
	maxWarned       = 5
	maxWarningBytes = 400
)

// warnOfHooks warns of scripts that cannot run, and records in which phases something is hooked in.
func warnOfHooks(p *parser) error {
	p.hooked = map[hooks.Phase]bool{}
	for _, phase := range hooks.Phases() {
		scripts, err := hooks.Scripts(p.options.Root, phase)
		if err != nil && !errors.Is(err, fs.ErrPermission) { // not everybody has to be able to read the folders
			p.warn("%s: %s", safetext.Cut(err.Error(), maxWarningBytes), unlessFixed(phase))
		}
		p.hooked[phase] = slices.ContainsFunc(systemd.Linked(p.options.Root, phase.Target()), func(unit string) bool { return unit != phase.Service() })
		wrong := 0
		for _, s := range scripts {
			p.hooked[phase] = p.hooked[phase] || !s.Masked
			if s.Problem == "" {
				continue
			}
			if wrong++; wrong <= maxWarned {
				p.warn("%s: %s", safetext.Cut(s.Path+": "+s.Problem, maxWarningBytes), unlessFixed(phase))
			}
		}
		if more := wrong - maxWarned; more > 0 {
			p.warn("%d more scripts of %s cannot run: \"locksmithctl hooks\" shows them", more, phase)
		}
	}
	return nil
}

// unlessFixed says what follows from a script that cannot run.
func unlessFixed(phase hooks.Phase) string {
	switch phase {
	case hooks.RebootCancelled:
		return "until that is fixed, what was done before a cancelled reboot is not undone"
	case hooks.AfterReboot:
		return "until that is fixed, this host does not count as well after a reboot"
	}
	return "until that is fixed, this host does not reboot"
}

// counted returns a time-out of a phase, or 0 where it does not matter as far as is known: it was not set, and there
// is nothing hooked in.
func (p *parser) counted(name string, phase hooks.Phase, d time.Duration) time.Duration {
	if p.inputs[name].origin.Kind == FromDefault && !p.hooked[phase] {
		return 0
	}
	return d
}
