package page_test

import (
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/page"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/test/fleettest"
	"github.com/locksmithd/locksmith/test/must"
)

// The plans are those of `locksmithctl plan`, and what the OpenAPI file says.
func TestPlansAreThoseOfTheCommand(t *testing.T) {
	s := newSite(t, everybody())
	s.write(fleettest.Small()...)
	now := time.Now()
	f, _, err := fleet.ReadGroups(t.Context(), s.memory, []fleet.Source{{Group: "", Max: 1}, {Group: "db", Max: 1}, {Group: "lb", Max: 1}}, now)
	must.Do(t, err)
	window := func(w inventory.Window) (plan.Window, error) {
		return config.NewWindow(w.Start, w.Length, w.Zone, w.Blackout)
	}
	var plans []plan.Plan
	documents := []any{}
	for _, g := range f.Groups {
		plans = append(plans, plan.Of(g, now, plan.Options{Window: window}))
		p := page.Foresee(window, func() *time.Location { return time.UTC })(g, now)
		documents = append(documents, p.Document)
		if len(p.Hosts) == 0 || len(p.Hosts) != len(plans[len(plans)-1].Hosts) || p.Summary == "" {
			t.Errorf("group %q: %+v", g.Group, p)
		}
	}
	want, err := view.JSON.Plans(plans, time.UTC)
	must.Do(t, err)
	got, err := view.JSON.Marshal(documents)
	must.Do(t, err)
	if got != want {
		t.Errorf("the page has\n%s\nthe command prints\n%s", got, want)
	}
	newContract(t).check("/api/v1/plan", 200, []byte(got))
}
