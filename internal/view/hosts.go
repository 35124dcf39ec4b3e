package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// NoNews is what a HostFilter calls hosts that have said nothing for too long, whatever their state.
const NoNews = "no-news"

// HostStates returns the states that a HostFilter takes.
func HostStates() []string {
	names := fleet.States()
	slices.Sort(names)
	return append(names, NoNews)
}

// HostFilter chooses hosts. A host has to match one value of each list that is not empty.
type HostFilter struct {
	States   []string // see HostStates
	Versions []string // of the operating system that runs
	Pending  []string // versions that hosts need a reboot for
}

// Hosts returns the hosts that match, in their order.
func (f HostFilter) Hosts(all fleet.Fleet) (hosts []*fleet.Host) {
	for _, g := range all.Groups {
		for n := range g.Hosts {
			if h := &g.Hosts[n]; f.matches(h) {
				hosts = append(hosts, h)
			}
		}
	}
	return hosts
}

func (f HostFilter) matches(h *fleet.Host) bool {
	pending := ""
	if h.Need != nil {
		pending = h.Need.Version
	}
	one := func(of []string, values ...string) bool {
		return len(of) == 0 || slices.ContainsFunc(values, func(v string) bool { return v != "" && slices.Contains(of, v) })
	}
	news := ""
	if h.NoNews {
		news = NoNews
	}
	return one(f.States, string(h.State), news) && one(f.Versions, h.OSVersion) && one(f.Pending, pending)
}

// How much of a sentence is shown in a table without the format wide, in bytes.
const maxBrief = 80

// Hosts shows hosts of a group, or with groups those of all.
func (f Format) Hosts(hosts []*fleet.Host, groups bool, now time.Time) (string, error) {
	switch {
	case f.ForPrograms():
		documents := []FleetHostDocument{}
		for _, h := range hosts {
			documents = append(documents, NewFleetHostDocument(h))
		}
		return f.marshal(documents)
	case len(hosts) == 0:
		return "", nil
	case f == Wide:
		return hostTable(hosts, groups, now), nil
	}
	return briefHostTable(hosts, groups, now), nil
}

func briefHostTable(hosts []*fleet.Host, groups bool, now time.Time) string {
	columns := []string{"HOSTNAME", "VERSION", "STATE", "FOR", "WHY"}
	if groups {
		columns = append([]string{"GROUP"}, columns...)
	}
	table := NewTable(columns...)
	for _, h := range hosts {
		name := cmp.Or(safetext.Cut(h.Hostname, maxName), safetext.Cut(h.ID, maxScreenID))
		row := []string{name, safetext.Cut(h.OSVersion, maxName), hostState(h), elapsed(h.Since, now), Cut(whyHost(h, now), maxBrief)}
		if groups {
			row = append([]string{GroupName(h.Group)}, row...)
		}
		table.Row(row...)
	}
	return table.String()
}

func hostTable(hosts []*fleet.Host, groups bool, now time.Time) string {
	columns := []string{"MACHINE ID", "HOSTNAME", "OS", "VERSION", "PENDING", "STATE", "SINCE", "WINDOW", "BOOTED", "LAST REBOOT", "LOCKSMITH", "HEARD", "WHY"}
	if groups {
		columns = append([]string{"GROUP"}, columns...)
	}
	table := NewTable(columns...)
	for _, h := range hosts {
		pending := ""
		if h.Need != nil {
			pending = cmp.Or(safetext.Cut(h.Need.Version, maxName), "yes")
		}
		row := []string{
			safetext.Cut(h.ID, maxID), safetext.Cut(h.Hostname, maxName), safetext.Cut(h.OS, maxName), safetext.Cut(h.OSVersion, maxName), pending,
			hostState(h), timestamp(h.Since, now), fleetWindow(h), timestamp(h.Booted, now), lastReboot(h.Last, now), safetext.Cut(h.Locksmith, maxName),
			elapsed(h.Updated, now), whyHost(h, now),
		}
		if groups {
			row = append([]string{GroupName(h.Group)}, row...)
		}
		table.Row(row...)
	}
	return table.String()
}

