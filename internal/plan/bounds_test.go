package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
)

// counted counts how often a window is asked.
type counted struct {
	plan.Window
	asked *int
}

func (c counted) Next(t time.Time) (start, end time.Time) {
	*c.asked++
	return c.Window.Next(t)
}

// yearly opens for five minutes once in 150 days.
type yearly struct{}

func (yearly) Next(t time.Time) (start, end time.Time) {
	for start = at(60); !start.Add(5 * time.Minute).After(t); {
		start = start.AddDate(0, 0, 150)
	}
	return start, start.Add(5 * time.Minute)
}

// Whatever windows hosts have, looking at them ends.
func TestWorkForWindowsIsBounded(t *testing.T) {
	room := func(h *fleet.Host) { h.Room = 10 * time.Minute }
	for _, c := range []struct {
		name   string
		window plan.Window
		most   int
	}{
		{"every day", daily{60, 5}, 30},
		{"a few times a year", yearly{}, 5},
	} {
		asked := 0
		o := plan.Options{Window: func(inventory.Window) (plan.Window, error) { return counted{c.window, &asked}, nil }}
		if got := drawn(plan.Of(group(1, with(in("", needs(1, 5)), room)), noon, o)); got != "1 never window-short" || asked > c.most {
			t.Errorf("%s without room: %s, after %d openings", c.name, got, asked)
		}
	}

	// Hosts with a window each do not keep the plan from understanding the window that most have.
	var hosts []fleet.Host
	for n := range 3000 {
		window := fmt.Sprint("own ", n)
		if n%100 == 0 {
			window = "common"
		}
		hosts = append(hosts, with(in(window, needs(n+1, 5)), func(h *fleet.Host) { h.Opens, h.Shuts = at(60), at(120) }))
	}
	asked, understood := 0, map[string]bool{}
	o := plan.Options{Window: func(w inventory.Window) (plan.Window, error) {
		understood[w.Start] = true
		return counted{daily{60, 60}, &asked}, nil
	}}
	p := plan.Of(group(1, hosts...), noon, o)
	if len(understood) != 500 || !understood["common"] || asked > 40*500 {
		t.Errorf("%d windows are understood, %v the common one, and %d openings looked at", len(understood), understood["common"], asked)
	}
	for _, h := range p.Hosts {
		if h.Outcome == plan.Never {
			t.Fatalf("%+v", h)
		}
	}
}
