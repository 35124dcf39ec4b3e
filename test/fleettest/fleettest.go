// Package fleettest writes a fleet in the middle of a rollout into a store, as its hosts would have written it: for
// tests of what shows the fleet, and for its pictures.
package fleettest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
)

// The versions of the rollout, and what the last host of a fleet runs.
const (
	Old   = "4230.2.0"
	New   = "4230.2.1"
	Older = "4152.2.3"
)

// Group is a group of a fleet.
type Group struct {
	Name       string // "" is the default group
	Prefix     string // of the names of its hosts
	Hosts, Max int
	// Done, Holding and Queued are how many hosts have taken New, hold a slot, and wait for one. The others wait for their
	// window.
	Done, Holding, Queued int
	// Unwell are how many of the holders are not well with New.
	Unwell int
	Pause  string // why the group is paused; "" if it is not
	// Took is how long a reboot takes; they follow one another, Max at a time.
	Took time.Duration
}

// Small is a fleet for a picture: three groups.
func Small() []Group {
	return []Group{
		{Name: "", Prefix: "web", Hosts: 24, Max: 2, Done: 11, Holding: 2, Queued: 3, Took: 4 * time.Minute},
		{Name: "db", Prefix: "db", Hosts: 5, Max: 1, Done: 2, Holding: 1, Unwell: 1, Queued: 1, Took: 9 * time.Minute},
		{Name: "lb", Prefix: "lb", Hosts: 4, Max: 1, Done: 1, Queued: 1, Pause: "4230.2.1 is tried on lb-1 first", Took: 3 * time.Minute},
	}
}

// Large is one group of so many hosts, half of which have taken New.
func Large(hosts int) []Group {
	return []Group{{Prefix: "node", Hosts: hosts, Max: 20, Done: hosts / 2, Holding: 20, Queued: hosts / 10, Took: 4 * time.Minute}}
}

// ID returns the machine id of a host, which are counted from 1 on.
func (g Group) ID(n int) string {
	return fmt.Sprintf("%08x%024x", url.QueryEscape(g.Prefix)[0], n*7919)
}

// Hostname returns its name.
func (g Group) Hostname(n int) string { return fmt.Sprintf("%s-%d", g.Prefix, n) }

// Write writes groups as they are at a time.
func Write(ctx context.Context, store lock.Store, groups []Group, now time.Time) error {
	lease, err := store.Grant(ctx, 24*time.Hour)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := g.write(ctx, store, lease, now.UTC().Truncate(time.Second)); err != nil {
			return fmt.Errorf("write group %q: %w", g.Name, err)
		}
	}
	return nil
}

// write writes a group.
func (g Group) write(ctx context.Context, store lock.Store, lease int64, now time.Time) error {
	p := lock.Folder(g.Name)
	b := batch{ctx: ctx, store: store}
	semaphore := lock.Semaphore{Max: g.Max, Free: g.Max - g.Holding}
	for n := 1; n <= g.Hosts; n++ {
		h := g.host(n, now)
		b.put(p+"/fleet/"+h.ID, 0, h)
		record := lock.Record{Hostname: h.Hostname, BootID: h.ID, By: "locksmithd", Version: New, OSVersion: h.OSVersion, Since: h.Since}
		switch {
		case g.holds(n):
			semaphore.Holders = append(semaphore.Holders, h.ID)
			record.Phase, record.PhaseSince = phaseOf(h.State), now.Add(-time.Minute)
			if h.State == inventory.Unwell {
				record.PhaseWhy = h.Why
				b.put(p+"/unwell/"+h.ID, 0, lock.UnwellHost{Hostname: h.Hostname, BootID: h.ID, Version: New, Why: h.Why, Since: h.Since})
			}
			b.put(p+"/holders/"+h.ID, 0, record)
		case h.State == "locking":
			b.flush() // the order is that of the revisions
			b.put(p+"/queue/"+h.ID, lease, record)
			b.flush()
		}
	}
	b.put(p+"/semaphore", 0, semaphore)
	if g.Pause != "" {
		b.put(p+"/pause", 0, lock.Pause{By: "ann@bastion", Reason: g.Pause, Since: now.Add(-25 * time.Minute)})
	}
	b.flush()
	return b.err
}

