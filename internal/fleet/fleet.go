// Package fleet is all hosts of a lock at one moment: what they say of themselves in the inventory, and what the lock
// knows of them. `locksmithctl hosts` and plan, the page, its API and the metrics of `locksmithctl serve` are views of
// it.
//
// The lock is asked for everything that it knows: who holds a slot, who waits, who is unwell. A record may be older
// than that. It reads and changes nothing.
package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
)

// Fleet is the groups of a lock in the order of their names, the default group first.
type Fleet struct {
	At     time.Time // by the reader's clock
	Groups []Group
}

// Group is one group.
type Group struct {
	lock.GroupOverview
	Hosts []Host // in the order of their names and ids
}

// Host is a host of which there is a record, or which the lock knows; where NoRecord is true, the record has no more
// than the lock says.
type Host struct {
	*inventory.Host // never nil; copies of a Host share it

	NoRecord bool             // there is no record: the host speaks FleetLock, has an older locksmithd, or has its inventory off
	Slot     *lock.HolderInfo // that it holds; nil: none
	Place    int              // in the queue, from 1 on; 0: none
	// NoNews says that the record does not tell what the host does now: it cannot be read; or it is older than NoNewsAfter
	// although the host was about to do something, or older than SilentAfter; or it is that far in the future; or the host
	// has a newer record in another group.
	NoNews bool
}

// Holding is the state of a host that holds a slot and does not say what for.
const Holding inventory.State = "holding"

// States returns the names of all states that locksmith gives hosts, those first that an operator looks for. A record may
// have another one, or none: anybody who may write records can write it.
func States() (names []string) {
	for _, s := range []inventory.State{
		inventory.Unwell, inventory.Checking, inventory.Rebooting, inventory.Preparing, inventory.Settling, inventory.Releasing,
		Holding, inventory.Locking, inventory.Waiting, inventory.Starting, inventory.Idle, inventory.Unreadable,
	} {
		names = append(names, string(s))
	}
	return names
}

const (
	// NoNewsAfter is how long a host may be in a state that does not last, according to its record, while the lock does
	// not know of it.
	NoNewsAfter = 30 * time.Minute
	// SilentAfter is how long a host may write nothing. An idle host writes nothing for as long as nothing happens, but
	// few have no update for so long.
	SilentAfter = 60 * 24 * time.Hour
)

// Read reads the whole fleet. max is shown as the number of slots of a group that has no lock yet. A group whose lock
// cannot be understood has an Err, and its records.
func Read(ctx context.Context, store lock.Store, max int, now time.Time) (Fleet, error) {
	groups, err := lock.NewGroups(store, max).Overviews(ctx)
	if err != nil {
		return Fleet{}, err
	}
	return read(ctx, store, groups, now)
}

// ReadGroup reads one group, as Read does; "" is the default group.
func ReadGroup(ctx context.Context, store lock.Store, group string, max int, now time.Time) (Fleet, error) {
	f, _, err := ReadGroups(ctx, store, []Source{{group, max}}, now)
	return f, err
}

func read(ctx context.Context, store lock.Store, groups []lock.GroupOverview, now time.Time) (Fleet, error) {
	f := Fleet{At: now}
	for _, g := range groups {
		records, err := inventory.New(store, g.Group)
		if err != nil {
			return Fleet{}, err
		}
		hosts, _, err := records.Hosts(ctx)
		if err != nil {
			return Fleet{}, fmt.Errorf("group %q: %w", g.Group, err)
		}
		f.Groups = append(f.Groups, join(g, hosts, now))
	}
	f.markMoved()
	return f, nil
}

// compare orders hosts by their names and ids.
func compare(a, b *inventory.Host) int {
	if order := cmp.Compare(a.Hostname, b.Hostname); order != 0 {
		return order
	}
	return cmp.Compare(a.ID, b.ID)
}

