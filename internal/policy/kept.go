package policy

import "time"

// keptPrecision is how much of the time for which people have held a reboot back a restart may forget.
const keptPrecision = 10 * time.Second

// Kept is what a restart of the daemon does not forget. Times are by the wall clock. The
// zero Kept says that there is nothing to remember.
type Kept struct {
	Scheduled KeptSchedule `json:"scheduled,omitzero"`
	// Asked is when logind was asked to reboot at once; zero when it was not, or has said that it does not.
	Asked time.Time `json:"asked,omitzero"`
	// Request is a reboot that somebody asked for by hand.
	Request KeptRequest `json:"request,omitzero"`
	// Cancelled is when a user was seen to have cancelled the reboot.
	Cancelled time.Time     `json:"cancelled,omitzero"`
	Postponed KeptPostponed `json:"postponed,omitzero"`
	// Checks are those after a reboot, while they are not over.
	Checks KeptChecks `json:"checks,omitzero"`
}

// KeptSchedule is a reboot that the daemon has scheduled with logind, or was about to; the zero one is none.
type KeptSchedule struct {
	Type string `json:"type"` // always "reboot"
	// Usec is its time in microseconds since 1970, as logind has it; 0 when it is not known,
	// so that any reboot may be this one.
	Usec      int64  `json:"usec,omitempty"`
	Announced bool   `json:"told,omitempty"`   // users were told of it, and calling it off has not begun
	Logind    string `json:"logind,omitempty"` // the name on the bus of the logind that has it
	// Earlier says that it is from before a soft reboot: no call is under way any more, and if it is gone, logind has
	// dropped it for that reboot.
	Earlier bool `json:"-"`
}

// Outlived returns what counts of it after a soft reboot: logind stores what is scheduled in /run since systemd 257.
func (k KeptSchedule) Outlived() KeptSchedule {
	if k.Type == "" {
		return k
	}
	return KeptSchedule{Type: k.Type, Usec: k.Usec, Earlier: true}
}

// KeptRequest is a reboot that a source asked for which does not repeat itself; the zero one is none.
type KeptRequest struct {
	Since   time.Time `json:"since"`
	Version string    `json:"version,omitempty"`
	Sources string    `json:"sources,omitempty"` // their names, with spaces between; "" for Requester's
}

// KeptPostponed is how long people have held back the reboot for a version.
type KeptPostponed struct {
	For     time.Duration `json:"for_ns"`
	Version string        `json:"version,omitempty"`
}

// KeptChecks are checks after a reboot; the zero ones are none.
type KeptChecks struct {
	Pending bool `json:"pending"`
	Purpose
}

// Kept returns what the process after this one has to know.
func (m *Machine) Kept(now time.Time) Kept {
	k := Kept{
		Request:   m.triggers.kept(m.stamp),
		Asked:     m.stamp(m.schedule.askedAt),
		Cancelled: m.stamp(m.people.cancelledAt),
	}
	if s := m.schedule; s.stands {
		k.Scheduled = KeptSchedule{Type: "reboot", Announced: s.announced && !is(m.running, Unschedule{}.Kind()), Logind: s.logind}
		if !s.at.IsZero() {
			k.Scheduled.Usec = s.at.UnixMicro()
		}
	}
	if held := m.people.postponedUntil(now).Truncate(keptPrecision); held > 0 {
		k.Postponed = KeptPostponed{For: held, Version: m.people.version}
	}
	if h := m.health; h.pending {
		k.Checks = KeptChecks{true, h.from}
	}
	return k
}

// remember records what the process before this one has left; with nil, that may have asked for a
// reboot, and scheduled any that stands.
func (m *Machine) remember(k *Kept, now time.Time) {
	s := &m.schedule
	if k == nil {
		s.stands, s.askedAt = true, now
		return
	}
	if kept := k.Scheduled; kept.Type != "" {
		s.stands, s.announced, s.logind = true, kept.Announced, kept.Logind
		if kept.Usec != 0 {
			s.at = time.UnixMicro(kept.Usec)
		}
	}
	// A call may still be under way.
	if s.askedAt = m.unstamp(k.Asked, now); !s.askedAt.IsZero() {
		s.settlesAt = s.askedAt.Add(callGrace)
	}
	if s.stands && !s.announced && !k.Scheduled.Earlier {
		s.settlesAt = now.Add(callGrace)
	}
	if k.Checks.Pending {
		m.health.begin(k.Checks.Purpose)
	}
	m.triggers.remember(k.Request, m.unstamp(k.Request.Since, now))
	m.people.cancelledAt = m.unstamp(k.Cancelled, now)
	m.people.postponed, m.people.version = k.Postponed.For, k.Postponed.Version
	m.people.holdBack(m.triggers.version)
}

// stamp is a time as the wall clock shows it, to the second; zero stays zero.
func (m *Machine) stamp(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return m.wall(t).UTC().Truncate(time.Second)
}

// unstamp is the time for a stamp, but not later than now, since the clock may have been set back.
func (m *Machine) unstamp(stamp, now time.Time) time.Time {
	if stamp.IsZero() {
		return stamp
	}
	return now.Add(-max(0, m.wall(now).Sub(stamp)))
}
