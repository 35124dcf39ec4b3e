package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// halt is what the referee knows of a rollout that has to stop, since no host becomes well with its version, and of how
// it goes on with the fix.
type halt struct {
	bad, fix string
	booted   []*host                    // with the bad version
	says     map[*host]*lock.UnwellHost // what unwell hosts say in etcd
	stopped  time.Time                  // when nothing moved any more; zero before
	shown    string                     // what an administrator saw then
	mended   time.Time                  // when the fix was announced; zero before
}

// expectStop makes the referee expect that no host becomes well with a version, and all with the one after it.
func (r *referee) expectStop(bad, fix string) {
	r.halt = &halt{bad: bad, fix: fix, says: map[*host]*lock.UnwellHost{}}
}

// stopped reports whether the rollout has stopped.
func (r *referee) stopped() bool { return r.halt != nil && !r.halt.stopped.IsZero() }

// observe processes an event that the referee has applied. The error is a sentence that describes a violation.
func (h *halt) observe(r *referee, e event) error {
	on := r.byName[e.Host]
	err := h.apply(r, on, e)
	if h.stopped.IsZero() && h.mended.IsZero() && h.atRest(r) {
		h.stopped = e.At
	}
	return err
}

func (h *halt) apply(r *referee, on *host, e event) error {
	switch e.Kind {
	case status:
		if on.paused.IsZero() && h.waits(on) {
			on.paused = e.At
		}
	case announced:
		if e.Text == h.fix {
			h.mended = e.At
		}
	case took:
		if pausing := r.names(h.pausing); pausing != "" && h.mended.IsZero() {
			return fmt.Errorf("%s took a slot although %s was unwell with version %s: the rollout did not stop", on.name, pausing, h.bad)
		}
	case released:
		if on != nil && runs(on, h.bad) {
			return fmt.Errorf("%s gave its slot back, and is not well with version %s", on.name, h.bad)
		}
	case up:
		if e.Text == h.bad {
			h.booted = append(h.booted, on)
		}
		if n := len(h.booted); n > r.max {
			return fmt.Errorf("%d hosts booted version %s, %s, but only %d may: the rollout did not stop", n, h.bad, h.names(), r.max)
		}
	case unwell:
		return h.unwell(on, e)
	case shown:
		h.shown = e.Text
		return h.checkShown(e.Text)
	}
	return nil
}

// unwell notes what a host says of itself.
func (h *halt) unwell(on *host, e event) error {
	switch {
	case on == nil:
		return fmt.Errorf("%q is unwell and is not one of the hosts", e.Host)
	case e.Unwell == nil:
		delete(h.says, on)
		return nil
	case e.Unwell.Version != h.bad:
		return fmt.Errorf("%s is unwell with version %s: %s", on.name, e.Unwell.Version, e.Unwell.Why)
	case !strings.Contains(e.Unwell.Why, checkName+": "+checkSays):
		return fmt.Errorf("%s does not say that %s said %q, but: %s", on.name, checkName, checkSays, e.Unwell.Why)
	}
	h.says[on] = e.Unwell
	return nil
}

// pausing reports whether a host makes the others wait.
func (h *halt) pausing(on *host) bool {
	says := h.says[on]
	return says != nil && !says.Left && !says.Resumed
}

// atRest reports whether every host either is unwell or waits for that, by etcd and by its status.
func (h *halt) atRest(r *referee) bool {
	return len(h.says) > 0 && r.count(func(on *host) bool {
		if runs(on, h.bad) {
			return on.holds && h.pausing(on) && strings.Contains(on.status, "this host is unwell")
		}
		return on.last == nil && !on.holds && h.waits(on)
	}) == len(r.hosts)
}

// waits reports whether a host says that it waits because others are unwell.
func (h *halt) waits(on *host) bool {
	return strings.Contains(on.status, "paused for version "+h.bad+", ")
}

// checkShown returns an error if what an administrator sees does not name an unwell host, its version, and the check
// with what it said, on one line.
func (h *halt) checkShown(text string) error {
	lines := strings.Split(text, "\n")
	for on := range h.says {
		if !slices.ContainsFunc(lines, func(line string) bool {
			cells := strings.Fields(line)
			return slices.Contains(cells, on.name) && slices.Contains(cells, h.bad) && strings.Contains(line, checkName+": "+checkSays)
		}) {
			return fmt.Errorf("locksmithctl does not show that %s is unwell with version %s, and that %s said %q, but\n%s", on.name, h.bad, checkName, checkSays, text)
		}
	}
	return nil
}

// names lists the hosts that booted the bad version.
func (h *halt) names() string {
	var names []string
	for _, on := range h.booted {
		names = append(names, on.name)
	}
	return join(names)
}

// missing returns what did not happen, a sentence each.
func (h *halt) missing(r *referee) (missing []string) {
	if h.stopped.IsZero() {
		missing = append(missing, fmt.Sprintf("the rollout of version %s has not stopped: booted by %d of the hosts", h.bad, len(h.booted)))
	} else if h.shown == "" {
		missing = append(missing, "nobody was shown why the rollout has stopped")
	}
	if pausing := r.names(h.pausing); pausing != "" {
		missing = append(missing, fmt.Sprintf("the pause for version %s was not lifted by %s", h.bad, pausing))
	}
	if others := r.names(func(on *host) bool { return !runs(on, h.fix) }); others != "" {
		missing = append(missing, fmt.Sprintf("version %s does not run on %s", h.fix, others))
	}
	return missing
}

// describeStatus returns what a line of plain text says of a host's new status, "" for nothing.
func (h *halt) describeStatus(on *host, e event) string {
	if h.waits(on) && on.paused.Equal(e.At) {
		return "waits: paused for version " + h.bad
	}
	return ""
}

// describeUnwell says what a host says of itself.
func describeUnwell(r *referee, u *lock.UnwellHost) string {
	switch {
	case u == nil:
		return "is not unwell any more"
	case u.Left:
		return "may take version " + r.version + ", on the slot that it has"
	}
	return "is unwell with version " + u.Version + ": " + printable(u.Why)
}

// stopText returns the lines that show what an administrator sees of a rollout that has stopped.
func stopText(e event) []string {
	lines := strings.Split(strings.TrimSpace(e.Text), "\n")
	for i, text := range lines[1:] {
		lines[i+1] = strings.TrimRight("            "+printable(text), " ")
	}
	return lines
}

// summary says how the rollout stopped and went on.
func (h *halt) summary(r *referee) []string {
	lines := []string{fmt.Sprintf("version %s: booted by %d of %d hosts, %s; at most %d may", h.bad, len(h.booted), len(r.hosts), h.names(), r.max)}
	if !h.stopped.IsZero() && !h.mended.IsZero() {
		lines = append(lines, fmt.Sprintf("the rollout stood for %s until the fix came", short(h.mended.Sub(h.stopped))))
	}
	n := r.count(func(on *host) bool { return runs(on, h.fix) })
	return append(lines, fmt.Sprintf("version %s: runs on %d of %d hosts", h.fix, n, len(r.hosts)))
}
