package policy

import (
	"fmt"
	"slices"
	"time"
)

// Local is what on this host may hold a reboot back: people and programs, as logind knows them, installations, and hold
// files.
type Local struct {
	Holds      []Hold
	Users      []string    // login names of the people logged in
	Inhibitors []Inhibitor // block inhibitors for shutdown
	Installing string      // the file that what installs packages has locked; "" for none
	Unclear    error       // why these are not known, though logind answers; somebody may be at work then
	Shutdown   Shutdown    // what is scheduled
}

// inQueue returns what counts of it for a host that waits for a slot: no installation, nor the inhibitor that apt has
// meanwhile, since that is mostly over before the host's turn comes.
func (l Local) inQueue() Local {
	l.Installing = ""
	l.Inhibitors = slices.DeleteFunc(slices.Clone(l.Inhibitors), func(i Inhibitor) bool { return i.Who == "APT" })
	return l
}

// An Inhibitor is a program that asks for the host not to be shut down.
type Inhibitor struct {
	Who, Why, User string
	PID            uint32 // 0 when it is not known
}

// A Hold is a file whose existence says that this host does not reboot.
type Hold struct {
	File   string
	Reason string
	Until  time.Time // then it ends by itself; zero: it does not
	Err    error     // what is wrong with the file, which counts without an end then
}

// stands reports whether the hold has not ended by itself.
func (h Hold) stands(now time.Time) bool { return h.Until.IsZero() || h.Until.After(now) }

// people is who is at work on this host, and how they have held back the reboot that is pending.
type people struct {
	look
	cancelledAt time.Time // when a cancel of the reboot was last seen; zero: never
	installing  time.Time // since when looks have found an installation of packages; zero: the last did not

	postponed time.Duration // for how long they have held it back, until heldSince
	heldSince time.Time     // since when they do so now; zero: they do not
	version   string        // that it was for; "" when that is not known
}

// look is the last answer about who is at work.
type look struct {
	local Local
	err   error     // why local is not known
	until time.Time // from then on it has to be asked again
}

// saw records who is at work on this host, or why that is not known.
func (p *people) saw(now time.Time, local *Local, err error) {
	outdated := p.outdated(now)
	p.look = look{err: err, until: now.Add(LookEvery)}
	if local == nil {
		return
	}
	switch p.local = *local; {
	case local.Installing == "":
		p.installing = time.Time{}
	case p.installing.IsZero() || outdated: // it may be another one
		p.installing = now
	}
}

// fresh reports whether it is known who is at work.
func (l look) fresh(now time.Time) bool { return now.Before(l.until) }

// outdated reports whether what is known of who is at work is from long ago.
func (l look) outdated(now time.Time) bool { return now.After(l.until.Add(MaxNap)) }

// holdBack says for which version people hold the reboot back from now on.
func (p *people) holdBack(version string) {
	if version == "" || version == p.version {
		return
	}
	if p.version != "" {
		p.forget(version)
	}
	p.version = version
}

// forget drops how long people held the reboot back for another version.
func (p *people) forget(version string) {
	p.postponed, p.heldSince, p.version = 0, time.Time{}, version
}

// postponedUntil is for how long people have held the reboot back.
func (p *people) postponedUntil(now time.Time) time.Duration {
	if p.heldSince.IsZero() {
		return p.postponed
	}
	return p.postponed + now.Sub(p.heldSince)
}

// count adds to the time for which people hold back the reboot. Waiting for a slot does not count. While the window
// is shut it counts if they held it back when the window shut: the host could have been done by then.
func (m *Machine) count(now time.Time) {
	p := &m.people
	switch {
	case !m.triggers.pending() || !m.config.open(now):
	case m.postponing(now):
		if p.heldSince.IsZero() {
			p.heldSince = now
		}
	case !p.heldSince.IsZero() && !p.outdated(now):
		p.postponed, p.heldSince = p.postponedUntil(now), time.Time{}
	}
}

// postponing reports whether people hold back the reboot: users, inhibitors, some of either
// whom logind does not name, an installation of packages, or somebody who has cancelled it.
func (m *Machine) postponing(now time.Time) bool {
	l := m.local()
	atWork := l.Unclear != nil || len(l.Inhibitors) > 0 || l.Installing != "" || len(l.Users) > 0 && !m.room(now)
	return atWork && !m.people.outdated(now) || !m.attempt.warnedAt.IsZero() || now.Before(m.againAt())
}

// deadline is when people who hold the reboot back now cannot do so any more; zero for never.
func (m *Machine) deadline() time.Time {
	if m.config.MaxPostpone == 0 || m.people.heldSince.IsZero() {
		return time.Time{}
	}
	return m.people.heldSince.Add(m.config.MaxPostpone - m.people.postponed)
}

