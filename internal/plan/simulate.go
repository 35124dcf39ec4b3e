package plan

import (
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
)

// simulation plays a rollout through: at each moment at which a slot becomes free, a window opens, or a host may begin,
// the host that has been in the queue for longest takes a slot.
type simulation struct {
	g       fleet.Group
	now     time.Time // of the facts
	times   times
	options Options
	p       *Plan

	all            []*member
	classes        map[classKey]*class
	order          []*class            // as they were made
	windows        map[classKey]Window // nil for one that cannot be understood, or that is one too many
	pausedVersions map[string]bool

	t        time.Time // that is played
	begin    time.Time // the end of a pause: nobody takes a slot earlier
	inUse    int       // slots
	releases queue[time.Time]
	timers   queue[timer]
	open     queue[*class] // with a first member who may take a slot, in the order of the queue
	budget   int           // openings of a class that are looked at
}

// A member is a host in the simulation.
type member struct {
	host      Host
	seq       int       // its place among those who come at the same time
	entry     time.Time // it may enter the queue from then on, as far as its window lets it
	keepsSlot bool      // it is unwell, and takes another version on the slot that it has
}

// A class is the hosts with the same window: they come into the queue and leave it together.
type class struct {
	window  Window // nil: always open
	single  bool   // only its next opening is known
	room    time.Duration
	members []*member // in the order in which they enter

	from   time.Time // since when they are in the queue together; zero: since they entered it
	until  time.Time // then they leave it, zero: they do not
	looked int       // at openings
	short  bool      // no opening so far was long enough
	cause  Cause     // why the rest of them do not come to a slot; "": they may
	queued bool      // it is in simulation.open
}

type classKey struct {
	settings inventory.Window
	opening  opening
	room     time.Duration
	set      bool    // there is a window
	keeps    *member // that is alone, because it waits for no slot
}

// A timer is when to look at a class again.
type timer struct {
	at time.Time
	c  *class
}

const (
	// maxWindows is how many windows of a group are understood.
	maxWindows = 500
	// lookedAt is how many openings of all of them are looked at, each window having its share.
	lookedAt = 40 * maxWindows
	// allShort is how many openings in a row without enough room show that there are no others.
	allShort = 20
)

func newSimulation(g fleet.Group, now time.Time, times times, o Options) *simulation {
	s := &simulation{g: g, now: now, times: times, options: o, t: now, begin: now, classes: map[classKey]*class{}, pausedVersions: map[string]bool{}}
	s.windows = map[classKey]Window{}
	s.understand()
	s.releases.less = func(a, b time.Time) bool { return a.Before(b) }
	s.timers.less = func(a, b timer) bool { return a.at.Before(b.at) }
	s.open.less = func(a, b *class) bool {
		x, y := a.inQueue(), b.inQueue()
		return x.Before(y) || x.Equal(y) && a.members[0].seq < b.members[0].seq
	}
	if g.Pause != nil && g.Pause.Until.After(now) {
		s.begin = g.Pause.Until
	}
	return s
}

// inQueue is since when the first member is in the queue.
func (c *class) inQueue() time.Time {
	if m := c.members[0]; m.entry.After(c.from) {
		return m.entry
	}
	return c.from
}

// run plays the rollout until nothing happens any more, or for Horizon.
func (s *simulation) run() {
	for _, c := range s.order {
		slices.SortFunc(c.members, func(a, b *member) int {
			if by := a.entry.Compare(b.entry); by != 0 {
				return by
			}
			return a.seq - b.seq
		})
		s.look(c)
	}
	end := s.now.Add(Horizon)
	for !s.t.After(end) {
		for s.timers.any() && !s.timers.first().at.After(s.t) {
			s.look(s.timers.take().c)
		}
		s.takeSlots()
		if !s.advance() {
			break
		}
	}
	for _, c := range s.order {
		s.leave(c)
	}
}

// takeSlots has hosts take the slots that are free now.
func (s *simulation) takeSlots() {
	for s.open.any() && s.inUse < s.p.Max && !s.t.Before(s.begin) {
		c := s.open.take()
		if c.queued = false; c.until.IsZero() || s.t.Before(c.until) { // else the window has shut meanwhile
			s.inUse++
			s.reboot(c)
		}
		s.look(c)
	}
}

// reboot has the first member of a class reboot now.
func (s *simulation) reboot(c *class) {
	h := &c.members[0].host
	h.Begins, h.Ends = s.t, s.t.Add(h.Took)
	s.releases.add(h.Ends)
	c.members = c.members[1:]
}

// advance goes on to the next moment at which something happens, and reports whether there is one.
func (s *simulation) advance() bool {
	next := time.Time{}
	at := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if s.releases.any() {
		at(s.releases.first())
	}
	if s.timers.any() {
		at(s.timers.first().at)
	}
	if s.begin.After(s.t) {
		at(s.begin)
	}
	if next.IsZero() {
		return false
	}
	s.t = next
	for s.releases.any() && !s.releases.first().After(s.t) {
		s.releases.take()
		s.inUse--
	}
	return true
}

// look finds out whether the first member of a class may take a slot now, or when to look again.
func (s *simulation) look(c *class) {
	if len(c.members) == 0 || c.queued || c.cause != "" {
		return
	}
	from := s.t
	if entry := c.members[0].entry; entry.After(from) {
		from = entry
	}
	opens, found := s.opening(c, from)
	switch {
	case !found:
	case opens.After(s.t):
		s.timers.add(timer{opens, c})
	case c.members[0].keepsSlot:
		s.reboot(c)
	default:
		c.queued = true
		s.open.add(c)
	}
}

// opening returns from when on, at from or later, the members of a class can take a slot, and notes until when. It does
// not find a time if the window does not open any more, as far as it is looked at.
func (s *simulation) opening(c *class, from time.Time) (opens time.Time, found bool) {
	if c.window == nil || !c.until.IsZero() && !from.Before(c.from) && from.Before(c.until) {
		return from, true
	}
	c.cause = Far
	for c.looked < s.budget {
		c.looked++
		start, end := c.window.Next(from)
		if c.cause = WindowShut; start.After(s.now.Add(Horizon)) {
			break
		}
		if c.until = end.Add(-c.room); end.IsZero() {
			c.until = s.now.Add(2 * Horizon)
		}
		c.short = c.short && !end.IsZero() && end.Sub(start) <= c.room
		if opens = maxTime(start, from); opens.Before(c.until) {
			if start.After(s.now) { // they come when it opens; those who are in the queue now keep their places
				c.from = start
			}
			c.cause = ""
			return opens, true
		}
		if c.cause = Far; c.short && c.looked >= allShort {
			c.cause = WindowShort
			break
		}
		if !end.After(from) { // not a window
			break
		}
		from = end
	}
	switch {
	case c.single:
		c.cause = WindowUnclear
	case c.short && c.looked > 1:
		c.cause = WindowShort
	}
	return time.Time{}, false
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// leave says of the members that have got no slot why that is.
func (s *simulation) leave(c *class) {
	for _, m := range c.members {
		switch {
		case c.cause == WindowShut || c.cause == WindowShort:
			s.out(m, Never, c.cause, "")
		case c.cause != "":
			s.out(m, Unforeseen, c.cause, "")
		case s.inUse >= s.p.Max && !s.releases.any():
			s.out(m, Never, NoSlot, "")
		default:
			s.out(m, Unforeseen, Far, "")
		}
	}
}