// join returns a group with its hosts. It sorts the records, and puts into them what the lock says.
func join(g lock.GroupOverview, records []*inventory.Host, now time.Time) Group {
	const missing = -1
	slices.SortFunc(records, compare)
	hosts := make([]Host, len(records), len(records)+len(g.Holders))
	index := make(map[string]int, len(g.Unwell)+len(g.Queue)+len(g.Holders)) // by id, only of the hosts that the lock knows
	for _, u := range g.Unwell {
		index[u.ID] = missing
	}
	for _, w := range g.Queue {
		index[w.ID] = missing
	}
	for _, h := range g.Holders {
		index[h.ID] = missing
	}
	for n, record := range records {
		hosts[n].Host = record
		if _, known := index[record.ID]; known {
			index[record.ID] = n
		}
	}
	host := func(id, hostname string) *Host {
		n := index[id]
		if n == missing {
			n = len(hosts)
			hosts, index[id] = append(hosts, Host{Host: &inventory.Host{ID: id, Group: g.Group, Hostname: hostname}, NoRecord: true}), n
		}
		return &hosts[n]
	}
	for _, u := range g.Unwell {
		if !u.Left {
			h := host(u.ID, u.Hostname)
			h.State, h.Since, h.Why = inventory.Unwell, u.Since, u.Why
		}
	}
	for n, w := range g.Queue {
		host(w.ID, w.Hostname).queued(n+1, w)
	}
	for n := range g.Holders {
		holder := &g.Holders[n]
		host(holder.ID, holder.Record.Hostname).holds(holder)
	}
	for n := range hosts {
		h := &hosts[n]
		h.NoNews = !h.NoRecord && h.stale(now)
	}
	if len(hosts) > len(records) {
		slices.SortFunc(hosts, func(a, b Host) int { return compare(a.Host, b.Host) })
	}
	return Group{g, hosts}
}

// queued notes a place in the queue.
func (h *Host) queued(place int, w lock.QueueEntry) {
	if h.Place = place; h.State == inventory.Locking && !h.NoRecord {
		return
	}
	h.State, h.Since, h.WaitsFor, h.Why = inventory.Locking, w.Since, "slot", "waiting for a slot"
	if h.Need == nil {
		h.Need = &inventory.Need{Version: w.Version, Since: w.Since}
		if w.Reason != "" {
			h.Need.Reasons = []string{w.Reason}
		}
	}
}

// holds notes a slot.
func (h *Host) holds(holder *lock.HolderInfo) {
	h.Slot = holder
	r := holder.Record
	if r.Phase != "" {
		h.State, h.Since, h.Why, h.WaitsFor = stateOf(r.Phase), r.PhaseSince, r.PhaseWhy, ""
		return
	}
	switch h.State {
	case inventory.Preparing, inventory.Rebooting, inventory.Settling, inventory.Releasing, inventory.Checking, inventory.Unwell:
		if h.Updated.After(r.Since) {
			return
		}
	}
	h.State, h.Since, h.Why, h.WaitsFor = Holding, r.Since, "", ""
	if r.By != "" {
		h.Why = "a slot was taken by " + r.By
	}
}

// stateOf is the state of a host in a phase of its slot.
func stateOf(p lock.Phase) inventory.State {
	switch p {
	case lock.Draining:
		return inventory.Preparing
	case lock.Delaying:
		return inventory.Releasing
	}
	return inventory.State(p) // the others are called the same
}

// stale reports whether the record cannot be what the host does now.
func (h *Host) stale(now time.Time) bool {
	age := now.Sub(h.Updated).Abs() // a record from the future is from a wrong clock, and no better than an old one
	switch {
	case h.Broken || age > SilentAfter:
		return true
	case h.Slot != nil || h.Place > 0 || h.State == inventory.Unwell:
		return false
	}
	switch h.State {
	case inventory.Idle, inventory.Waiting:
		return false
	}
	return age > NoNewsAfter
}

// markMoved marks the records of hosts that have a newer one in another group.
func (f *Fleet) markMoved() {
	if len(f.Groups) < 2 {
		return
	}
	newest := map[string]*Host{}
	for g := range f.Groups {
		for n := range f.Groups[g].Hosts {
			h := &f.Groups[g].Hosts[n]
			other := newest[h.ID]
			switch {
			case h.NoRecord:
				continue
			case other == nil:
			case h.Updated.After(other.Updated):
				other.NoNews = true
			default:
				h.NoNews = true
				continue
			}
			newest[h.ID] = h
		}
	}
}