// hostState is the state of a host, with what it waits for.
func hostState(h *fleet.Host) string {
	text := safetext.Cut(string(h.State), maxName)
	if h.State == inventory.Waiting && h.WaitsFor != "" {
		text += " (" + safetext.Cut(h.WaitsFor, maxName) + ")"
	}
	if h.NoNews {
		text += ", no news"
	}
	return text
}

// whyHost says more about the state of a host, first what makes it doubtful.
func whyHost(h *fleet.Host, now time.Time) string {
	why := safetext.Cut(h.Why, maxFailure)
	var notes []string
	switch {
	case h.Broken:
		notes = append(notes, "its record in etcd cannot be understood")
	case h.NoRecord:
		notes = append(notes, "no record")
	case h.NoNews && !h.Updated.IsZero():
		notes = append(notes, "its record is from "+timestamp(h.Updated, now))
	}
	if h.Place > 0 {
		notes = append(notes, fmt.Sprintf("place %d", h.Place))
	}
	if h.State == inventory.Idle && h.Last != nil && !h.Last.Well && h.Last.Why != "" {
		notes = append(notes, "the last reboot failed")
	}
	if why != "" {
		notes = append(notes, why)
	}
	return strings.Join(notes, "; ")
}

// fleetWindow is the reboot window of a host, as it is set.
func fleetWindow(h *fleet.Host) string {
	w := h.Window
	if w == nil {
		return ""
	}
	text := "always"
	if w.Start != "" {
		text = fmt.Sprintf("%s for %s", safetext.Cut(w.Start, maxName), safetext.Cut(w.Length, maxName))
	}
	if w.Zone != "" {
		text += " " + safetext.Cut(w.Zone, maxName)
	}
	if w.Blackout != "" {
		text += ", but " + safetext.Cut(w.Blackout, maxName)
	}
	return text
}

// lastReboot says what the last reboot came to.
func lastReboot(r *inventory.Reboot, now time.Time) string {
	if r == nil {
		return ""
	}
	text := timestamp(r.At, now)
	switch {
	case r.Well && r.Took > 0:
		text += ", took " + elapsed(now, now.Add(r.Took))
	case r.Well:
	case r.Why != "":
		text += ", failed: " + safetext.Cut(r.Why, maxName)
	default:
		text += ", not known to be over"
	}
	return text
}

