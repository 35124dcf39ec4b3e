package page

import (
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/internal/view"
)

// Foresee returns what makes the plans that `locksmithctl plan` shows. window returns the window of a record, see
// [plan.Options]; zone the time zone in which times are written.
func Foresee(window func(inventory.Window) (plan.Window, error), zone func() *time.Location) func(fleet.Group, time.Time) Plan {
	return func(g fleet.Group, now time.Time) Plan {
		foreseen := plan.Of(g, now, plan.Options{Window: window})
		document := view.NewPlanDocument(foreseen, zone())
		p := Plan{Summary: document.Summary, Document: document}
		for i, h := range foreseen.Hosts {
			p.Hosts = append(p.Hosts, PlannedHost{h.ID, h.Hostname, h.Begins, h.Ends, document.Hosts[i].Note})
		}
		return p
	}
}
