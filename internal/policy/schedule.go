package policy

import "time"

// A Shutdown is one that is scheduled with logind; the zero one is none.
type Shutdown struct {
	Type    string    // "reboot", "poweroff", ...
	At      time.Time // zero: it is under way
	Message string    // what users are told besides
}

// Ours reports whether a shutdown is the reboot that this program scheduled for a time. A zero
// time is one that is not known: then any reboot may be ours. The message proves nothing, since
// anybody can change it, and logind does at a restart.
func (s Shutdown) Ours(at time.Time) bool {
	return s.Type == "reboot" && (at.IsZero() || s.At.Equal(at))
}

// schedule is what logind was asked for.
type schedule struct {
	stands    bool      // a reboot that we scheduled stands, or we cannot rule it out
	at        time.Time // for when, by the wall clock, we scheduled it; zero: any that stands may be ours
	announced bool      // users were told of it, and we have not called it off: if it is gone, a user has cancelled it
	logind    string    // the name of the logind that has it
	askedAt   time.Time // when logind was asked to reboot, as long as it may still do so; zero: it was not
	settlesAt time.Time // from then on no call that logind did not answer can still be carried out
	retry     retry     // of Unschedule: it must succeed before a slot is given back
}

// mayReboot reports whether logind may reboot the host because we asked it to, now or later.
func (s *schedule) mayReboot() bool { return s.stands || !s.askedAt.IsZero() }

// ours reports whether a shutdown is the reboot that we scheduled, or may be.
func (s *schedule) ours(other Shutdown) bool {
	return other.Ours(s.at) && (s.stands || !s.at.IsZero())
}

// gone notes that logind says that no reboot of ours is scheduled. If we have not called it
// off, a user has cancelled it, whatever else has become of this attempt; unless logind was
// restarted, which loses what is scheduled before systemd 257.
func (m *Machine) gone(now time.Time, logind string) {
	s := &m.schedule
	restarted := logind != "" && s.logind != "" && logind != s.logind
	if s.announced && !restarted {
		m.people.cancelledAt = now
	}
	s.stands, s.announced = false, false
}

func (r Scheduled) fold(m *Machine, now time.Time) {
	if r.Err == nil {
		m.schedule.announced, m.schedule.logind = true, r.Logind
	} else if r.Unknown {
		m.schedule.settlesAt = now.Add(callGrace)
	}
}

func (r Unscheduled) fold(m *Machine, now time.Time) {
	if r.Found {
		m.schedule.announced = false
	}
	if m.schedule.retry.note(now, r.Err, m.rand) {
		m.gone(now, r.Logind)
		m.schedule.askedAt = time.Time{}
	}
}

func (r Rebooted) fold(m *Machine, _ time.Time) {
	if r.Err != nil && !r.Unknown {
		m.schedule.askedAt = time.Time{}
	}
}