// overdue reports whether people have held the reboot back for as long as they can.
func (m *Machine) overdue(now time.Time) bool {
	return m.config.MaxPostpone > 0 && m.people.postponedUntil(now) >= m.config.MaxPostpone
}

// againAt is when a reboot that a user has cancelled may be tried again.
func (m *Machine) againAt() time.Time {
	if m.people.cancelledAt.IsZero() {
		return time.Time{}
	}
	return m.people.cancelledAt.Add(m.config.LoginRetry)
}

// cancelled reports whether a user has cancelled the reboot for the time being.
func (m *Machine) cancelled(now time.Time) bool {
	return now.Before(m.againAt()) && !m.overdue(now)
}

// local returns what on this host may hold the reboot back now, from the last look or check.
func (m *Machine) local() Local {
	if m.Queues() {
		return m.people.local.inQueue()
	}
	return m.people.local
}

// obstacle returns what on this host holds the reboot back, nil for nothing.
func (m *Machine) obstacle(now time.Time) *Obstacle {
	if standing, _ := m.obstacles(now); len(standing) > 0 {
		return &standing[0]
	}
	return nil
}

// obstacles returns everything on this host that holds the reboot back, in the order in which it counts, and what would
// do so, but does not count now.
func (m *Machine) obstacles(now time.Time) (standing, overruled []Obstacle) {
	l, clock := m.local(), m.config.Clock
	if m.schedule.ours(l.Shutdown) && !l.Shutdown.At.IsZero() {
		l.Shutdown = Shutdown{}
	}
	if m.cancelled(now) {
		text := fmt.Sprintf("a user, who cancelled it %s; trying again %s", clock(m.people.cancelledAt), clock(m.againAt()))
		if !l.Shutdown.At.IsZero() {
			text += ", if no longer held back by " + l.Shutdown.text(clock)
		}
		standing = append(standing, Obstacle{Cancelled, text})
	}
	if m.people.err != nil {
		standing = append(standing, unclear(m.people.err))
	} else {
		for _, o := range l.obstacles(now, clock) {
			if o, counts := m.counts(now, o); counts {
				standing = append(standing, o)
			} else {
				overruled = append(overruled, o)
			}
		}
	}
	if m.schedule.stands && m.state != Preparing {
		standing = append(standing, Obstacle{OtherShutdown, "a reboot that was scheduled earlier and called off"})
	}
	switch {
	case now.Before(m.config.Earliest):
		standing = append(standing, tooEarly(m.config.Earliest, clock))
	case now.Before(m.softAgain()):
		standing = append(standing, Obstacle{TooEarly, "the last soft reboot, which is not an hour ago: the file of the packages" +
			" has been changed since, and the host does another one " + clock(m.softAgain()) + " at the earliest"})
	}
	for _, o := range []*Obstacle{m.gates.shut(now), m.noRoom(now)} {
		if o != nil {
			standing = append(standing, *o)
		}
	}
	return standing, overruled
}

// counts reports whether something on the host itself holds the reboot back, and returns it in the words for that.
func (m *Machine) counts(now time.Time, o Obstacle) (Obstacle, bool) {
	clock := m.config.Clock
	switch o.Kind {
	case Unclear, Inhibited:
		return o, !m.overdue(now)
	case Installing:
		if !m.overdue(now) {
			return o, true
		}
		until := m.people.installing.Add(InstallGrace)
		if !now.Before(until) {
			return o, false
		}
		o.Text += ", and has until " + clock(until)
	case LoggedIn:
		if m.room(now) {
			return o, false
		}
		_, end := m.config.opening(now)
		o.Text += fmt.Sprintf(": the reboot window shuts %s, before the %v that they have would be over", clock(end), m.delay(now))
	}
	return o, true
}

// heldUntil returns when what holds the reboot back ends by itself; the zero time where it does not, or nobody knows
// when.
func (m *Machine) heldUntil(now time.Time, o *Obstacle) (until time.Time) {
	switch {
	case o == nil:
	case o.Kind == Cancelled:
		return m.againAt()
	case o.Kind == TooEarly:
		if until = m.config.Earliest; m.softAgain().After(until) {
			until = m.softAgain()
		}
	case o.Kind == Held:
		for _, h := range m.local().Holds {
			if h.Until.IsZero() {
				return time.Time{}
			}
			if h.stands(now) && h.Until.After(until) {
				until = h.Until
			}
		}
	}
	return until
}

func (e Looked) fold(m *Machine, now time.Time) {
	m.looking = false
	if m.people.saw(now, e.Local, e.Err); e.Local != nil && m.schedule.ours(e.Local.Shutdown) {
		// If it is gone, that shows nothing: the look may have begun before it was scheduled.
		m.schedule.stands = true
	}
}
