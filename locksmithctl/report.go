package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

// format is the value of -output.
type format string

const (
	formatText format = "text"
	formatWide format = "wide"
	formatJSON format = "json"
	formatYAML format = "yaml"
)

func formats() []string {
	return []string{string(formatText), string(formatWide), string(formatJSON), string(formatYAML)}
}

func (f *format) Set(value string) error {
	if !slices.Contains(formats(), value) {
		return errors.New("write text, wide, json or yaml")
	}
	*f = format(value)
	return nil
}

func (f *format) String() string { return string(*f) }

func (f *format) Type() string { return "FORMAT" }

// groupOverview is a group and what is known about it.
type groupOverview struct {
	group string
	lock.Overview
}

// report is what scripts read. Fields may be added, and stay what they are.
type report struct {
	Group     string          `json:"group" yaml:"group"`
	Available int             `json:"available" yaml:"available"`
	Max       int             `json:"max" yaml:"max"`
	Paused    *pauseReport    `json:"paused" yaml:"paused"`
	Holders   []holder        `json:"holders" yaml:"holders"`
	Queue     []queueReport   `json:"queue" yaml:"queue"`
	Progress  *progressReport `json:"progress,omitempty" yaml:"progress,omitempty"`
}

type pauseReport struct {
	By         string     `json:"by" yaml:"by"`
	Reason     string     `json:"reason" yaml:"reason"`
	Since      *time.Time `json:"since" yaml:"since"`
	Until      *time.Time `json:"until" yaml:"until"`
	AllGroups  bool       `json:"all_groups" yaml:"all_groups"`
	Unreadable bool       `json:"unreadable" yaml:"unreadable"`
}

type holder struct {
	ID         string     `json:"id" yaml:"id"`
	Hostname   string     `json:"hostname" yaml:"hostname"`
	BootID     string     `json:"boot_id" yaml:"boot_id"`
	Since      *time.Time `json:"since" yaml:"since"`
	By         string     `json:"by" yaml:"by"`
	Version    string     `json:"version" yaml:"version"`
	Expired    bool       `json:"expired" yaml:"expired"`
	Unreadable bool       `json:"unreadable" yaml:"unreadable"`
}

type queueReport struct {
	ID       string     `json:"id" yaml:"id"`
	Hostname string     `json:"hostname" yaml:"hostname"`
	Since    *time.Time `json:"since" yaml:"since"`
	Version  string     `json:"version" yaml:"version"`
	Place    int        `json:"place" yaml:"place"`
}

type progressReport struct {
	Since   time.Time  `json:"since" yaml:"since"`
	Reboots int        `json:"reboots" yaml:"reboots"`
	PerHour *float64   `json:"per_hour" yaml:"per_hour"`
	End     *time.Time `json:"end" yaml:"end"`
}

func newReport(group string, o lock.Overview) report {
	r := report{Group: group, Available: o.Semaphore.Free, Max: o.Semaphore.Max, Holders: []holder{}, Queue: []queueReport{}}
	if p := o.Pause; p != nil {
		r.Paused = &pauseReport{By: p.By, Reason: p.Reason, Since: known(p.Since), Until: known(p.Until), AllGroups: p.All, Unreadable: p.Broken}
	}
	for _, h := range o.Holders {
		r.Holders = append(r.Holders, holder{
			ID: h.ID, Hostname: h.Record.Hostname, BootID: h.Record.BootID, Since: known(h.Record.Since),
			By: h.Record.By, Version: h.Record.Version, Expired: h.Expired, Unreadable: h.Broken,
		})
	}
	for i, w := range o.Queue {
		r.Queue = append(r.Queue, queueReport{
			ID: w.ID, Hostname: w.Hostname, Since: known(w.Since), Version: w.Version, Place: i + 1,
		})
	}
	return r
}

// known is nil for a time that is not.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (f format) render(group string, o lock.Overview, now time.Time) (string, error) {
	switch f {
	case formatText:
		return statusText(o), nil
	case formatWide:
		return wideText(o, now), nil
	}
	return f.marshal(newReport(group, o))
}

// renderAll shows several groups.
func (f format) renderAll(all []groupOverview, now time.Time) (string, error) {
	var b strings.Builder
	switch f {
	case formatText:
		if len(all) == 0 {
			return "", nil
		}
		table := newTable(&b, "GROUP", "AVAILABLE", "MAX", "HELD", "WAITING", "PAUSED")
		for _, g := range all {
			paused := "no"
			if p := g.Pause; p != nil && p.All {
				paused = "yes, all groups are"
			} else if p != nil {
				paused = "yes"
			}
			table.row(groupName(g.group), fmt.Sprint(g.Semaphore.Free), fmt.Sprint(g.Semaphore.Max), fmt.Sprint(len(g.Holders)), fmt.Sprint(len(g.Queue)), paused)
		}
		table.end()
		return b.String(), nil
	case formatWide:
		for i, g := range all {
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "Group: %s\n%s", groupName(g.group), wideText(g.Overview, now))
		}
		return b.String(), nil
	}
	reports := []report{}
	for _, g := range all {
		reports = append(reports, newReport(g.group, g.Overview))
	}
	return f.marshal(reports)
}

// marshal writes JSON or YAML.
func (f format) marshal(value any) (string, error) {
	if f == formatYAML {
		text, err := yaml.Marshal(value)
		return string(text), err
	}
	text, err := json.MarshalIndent(value, "", "  ")
	return escapeJSON(string(text)) + "\n", err
}

