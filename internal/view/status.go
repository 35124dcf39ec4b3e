// Package view draws what locksmithctl shows: tables, sentences, documents for programs, and the view that is redrawn
// while somebody watches.
//
// It is pure: facts in, text out, no I/O and no clock. It guarantees that text for people has nothing that a terminal
// acts upon, whatever other hosts have written into etcd, and at most a few hundred bytes of each value. Documents for
// programs have the whole values, with control characters escaped.
package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

// Status shows one group.
func (f Format) Status(g lock.GroupOverview, now time.Time) (string, error) {
	switch f {
	case Text:
		return statusText(g.Semaphore), nil
	case Wide:
		return wideText(g.Overview, now), nil
	}
	return f.marshal(newDocument(g))
}

// StatusOfAll shows several groups.
func (f Format) StatusOfAll(groups []lock.GroupOverview, now time.Time) (string, error) {
	switch f {
	case Text:
		return groupTable(groups), nil
	case Wide:
		var texts []string
		for _, g := range groups {
			texts = append(texts, fmt.Sprintf("Group: %s\n%s", GroupName(g.Group), wideText(g.Overview, now)))
		}
		return strings.Join(texts, "\n"), nil
	}
	documents := []Document{}
	for _, g := range groups {
		documents = append(documents, newDocument(g))
	}
	return f.marshal(documents)
}

// statusText is what locksmith 0.7 prints.
func statusText(s lock.Semaphore) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Available: %d\nMax: %d\n", s.Free, s.Max)
	if len(s.Holders) > 0 {
		b.WriteString("\nMACHINE ID\n")
	}
	for _, id := range s.Holders {
		b.WriteString(safetext.Cut(id, maxID) + "\n")
	}
	return b.String()
}

func wideText(o lock.Overview, now time.Time) string {
	text := fmt.Sprintf("Available: %d\nMax: %d\nPaused: %s\n", o.Semaphore.Free, o.Semaphore.Max, pauses(o, now))
	if len(o.Holders) > 0 {
		text += "\n" + Holders(o.Holders, now)
	}
	if len(o.Unwell) > 0 {
		text += "\n" + unwellTable(o.Unwell, maxID, "SINCE", timestamp, now)
	}
	if len(o.Queue) > 0 {
		text += "\n" + queueTable(o.Queue, maxID, "SINCE", timestamp, now)
	}
	return text
}

func groupTable(groups []lock.GroupOverview) string {
	if len(groups) == 0 {
		return ""
	}
	table := NewTable("GROUP", "AVAILABLE", "MAX", "HELD", "WAITING", "PAUSED")
	for _, g := range groups {
		paused := "no"
		if p := g.Pause; p != nil && p.All {
			paused = "yes, all groups are"
		} else if p != nil {
			paused = "yes"
		} else if len(g.VersionPauses()) > 0 {
			paused = "for a version"
		}
		table.Row(GroupName(g.Group), fmt.Sprint(g.Semaphore.Free), fmt.Sprint(g.Semaphore.Max), fmt.Sprint(len(g.Holders)), fmt.Sprint(len(g.Queue)), paused)
	}
	return table.String()
}

// Holders shows holders in a table.
func Holders(holders []lock.HolderInfo, now time.Time) string {
	return holderTable(holders, maxID, now)
}

func holderTable(holders []lock.HolderInfo, idBytes int, now time.Time) string {
	columns := []string{"MACHINE ID", "HOSTNAME", "VERSION", "AGE", "BY"}
	phases := slices.ContainsFunc(holders, func(h lock.HolderInfo) bool { return h.Record.Phase != "" })
	why := phases || slices.ContainsFunc(holders, func(h lock.HolderInfo) bool { return h.Record.Reason != "" })
	if phases { // which most holders do not report
		columns = append(columns, "PHASE")
	}
	if why {
		columns = append(columns, "WHY")
	}
	table := NewTable(columns...)
	for _, h := range holders {
		hostname := safetext.Cut(h.Record.Hostname, maxName)
		if h.Broken {
			hostname = "(unreadable record)"
		}
		var held []string
		if !h.Record.Since.IsZero() {
			held = append(held, elapsed(h.Record.Since, now))
		}
		if h.Expired {
			held = append(held, "expired")
		}
		row := []string{safetext.Cut(h.ID, idBytes), hostname, safetext.Cut(h.Record.Version, maxName), strings.Join(held, ", "), safetext.Cut(h.Record.By, maxName)}
		if phases {
			row = append(row, phase(h.Record, now))
		}
		if why {
			row = append(row, safetext.Cut(cmp.Or(h.Record.PhaseWhy, h.Record.Reason), MaxReason))
		}
		table.Row(row...)
	}
	return table.String()
}

// unwellTable shows the hosts that pause a version, or did; format formats the time since when they are unwell.
func unwellTable(hosts []lock.UnwellHost, idBytes int, since string, format func(since, now time.Time) string, now time.Time) string {
	table := NewTable("UNWELL", "HOSTNAME", "VERSION", since, "PAUSES", "WHY")
	for _, u := range hosts {
		pauses := "its version"
		switch {
		case u.Resumed:
			pauses = "nothing, resumed"
		case u.Broken:
			pauses = "every version"
		case u.Left:
			pauses = "the version it left"
		}
		hostname := safetext.Cut(u.Hostname, maxName)
		if u.Broken {
			hostname = "(unreadable record)"
		}
		table.Row(safetext.Cut(u.ID, idBytes), hostname, safetext.Cut(u.Version, maxName), format(u.Since, now), pauses, safetext.Cut(u.Why, MaxReason))
	}
	return table.String()
}

// queueTable shows a queue in a table; format formats the time of the last column, since when somebody waits.
func queueTable(queue []lock.QueueEntry, idBytes int, lastColumn string, format func(since, now time.Time) string, now time.Time) string {
	columns := []string{"PLACE", "MACHINE ID", "HOSTNAME", "VERSION", lastColumn}
	why := slices.ContainsFunc(queue, func(w lock.QueueEntry) bool { return w.Reason != "" })
	if why {
		columns = append(columns, "WHY")
	}
	table := NewTable(columns...)
	for i, w := range queue {
		row := []string{fmt.Sprint(i + 1), safetext.Cut(w.ID, idBytes), safetext.Cut(w.Hostname, maxName), safetext.Cut(w.Version, maxName), format(w.Since, now)}
		if why {
			row = append(row, safetext.Cut(w.Reason, MaxReason))
		}
		table.Row(row...)
	}
	return table.String()
}
