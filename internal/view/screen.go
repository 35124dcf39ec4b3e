package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Line describes the last change in a line.
func (w *Watch) Line(now time.Time) string {
	o := w.last
	var parts []string
	if len(w.change.released) > 0 {
		parts = append(parts, "given back by "+HolderNames(w.change.released))
	}
	if len(w.change.taken) > 0 {
		parts = append(parts, "taken by "+HolderNames(w.change.taken))
	}
	for _, h := range w.change.phases {
		part := fmt.Sprintf("%s is %s", hostName(h.ID, h.Record.Hostname), cmp.Or(safetext.Cut(string(h.Record.Phase), maxName), "in no phase"))
		if h.Record.PhaseWhy != "" {
			part += ": " + safetext.Cut(h.Record.PhaseWhy, MaxReason)
		}
		parts = append(parts, part)
	}
	if w.change.pause {
		parts = append(parts, "paused: "+pauses(*o, now))
	}
	parts = append(parts,
		fmt.Sprintf("%d of %d available", o.Semaphore.Free, o.Semaphore.Max),
		fmt.Sprintf("%d waiting", len(o.Queue)),
		"reboots: "+w.rateText(now),
		"end: "+w.endText(now))
	return dateTime(now) + "  " + strings.Join(parts, "; ") + "\n"
}

// How much a terminal shows, in bytes: a machine id has 32.
const (
	maxScreenID = 36
	maxFailure  = 8 << 10
)

// Screen draws the lock for a terminal of that size, in lines.
func (w *Watch) Screen(now time.Time, width, height int) []string {
	lines := []string{fmt.Sprintf("locksmith, group %s   %s", GroupName(w.group), dateTime(now))}
	failure := safetext.Cut(w.failure, maxFailure)
	switch {
	case w.last == nil && failure == "":
		return Fit(append(lines, "", "asking etcd ..."), width, height)
	case w.last == nil:
		return Fit(append(lines, "", "nothing is known: "+failure), width, height)
	case failure != "":
		lines = append(lines, "OUT OF DATE: "+failure)
	}
	o := w.last
	lines = append(lines,
		fmt.Sprintf("slots:   %d of %d available, %d held, %d waiting", o.Semaphore.Free, o.Semaphore.Max, len(o.Holders), len(o.Queue)),
		"paused:  "+pauses(*o, now),
		"reboots: "+w.rateText(now),
		"end:     "+w.endText(now))
	var holders, queue []string
	if len(o.Holders) > 0 {
		holders = paragraph(holderTable(o.Holders, maxScreenID, now))
	}
	if len(o.Unwell) > 0 {
		holders = append(holders, paragraph(unwellTable(o.Unwell, maxScreenID, "FOR", elapsed, now))...)
	}
	if len(o.Queue) > 0 {
		queue = paragraph(queueTable(o.Queue, maxScreenID, "WAITS", elapsed, now))
	}
	// Half of the room is for the holders, unless the queue needs less.
	room := max(0, height-len(lines))
	holders, queue = shorten(holders, max(room/2, room-len(queue))), shorten(queue, max(room/2, room-len(holders)))
	return Fit(slices.Concat(lines, holders, queue), width, height)
}

// rateText says how many hosts rebooted, and how fast.
func (w *Watch) rateText(now time.Time) string {
	text := fmt.Sprintf("%d since %s", w.released, w.started.Format(time.TimeOnly))
	if n := w.perHour(now); n > 0 {
		text += fmt.Sprintf(", %.1f an hour", n)
	}
	return text
}

func (w *Watch) endText(now time.Time) string {
	end, why := w.end(now)
	if why != "" {
		return why
	}
	return fmt.Sprintf("in about %s, %s", elapsed(now, end), dateTime(end))
}

// paragraph returns the lines of a table, and an empty one before them.
func paragraph(table string) []string {
	return strings.Split("\n"+strings.TrimSuffix(table, "\n"), "\n")
}

// shorten leaves at most n lines of a paragraph.
func shorten(lines []string, n int) []string {
	if len(lines) <= n {
		return lines
	}
	if n < 4 {
		return nil // no room for an empty line, the headings, a host and how many more there are
	}
	return append(slices.Clone(lines[:n-1]), fmt.Sprintf("and %d more", len(lines)-n+1))
}

// Fit cuts lines to the size of a terminal.
func Fit(lines []string, width, height int) []string {
	lines = lines[:min(len(lines), max(1, height))]
	for i := range lines {
		lines[i] = Cut(strings.TrimRight(lines[i], " "), width)
	}
	return lines
}

// Cut shortens a line to width characters.
func Cut(line string, width int) string {
	width = max(0, width)
	keep, dots := width-3, "..."
	if width < 3 {
		keep, dots = width, ""
	}
	length, end := 0, 0
	for at := range line {
		if length == keep {
			end = at
		}
		if length == width {
			return line[:end] + dots
		}
		length++
	}
	return line
}
