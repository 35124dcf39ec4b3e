package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/locksmithd/locksmith/internal/view"
)

// line returns an event that r has observed as a line of plain text, or "" if only the table shows it.
func line(r *referee, e event) string {
	text := describe(r, e)
	if text == "" {
		return ""
	}
	if e.Host != "" {
		text = fmt.Sprintf("%-*s  %s", nameWidth(r), e.Host, text)
	}
	return fmt.Sprintf("%7.2fs  %s", e.At.Sub(r.start).Seconds(), text)
}

func describe(r *referee, e event) string {
	h := r.byName[e.Host]
	switch e.Kind {
	case etcdRuns:
		return "etcd runs at " + e.Text
	case started:
		return "locksmithd starts"
	case status:
		// The other statuses repeat these, or other events show them.
		switch {
		case h.state == idle:
			return printable(e.Text)
		case h.queued.Equal(e.At):
			return "waits: no slot is free"
		case r.halt != nil:
			return r.halt.describeStatus(h, e)
		}
	case maxSet:
		return e.Text
	case announced:
		return fmt.Sprintf("update_engine of all %d hosts announces version %s, which needs a reboot", len(r.hosts), e.Text)
	case took:
		text := "takes a slot, " + free(e)
		if h != nil && h.handover > 0 {
			text += ", " + short(h.handover) + " after its release"
		}
		return text
	case released:
		return "releases its slot, " + free(e)
	case down:
		text := fmt.Sprintf("goes down for its reboot, %d of %d hosts down", r.count(isDownNow), len(r.hosts))
		if h.last.kept {
			text += ", with the slot that it has"
		}
		return text
	case up:
		text := "boots "
		if r.halt != nil {
			text += "version " + h.last.version + " "
		}
		return text + "after " + short(h.last.up.Sub(h.last.down))
	case unwell:
		return describeUnwell(r, e.Unwell)
	case shown:
		return "the rollout has stopped; " + strings.Join(stopText(e), "\n")
	}
	return ""
}

func free(e event) string {
	return fmt.Sprintf("%d of %d left free", e.Semaphore.Free, e.Semaphore.Max)
}

// table shows the fleet on a terminal of a size. If not every host has a line, hosts where something happens come
// first.
func table(r *referee, now time.Time, width, height int) []string {
	lines := []string{
		fmt.Sprintf("locksmith: %d hosts take %s, at most %d of them down at once   %.1fs", len(r.hosts), updateOf(r), r.max, now.Sub(r.start).Seconds()),
		"slots: " + slotsOf(r),
		"hosts: " + strings.Join(census(r), ", "),
		"",
	}
	names := nameWidth(r)
	row := func(name, state, since, status string) string {
		return fmt.Sprintf("%-*s  %-9s  %7s  %s", names, name, state, since, status)
	}
	lines = append(lines, row("HOST", "STATE", "SINCE", "STATUS"))
	room := max(0, height-len(lines))
	hidden := len(r.hosts) > room
	if hidden {
		room = max(0, room-1)
	}
	used := len(row("", "", "", ""))
	for _, h := range chosen(r, room) {
		lines = append(lines, row(h.name, h.state.String(), fmt.Sprintf("%.1fs", now.Sub(h.since).Seconds()), fit(h.status, width-used)))
	}
	if hidden {
		lines = append(lines, fmt.Sprintf("and %d more", len(r.hosts)-room))
	}
	return view.Fit(lines, width, height)
}

func updateOf(r *referee) string {
	if r.halt != nil {
		return "a bad update"
	}
	return "an update"
}

func slotsOf(r *referee) string {
	if r.semaphore.Max == 0 {
		return "none yet"
	}
	text := fmt.Sprintf("%d free, %d held", r.semaphore.Free, len(r.semaphore.Holders))
	if holders := r.names(func(h *host) bool { return h.holds }); holders != "" {
		text += " by " + holders
	}
	return text
}

// census counts the hosts in each state.
func census(r *referee) []string {
	var counts []string
	for s := starting; s <= updated; s++ {
		if n := r.count(in(s)); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return counts
}

// chosen returns n of the hosts, in their order.
func chosen(r *referee, n int) []*host {
	urgency := []state{isDown, sick, booting, rebooting, starting, waiting, updated, idle}
	hosts := slices.Clone(r.hosts)
	slices.SortStableFunc(hosts, func(a, b *host) int {
		return slices.Index(urgency, a.state) - slices.Index(urgency, b.state)
	})
	hosts = hosts[:min(n, len(hosts))]
	return slices.DeleteFunc(slices.Clone(r.hosts), func(h *host) bool { return !slices.Contains(hosts, h) })
}

// fit shortens a status line to a width: it drops the dates from its times, then leading parts, and then cuts it.
func fit(status string, width int) string {
	status = clock.ReplaceAllString(printable(status), "$1")
	for len([]rune(status)) > width {
		_, rest, ok := strings.Cut(status, "; ")
		if !ok {
			break
		}
		status = rest
	}
	return view.Cut(status, width)
}

// clock matches a time in the status of locksmithd.
var clock = regexp.MustCompile(`[A-Z][a-z]{2} \d{4}-\d\d-\d\d (\d\d:\d\d:\d\d) [A-Z0-9+-]+`)

func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, text)
}

// summary returns a summary of the run.
func summary(r *referee, now time.Time) []string {
	lines := []string{"", fmt.Sprintf("%d of %d hosts rebooted in %.1f s, in this order:", r.count(rebooted), len(r.hosts), now.Sub(r.start).Seconds())}
	for i, b := range r.reboots {
		text := fmt.Sprintf("%5d. %-*s  down at %.2f s", i+1, nameWidth(r), b.host.name, b.down.Sub(r.start).Seconds())
		if !b.up.IsZero() {
			text += " for " + short(b.up.Sub(b.down))
			if r.halt != nil {
				text += ", booted version " + b.version
			}
		}
		switch {
		case b.kept:
			text += ", with the slot that it had"
		case b.handover > 0:
			text += ", had the slot of another host within " + short(b.handover)
		}
		lines = append(lines, text)
	}
	if r.halt != nil {
		lines = append(lines, r.halt.summary(r)...)
	}
	lines = append(lines,
		fmt.Sprintf("hosts down at once: at most %d, %d allowed", r.mostDown, r.max),
		fmt.Sprintf("slots held at once: at most %d", r.mostHeld))
	if n := len(r.handovers); n > 0 {
		sorted := slices.Sorted(slices.Values(r.handovers))
		lines = append(lines, fmt.Sprintf("from a release to the next host's slot: %s at best, %s median, %s at worst",
			short(sorted[0]), short(sorted[n/2]), short(sorted[n-1])))
	}
	return lines
}

func rebooted(h *host) bool { return h.last != nil && !h.last.up.IsZero() }

func nameWidth(r *referee) int {
	width := 0
	for _, h := range r.hosts {
		width = max(width, len(h.name))
	}
	return width
}

// short formats a duration for people.
func short(d time.Duration) string {
	switch {
	case d < 100*time.Microsecond:
		return "<0.1 ms" // events in one message of etcd have no time between them
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