// document is one of several in a row.
func (f format) document(r report) (string, error) {
	text, err := f.marshal(r)
	if err != nil || f == formatYAML {
		return "---\n" + text, err
	}
	var line bytes.Buffer
	err = json.Compact(&line, []byte(text))
	return line.String() + "\n", err
}

// statusText is what 0.7 prints.
func statusText(o lock.Overview) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Available: %d\nMax: %d\n", o.Semaphore.Free, o.Semaphore.Max)
	if len(o.Semaphore.Holders) > 0 {
		b.WriteString("\nMACHINE ID\n")
	}
	for _, id := range o.Semaphore.Holders {
		b.WriteString(safetext.Cut(id, maxID) + "\n")
	}
	return b.String()
}

func wideText(o lock.Overview, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Available: %d\nMax: %d\nPaused: %s\n", o.Semaphore.Free, o.Semaphore.Max, pauseText(o.Pause, now))
	if len(o.Holders) > 0 {
		b.WriteString("\n" + holdersTable(o.Holders, now, maxID))
	}
	if len(o.Queue) > 0 {
		b.WriteString("\n")
		table := newTable(&b, "PLACE", "MACHINE ID", "HOSTNAME", "VERSION", "SINCE")
		for i, w := range o.Queue {
			table.row(fmt.Sprint(i+1), safetext.Cut(w.ID, maxID), safetext.Cut(w.Hostname, maxName), safetext.Cut(w.Version, maxName), stamp(w.Since, now))
		}
		table.end()
	}
	return b.String()
}

// holdersTable shows holders, with so much of their ids.
func holdersTable(holders []lock.HolderInfo, now time.Time, idBytes int) string {
	var b strings.Builder
	table := newTable(&b, "MACHINE ID", "HOSTNAME", "VERSION", "AGE", "BY")
	for _, h := range holders {
		table.row(safetext.Cut(h.ID, idBytes), hostname(h.Record.Hostname, h.Broken), safetext.Cut(h.Record.Version, maxName), holderAge(h, now), safetext.Cut(h.Record.By, maxName))
	}
	table.end()
	return b.String()
}

func hostname(name string, broken bool) string {
	if broken {
		return "(unreadable record)"
	}
	return safetext.Cut(name, maxName)
}

// holderAge says since when a slot is held.
func holderAge(h lock.HolderInfo, now time.Time) string {
	var text string
	if !h.Record.Since.IsZero() {
		text = age(now.Sub(h.Record.Since))
	}
	if h.Expired {
		text = strings.TrimPrefix(text+", expired", ", ")
	}
	return text
}

// stamp formats a time in the zone of now; "" for one that is not known.
func stamp(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(now.Location()).Format(layout)
}

// pauseText says whether there is a pause: "no", or by whom, since when and why.
func pauseText(p *lock.Pause, now time.Time) string {
	if p == nil {
		return "no"
	}
	var parts []string
	add := func(known bool, format string, args ...any) {
		if known {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(p.All, "all groups")
	add(p.Broken, "what etcd has about it cannot be understood")
	add(p.By != "", "by %s", safetext.Cut(p.By, maxID))
	add(!p.Since.IsZero(), "since %s (%s)", stamp(p.Since, now), age(now.Sub(p.Since)))
	add(!p.Until.IsZero(), "until %s", stamp(p.Until, now))
	text := strings.Join(parts, ", ")
	if p.Reason != "" {
		text += ": " + safetext.Cut(p.Reason, maxReason)
	}
	return text
}

// maxNames is how many of several hosts a sentence names.
const maxNames = 5

// names lists holders in a sentence.
func names(holders []lock.HolderInfo) string {
	var all []string
	for _, h := range holders {
		all = append(all, nameOf(h.ID, h.Record.Hostname))
	}
	return some(all)
}

// waiterNames lists who waits in a sentence.
func waiterNames(queue []lock.Waiter) string {
	var all []string
	for _, w := range queue {
		all = append(all, nameOf(w.ID, w.Hostname))
	}
	return some(all)
}

// nameOf is how a sentence names a host.
func nameOf(id, hostname string) string {
	if hostname == "" {
		return safetext.Cut(id, maxID)
	}
	return fmt.Sprintf("%s (%s)", safetext.Cut(hostname, maxName), safetext.Cut(id, maxID))
}

// some lists the first few, and how many there are beside.
func some(all []string) string {
	if more := len(all) - maxNames; more > 0 {
		all = append(slices.Clone(all[:maxNames]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

func groupName(group string) string {
	return safetext.Cut(cmp.Or(group, "(default)"), maxID)
}

// table has columns, with "-" in cells that are empty.
type table struct{ *tabwriter.Writer }

func newTable(b *strings.Builder, columns ...string) table {
	t := table{tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)}
	t.row(columns...)
	return t
}

func (t table) row(cells ...string) {
	for i := range cells {
		cells[i] = cmp.Or(cells[i], "-")
	}
	fmt.Fprintln(t.Writer, strings.Join(cells, "\t"))
}

func (t table) end() { t.Flush() } // a strings.Builder takes everything

// escapeJSON escapes the characters in a JSON text that encoding/json leaves
// alone though a terminal may act upon them.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
