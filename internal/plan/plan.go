// Package plan foresees a rollout: in which order the hosts of a group will reboot, when each has its slot, when the
// last one is done, and which of them will not get there.
//
// It is pure: facts in, facts out, no I/O and no clock. It plays the rest of the rollout through by the rules of the
// lock and of the policy, from what package fleet knows: the slots that are held, the queue in its order, windows,
// holds, pauses, versions that are paused, and how long hosts had their slots before. Nothing is decided by it.
//
// Whatever others have written into records costs it a bounded amount of work, and changes no more than the plan of the
// hosts that have these records. docs/plan.md says what it does not know.
package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
)

// A Window is when a host may reboot, as for package policy.
type Window interface {
	// Next returns the opening that contains t, or the next one. A zero end means that nothing shuts it.
	Next(t time.Time) (start, end time.Time)
}

// Options are what the facts of a group do not say.
type Options struct {
	// Window returns the window of records with these settings. It is called once for each of them. An error says that
	// they cannot be understood. nil understands none.
	Window func(inventory.Window) (Window, error)
	// All counts hosts that need no reboot yet, and run another version than the one that others reboot for, as if they
	// needed it now.
	All bool
}

// Plan is how the rollout of a group goes on.
type Plan struct {
	Group string // "" for the default group
	At    time.Time
	// Hosts are those that need a reboot, hold a slot, or are unwell: first those that will reboot, in their order, then
	// those that will not, and those of which it cannot be foreseen, by their names.
	Hosts []*Host
	End   time.Time // when the last host will have given back its slot; zero: no host will reboot

	Duration Duration
	Max      int // slots of the group
	Lost     int // slots that hosts keep for which no end can be foreseen
	// Pause is the pause that is in force; nil: none. Without an end, the plan is as if it were resumed now.
	Pause *lock.Pause

	Version string // for which most of them reboot; "" if that is not known
	// Behind is how many hosts of the group need no reboot yet, and run none of the versions that others reboot for. With
	// Options.All they are in the plan. Hosts without news, or without a version of their system, do not count.
	Behind int
	NoNews int // hosts without news of which it is not known whether they need a reboot
}

// A Host is what will become of a host.
type Host struct {
	ID, Hostname string
	Version      string // to be rebooted into; "" if that is not known
	Order        int    // in which hosts begin, from 1 on; 0: it will not reboot, or nobody can say when
	Holds        bool   // it holds a slot now

	Begins, Ends time.Time     // from when to when it has its slot; zero without an Order
	Took         time.Duration // that the plan takes it to last; 0 without an Order
	Own          bool          // by its own last reboot

	Outcome Outcome
	Cause   Cause
	Detail  string // of the cause, in the words of the host or of the lock; safe to show
	AsIf    bool   // it needs no reboot yet, see Options.All
	// ZoneUnknown says that the host does not know the name of its zone: its window is taken to be in UTC.
	ZoneUnknown bool
}

// An Outcome is what can be said of a host.
type Outcome string

const (
	Reboots    Outcome = "reboots"
	Never      Outcome = "never"      // unless somebody does something
	Unforeseen Outcome = "unforeseen" // it depends on what nobody can foresee
)

// A Cause says in a word why a host does not reboot, or why nobody can say when. Further causes are the obstacles of
// package policy that nobody can foresee the end of, such as "users".
type Cause string

// Why a host will never reboot.
const (
	Held          Cause = "hold"           // by a file without an end
	Unwell        Cause = "unwell"         // after its reboot
	NoNews        Cause = "no-news"        // it has said nothing for too long
	Unreadable    Cause = "unreadable"     // its record cannot be understood
	Attempts      Cause = "attempts"       // it has used all of them
	VersionPaused Cause = "version-paused" // by hosts that are unwell with it
	NoSlot        Cause = "no-slot"        // max is 0, or all slots are kept
	WindowShut    Cause = "window-shut"    // it does not open within Horizon
	WindowShort   Cause = "window-short"   // the reboot has to begin earlier before its end than it is long
	Stuck         Cause = "stuck"          // it has had its slot for far longer than a reboot takes
)

// Why nobody can say when a host reboots.
const (
	ByHand        Cause = "by-hand"        // its slot was taken by hand, and it needs no reboot
	Expired       Cause = "expired"        // others may take its slot away
	WindowUnclear Cause = "window-unclear" // its record says no more than the next opening
	Far           Cause = "far"            // not within Horizon, or not in as many openings as are looked at
)

// Horizon is how far a plan looks.
const Horizon = 366 * 24 * time.Hour

// Of returns the plan of a group at a time.
func Of(g fleet.Group, now time.Time, o Options) Plan {
	p := Plan{Group: g.Group, At: now, Max: g.Semaphore.Max, Pause: g.Pause}
	times := timesOf(g.Hosts, now)
	p.Duration = times.Duration
	s := newSimulation(g, now, times, o)
	s.p = &p
	needed := versions(g.Hosts)
	for version, n := range needed {
		if most := needed[p.Version]; version != "" && (p.Version == "" || n > most || n == most && version > p.Version) {
			p.Version = version
		}
	}
	for n := range g.Hosts {
		h := &g.Hosts[n]
		if !s.add(h) && behind(h, needed) {
			if p.Behind++; o.All {
				s.addAsIf(h, p.Version)
			}
		}
	}
	s.run()
	p.Hosts = s.hosts()
	for _, h := range p.Hosts {
		if h.Order > 0 && h.Ends.After(p.End) {
			p.End = h.Ends
		}
	}
	return p
}

// versions returns for which versions hosts reboot, and how many.
func versions(hosts []fleet.Host) map[string]int {
	all := map[string]int{}
	for n := range hosts {
		if h := &hosts[n]; h.Need != nil && !h.NoNews {
			all[h.Need.Version]++
		}
	}
	return all
}

// behind reports whether a host that needs no reboot runs another version than the ones that others reboot for.
func behind(h *fleet.Host, needed map[string]int) bool {
	if h.Need != nil || h.NoNews || h.NoRecord || h.Slot != nil || h.Place > 0 || h.OSVersion == "" {
		return false
	}
	others := len(needed)
	if _, unknown := needed[""]; unknown {
		others--
	}
	return others > 0 && needed[h.OSVersion] == 0
}

// hosts returns the hosts of the plan in order.
func (s *simulation) hosts() []*Host {
	slices.SortStableFunc(s.all, func(a, b *member) int {
		if a.host.Outcome != b.host.Outcome {
			rank := func(m *member) int { return slices.Index([]Outcome{Reboots, Never, Unforeseen}, m.host.Outcome) }
			return cmp.Compare(rank(a), rank(b))
		}
		if by := a.host.Begins.Compare(b.host.Begins); by != 0 {
			return by
		}
		return cmp.Compare(a.seq, b.seq)
	})
	hosts := make([]*Host, len(s.all))
	for n, m := range s.all {
		if m.host.Outcome == Reboots {
			m.host.Order = n + 1
		}
		if hosts[n] = &m.host; m.host.Holds && m.host.Order == 0 && m.host.Cause != Expired {
			s.p.Lost++
		}
	}
	return hosts
}
