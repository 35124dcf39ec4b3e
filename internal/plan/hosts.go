package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
)

// foreseeable are the obstacles that end by themselves, soon or at the time that the record says.
var foreseeable = []policy.ObstacleKind{policy.WindowShut, policy.TooEarly, policy.Cancelled, policy.Installing, policy.NoRoom, policy.Held}

// add puts a host into the plan. It reports whether the host belongs there.
func (s *simulation) add(h *fleet.Host) bool {
	m := &member{host: Host{ID: h.ID, Hostname: h.Hostname, Outcome: Reboots}, seq: len(s.g.Queue) + len(s.all)}
	if h.Need != nil {
		m.host.Version = h.Need.Version
	}
	m.host.Took, m.host.Own = s.times.of(h)
	switch {
	case h.Slot != nil:
		s.addHolder(m, h)
	case h.Place > 0:
		m.seq = h.Place - 1
		s.addWaiting(m, h)
	case h.NoNews && h.Need == nil && !h.Broken:
		s.p.NoNews++
		return false
	case h.Broken:
		s.out(m, Never, Unreadable, "")
	case h.NoNews:
		s.out(m, Never, NoNews, "")
	case h.Need == nil && h.State != inventory.Unwell:
		return false
	case h.State == inventory.Rebooting: // it has given back its slot, and its record is from before
		return false
	case h.State == inventory.Unwell && !isFix(h, unwellVersion(s.g.Unwell, h.ID)):
		s.out(m, Never, Unwell, h.Why)
	default:
		s.addWaiting(m, h)
	}
	s.all = append(s.all, m)
	return true
}

// addAsIf puts a host into the plan that needs no reboot yet.
func (s *simulation) addAsIf(h *fleet.Host, version string) {
	m := &member{host: Host{ID: h.ID, Hostname: h.Hostname, Version: version, Outcome: Reboots, AsIf: true}, seq: len(s.g.Queue) + len(s.g.Hosts) + len(s.all)}
	m.host.Took, m.host.Own = s.times.of(h)
	s.addWaiting(m, h)
	s.all = append(s.all, m)
}

// out takes a host out of the simulation.
func (s *simulation) out(m *member, o Outcome, c Cause, detail string) {
	m.host.Outcome, m.host.Cause, m.host.Detail = o, c, detail
	m.host.Took, m.host.Own = 0, false
}

// unwellVersion is the version with which a host is unwell; "" if that is not known.
func unwellVersion(unwell []lock.UnwellHost, id string) string {
	for _, u := range unwell {
		if u.ID == id {
			return u.Version
		}
	}
	return ""
}

// isFix reports whether a host that is unwell with a version needs a reboot for another one.
func isFix(h *fleet.Host, unwell string) bool {
	return h.Need != nil && h.Need.Version != "" && unwell != "" && h.Need.Version != unwell
}

// addHolder adds a host that holds a slot.
func (s *simulation) addHolder(m *member, h *fleet.Host) {
	r := h.Slot.Record
	m.host.Holds = true
	if r.Version != "" {
		m.host.Version = r.Version
	}
	age := time.Duration(0) // as far as it is known: other clients write no record
	if !r.Since.IsZero() {
		age = max(0, s.now.Sub(r.Since))
	}
	switch {
	case h.Slot.Expired: // the next host in the queue takes it
		s.out(m, Unforeseen, Expired, "")
		return
	case h.State == inventory.Unwell && isFix(h, r.Version) && !s.paused(h.Need.Version):
		m.host.Version, m.keepsSlot = h.Need.Version, true
		s.inUse++
		s.addWaiting(m, h)
		return
	case h.State == inventory.Unwell:
		s.out(m, Never, Unwell, h.Why)
	case h.State == fleet.Holding && r.By == byHand && h.Need == nil:
		s.out(m, Unforeseen, ByHand, "")
	case s.times.isStuck(m.host.Took, age):
		s.out(m, Never, Stuck, h.Why)
	default:
		if m.host.Begins = r.Since; r.Since.IsZero() || r.Since.After(s.now) {
			m.host.Begins = s.now
		}
		m.host.Ends = s.now.Add(s.times.rest(m.host.Took, age))
		s.inUse++
		s.releases.add(m.host.Ends)
		return
	}
	s.inUse++
}

// byHand is what locksmithctl calls itself in the record of a slot.
const byHand = "locksmithctl"

