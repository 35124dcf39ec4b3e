package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

// How much of what others have written is shown, in bytes. The longest id that a slot can be taken for has 256.
const (
	maxID   = 256
	maxName = 64
	// MaxReason is how much of the reason for a pause is shown, and so how long one may be.
	MaxReason = 256
)

// dateTime formats a time as systemd does.
func dateTime(t time.Time) string { return t.Format(policy.TimeLayout) }

// timestamp formats a time in the zone of now; "" for one that is not known.
func timestamp(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return dateTime(t.In(now.Location()))
}

// elapsed formats the time between two: "42s", "12m", "3h05m", "4d03h"; "" if the first is not known. The clocks of
// two hosts may differ, so it is "0s" if the first is the later one.
func elapsed(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	d := max(0, to.Sub(from))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// Pause says whether there is a pause: "no", or by whom, since when and why.
func Pause(p *lock.Pause, now time.Time) string {
	if p == nil {
		return "no"
	}
	if p.Host != "" {
		return versionPause(p, now)
	}
	var parts []string
	add := func(known bool, format string, args ...any) {
		if known {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(p.All, "all groups")
	add(p.Broken, "its record in etcd cannot be understood")
	add(p.By != "", "by %s", safetext.Cut(p.By, maxID))
	add(!p.Since.IsZero(), "since %s (%s)", timestamp(p.Since, now), elapsed(p.Since, now))
	add(!p.Until.IsZero(), "until %s", timestamp(p.Until, now))
	text := strings.Join(parts, ", ")
	if p.Reason != "" {
		text += ": " + safetext.Cut(p.Reason, MaxReason)
	}
	return text
}

// versionPause names the version, and the host that pauses it.
func versionPause(p *lock.Pause, now time.Time) string {
	text := "every version"
	if p.Version != "" {
		text = "version " + safetext.Cut(p.Version, maxName)
	}
	host := safetext.Cut(p.Host, maxID+maxName)
	if p.Broken {
		return text + ": the record of the unwell host " + host + " in etcd cannot be understood"
	}
	is := " is unwell"
	if p.Left {
		is = " was unwell with it"
	}
	text += ", since host " + host + is
	if p.Others > 0 {
		text += fmt.Sprintf(" (and %d more)", p.Others)
	}
	if p.Why != "" {
		text += ": " + safetext.Cut(p.Why, MaxReason)
	}
	return text
}

// pauses says what is paused: "no", everything, or versions.
func pauses(o lock.Overview, now time.Time) string {
	all := o.VersionPauses()
	if o.Pause != nil || len(all) == 0 {
		return Pause(o.Pause, now)
	}
	var texts []string
	for _, p := range all {
		texts = append(texts, Pause(p, now))
	}
	return strings.Join(texts, "; ")
}

// phase says what a holder does, since when.
func phase(r lock.Record, now time.Time) string {
	text := safetext.Cut(string(r.Phase), maxName)
	if text != "" && !r.PhaseSince.IsZero() {
		text += ", " + elapsed(r.PhaseSince, now)
	}
	return text
}

// GroupName names a group in a sentence.
func GroupName(group string) string {
	return safetext.Cut(cmp.Or(group, "(default)"), maxID)
}

// HolderNames lists holders in a sentence.
func HolderNames(holders []lock.HolderInfo) string {
	var names []string
	for _, h := range holders {
		names = append(names, hostName(h.ID, h.Record.Hostname))
	}
	return safetext.List(names)
}

// QueueNames lists the hosts in the queue in a sentence.
func QueueNames(queue []lock.QueueEntry) string {
	var names []string
	for _, w := range queue {
		names = append(names, hostName(w.ID, w.Hostname))
	}
	return safetext.List(names)
}

// hostName names a host in a sentence.
func hostName(id, hostname string) string {
	if hostname == "" {
		return safetext.Cut(id, maxID)
	}
	return fmt.Sprintf("%s (%s)", safetext.Cut(hostname, maxName), safetext.Cut(id, maxID))
}

// Table is a text in columns, with "-" in cells that are empty. For 10,000 rows text/tabwriter takes 10 MB more, and
// locksmithctl hosts a sixth longer.
type Table struct {
	rows   [][]string
	widths []int // of the columns, in characters
}

// NewTable returns a table with these headings.
func NewTable(columns ...string) *Table {
	t := &Table{widths: make([]int, len(columns))}
	t.Row(columns...)
	return t
}

// Row adds a row with a cell for each column. It keeps the slice.
func (t *Table) Row(cells ...string) {
	for i := range cells {
		cells[i] = cmp.Or(cells[i], "-")
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cells[i]))
	}
	t.rows = append(t.rows, cells)
}

// String returns the table, a line a row.
func (t *Table) String() string { return t.Under("") }

// Under returns the table with a text before it.
func (t *Table) Under(head string) string {
	blanks, line := strings.Repeat(" ", slices.Max(t.widths)+2), 0
	for _, width := range t.widths {
		line += width + 2
	}
	var text strings.Builder
	text.Grow(len(head) + len(t.rows)*line) // a large table would be copied several times while it grows
	text.WriteString(head)
	for _, row := range t.rows {
		last := len(row) - 1
		for i, cell := range row[:last] {
			text.WriteString(cell)
			text.WriteString(blanks[:t.widths[i]-utf8.RuneCountInString(cell)+2])
		}
		text.WriteString(row[last])
		text.WriteByte('\n')
	}
	return text.String()
}

// Openings is a reboot window.
type Openings interface {
	fmt.Stringer
	policy.Window
}

// Window shows whether a reboot window is open, and its next openings.
func Window(w Openings, now time.Time) string {
	text := fmt.Sprintf("Window: %s\n", w)
	start, end := w.Next(now)
	switch by := w.ShutBy(now); {
	case start.After(now) && by != "":
		text += fmt.Sprintf("Open: no, until %s, after %s\n", dateTime(start), by)
	case start.After(now):
		text += fmt.Sprintf("Open: no, until %s\n", dateTime(start))
	case end.IsZero():
		return text + "Open: yes, and nothing shuts it\n"
	default:
		text += fmt.Sprintf("Open: yes, until %s\n", dateTime(end))
		start, end = w.Next(end)
	}
	table := NewTable("OPENS", "SHUTS")
	for range 5 {
		if end.IsZero() {
			table.Row(dateTime(start), "never")
			break
		}
		table.Row(dateTime(start), dateTime(end))
		start, end = w.Next(end)
	}
	return table.Under(text + "\n")
}

// HostID shows the id of a host.
func HostID(id string) string { return safetext.Cut(id, maxID) }
