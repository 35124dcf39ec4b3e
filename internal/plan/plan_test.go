package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/lock"
)

// drawn is a plan in a few words: for each host its number with the minutes from noon in which it has a slot, or why
// not.
func drawn(p plan.Plan) string {
	var hosts []string
	for _, h := range p.Hosts {
		text := strings.TrimLeft(h.ID, "0") + " "
		if h.Order > 0 {
			text += fmt.Sprintf("%.0f-%.0f", h.Begins.Sub(noon).Minutes(), h.Ends.Sub(noon).Minutes())
		} else {
			text += string(h.Outcome) + " " + string(h.Cause)
		}
		hosts = append(hosts, text)
	}
	return strings.Join(hosts, ", ")
}

func TestPlanFollowsTheRulesOfTheLock(t *testing.T) {
	hold := func(until int) func(*fleet.Host) {
		return func(h *fleet.Host) {
			h.Hold = &inventory.Hold{Until: at(until)}
		}
	}
	waitsFor := func(what string) func(*fleet.Host) { return func(h *fleet.Host) { h.WaitsFor = what } }
	unwell := func(h *fleet.Host) { h.State, h.Need = inventory.Unwell, nil }
	paused := lock.UnwellHost{ID: "00009", Version: version}
	for _, c := range []struct {
		name  string
		group fleet.Group
		want  string
	}{
		{"nothing to do", group(1, with(needs(1, 5), func(h *fleet.Host) { h.Need = nil; h.State = "idle" })), ""},
		{"one after another in the order of the queue", group(1, queued(2, 10), queued(1, 5), queued(3, 20)), "1 0-5, 2 5-15, 3 15-35"},
		{"several slots", group(2, queued(1, 5), queued(2, 10), queued(3, 20)), "1 0-5, 2 0-10, 3 5-25"},
		{"the queue comes before those who are not in it", group(1, needs(2, 5), queued(1, 5)), "1 0-5, 2 5-10"},
		{"a slot that is held", group(1, holding(1, 10, 4), queued(2, 10)), "1 -4-6, 2 6-16"},
		{"a holder that takes longer than usual", group(1, holding(1, 10, 12), queued(2, 10)), "1 -12-1, 2 1-11"},
		{"more holders than max", group(1, holding(1, 10, 4), holding(2, 10, 2), queued(3, 10)), "1 -4-6, 2 -2-8, 3 8-18"},
		{"a holder that does not come back", group(2, holding(1, 10, 300), queued(2, 10), queued(3, 10)), "2 0-10, 3 10-20, 1 never stuck"},
		{"the only slot is not given back", group(1, holding(1, 10, 300), queued(2, 10)), "1 never stuck, 2 never no-slot"},
		{"no slots", group(0, queued(1, 10)), "1 never no-slot"},
		{"a slot that has expired", group(1, with(holding(1, 10, 300), func(h *fleet.Host) { h.Slot.Expired = true }), queued(2, 10)), "2 0-10, 1 unforeseen expired"},
		{"a slot that was taken by hand", group(2, with(holding(1, 0, 300), func(h *fleet.Host) { h.Slot.Record.By, h.Need = "locksmithctl", nil }), queued(2, 10)),
			"2 0-10, 1 unforeseen by-hand"},
		{"a holder without a record", group(1, with(holding(1, 0, 0), func(h *fleet.Host) { h.Slot.Record, h.Need, h.NoRecord = lock.Record{}, nil, true }), queued(2, 10)),
			"1 0-10, 2 10-20"},
		{"a window that opens later", group(1, in("evening", needs(1, 10)), queued(2, 10)), "2 0-10, 1 360-370"},
		{"a window that shuts before the turn of a host", group(1, in("now", queued(1, 20)), in("now", queued(2, 20)), in("now", queued(3, 20))),
			"1 0-20, 2 20-40, 3 1410-1430"},
		{"a host that leaves the queue has lost its place", group(1, queued(1, 40), in("now", queued(2, 10)), queued(3, 1400), needs(4, 10)),
			"1 0-40, 3 40-1440, 4 1440-1450, 2 1450-1460"},
		{"a host in the queue keeps its place while the window is open", group(1, queued(1, 20), in("now", queued(2, 5)), queued(3, 5)), "1 0-20, 2 20-25, 3 25-30"},
		{"a window that never opens", group(1, in("never", needs(1, 10)), queued(2, 5)), "2 0-5, 1 never window-shut"},
		{"a window without room", group(1, with(in("short", needs(1, 10)), func(h *fleet.Host) { h.Room = 10 * time.Minute })), "1 never window-short"},
		{"a window with room for hooks only at its beginning", group(1, with(in("now", needs(1, 10)), func(h *fleet.Host) { h.Room = 40 * time.Minute })), "1 1410-1420"},
		{"no room left in this opening", group(1, with(in("now", needs(1, 10)), waitsFor("room"))), "1 1410-1420"},
		{"a window that is not understood", group(1, with(in("?", needs(1, 10)), func(h *fleet.Host) { h.Opens, h.Shuts = at(30), at(60) })), "1 30-40"},
		{"a window that is not understood, and shuts", group(1, queued(1, 70), with(in("?", needs(2, 10)), func(h *fleet.Host) { h.Opens, h.Shuts = at(30), at(60) })),
			"1 0-70, 2 unforeseen window-unclear"},
		{"a hold with an end", group(1, with(needs(1, 10), hold(50)), needs(2, 10)), "2 0-10, 1 50-60"},
		{"a hold that is over", group(1, with(needs(1, 10), hold(-50))), "1 0-10"},
		{"a hold without an end", group(1, with(needs(1, 10), func(h *fleet.Host) { h.Hold = &inventory.Hold{} })), "1 never hold"},
		{"a hold without an end in a window that is shut", group(1, with(in("evening", needs(1, 10)), func(h *fleet.Host) { h.Hold = &inventory.Hold{}; h.WaitsFor = "window" })), "1 never hold"},
		{"uptime", group(1, with(needs(1, 10), func(h *fleet.Host) { h.WaitsFor, h.NotBefore = "uptime", at(15) })), "1 15-25"},
		{"attempts", group(1, with(needs(1, 10), waitsFor("attempts"))), "1 never attempts"},
		{"users", group(1, with(needs(1, 10), waitsFor("users"))), "1 unforeseen users"},
		{"something that a newer locksmithd waits for", group(1, with(needs(1, 10), waitsFor("moon"))), "1 unforeseen moon"},
		{"an installation ends by itself", group(1, with(needs(1, 10), waitsFor("packages"))), "1 0-10"},
		{"no news", group(1, with(needs(1, 10), func(h *fleet.Host) { h.NoNews = true })), "1 never no-news"},
		{"a record that cannot be understood", group(1, with(needs(1, 10), func(h *fleet.Host) { h.NoNews, h.Broken, h.Need = true, true, nil })), "1 never unreadable"},
		{"unwell", group(2, with(holding(1, 10, 20), unwell), queued(2, 10)), "2 0-10, 1 never unwell"},
		{"unwell, and gets the fix on its slot", group(1, with(holding(1, 10, 20), func(h *fleet.Host) { h.State, h.Need = inventory.Unwell, &inventory.Need{Version: "4230.2.2"} }), queued(2, 10)),
			"1 0-10, 2 10-20"},
		{"a version that is paused", func() fleet.Group {
			g := group(1, queued(1, 10), with(queued(2, 10), func(h *fleet.Host) { h.Need = &inventory.Need{Version: "4230.2.2"} }))
			g.Unwell = []lock.UnwellHost{paused}
			return g
		}(), "2 0-10, 1 never version-paused"},
		{"a pause with an end", func() fleet.Group {
			g := group(1, holding(1, 10, 5), queued(2, 10))
			g.Pause = &lock.Pause{Until: at(30)}
			return g
		}(), "1 -5-5, 2 30-40"},
		{"a pause without an end counts as resumed", func() fleet.Group {
			g := group(1, queued(2, 10))
			g.Pause = &lock.Pause{}
			return g
		}(), "2 0-10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan.Of(c.group, noon, options)
			if got := drawn(p); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			end := time.Time{}
			for _, h := range p.Hosts {
				if h.Ends.After(end) {
					end = h.Ends
				}
			}
			if !p.End.Equal(end) {
				t.Errorf("the end is %v, and the last host's %v", p.End, end)
			}
		})
	}
}

