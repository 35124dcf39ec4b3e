package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// PlanDocument is what programs read about the plan of a group, in JSON and YAML. Fields may be added; existing ones
// stay; the help of "locksmithctl plan" describes them.
type PlanDocument struct {
	Group    string         `json:"group" yaml:"group"`
	At       time.Time      `json:"at" yaml:"at"`
	End      *time.Time     `json:"end" yaml:"end"`
	Summary  string         `json:"summary" yaml:"summary"`
	Max      int            `json:"max" yaml:"max"`
	Lost     int            `json:"lost" yaml:"lost"`
	Version  string         `json:"version" yaml:"version"`
	Behind   int            `json:"behind" yaml:"behind"`
	NoNews   int            `json:"no_news" yaml:"no_news"`
	Paused   *pauseDocument `json:"paused" yaml:"paused"`
	Duration durationPlan   `json:"duration" yaml:"duration"`
	Hosts    []hostPlan     `json:"hosts" yaml:"hosts"`
}

type durationPlan struct {
	Typical float64 `json:"typical_seconds" yaml:"typical_seconds"`
	Median  float64 `json:"median_seconds" yaml:"median_seconds"`
	Short   float64 `json:"short_seconds" yaml:"short_seconds"`
	Long    float64 `json:"long_seconds" yaml:"long_seconds"`
	From    int     `json:"from" yaml:"from"`
}

type hostPlan struct {
	ID       string     `json:"id" yaml:"id"`
	Hostname string     `json:"hostname" yaml:"hostname"`
	Version  string     `json:"version" yaml:"version"`
	Outcome  string     `json:"outcome" yaml:"outcome"`
	Order    *int       `json:"order" yaml:"order"`
	Begins   *time.Time `json:"begins" yaml:"begins"`
	Ends     *time.Time `json:"ends" yaml:"ends"`
	Holds    bool       `json:"holds" yaml:"holds"`
	Own      bool       `json:"own_duration" yaml:"own_duration"`
	AsIf     bool       `json:"as_if,omitempty" yaml:"as_if,omitempty"`
	Cause    string     `json:"cause,omitempty" yaml:"cause,omitempty"`
	Note     string     `json:"note" yaml:"note"`
}

// NewPlanDocument returns the document of a plan, in which the times that people read are in this zone.
func NewPlanDocument(p plan.Plan, zone *time.Location) PlanDocument {
	took := p.Duration
	d := PlanDocument{
		Group: p.Group, At: p.At.UTC(), End: TimeOrNil(p.End), Summary: strings.Join(planSummary(p, zone), " "), Max: p.Max, Lost: p.Lost,
		Version: p.Version, Behind: p.Behind, NoNews: p.NoNews, Hosts: []hostPlan{},
		Duration: durationPlan{took.Typical.Seconds(), took.Median.Seconds(), took.Short.Seconds(), took.Long.Seconds(), took.From},
	}
	if p.Pause != nil {
		d.Paused = newPause(p.Pause)
	}
	for _, h := range p.Hosts {
		host := hostPlan{
			ID: h.ID, Hostname: h.Hostname, Version: h.Version, Outcome: string(h.Outcome), Begins: TimeOrNil(h.Begins), Ends: TimeOrNil(h.Ends),
			Holds: h.Holds, Own: h.Own, AsIf: h.AsIf, Cause: string(h.Cause), Note: planNote(h),
		}
		if h.Order > 0 {
			host.Order = new(h.Order)
		}
		d.Hosts = append(d.Hosts, host)
	}
	return d
}

// Plan shows the plan of a group, with the times that people read in this zone.
func (f Format) Plan(p plan.Plan, zone *time.Location) (string, error) {
	if f.ForPrograms() {
		return f.marshal(NewPlanDocument(p, zone))
	}
	return f.planText(p, zone), nil
}

