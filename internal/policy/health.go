package policy

import (
	"errors"
	"fmt"
	"time"
)

// A Purpose is what this program has begun a reboot for.
type Purpose struct {
	// Version is of the update that the host rebooted for; "" when that is not known.
	Version string `json:"version,omitempty"`
	// OSVersion is the version of the operating system that ran before, where update_engine had announced another
	// one; else "".
	OSVersion string `json:"os_version,omitempty"`
	// Unbooted says that nothing but soft reboots came since, which boot no other version of the operating system: what
	// becomes of the host says nothing of it. Somebody else has asked for them.
	Unbooted bool `json:"unbooted,omitempty"`
	// Taken is when the slot was taken, by the wall clock; zero without one, or when that is not known.
	Taken time.Time `json:"-"`
}

// HealthFailure is what a host does with its slot when it has not become well in time after a reboot.
type HealthFailure int

const (
	PauseVersion HealthFailure = iota // keep it, and let no host go on that waits for the same version
	HoldSlot                          // keep it
	ReleaseSlot                       // give it back
)

// errSlow is why a host is unwell when its first checks take longer than they may.
var errSlow = errors.New("the checks after the reboot have not ended in time")

// health is whether the host is well after a reboot of ours.
type health struct {
	pending bool // the host has booted because of us, and the checks are not over
	from    Purpose
	runs    string    // the version of the operating system
	since   time.Time // of the checks; zero: they have not begun
	passed  bool      // the last ones have succeeded
	wellAt  time.Time // since when the host is well; zero: it is not, or not yet
	bad     error     // why it is unwell, which its time-out decides; nil: it is not, or not yet
	keeps   bool      // a slot that is held is kept for this
	retry   retry     // of Verify
	told    string    // the phase that the fleet knows
	tell    retry     // of Tell
	failed  error     // why the host is not well, though the checks are over
}

func newHealth() health {
	return health{retry: retry{first: 5 * time.Second, limit: time.Minute}, tell: retry{first: 5 * time.Second, limit: time.Minute}}
}

// begin begins the checks after a reboot, unless they have begun.
func (h *health) begin(from Purpose) {
	if !h.pending {
		h.pending, h.from = true, from
	}
}

// end ends the checks. What has come of them stays.
func (h *health) end() {
	runs, failed := h.runs, h.failed
	*h = newHealth()
	h.runs, h.failed = runs, failed
}

// mismatch says that the host runs what it ran before the reboot, nil if it does not.
func (h *health) mismatch() error {
	if h.from.Unbooted || h.from.OSVersion == "" || h.from.OSVersion != h.runs || h.from.Version == h.runs {
		return nil
	}
	return fmt.Errorf("the host came back with %s instead of %s", h.runs, h.from.Version)
}

// judge says what the checks have come to by now.
func (m *Machine) judge(now time.Time) {
	h := &m.health
	if !h.wellAt.IsZero() && !m.slot.mayHold {
		h.end()
	}
	switch {
	case !h.pending || h.since.IsZero() || !h.wellAt.IsZero():
		h.bad = nil
	case h.mismatch() != nil:
		h.bad = h.mismatch()
	case now.Before(h.since.Add(m.config.HealthTimeout)):
		h.bad = nil
	case h.retry.err != nil:
		h.bad = h.retry.err
	default:
		h.bad = errSlow
	}
	switch {
	case !h.pending:
		h.keeps = false
	case !h.wellAt.IsZero():
		h.keeps = now.Before(h.wellAt.Add(m.config.ReleaseDelay))
	default:
		h.keeps = h.bad == nil || m.config.HealthFailure != ReleaseSlot
	}
}

// takesFix reports whether the host is unwell, and a reboot for another version is needed.
func (m *Machine) takesFix() bool {
	bad, next := m.health.from.Version, m.triggers.version
	return m.health.bad != nil && bad != "" && next != "" && next != bad
}

// fixDue reports whether nothing holds that reboot back.
func (m *Machine) fixDue(now time.Time) bool {
	return m.takesFix() && !m.owes() && m.mayGo(now) && m.ready(now) && m.people.fresh(now) && m.gates.fresh(now) && m.obstacle(now) == nil
}

// pauses reports whether a host that is unwell keeps others from its version.
func (m *Machine) pauses() bool {
	return m.config.HealthFailure == PauseVersion && !m.health.from.Unbooted
}

// phase is what the fleet is to know of the slot after the boot; "" for nothing.
func (m *Machine) phase() string {
	h := &m.health
	switch {
	case !h.wellAt.IsZero() && m.config.ReleaseDelay > 0:
		return Delaying
	case !h.wellAt.IsZero():
		return ""
	case h.bad != nil:
		return Unwell
	case h.retry.err != nil:
		return Checking
	}
	return ""
}

// tell returns what tells the fleet of the host's health, nil if it knows.
func (m *Machine) tell(now time.Time) Effect {
	h := &m.health
	p := m.phase()
	if !h.pending || p == "" || p == h.told || !m.slot.mayHold || now.Before(h.tell.at) {
		return nil
	}
	r := Report{Phase: p, Pause: p == Unwell && m.pauses()}
	switch {
	case h.bad != nil:
		r.Why = h.bad.Error()
	case h.retry.err != nil:
		r.Why = h.retry.err.Error()
	}
	return Tell{r}
}

// verify returns the next check after the boot, nil if none is due.
func (m *Machine) verify(now time.Time) Effect {
	h := &m.health
	if !h.pending || !h.wellAt.IsZero() || now.Before(h.retry.at) {
		return nil
	}
	return Verify{Facts{h.from.Version, "the host has booted"}, h.bad, h.mismatch() != nil, m.slot.mayHold}
}

func (r Verified) fold(m *Machine, now time.Time) {
	h := &m.health
	h.passed = h.retry.note(now, r.Err, m.rand)
	switch {
	case r.Taken: // somebody has freed the slot of a host that is not well, and so decided
		m.slot.mayHold, m.slot.found = false, NotHeld
		h.failed = h.bad
		h.end()
	case h.passed && (h.mismatch() == nil || !m.slot.mayHold): // without a slot nobody waits for the right version
		if h.wellAt, h.failed = now, h.mismatch(); h.failed == nil {
			m.well = &Well{h.from.Version, now}
		}
	case h.passed:
		h.retry.at = now.Add(time.Minute) // the slot may be taken away meanwhile
	}
}

func (r Told) fold(m *Machine, now time.Time) {
	if m.health.tell.note(now, r.Err, m.rand) {
		m.health.told = r.Report.Phase
	}
	if m.state == Preparing { // it goes on, told or not
		m.attempt.told = r.Report.Phase
	}
}
