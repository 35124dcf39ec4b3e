package page

import (
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/view"
)

// Plan is how the rollout of a group will go on.
type Plan struct {
	Summary string // in a sentence or a few
	Hosts   []PlannedHost
	// Document is what the API has of it.
	Document any
}

// PlannedHost is what will become of a host.
type PlannedHost struct {
	ID, Hostname string
	Begins, Ends time.Time // of its slot; zero for a host that will not reboot, or of which nobody can say when
	Note         string    // what is to be said of it
}

const (
	// plannedHosts is how many hosts of each group are shown.
	plannedHosts = 10
	// planAge is how long a plan is shown that was made of the same facts. Windows open, and reboots take longer than
	// foreseen, without a change in the store.
	planAge = 15 * time.Second
)

// plans keeps the newest plan of each group, since many look at the same.
type plans struct {
	mu     sync.Mutex
	groups map[string]madePlan
}

type madePlan struct {
	Plan
	of   uint64 // see fleet.Seen
	made time.Time
}

// planOf returns the plan of a group.
func (h *Handler) planOf(seen fleet.Seen, g fleet.Group, now time.Time) Plan {
	h.plans.mu.Lock()
	defer h.plans.mu.Unlock()
	if last, found := h.plans.groups[g.Group]; found && last.of == seen.Changes[g.Group] && now.Sub(last.made) < planAge {
		return last.Plan
	}
	if h.plans.groups == nil {
		h.plans.groups = map[string]madePlan{}
	}
	p := h.Plan(g, now)
	h.plans.groups[g.Group] = madePlan{p, seen.Changes[g.Group], now}
	return p
}

// plansDocument is what the API has of all groups whose lock can be understood.
func (h *Handler) plansDocument(seen fleet.Seen, now time.Time) (string, error) {
	documents := []any{}
	for _, g := range seen.Groups {
		if g.Err == nil {
			documents = append(documents, h.planOf(seen, g, now).Document)
		}
	}
	return view.JSON.Marshal(documents)
}

// planRow is the plan of a group on the page.
type planRow struct {
	Group, Summary string
	Chart          chart
	More           int
}

// addPlans adds the plans of groups in which something is to happen.
func (w *writer) addPlans(d *pageData, seen fleet.Seen, planOf func(fleet.Group) Plan) {
	for _, g := range seen.Groups {
		if g.Err != nil {
			continue
		}
		p := planOf(g)
		if len(p.Hosts) == 0 {
			continue
		}
		row := planRow{Group: name(w.names[g.Group]), Summary: safetext.Cut(p.Summary, 1<<10), More: max(0, len(p.Hosts)-plannedHosts)}
		shown := p.Hosts[:min(len(p.Hosts), plannedHosts)]
		c := chart{From: w.now}
		for _, host := range shown {
			if host.Ends.After(c.To) {
				c.To = host.Ends
			}
			if !host.Begins.IsZero() && host.Begins.Before(c.From) {
				c.From = host.Begins
			}
		}
		for _, host := range shown {
			b := bar{Host: w.host(host.ID, host.Hostname, g.Group), From: w.moment(host.Begins), Result: why(host.Note), Class: "planned"}
			if !host.Ends.IsZero() {
				b.Length = view.Elapsed(host.Begins, host.Ends)
				b.X, b.W = c.place(host.Begins, host.Ends)
			}
			c.Rows = append(c.Rows, b)
		}
		row.Chart = c
		d.Plans = append(d.Plans, row)
	}
}
