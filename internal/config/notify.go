package config

import (
	"errors"
	"io/fs"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/safetext"
)

func parseNotifyURL(p *parser, in input) error {
	if in.withheld != "" {
		p.warn("%s: locksmithd has it from %s, and locksmithctl does not read it there: locksmithctl sends nothing to the web hook", in.Variable, in.withheld)
	}
	if in.value == "" {
		return nil
	}
	u := notify.URL(in.value)
	if err := u.Validate(); err != nil {
		return in.refuse("%w", err)
	}
	p.Notify.URL = u
	return nil
}

func parseNotifyEvents(p *parser, in input) (err error) {
	if p.Notify.Events, err = notify.ParseTypes(in.value); err != nil {
		return in.refuse("%w", err)
	}
	return nil
}

// warnOfNotify warns of a web hook's address that others can read, and of scripts that cannot run.
func warnOfNotify(p *parser) error {
	if in, u := p.inputs[nameNotifyURL], p.Notify.URL; u != "" {
		if u.Exposed() {
			p.warn("%s: everybody on the way to the server can read it, and all that is sent: write https there", in.subject())
		}
		if u.Secret() && in.origin.Kind == FromFile {
			p.warnOfReaders(in, in.origin.File)
		}
	}
	scripts, err := hooks.Scripts(p.options.Root, hooks.Notify)
	const until = "until that is fixed, it gets no notifications"
	if err != nil && !errors.Is(err, fs.ErrPermission) { // not everybody has to be able to read the folders
		p.warn("%s: %s", safetext.Cut(err.Error(), maxWarningBytes), until)
	}
	wrong := 0
	for _, s := range scripts {
		if s.Problem == "" {
			continue
		}
		if wrong++; wrong <= maxWarned {
			p.warn("%s: %s", safetext.Cut(s.Path+": "+s.Problem, maxWarningBytes), until)
		}
	}
	if more := wrong - maxWarned; more > 0 {
		p.warn("%d more scripts of %s.d cannot run", more, hooks.Notify)
	}
	return nil
}
