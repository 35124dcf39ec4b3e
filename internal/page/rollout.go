package page

import (
	"cmp"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
)

const (
	// latest is how many reboots of a rollout are shown one by one.
	latest = 12
	// parts is in how many parts the time of a rollout is divided.
	parts = 48
	// longest is the longest time that a rollout is shown for: the clock of a host, or its record, may be wrong.
	longest = 30 * 24 * time.Hour
	// ahead is how much later than the server's the clock of a host may be.
	ahead = 10 * time.Minute
)

// rollout is how far the fleet has come with a version: the one that most hosts need, or if none needs one the one of
// the last reboot.
type rollout struct {
	Version  string    // "" for reboots that have no version
	From, To time.Time // of the first reboot, and of the end of the last one, or now if it goes on
	Pending  int       // hosts that need it, and have no slot yet
	UnderWay int       // hosts that have a slot for it
	Well     int       // hosts that have rebooted for it, and are well
	Unwell   int       // hosts that have rebooted for it, and are not
	Latest   []reboot  // the newest first
	Parts    []part    // of the time from From to To, in order
}

// reboot is the reboot of a host for the version of a rollout.
type reboot struct {
	Host   *fleet.Host
	From   time.Time     // when the slot was taken, or where that is not known the reboot asked for
	Took   time.Duration // until the slot was given back; 0 where it is not known, or not over
	Result string        // "well", "unwell" or "under way"
	Why    string        // it is not well
}

// end returns when a reboot was over; that of one which goes on is now, that of one whose length is not known its
// begin.
func (r reboot) end(now time.Time) time.Time {
	if r.Result == underWay {
		return now
	}
	return r.From.Add(r.Took)
}

const well, unwell, underWay = "well", "unwell", "under way"

// part is a part of the time of a rollout.
type part struct {
	From         time.Time
	Well, Unwell int // reboots that were over in it
}

// rolloutOf returns the rollout of these groups; nil if no reboot is known.
func rolloutOf(groups []fleet.Group, now time.Time) *rollout {
	version, some := newest(groups, now)
	if !some {
		return nil
	}
	r := &rollout{Version: version}
	var all []reboot
	for i := range groups {
		for n := range groups[i].Hosts {
			h := &groups[i].Hosts[n]
			one, found := rebootOf(h, version, now)
			switch {
			case found:
				all = append(all, one)
			case h.Need != nil && h.Need.Version == version && !h.NoNews:
				r.Pending++
				continue
			default:
				continue
			}
			switch one.Result {
			case well:
				r.Well++
			case unwell:
				r.Unwell++
			default:
				r.UnderWay++
			}
		}
	}
	slices.SortStableFunc(all, func(a, b reboot) int { return b.From.Compare(a.From) })
	r.Latest = all[:min(len(all), latest)]
	r.divide(all, now)
	return r
}

// newest returns the version of the rollout.
func newest(groups []fleet.Group, now time.Time) (version string, some bool) {
	type need struct {
		hosts int
		since time.Time
	}
	needs := map[string]need{}
	var last time.Time
	for i := range groups {
		for n := range groups[i].Hosts {
			h := &groups[i].Hosts[n]
			if h.Need != nil && !h.NoNews {
				one := needs[h.Need.Version]
				if one.hosts++; h.Need.Since.After(one.since) {
					one.since = h.Need.Since
				}
				needs[h.Need.Version] = one
			}
			if l := h.Last; l != nil && sensible(l.At, now) && l.At.After(last) {
				version, last, some = l.Version, l.At, true
			}
		}
	}
	if len(needs) == 0 {
		return version, some
	}
	var most need
	for v, one := range needs {
		if c := cmp.Or(cmp.Compare(one.hosts, most.hosts), one.since.Compare(most.since), cmp.Compare(v, version)); c > 0 {
			version, most = v, one
		}
	}
	return version, true
}

// sensible reports whether a time can be that of a reboot which is shown.
func sensible(t, now time.Time) bool { return t.After(now.Add(-longest)) && t.Before(now.Add(ahead)) }

// rebootOf returns the reboot of a host for a version, if there was one, or is.
func rebootOf(h *fleet.Host, version string, now time.Time) (reboot, bool) {
	if s := h.Slot; s != nil && s.Record.Version == version && sensible(s.Record.Since, now) {
		one := reboot{Host: h, From: s.Record.Since, Result: underWay}
		if h.State == unwell {
			one.Result, one.Why, one.Took = unwell, h.Why, max(0, now.Sub(one.From))
		}
		return one, true
	}
	l := h.Last
	if l == nil || l.Version != version || !sensible(l.At, now) {
		return reboot{}, false
	}
	one := reboot{Host: h, From: l.At, Took: l.Took, Result: well, Why: l.Why}
	if !l.Well {
		if one.Result = unwell; l.Why == "" && l.Took == 0 && h.Need != nil {
			return reboot{}, false // it has been asked for, and has not happened
		}
	}
	if one.From.Add(one.Took).After(now.Add(ahead)) {
		one.Took = 0
	}
	return one, true
}

// divide fills From, To and Parts.
func (r *rollout) divide(all []reboot, now time.Time) {
	if len(all) == 0 {
		return
	}
	for _, one := range all {
		if r.From.IsZero() || one.From.Before(r.From) {
			r.From = one.From
		}
		if end := one.end(now); end.After(r.To) {
			r.To = end
		}
	}
	if r.Pending > 0 && now.After(r.To) {
		r.To = now
	}
	each := max(r.To.Sub(r.From)/parts, time.Second)
	r.Parts = make([]part, parts)
	for i := range r.Parts {
		r.Parts[i].From = r.From.Add(time.Duration(i) * each)
	}
	for _, one := range all {
		p := &r.Parts[min(int(one.end(now).Sub(r.From)/each), parts-1)]
		switch one.Result {
		case well:
			p.Well++
		case unwell:
			p.Unwell++
		}
	}
}

// chart is bars of time, one for each host.
type chart struct {
	From, To time.Time
	Rows     []bar
}

// bar is a bar of a chart, with what says the same in words.
type bar struct {
	Host   hostCell
	From   moment
	Length string // such as "4m"; "" where it is not known
	Result string
	Class  string // of the style sheet
	X, W   int    // in thousandths of the chart
}

// place returns where a bar is in the chart, in thousandths.
func (c chart) place(from, to time.Time) (x, w int) {
	whole := c.To.Sub(c.From)
	if whole <= 0 {
		return 0, 1000
	}
	at := func(t time.Time) int { return int(min(max(t.Sub(c.From), 0), whole) * 1000 / whole) }
	x = min(at(from), 994)
	return x, max(at(to)-x, 6)
}