// A plan never has more hosts at once than max lets, and no host begins while its window is shut.
func TestSlotsAndWindowsAreKeptTo(t *testing.T) {
	var hosts []fleet.Host
	for n := range 300 {
		h := needs(n, 3+n%11)
		if w := []string{"", "evening", "now", "short"}[n%4]; w != "" {
			h = in(w, h)
		}
		hosts = append(hosts, h)
	}
	for _, max := range []int{1, 2, 7} {
		p := plan.Of(group(max, hosts...), noon, options)
		var running []time.Time
		for n, h := range p.Hosts {
			if h.Outcome != plan.Reboots || h.Order != n+1 {
				t.Fatalf("max %d: %+v", max, h)
			}
			running = slices.DeleteFunc(running, func(end time.Time) bool { return !end.After(h.Begins) })
			if running = append(running, h.Ends); len(running) > max {
				t.Fatalf("max %d: %d hosts at %v", max, len(running), h.Begins)
			}
			i := slices.IndexFunc(hosts, func(x fleet.Host) bool { return x.ID == h.ID })
			if w := hosts[i].Window; w != nil {
				if start, _ := windows[w.Start].Next(h.Begins); start.After(h.Begins) {
					t.Fatalf("max %d: %s begins at %v in a window that opens at %v", max, h.Hostname, h.Begins, start)
				}
			}
		}
	}
}

func TestHostsThatDoNotKnowOfTheUpdateAreCounted(t *testing.T) {
	runs := func(version string) func(*fleet.Host) {
		return func(h *fleet.Host) { h.Need, h.State, h.OSVersion = nil, "idle", version }
	}
	g := group(1, queued(1, 10), with(needs(2, 10), runs("4152.2.0")), with(needs(3, 10), runs(version)), with(needs(4, 10), runs("")),
		with(needs(5, 10), func(h *fleet.Host) { runs("4152.2.0")(h); h.NoNews = true }))
	p := plan.Of(g, noon, options)
	if p.Version != version || p.Behind != 1 || p.NoNews != 1 || drawn(p) != "1 0-10" {
		t.Errorf("for %s, %d behind, %d without news: %s", p.Version, p.Behind, p.NoNews, drawn(p))
	}
	all := options
	all.All = true
	if p = plan.Of(g, noon, all); p.Behind != 1 || drawn(p) != "1 0-10, 2 10-20" || !p.Hosts[1].AsIf || p.Hosts[0].AsIf {
		t.Errorf("with all: %d behind: %s", p.Behind, drawn(p))
	}
}