// paused reports whether hosts that are unwell pause a version.
func (s *simulation) paused(version string) bool {
	is, known := s.pausedVersions[version]
	if !known {
		is = slices.ContainsFunc(s.g.Unwell, func(u lock.UnwellHost) bool { return u.Pauses(version) })
		s.pausedVersions[version] = is
	}
	return is
}

// addWaiting adds a host that waits for a slot, or will do so.
func (s *simulation) addWaiting(m *member, h *fleet.Host) {
	queued := h.Place > 0
	kind := policy.ObstacleKind(h.WaitsFor)
	m.entry = s.now
	if !queued && h.NotBefore.After(s.now) {
		m.entry = h.NotBefore
	}
	switch hold := h.Hold; {
	case s.paused(m.host.Version):
		s.out(m, Never, VersionPaused, "")
		return
	case queued:
	case hold != nil && hold.Until.IsZero():
		s.out(m, Never, Held, hold.Reason)
		return
	case hold != nil && hold.Until.After(m.entry):
		m.entry = hold.Until
	case kind == policy.Held && hold == nil && h.NotBefore.IsZero():
		s.out(m, Never, Held, h.Why)
		return
	case kind == policy.Attempts:
		s.out(m, Never, Attempts, h.Why)
		return
	case h.State == inventory.Waiting && isObstacle(kind) && !slices.Contains(foreseeable, kind):
		s.out(m, Unforeseen, Cause(kind), h.Why)
		return
	}
	c := s.class(m, h)
	if kind == policy.NoRoom && c.window != nil && !queued { // there is none in the opening that is now
		if _, end := c.window.Next(s.now); end.After(m.entry) {
			m.entry = end
		}
	}
	c.members = append(c.members, m)
}

// isObstacle reports whether what a host waits for is something that holds it back, and not one of the other words that
// its record may have there.
func isObstacle(kind policy.ObstacleKind) bool {
	return !slices.Contains([]policy.ObstacleKind{"", "slot", "turn", "retry"}, kind)
}

// class returns the hosts that have the same window as a member, which has not been added to them.
func (s *simulation) class(m *member, h *fleet.Host) *class {
	key := classKey{}
	var w Window
	if h.Window != nil {
		key = classKey{settings: *h.Window, room: h.Room, set: true}
		if w = s.windows[key]; w == nil { // the host itself has said when the window opens next
			next := opening{h.Opens, h.Shuts}
			key, w = classKey{opening: next, room: h.Room, set: true}, next
		} else {
			m.host.ZoneUnknown = h.Window.Zone == ""
		}
	}
	if m.keepsSlot {
		key.keeps = m
	}
	c := s.classes[key]
	if c == nil {
		c = &class{window: w, single: key.opening == w, room: h.Room, short: true}
		s.classes[key] = c
		s.order = append(s.order, c)
	}
	return c
}

// understand has the windows parsed that hosts have who may need them: the most common ones, if there are too many.
func (s *simulation) understand() {
	hosts := map[classKey]int{}
	for n := range s.g.Hosts {
		if h := &s.g.Hosts[n]; h.Window != nil && !h.NoNews && (h.Need != nil || s.options.All) {
			hosts[classKey{settings: *h.Window, room: h.Room, set: true}]++
		}
	}
	keys := slices.SortedFunc(maps.Keys(hosts), func(a, b classKey) int {
		return cmp.Or(hosts[b]-hosts[a], cmp.Compare(a.settings.Start, b.settings.Start), cmp.Compare(a.settings.Length, b.settings.Length),
			cmp.Compare(a.settings.Zone, b.settings.Zone), cmp.Compare(a.settings.Blackout, b.settings.Blackout), cmp.Compare(a.room, b.room))
	})
	keys = keys[:min(len(keys), maxWindows)]
	s.budget = lookedAt / max(1, len(keys))
	parsed := map[inventory.Window]Window{}
	for _, key := range keys {
		w, known := parsed[key.settings]
		if !known && s.options.Window != nil {
			var err error
			if w, err = s.options.Window(key.settings); err != nil {
				w = nil
			}
			parsed[key.settings] = w
		}
		s.windows[key] = w
	}
}

// An opening is the only one that is known of a window.
type opening struct{ start, end time.Time }

func (o opening) Next(t time.Time) (start, end time.Time) {
	if !o.end.IsZero() && !t.Before(o.end) || o.start.IsZero() && o.end.IsZero() {
		far := t.Add(2 * Horizon)
		return far, far.Add(time.Hour)
	}
	return o.start, o.end
}