// Plans shows the plans of several groups, as Plan does.
func (f Format) Plans(plans []plan.Plan, zone *time.Location) (string, error) {
	if f.ForPrograms() {
		documents := []PlanDocument{}
		for _, p := range plans {
			documents = append(documents, NewPlanDocument(p, zone))
		}
		return f.marshal(documents)
	}
	var texts []string
	for _, p := range plans {
		texts = append(texts, fmt.Sprintf("Group: %s\n%s", GroupName(p.Group), f.planText(p, zone)))
	}
	return strings.Join(texts, "\n"), nil
}

func (f Format) planText(p plan.Plan, zone *time.Location) string {
	text := strings.Join(planSummary(p, zone), "\n") + "\n"
	if len(p.Hosts) == 0 {
		return text
	}
	columns := []string{"ORDER", "HOST", "BEGINS", "ENDS", "NOTE"}
	if f == Wide {
		columns = []string{"ORDER", "MACHINE ID", "HOST", "VERSION", "BEGINS", "ENDS", "TAKES", "NOTE"}
	}
	table := NewTable(columns...)
	clock := planClock(p, zone)
	for _, h := range p.Hosts {
		order := ""
		if h.Order > 0 {
			order = fmt.Sprint(h.Order)
		}
		note, name := planNote(h), planName(h)
		if f == Wide {
			takes := ""
			if h.Order > 0 {
				takes = elapsed(p.At, p.At.Add(h.Took))
			}
			table.Row(order, safetext.Cut(h.ID, maxID), name, safetext.Cut(h.Version, maxName), timestamp(h.Begins, p.At.In(zone)), timestamp(h.Ends, p.At.In(zone)), takes, note)
		} else {
			table.Row(order, name, clock(h.Begins), clock(h.Ends), note)
		}
	}
	return table.Under(text + "\n")
}

// planName is the name of a host, or else its id.
func planName(h *plan.Host) string {
	return cmp.Or(safetext.Cut(h.Hostname, maxName), safetext.Cut(h.ID, maxID))
}

// planClock returns what writes times as short as the plan allows: with the day, and with the date if it goes on for
// longer than a week.
func planClock(p plan.Plan, zone *time.Location) func(time.Time) string {
	layout := "Mon 15:04"
	if p.End.Sub(p.At) > 6*24*time.Hour {
		layout = "Mon 2006-01-02 15:04"
	}
	for _, h := range p.Hosts { // a slot may have been taken long ago
		if !h.Begins.IsZero() && p.At.Sub(h.Begins) > 6*24*time.Hour {
			layout = "Mon 2006-01-02 15:04"
		}
	}
	return func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.In(zone).Format(layout)
	}
}

