package policy

import (
	"fmt"
	"time"
)

// AskEvery is how long an answer of the gates counts.
const AskEvery = time.Minute

// Asked: the gates that need I/O, besides who is at work, have answered. A gate that cannot be asked is shut.
type Asked struct {
	Obstacle *Obstacle // what holds the reboot back; nil: nothing
	Hooked   bool      // something is hooked in before a reboot
}

// gates is the last answer of the gates that need I/O.
type gates struct {
	asking   bool
	obstacle *Obstacle
	hooked   bool
	until    time.Time // from then on the answer does not count
}

// fresh reports whether the answer counts.
func (g gates) fresh(now time.Time) bool { return now.Before(g.until) }

// outdated reports whether the answer is too old even for a check that was begun while it counted.
func (g gates) outdated(now time.Time) bool { return now.After(g.until.Add(MaxNap)) }

// shut returns what holds the reboot back, nil for nothing.
func (g gates) shut(now time.Time) *Obstacle {
	if !g.fresh(now) {
		return nil
	}
	return g.obstacle
}

func (e Asked) fold(m *Machine, now time.Time) {
	m.gates = gates{obstacle: e.Obstacle, hooked: e.Hooked, until: now.Add(AskEvery)}
	m.attempt.asked = m.attempt.asking
}

// wantAsk reports whether the gates have to be asked.
func (m *Machine) wantAsk(now time.Time) bool {
	switch {
	case m.gates.asking || !m.mayGo(now):
		return false
	case m.state == Preparing:
		return !is(m.running, Drain{}.Kind()) && !(m.attempt.asked && m.gates.fresh(now))
	}
	return m.seeks(now) && m.people.fresh(now) && !m.gates.fresh(now) && m.obstacle(now) == nil
}

// noRoom says that the window has no room for what is hooked in before a reboot, nil if it has.
func (m *Machine) noRoom(now time.Time) *Obstacle {
	if !m.gates.hooked || m.drain.begun {
		return nil
	}
	return m.config.NoRoom(now, m.config.BeforeTimeout, m.config.Clock)
}

// NoRoom says that the window shuts before what runs before a reboot, and may take that long, would be over if it began
// now; nil if it does not. Of the Config only Window counts; clock writes times for people.
func (c Config) NoRoom(now time.Time, takes time.Duration, clock func(time.Time) string) *Obstacle {
	_, end := c.opening(now)
	if end.IsZero() || now.Add(takes+Backstop).Before(end) {
		return nil
	}
	return &Obstacle{NoRoom, fmt.Sprintf("the reboot window, which shuts %s, before the %v are over that what runs before a reboot may take", clock(end), takes)}
}
