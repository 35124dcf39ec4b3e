package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// real parses windows as locksmithctl does.
var real = plan.Options{Window: func(w inventory.Window) (plan.Window, error) {
	return config.NewWindow(w.Start, w.Length, w.Zone, w.Blackout)
}}

// filled is a store with the records of so many hosts, which differ in what hosts of a fleet differ in.
func filled(tb testing.TB, hosts int, change func(int, *inventory.Host)) lock.Store {
	store := storetest.NewMemory()
	l, err := lock.New(store, "", 8)
	must.Do(tb, err)
	_, err = l.Status(tb.Context())
	must.Do(tb, err)
	records, err := inventory.New(store, "")
	must.Do(tb, err)
	for n := range hosts {
		h := needs(n, 3+n%9).Host
		h.OSVersion, h.Why, h.WaitsFor = "4152.2.0", "waiting: held back by the reboot window, which opens Sun 2027-01-03 02:00:00 UTC", "window"
		h.Window = &inventory.Window{Start: fmt.Sprintf("%02d:00", n%4), Length: "3h", Zone: []string{"UTC", "Europe/Berlin", "Asia/Tokyo"}[n%3], Blackout: "2027-01-05"}
		if change != nil {
			change(n, h)
		}
		must.Do(tb, records.Put(tb.Context(), *h))
	}
	return store
}

// What `locksmithctl plan` does for 10,000 hosts, but for the network: the ms of reading the records, and of the plan.
func BenchmarkPlanOf10000Hosts(b *testing.B) {
	distinct := func(start func(int) string) func(int, *inventory.Host) {
		return func(n int, h *inventory.Host) { h.Window.Start, h.Window.Length = start(n), "59s" }
	}
	for _, c := range []struct {
		name   string
		change func(int, *inventory.Host)
	}{
		{"12 windows", nil},
		{"no windows", func(_ int, h *inventory.Host) { h.Window, h.WaitsFor = nil, "" }},
		{"hostile: a window a host", distinct(func(n int) string { return fmt.Sprintf("%02d:%02d", n/60%24, n%60) })},
		{"hostile: long texts", distinct(func(n int) string {
			return strings.TrimSuffix(strings.Repeat("1 1 29 2 *; ", 19), "; ") + fmt.Sprintf("; %d 2 29 2 *", n%60)
		})},
		{"hostile: 400 blackouts", func(n int, h *inventory.Host) {
			var days []string
			for d := range 400 {
				days = append(days, at(0).AddDate(0, 0, 2*d+n%2).Format(time.DateOnly))
			}
			h.Window.Start, h.Window.Blackout = fmt.Sprintf("%02d:%02d", n/60%24, n%60), strings.Join(days, ";")
		}},
	} {
		store := filled(b, 10_000, c.change)
		b.Run(c.name, func(b *testing.B) {
			var read, planned time.Duration
			for b.Loop() {
				began := time.Now()
				f, err := fleet.ReadGroup(b.Context(), store, "", 8, noon)
				must.Do(b, err)
				was := time.Now()
				p := plan.Of(f.Groups[0], noon, real)
				read, planned = read+was.Sub(began), planned+time.Since(was)
				if len(p.Hosts) != 10_000 {
					b.Fatalf("the plan has %d hosts", len(p.Hosts))
				}
			}
			b.ReportMetric(float64(read.Milliseconds())/float64(b.N), "ms/read")
			b.ReportMetric(float64(planned.Milliseconds())/float64(b.N), "ms/plan")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// Records that anybody has written do no more than have their own hosts planned as they say.
func TestHostileRecordsHarmNoOthers(t *testing.T) {
	year1 := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	hostile := map[string]func(*inventory.Host){
		"a long window text": func(h *inventory.Host) {
			h.Window = &inventory.Window{Start: strings.Repeat("* * * * *;", 30), Length: "1s"}
		},
		"a window every minute": func(h *inventory.Host) {
			h.Window = &inventory.Window{Start: "* * * * *", Length: "1s"}
			h.Room = time.Second
		},
		"a window that overlaps": func(h *inventory.Host) { h.Window = &inventory.Window{Start: "* * * * *", Length: "300h"} },
		"a zone that is a path": func(h *inventory.Host) {
			h.Window = &inventory.Window{Start: "04:00", Length: "1h", Zone: "../../../../dev/zero"}
		},
		"a zone with escapes": func(h *inventory.Host) {
			h.Window = &inventory.Window{Start: "04:00", Length: "1h", Zone: "a\x1b[2J\n"}
		},
		"an opening back in time": func(h *inventory.Host) { h.Window = &inventory.Window{Start: "?"}; h.Opens, h.Shuts = at(60), at(-60) },
		"a year of room":          func(h *inventory.Host) { h.Room = 366 * 24 * time.Hour },
		"a reboot of a year":      func(h *inventory.Host) { h.Last.Took = 366 * 24 * time.Hour },
		"a reboot of no time":     func(h *inventory.Host) { h.Last.Took = 1 },
		"a year without a number": func(h *inventory.Host) { h.NotBefore, h.Hold = year1, &inventory.Hold{Until: year1, Reason: "\x1b[2J"} },
		"far in the future":       func(h *inventory.Host) { h.NotBefore = time.Date(9998, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a state of its own":      func(h *inventory.Host) { h.State, h.WaitsFor = "\x1b[2J", "\u202e" },
	}
	plans := func(change func(int, *inventory.Host)) map[string]plan.Host {
		f, err := fleet.ReadGroup(t.Context(), filled(t, 40, change), "", 8, noon)
		must.Do(t, err)
		hosts := map[string]plan.Host{}
		for _, h := range plan.Of(f.Groups[0], noon, real).Hosts {
			h.Order = 0
			hosts[h.ID] = *h
		}
		return hosts
	}
	const bad = 39 // it has the last place among its like
	alone := plans(func(n int, h *inventory.Host) {
		if n == bad {
			h.Need, h.State = nil, "idle"
		}
	})
	for name, change := range hostile {
		got := plans(func(n int, h *inventory.Host) {
			if n == bad {
				change(h)
			}
		})
		for id, want := range alone {
			// It takes a slot for a time, as any other host may: others may begin later by that, and no earlier.
			g := got[id]
			if g.Outcome != want.Outcome || g.Cause != want.Cause || g.Begins.Before(want.Begins) || g.Begins.Sub(want.Begins) > 12*time.Minute {
				t.Errorf("%s: %+v, want %+v", name, g, want)
			}
		}
	}
}