func (g Group) holds(n int) bool { return n > g.Done && n <= g.Done+g.Holding }

// phaseOf is the phase of a holder in a state.
func phaseOf(s inventory.State) lock.Phase {
	if s == "preparing" {
		return lock.Draining
	}
	return lock.Phase(s)
}

// host returns the record of a host.
func (g Group) host(n int, now time.Time) inventory.Host {
	since := now.Add(-3*time.Hour - time.Duration(n%50)*time.Minute)
	h := inventory.Host{
		ID: g.ID(n), Group: g.Name, Hostname: g.Hostname(n), OS: "Flatcar", OSVersion: Old, Locksmith: "0.8.0",
		Booted: now.Add(-40 * 24 * time.Hour), Updated: since, State: "waiting", Since: since, WaitsFor: "window",
		Why:    "reboot needed for version " + New + "; waiting for the reboot window, which opens at 04:00",
		Need:   &inventory.Need{Version: New, Since: since, Reasons: []string{"update_engine"}},
		Window: &inventory.Window{Start: "04:00", Length: "2h", Zone: "UTC"},
		Opens:  now.Add(5 * time.Hour), Shuts: now.Add(7 * time.Hour),
	}
	order := 0 // of the reboots, from the last one on
	switch {
	case n <= g.Done:
		order = (g.Done-n)/max(g.Max, 1) + 1
		took := g.Took + time.Duration(n%3)*20*time.Second
		at := now.Add(-time.Duration(order)*(g.Took+time.Minute) - 3*time.Minute)
		h.OSVersion, h.State, h.WaitsFor, h.Why, h.Need = New, "idle", "", "no reboot is needed", nil
		h.Booted, h.Since, h.Updated = at.Add(time.Minute), at.Add(took), at.Add(took)
		h.Last = &inventory.Reboot{Version: New, At: at, Took: took, Well: true}
	case g.holds(n) && n <= g.Done+g.Unwell:
		h.OSVersion, h.State, h.WaitsFor, h.Need = New, inventory.Unwell, "", nil
		h.Why = "locksmith-after-reboot.target has failed: replication is 40 s behind"
		h.Since = now.Add(-12 * time.Minute)
		h.Updated = h.Since
		h.Last = &inventory.Reboot{Version: New, At: h.Since, Why: h.Why}
	case g.holds(n):
		h.State, h.WaitsFor, h.Why = "rebooting", "", "rebooting for version "+New
		if (n-g.Done)%2 == 0 {
			h.State, h.Why = "preparing", "draining: locksmith-before-reboot.target"
		}
		h.Since = now.Add(-2 * time.Minute)
		h.Updated = h.Since
	case n <= g.Done+g.Holding+g.Queued:
		h.State, h.WaitsFor, h.Why, h.Since = "locking", "slot", "waiting for a slot", now.Add(-time.Duration(60-n%30)*time.Minute)
		h.Window, h.Opens, h.Shuts = nil, time.Time{}, time.Time{}
	case n == g.Hosts && g.Hosts > 10:
		h.OSVersion, h.State, h.WaitsFor, h.Why, h.Need = Older, "idle", "", "no reboot is needed", nil
	}
	return h
}

// batch writes keys, many at once.
type batch struct {
	ctx   context.Context
	store lock.Store
	ops   []lock.Op
	err   error
}

func (b *batch) put(key string, lease int64, document any) {
	data, err := json.Marshal(document)
	if err != nil && b.err == nil {
		b.err = err
	}
	if b.ops = append(b.ops, lock.Op{Key: key, Value: data, Lease: lease}); len(b.ops) >= 100 {
		b.flush()
	}
}

func (b *batch) flush() {
	if len(b.ops) > 0 && b.err == nil {
		_, _, b.err = b.store.Commit(b.ctx, nil, b.ops)
	}
	b.ops = nil
}