// HostSummary says how many hosts are in which state.
func HostSummary(hosts []*fleet.Host) string {
	counts := map[string]int{}
	silent := 0
	for _, h := range hosts {
		counts[safetext.Cut(string(h.State), maxName)]++
		if h.NoNews {
			silent++
		}
	}
	states := make([]string, 0, len(counts))
	for state := range counts {
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	var parts []string
	for _, state := range states {
		parts = append(parts, fmt.Sprintf("%d %s", counts[state], cmp.Or(state, "without a state")))
	}
	const most = 15 // states that locksmithd has; others are written by somebody else
	if len(parts) > most {
		parts = append(parts[:most], fmt.Sprintf("and %d other states", len(states)-most))
	}
	text := hostCount(len(hosts)) + ": " + strings.Join(parts, ", ")
	if silent > 0 {
		text += fmt.Sprintf("; no news of %d", silent)
	}
	return text
}

// FleetHostDocument is what programs read about a host of a fleet, in JSON and YAML, from locksmithctl hosts and from the
// API of serve. Fields may be added; existing ones stay; the help of "locksmithctl hosts" describes them.
type FleetHostDocument struct {
	Group      string          `json:"group" yaml:"group"`
	ID         string          `json:"id" yaml:"id"`
	Hostname   string          `json:"hostname" yaml:"hostname"`
	OS         string          `json:"os" yaml:"os"`
	OSVersion  string          `json:"os_version" yaml:"os_version"`
	Locksmith  string          `json:"locksmith" yaml:"locksmith"`
	Booted     *time.Time      `json:"booted" yaml:"booted"`
	Updated    *time.Time      `json:"updated" yaml:"updated"`
	State      string          `json:"state" yaml:"state"`
	Since      *time.Time      `json:"since" yaml:"since"`
	Why        string          `json:"why" yaml:"why"`
	WaitsFor   string          `json:"waits_for" yaml:"waits_for"`
	Need       *needDocument   `json:"need" yaml:"need"`
	Window     *windowDocument `json:"window" yaml:"window"`
	LastReboot *rebootDocument `json:"last_reboot" yaml:"last_reboot"`
	Slot       *slotDocument   `json:"slot" yaml:"slot"`
	Place      int             `json:"place" yaml:"place"`
	NoNews     bool            `json:"no_news" yaml:"no_news"`
	NoRecord   bool            `json:"no_record" yaml:"no_record"`
	Unreadable bool            `json:"unreadable" yaml:"unreadable"`
	Gone       bool            `json:"gone,omitempty" yaml:"gone,omitempty"`
}

type needDocument struct {
	Version string     `json:"version" yaml:"version"`
	Since   *time.Time `json:"since" yaml:"since"`
	Reasons []string   `json:"reasons" yaml:"reasons"`
}

type windowDocument struct {
	Start    string     `json:"start" yaml:"start"`
	Length   string     `json:"length" yaml:"length"`
	Zone     string     `json:"zone" yaml:"zone"`
	Blackout string     `json:"blackout" yaml:"blackout"`
	Opens    *time.Time `json:"opens" yaml:"opens"`
	Shuts    *time.Time `json:"shuts" yaml:"shuts"`
}

type rebootDocument struct {
	Version     string     `json:"version" yaml:"version"`
	At          *time.Time `json:"at" yaml:"at"`
	TookSeconds *float64   `json:"took_seconds" yaml:"took_seconds"`
	Well        bool       `json:"well" yaml:"well"`
	Why         string     `json:"why" yaml:"why"`
}

type slotDocument struct {
	Since   *time.Time `json:"since" yaml:"since"`
	By      string     `json:"by" yaml:"by"`
	Version string     `json:"version" yaml:"version"`
	Phase   string     `json:"phase" yaml:"phase"`
	Expired bool       `json:"expired" yaml:"expired"`
}

// NewFleetHostDocument returns the document of a host.
func NewFleetHostDocument(h *fleet.Host) FleetHostDocument {
	d := FleetHostDocument{
		Group: h.Group, ID: h.ID, Hostname: h.Hostname, OS: h.OS, OSVersion: h.OSVersion, Locksmith: h.Locksmith,
		Booted: TimeOrNil(h.Booted), Updated: TimeOrNil(h.Updated), State: string(h.State), Since: TimeOrNil(h.Since), Why: h.Why, WaitsFor: h.WaitsFor,
		Place: h.Place, NoNews: h.NoNews, NoRecord: h.NoRecord, Unreadable: h.Broken,
	}
	if n := h.Need; n != nil {
		d.Need = &needDocument{n.Version, TimeOrNil(n.Since), append([]string{}, n.Reasons...)}
	}
	if w := h.Window; w != nil {
		d.Window = &windowDocument{w.Start, w.Length, w.Zone, w.Blackout, TimeOrNil(h.Opens), TimeOrNil(h.Shuts)}
	}
	if r := h.Last; r != nil {
		d.LastReboot = &rebootDocument{r.Version, TimeOrNil(r.At), SecondsOrNil(r.Took), r.Well, r.Why}
	}
	if s := h.Slot; s != nil {
		d.Slot = &slotDocument{TimeOrNil(s.Record.Since), s.Record.By, s.Record.Version, string(s.Record.Phase), s.Expired}
	}
	return d
}

// SecondsOrNil returns a length of time in seconds as documents have it: nil for 0, which is not known.
func SecondsOrNil(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	return new(d.Seconds())
}
