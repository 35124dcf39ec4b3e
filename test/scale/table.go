package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The targets.
const (
	maxRequests = 18  // with the records of the inventory
	maxSpread   = 0.1 // between the first number of hosts and any other
	maxRatio    = 1.5 // up to ratioHosts, and with max 1
	ratioHosts  = 1000
)

// row is one figure, for every number of hosts, with its target.
type row struct {
	name   string
	cells  []string
	target string
}

// table shows the figures, one column for each number of hosts.
func table(all []figures, markdown bool) string {
	rows := []row{{name: "hosts", target: "target"}}
	for _, f := range all {
		rows[0].cells = append(rows[0].cells, fmt.Sprint(f.hosts))
	}
	add := func(name, target string, cell func(figures) string) {
		r := row{name: name, target: target}
		for _, f := range all {
			r.cells = append(r.cells, cell(f))
		}
		rows = append(rows, r)
	}
	add("etcd requests a reboot", fmt.Sprintf("at most %d, within %.0f %%", maxRequests, maxSpread*100), func(f figures) string {
		r := f.requests()
		return mark(fmt.Sprintf("%.2f", r), r <= maxRequests && math.Abs(r/all[0].requests()-1) <= maxSpread)
	})
	for _, method := range methods(all) {
		add("- "+method, "", func(f figures) string { return fmt.Sprintf("%.2f", f.calls[method]/float64(f.hosts)) })
	}
	add("messages in them", "", func(f figures) string { return fmt.Sprintf("%.2f", f.messages/float64(f.hosts)) })
	add("transactions that write", "", func(f figures) string { return fmt.Sprintf("%.2f", float64(f.writes)/float64(f.hosts)) })
	add("bytes to etcd a reboot", "", func(f figures) string { return fmt.Sprintf("%.0f", f.received/float64(f.hosts)) })
	add("bytes from etcd a reboot", "", func(f figures) string { return fmt.Sprintf("%.0f", f.sent/float64(f.hosts)) })
	add("keep-alives a reboot", "", func(f figures) string { return fmt.Sprintf("%.2f", f.keepAlives/float64(f.hosts)) })
	add("processor time of etcd, ms a reboot", "", func(f figures) string { return milliseconds(f.cpu / time.Duration(f.hosts)) })
	add("floor, median ms", "", func(f figures) string { return milliseconds(quantile(f.floors, 0.5)) })
	add("floor, 99 % ms", "", func(f figures) string { return milliseconds(quantile(f.floors, 0.99)) })
	add("hand-over, median ms", "", func(f figures) string { return milliseconds(quantile(f.handovers, 0.5)) })
	add("hand-over, 99 % ms", "", func(f figures) string { return milliseconds(quantile(f.handovers, 0.99)) })
	add("hand-over / floor, medians", fmt.Sprintf("at most %.1f", maxRatio), func(f figures) string {
		if len(f.handovers) == 0 {
			return "-"
		}
		r := float64(quantile(f.handovers, 0.5)) / float64(quantile(f.floors, 0.5))
		return mark(fmt.Sprintf("%.2f", r), r <= maxRatio || f.hosts > ratioHosts || f.max > 1)
	})
	add("worst place overtaken", "0", func(f figures) string { return mark(fmt.Sprint(f.overtaken), f.overtaken == 0) })
	add("places lost", "0", func(f figures) string { return mark(fmt.Sprint(f.lost), f.lost == 0) })
	add("most slots held at once", "max", func(f figures) string { return mark(fmt.Sprint(f.atOnce), f.atOnce <= f.max) })
	add("failed calls", "0", func(f figures) string { return mark(fmt.Sprint(f.failures), f.failures == 0) })
	add("processor of etcd while all wait, %", "", func(f figures) string { return fmt.Sprintf("%.1f", f.busy*100) })
	add("etcd's memory while all wait, MB", "", func(f figures) string { return megabytes(f.waiting.resident) })
	add("etcd's memory, peak MB", "", func(f figures) string { return megabytes(f.ended.peak) })
	add("etcd's database at the end, MB", "", func(f figures) string { return megabytes(f.ended.database) })
	add("all in the queue after, s", "", func(f figures) string { return seconds(f.filled) })
	for _, name := range slices.Sorted(maps.Keys(all[0].glances)) {
		add(name+", median ms", "", func(f figures) string { return milliseconds(quantile(f.glances[name], 0.5)) })
		add(name+", 99 % ms", "", func(f figures) string { return milliseconds(quantile(f.glances[name], 0.99)) })
	}
	if all[0].glances != nil {
		add("events that the page has had", "", func(f figures) string { return fmt.Sprint(f.events) })
		add("the server's memory, peak MB", "", func(f figures) string { return megabytes(f.resident) })
	}
	add("whole rollout, s", "", func(f figures) string { return seconds(f.rollout) })
	if markdown {
		return asMarkdown(rows)
	}
	return asText(rows)
}

// requests returns the number of calls for a reboot, without keep-alives.
func (f figures) requests() float64 {
	sum := 0.0
	for _, n := range f.calls {
		sum += n
	}
	return sum / float64(f.hosts)
}

// methods returns the names of the calls that occur, in order.
func methods(all []figures) []string {
	names := map[string]bool{}
	for _, f := range all {
		for name := range f.calls {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func mark(figure string, good bool) string {
	if good {
		return figure
	}
	return figure + " (missed)"
}

// quantile returns the least value that is not exceeded by a share q of the values, or 0 if there are none.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e6) }
func seconds(d time.Duration) string      { return fmt.Sprintf("%.1f", d.Seconds()) }
func megabytes(n float64) string          { return fmt.Sprintf("%.0f", n/1e6) }

func asMarkdown(rows []row) string {
	var b strings.Builder
	for i, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.name, strings.Join(r.cells, " | "), r.target)
		if i == 0 {
			fmt.Fprintf(&b, "| --- |%s --- |\n", strings.Repeat(" ---: |", len(r.cells)))
		}
	}
	return b.String()
}

func asText(rows []row) string {
	widths := make([]int, len(rows[0].cells)+1)
	for _, r := range rows {
		for i, cell := range append([]string{r.name}, r.cells...) {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		line := fmt.Sprintf("%-*s", widths[0], r.name)
		for i, cell := range r.cells {
			line += fmt.Sprintf("  %*s", widths[i+1], cell)
		}
		b.WriteString(strings.TrimRight(line+"  "+r.target, " ") + "\n")
	}
	return b.String()
}
