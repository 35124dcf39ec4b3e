package daemon

import (
	"errors"
	"time"

	"github.com/locksmithd/locksmith/internal/state"
)

// keptPrecision is how much of the time for which people have held a reboot back a restart
// may forget.
const keptPrecision = 10 * time.Second

// Kept returns what the process after this one has to know.
func (m *Machine) Kept(now time.Time) state.Kept {
	k := state.Kept{Asked: m.stamp(m.askedAt), Cancelled: m.stamp(m.cancelledAt)}
	if m.mayStand {
		k.Scheduled = state.Scheduled{Type: "reboot", Told: m.announced && m.running != Unschedule, Logind: m.logindName}
		if !m.scheduled.IsZero() {
			k.Scheduled.Usec = m.scheduled.UnixMicro()
		}
	}
	if m.request {
		k.Request = state.Request{Since: m.stamp(m.pendingSince), Version: m.version}
	}
	if held := m.postponedUntil(now).Truncate(keptPrecision); held > 0 {
		k.Postponed = state.Postponed{For: held, Version: m.postponedFor}
	}
	return k
}

// remember takes in what the process before this one has left; with nil, it may have asked for
// a reboot, and scheduled any that stands.
func (m *Machine) remember(k *state.Kept, now time.Time) {
	if k == nil {
		m.mayStand, m.askedAt = true, now
		return
	}
	if s := k.Scheduled; s.Type != "" {
		m.mayStand, m.announced, m.logindName = true, s.Told, s.Logind
		if s.Usec != 0 {
			m.scheduled = time.UnixMicro(s.Usec)
		}
		if !s.Told { // the call may still be under way
			m.settledAt = now.Add(callGrace)
		}
	}
	if m.askedAt = m.unstamp(k.Asked, now); !m.askedAt.IsZero() {
		m.settledAt = later(m.settledAt, m.askedAt.Add(callGrace))
	}
	m.cancelledAt = m.unstamp(k.Cancelled, now)
	if since := k.Request.Since; !since.IsZero() {
		m.request, m.pendingSince, m.version = true, m.unstamp(since, now), k.Request.Version
	}
	m.postponed, m.postponedFor = k.Postponed.For, k.Postponed.Version
}

// stamp is a time as the wall clock shows it, to the second; zero stays zero.
func (m *Machine) stamp(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return m.wall(t).UTC().Truncate(time.Second)
}

// unstamp is the time for a stamp, which is not later than now, whatever the clock was when
// it was made.
func (m *Machine) unstamp(stamp, now time.Time) time.Time {
	if stamp.IsZero() {
		return stamp
	}
	return now.Add(-max(0, m.wall(now).Sub(stamp)))
}

// errNobodyKnows is why a reboot that stands is neither called off nor taken for another's.
var errNobodyKnows = errors.New("nobody knows whether locksmithd has scheduled it, as nothing was kept of the process before this one")

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
