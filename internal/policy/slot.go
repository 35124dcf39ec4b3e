package policy

import "time"

// Holding says whether this host holds a slot, and whether it took it before or after it last booted.
type Holding int

const (
	NotHeld         Holding = iota
	HeldSinceBefore         // taken before this boot
	HeldThisBoot            // taken during this very boot
	HeldUnrecorded          // by somebody who left no record of the boot
	HeldUnknown             // nobody knows whether one is held; it is given back as if one were
)

// slot is what is known of this host's slot of the lock.
type slot struct {
	inspected bool      // the lock has said at the start whether one is held
	found     Holding   // what it said
	mayHold   bool      // one is held, or that cannot be ruled out; besides what a running Lock may do
	retry     retry     // of Inspect and Unlock: these must succeed before anything else
	version   string    // that it was taken for, or is waited for
	since     time.Time // when it was taken; zero when that is not known
}

// outdated reports whether the slot that is held, or waited for, is for another version than is needed by now. Whether
// a version is paused counts for the slot's, and an unwell host pauses that one. Until such a host prepares its next
// reboot, its slot may be for any version: it records that one then.
func (m *Machine) outdated() bool {
	held := m.slot.mayHold && (m.state == Preparing || !m.health.pending)
	return (held || m.Queues()) && m.slot.version != m.triggers.version
}

func (r Inspected) fold(m *Machine, now time.Time) {
	if m.slot.retry.note(now, r.Err, m.rand) {
		m.slot.inspected, m.slot.found, m.slot.mayHold = true, r.Holding, r.Holding != NotHeld
		m.slot.version, m.slot.since = r.Purpose.Version, m.unstamp(r.Purpose.Taken, now)
		if r.Holding == HeldSinceBefore {
			m.health.begin(r.Purpose)
		}
	}
}

// taken is when the slot that is held was taken, by the wall clock; zero without one, or when that is not known.
func (m *Machine) taken() time.Time {
	if !m.slot.mayHold {
		return time.Time{}
	}
	return m.stamp(m.slot.since)
}

func (e Blocked) fold(m *Machine, _ time.Time) {
	if is(m.running, Lock{}.Kind()) {
		m.attempt.blockedBy = e.By
	}
}

// fold: an error says that no slot was taken this time; one may be held from before.
func (r Locked) fold(m *Machine, now time.Time) {
	if r.Err == nil || r.Unknown {
		m.slot.since = now
		m.slot.mayHold, m.slot.found = true, HeldThisBoot // what is done from now on is done with this slot
	}
}

func (r Unlocked) fold(m *Machine, now time.Time) {
	if m.slot.retry.note(now, r.Err, m.rand) {
		m.slot.mayHold, m.slot.found = false, NotHeld // a host that is not well goes on with its checks
	}
}
