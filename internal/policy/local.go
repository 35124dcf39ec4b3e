package policy

import (
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// obstacle returns what on this host holds the reboot back, nil for nothing. It counts from the last look or check.
func (m *Machine) obstacle(now time.Time) *Obstacle {
	l, clock, postponable := m.local, m.config.Clock, !m.overdue(now)
	if m.ours(l.Shutdown) && !l.Shutdown.At.IsZero() {
		l.Shutdown = Shutdown{}
	}
	if m.cancelled(now) {
		text := fmt.Sprintf("a user, who cancelled it %s; trying again %s", clock(m.cancelledAt), clock(m.againAt()))
		if !l.Shutdown.At.IsZero() {
			text += ", if no longer held back by " + l.Shutdown.text(clock)
		}
		return &Obstacle{Cancelled, text}
	}
	if m.localErr != nil {
		o := unclear(m.localErr)
		return &o
	}
	for _, o := range l.obstacles(clock) {
		switch o.Kind {
		case Unclear, Inhibited:
			if !postponable {
				continue
			}
		case LoggedIn:
			if m.room(now) {
				continue
			}
			_, end := m.opening(now)
			o.Text += fmt.Sprintf(": the reboot window shuts %s, before the %v that they have would be over", clock(end), m.delay(now))
		}
		return &o
	}
	if m.mayStand && m.state != Preparing {
		return &Obstacle{OtherwiseOff, "a reboot that was scheduled earlier and called off"}
	}
	return nil
}

// room reports whether the window stays open for the users' delay, and until
// logind would reboot the host by itself.
func (m *Machine) room(now time.Time) bool {
	_, end := m.opening(now)
	reboot := now.Add(m.delay(now))
	if m.told {
		reboot = m.rebootAt
	}
	return end.IsZero() || reboot.Add(Backstop).Before(end)
}

// delay is what users who are told now have until the reboot.
func (m *Machine) delay(now time.Time) time.Duration {
	if m.overdue(now) {
		return min(m.config.LoginDelay, FinalDelay)
	}
	return m.config.LoginDelay
}

// count keeps the time for which people hold back the reboot. Waiting for a slot
// is none of it. While the window is shut it goes on if they did so when it shut:
// the host could have been done by then.
func (m *Machine) count(now time.Time) {
	switch {
	case !m.pending() || !m.open(now):
	case m.postponing(now):
		if m.heldSince.IsZero() {
			m.heldSince = now
		}
	case !m.heldSince.IsZero() && !m.outdated(now):
		m.postponed += now.Sub(m.heldSince)
		m.heldSince = time.Time{}
	}
}

// postponing reports whether people hold back the reboot: users, inhibitors, some of either
// whom logind does not name, or that somebody has cancelled it.
func (m *Machine) postponing(now time.Time) bool {
	atWork := m.local.Unclear != nil || len(m.local.Inhibitors) > 0 || len(m.local.Users) > 0 && !m.room(now)
	return atWork && !m.outdated(now) || !m.toldAt.IsZero() || now.Before(m.againAt())
}

// outdated reports whether what is known of who is at work is from long ago.
func (m *Machine) outdated(now time.Time) bool { return now.After(m.lookAt.Add(MaxNap)) }

// deadline is when people who hold the reboot back now cannot do so any more; zero
// for never.
func (m *Machine) deadline() time.Time {
	if m.config.MaxPostpone == 0 || m.heldSince.IsZero() {
		return time.Time{}
	}
	return m.heldSince.Add(m.config.MaxPostpone - m.postponed)
}

// overdue reports whether people have held the reboot back for as long as they can.
func (m *Machine) overdue(now time.Time) bool {
	return m.config.MaxPostpone > 0 && m.postponedUntil(now) >= m.config.MaxPostpone
}

// postponedUntil is for how long people have held the reboot back.
func (m *Machine) postponedUntil(now time.Time) time.Duration {
	if m.heldSince.IsZero() {
		return m.postponed
	}
	return m.postponed + now.Sub(m.heldSince)
}

// drift is how far the wall clock has gone ahead of the time that passes since the
// reboot was scheduled.
func (m *Machine) drift(now time.Time) time.Duration {
	return m.wall(now).Add(m.rebootAt.Sub(now) + Backstop).Sub(m.scheduled).Truncate(time.Millisecond)
}

// againAt is when a reboot that a user has cancelled may be tried again.
func (m *Machine) againAt() time.Time {
	if m.cancelledAt.IsZero() {
		return time.Time{}
	}
	return m.cancelledAt.Add(m.config.LoginRetry)
}

// cancelled reports whether a user has cancelled the reboot for the time being.
func (m *Machine) cancelled(now time.Time) bool {
	return now.Before(m.againAt()) && !m.overdue(now)
}

// due reports whether the next attempt may begin.
func (m *Machine) due(now time.Time) bool {
	return !now.Before(m.taking.at) && !now.Before(m.reboot.at) && !now.Before(m.begin(now))
}

// message tells users of the reboot.
func (m *Machine) message() string {
	text := fmt.Sprintf("System reboot in %s! locksmithd reboots this host at %s", spoken(m.rebootAt.Sub(m.toldAt)), m.config.Clock(m.scheduled.Add(-Backstop)))
	if m.version != "" {
		text += ", for version " + safetext.Clean(m.version)
	}
	if m.final {
		return text + ". It has been postponed for " + spoken(m.config.MaxPostpone) +
			" and cannot be cancelled any more. To go now, run: systemctl reboot"
	}
	return text + ". To cancel it, run: shutdown -c; it is tried again " + spoken(m.config.LoginRetry) +
		" later. To go now, log out, or run: systemctl reboot"
}

// spoken writes a duration for people.
func spoken(d time.Duration) string {
	n, unit := int64(d/time.Second), "second"
	if d >= time.Minute && d%time.Minute == 0 {
		n, unit = int64(d/time.Minute), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
