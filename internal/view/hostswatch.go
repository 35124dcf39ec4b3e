package view

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// HostsWatch is what has been seen of hosts since somebody began to watch them.
type HostsWatch struct {
	title  string // of what is watched
	groups bool   // hosts of several
	filter HostFilter

	began   bool
	hosts   []*fleet.Host                 // that match
	last    map[hostKey]FleetHostDocument // of them
	failure string                        // why they may be out of date; "" if they are not
}

type hostKey struct{ group, id string }

// NewHostsWatch returns a watch without an observation. With groups it is of all groups.
func NewHostsWatch(group string, groups bool, filter HostFilter) *HostsWatch {
	title := "group " + GroupName(group)
	if groups {
		title = "all groups"
	}
	return &HostsWatch{title: title, groups: groups, filter: filter, last: map[hostKey]FleetHostDocument{}}
}

// HostChange is a host that has changed. It is gone if it does not match the filter any more, or is not known any more.
type HostChange struct {
	before, now FleetHostDocument
	first, gone bool
}

// Observe records a fleet, and returns what has changed, in the order of the hosts.
func (w *HostsWatch) Observe(f fleet.Fleet) (changes []HostChange) {
	w.failure, w.began = "", true
	w.hosts = w.filter.Hosts(f)
	now := make(map[hostKey]FleetHostDocument, len(w.hosts))
	for _, h := range w.hosts {
		key, d := hostKey{h.Group, h.ID}, NewFleetHostDocument(h)
		now[key] = d
		before, known := w.last[key]
		if !known || !same(before, d) {
			changes = append(changes, HostChange{before: before, now: d, first: !known})
		}
	}
	for key, before := range w.last {
		if _, known := now[key]; !known {
			changes = append(changes, HostChange{before: before, now: before, gone: true})
		}
	}
	slices.SortFunc(changes, func(a, b HostChange) int {
		return cmp.Or(cmp.Compare(a.now.Group, b.now.Group), cmp.Compare(a.now.Hostname, b.now.Hostname), cmp.Compare(a.now.ID, b.now.ID))
	})
	w.last = now
	return changes
}

// same reports whether two documents are the same but for when they were written.
func same(a, b FleetHostDocument) bool {
	a.Updated, b.Updated = nil, nil
	return reflect.DeepEqual(a, b)
}

// Fail records why the hosts may be out of date, and reports whether that is new.
func (w *HostsWatch) Fail(err error) (changed bool) {
	changed = w.failure != err.Error()
	w.failure = err.Error()
	return changed
}

// Line describes a change in a line.
func (c HostChange) Line(now time.Time) string {
	name := hostName(c.now.ID, c.now.Hostname)
	state := func(d FleetHostDocument) string { return cmp.Or(safetext.Cut(d.State, maxName), "unknown") }
	var text string
	switch {
	case c.gone:
		text = name + ": not among these hosts any more, was " + state(c.before)
	case c.first || c.before.State == c.now.State:
		text = name + ": " + state(c.now)
	default:
		text = fmt.Sprintf("%s: %s, was %s", name, state(c.now), state(c.before))
	}
	if c.now.Why != "" && !c.gone {
		text += ": " + safetext.Cut(c.now.Why, MaxReason)
	}
	return dateTime(now) + "  " + text + "\n"
}

// Document writes the host for programs.
func (c HostChange) Document(f Format) (string, error) {
	d := c.now
	d.Gone = c.gone
	return f.marshalOne(d)
}

// Screen draws the hosts for a terminal of that size, in lines: those with something to see first.
func (w *HostsWatch) Screen(now time.Time, width, height int) []string {
	lines := []string{fmt.Sprintf("locksmith, hosts of %s   %s", w.title, dateTime(now))}
	failure := safetext.Cut(w.failure, maxFailure)
	switch {
	case !w.began && failure == "":
		return Fit(append(lines, "", "asking etcd ..."), width, height)
	case !w.began:
		return Fit(append(lines, "", "nothing is known: "+failure), width, height)
	case failure != "":
		lines = append(lines, "OUT OF DATE: "+failure)
	}
	lines = append(lines, HostSummary(w.hosts))
	if len(w.hosts) == 0 {
		return Fit(lines, width, height)
	}
	room := max(0, height-len(lines))
	shown := slices.Clone(w.hosts)
	slices.SortStableFunc(shown, func(a, b *fleet.Host) int { return cmp.Compare(urgency(a), urgency(b)) })
	shown = shown[:min(len(shown), max(1, room))] // more do not fit
	table := strings.Split("\n"+strings.TrimSuffix(briefHostTable(shown, w.groups, now), "\n"), "\n")
	if more := len(w.hosts) + 2 - room; more > 0 && room >= 4 {
		table = append(table[:room-1], fmt.Sprintf("and %d more", more+1))
	}
	return Fit(append(lines, table...), width, height)
}

// urgency orders hosts for a screen that is too small for all.
func urgency(h *fleet.Host) int {
	switch {
	case h.State == inventory.Unwell:
		return 0
	case h.Slot != nil:
		return 1
	case h.Place > 0:
		return 2
	case h.State != inventory.Idle:
		return 3
	case h.NoNews:
		return 4
	}
	return 5
}