// planSummary says in sentences when the rollout will be done, who will not get there, and what the plan assumes.
func planSummary(p plan.Plan, zone *time.Location) (sentences []string) {
	add := func(format string, args ...any) { sentences = append(sentences, fmt.Sprintf(format, args...)) }
	reboots, names := 0, map[plan.Outcome][]string{}
	for _, h := range p.Hosts {
		if h.Outcome == plan.Reboots {
			reboots++
			continue
		}
		names[h.Outcome] = append(names[h.Outcome], planName(h))
	}
	first := ""
	switch all := len(p.Hosts); {
	case all == 0:
		first = "No host needs a reboot"
	case reboots == 0:
		first = fmt.Sprintf("None of %s will reboot", hostCount(all))
	default:
		first = fmt.Sprintf("%d of %s will have rebooted by %s (in %s)", reboots, hostCount(all), planClock(p, zone)(p.End), elapsed(p.At, p.End))
	}
	if never := names[plan.Never]; len(never) > 0 {
		first += fmt.Sprintf("; %d will not: %s", len(never), safetext.List(never))
	}
	if unforeseen := names[plan.Unforeseen]; len(unforeseen) > 0 {
		first += fmt.Sprintf("; for %d nobody can say when: %s", len(unforeseen), safetext.List(unforeseen))
	}
	add("%s.", first)
	if pause := p.Pause; pause != nil && !pause.Until.After(p.At) {
		add("Paused: %s. The plan is as if it were resumed now.", Pause(pause, p.At.In(zone)))
	} else if pause != nil {
		add("Paused: %s. The plan counts on that end.", Pause(pause, p.At.In(zone)))
	}
	if p.Lost > 0 {
		add("Slots that are kept, with no end in sight: %d of %d.", p.Lost, p.Max)
	}
	switch d := p.Duration; {
	case reboots == 0:
	case d.From == 0:
		add("Slots: %d. No reboot of this group is known yet: each is taken to last %s, which is a guess.", p.Max, elapsed(p.At, p.At.Add(d.Typical)))
	default:
		add("Slots: %d. A reboot is taken to last as long as the last one of its host, or else %s (known: %d; most took %s to %s).",
			p.Max, elapsed(p.At, p.At.Add(d.Typical)), d.From, elapsed(p.At, p.At.Add(d.Short)), elapsed(p.At, p.At.Add(d.Long)))
	}
	if p.Behind > 0 {
		asIf := "they are not in the plan"
		for _, h := range p.Hosts {
			if h.AsIf {
				asIf = "they are in the plan as if they did"
				break
			}
		}
		add("Hosts that run another version than %s, and need no reboot yet: %d; %s.", safetext.Cut(p.Version, maxName), p.Behind, asIf)
	}
	if p.NoNews > 0 {
		add("Hosts without news, which may need a reboot: %d.", p.NoNews)
	}
	return sentences
}

func hostCount(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}

// planCauses say why a host does not reboot, or why nobody can say when.
var planCauses = map[plan.Cause]string{
	plan.Held:                        "held by a hold file without an end",
	plan.Unwell:                      "unwell after its reboot",
	plan.NoNews:                      "no news",
	plan.Unreadable:                  "its record cannot be understood",
	plan.Attempts:                    "has used all attempts",
	plan.VersionPaused:               "its version is paused, since a host is unwell with it",
	plan.NoSlot:                      "there is no slot for it",
	plan.WindowShut:                  "its window does not open within a year",
	plan.WindowShort:                 "its window is too short for what runs before the reboot",
	plan.Stuck:                       "has had its slot for far longer than a reboot takes",
	plan.ByHand:                      "its slot was taken by hand",
	plan.Expired:                     "its slot has expired",
	plan.WindowUnclear:               "its window cannot be understood here, and does not open long enough the next time",
	plan.Far:                         "beyond what the plan looks at",
	plan.Cause(policy.LoggedIn):      "waits for users",
	plan.Cause(policy.Inhibited):     "waits for inhibitors",
	plan.Cause(policy.OtherShutdown): "waits for another shutdown",
	plan.Cause(policy.Unclear):       "waits for logind",
	plan.Cause(policy.MayReboot):     "its own checks say no",
	plan.Cause(policy.Alerts):        "waits for alerts",
}

// planNote is what there is to say of a host.
func planNote(h *plan.Host) string {
	var parts []string
	add := func(applies bool, text string) {
		if applies {
			parts = append(parts, text)
		}
	}
	if h.Order == 0 {
		cause, known := planCauses[h.Cause]
		if !known {
			cause = "waits for " + safetext.Cut(string(h.Cause), maxName)
		}
		detail := safetext.Cut(h.Detail, MaxReason)
		switch {
		case detail != "" && h.Outcome == plan.Unforeseen: // it is the sentence of the host
			cause = detail
		case detail != "":
			cause += ": " + detail
		}
		add(true, cause)
		add(h.Holds, "keeps its slot")
	} else {
		add(h.Holds, "holds a slot")
	}
	add(h.AsIf, "needs no reboot yet")
	add(h.ZoneUnknown, "the zone of its window is not known: UTC is taken")
	return strings.Join(parts, "; ")
}
