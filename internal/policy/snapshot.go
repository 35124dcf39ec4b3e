package policy

import (
	"errors"
	"time"
)

// A Snapshot is what the daemon does and waits for, as facts: the status line, the log, the coordinator file and
// every other view are made from it. Facts that do not matter in a state are left out.
type Snapshot struct {
	State State     `json:"state"`
	Since time.Time `json:"since"`
	Why   string    `json:"why"`             // the reason for this state
	Lock  bool      `json:"lock"`            // a slot is needed for a reboot
	Holds bool      `json:"holds,omitempty"` // this host holds one, or may do so
	Gates []Gate    `json:"gates,omitempty"` // every one, in the order in which they count

	Need     Need     `json:"need,omitzero"`
	Troubles []string `json:"troubles,omitempty"` // why sources do not say whether they need a reboot

	HeldSince time.Time `json:"held_since,omitzero"` // a slot, or that may be; zero without one, or when that is not known

	// What is waited for.
	Opens       time.Time `json:"opens,omitzero"`        // the reboot window
	ShutBy      string    `json:"shut_by,omitempty"`     // what makes it open so late, such as a blackout
	Shuts       time.Time `json:"shuts,omitzero"`        // until then a slot is waited for
	Begins      time.Time `json:"begins,omitzero"`       // this host, at random, later than the window
	HeldBack    *Obstacle `json:"held_back,omitempty"`   // by whom on this host
	HeldUntil   time.Time `json:"held_until,omitzero"`   // when that ends by itself; zero if that is unknown
	Postponable time.Time `json:"postponable,omitzero"`  // until then people who hold the reboot back can do so
	BlockedBy   string    `json:"blocked_by,omitempty"`  // in the queue for a slot
	Silent      []string  `json:"silent,omitempty"`      // sources that have not said yet whether a reboot is needed
	SilentUntil time.Time `json:"silent_until,omitzero"` // then their silence is a no
	Retries     []Retry   `json:"retries,omitempty"`     // what failed and is tried again
	Undo        []Undo    `json:"undo,omitempty"`        // what is undone, the next one first

	// What runs before the reboot, and after the boot.
	Hooked     bool      `json:"hooked,omitempty"`     // something is to run, as the gates have said last
	DrainUntil time.Time `json:"drain_until,omitzero"` // it has until then
	Health     *Health   `json:"health,omitempty"`
	Failed     string    `json:"failed,omitempty"` // why the host is not well, though the checks are over

	// What has happened since the daemon started, whatever the state is now.
	Well       *Well       `json:"well,omitempty"`        // the last reboot whose checks have succeeded
	HookFailed *HookFailed `json:"hook_failed,omitempty"` // the last failure of hooks

	// The reboot.
	Users    []string  `json:"users,omitempty"`    // who are logged in, and delay it
	WarnedAt time.Time `json:"warned_at,omitzero"` // zero while they are being warned
	RebootAt time.Time `json:"reboot_at,omitzero"` // at the end of their delay
	Final    bool      `json:"final,omitempty"`    // they cannot cancel it
	GiveUp   time.Time `json:"give_up,omitzero"`   // if the host is still up then, it is tried again
	How      Choice    `json:"how,omitzero"`       // logind was asked to reboot
	Error    string    `json:"error,omitempty"`    // that did not stop the attempt
}

// Need is that a reboot is needed; the zero one is that none is.
type Need struct {
	Since   time.Time `json:"since"`
	Version string    `json:"version,omitempty"`
	Sources []string  `json:"sources"`
	Reasons []string  `json:"reasons"` // in the words of the sources, or else their names
}

// Well is that a host has become well after a reboot.
type Well struct {
	Version string    `json:"version,omitempty"` // for which it rebooted
	At      time.Time `json:"at"`
}

// HookFailed is a failure of what runs before a reboot, or of what undoes that: of several in succession the first.
// What runs after the boot is tried until it succeeds, and Health says what has come of it.
type HookFailed struct {
	Hook    string    `json:"hook"`              // HookBefore or HookCancelled
	Version string    `json:"version,omitempty"` // that the reboot was for
	Error   string    `json:"error"`
	At      time.Time `json:"at"`
}

// The phases whose failures HookFailed names, as package hooks calls them.
const (
	HookBefore    = "before-reboot"
	HookCancelled = "reboot-cancelled"
)

// A Retry is something that failed; the zero one is that nothing did.
type Retry struct {
	At    time.Time `json:"at,omitzero"` // zero when it is tried now
	Error string    `json:"error"`
}

// An Undo is something that an attempt has left behind, and what it takes to undo it.
type Undo struct {
	Name    string    `json:"name"`
	Doing   string    `json:"doing"`
	Settles time.Time `json:"settles,omitzero"` // logind has not answered a call, and may carry it out until then
	Retry   Retry     `json:"retry,omitzero"`
	Advice  string    `json:"advice,omitempty"`
}

func (m *Machine) need() Need {
	t := &m.triggers
	if !t.pending() {
		return Need{}
	}
	return Need{t.since, t.version, t.names(func(e trigger) bool { return e.pending }), t.reasons()}
}

// Health is whether the host is well after a reboot.
type Health struct {
	Version  string    `json:"version,omitempty"` // for which it rebooted
	Since    time.Time `json:"since"`             // of the checks
	Until    time.Time `json:"until,omitzero"`    // from then on it is unwell if they have not succeeded
	Unwell   bool      `json:"unwell,omitempty"`  // it is
	Pauses   bool      `json:"pauses,omitempty"`  // and no host goes on that waits for this version
	Told     bool      `json:"told,omitempty"`    // and the fleet knows
	Retry    Retry     `json:"retry,omitzero"`    // what is wrong
	Releases time.Time `json:"releases,omitzero"` // it is well, and keeps its slot until then
	Untold   Retry     `json:"untold,omitzero"`   // the fleet could not be told
}

// facts returns what is known of the host's health, nil if nothing has to be.
func (m *Machine) facts(now time.Time) *Health {
	h := &m.health
	if !h.pending {
		return nil
	}
	f := &Health{Version: h.from.Version, Since: h.since, Unwell: h.bad != nil}
	switch {
	case !h.wellAt.IsZero():
		f.Releases = h.wellAt.Add(m.config.ReleaseDelay)
	case h.bad == nil:
		f.Until = h.since.Add(m.config.HealthTimeout)
	default:
		f.Pauses = m.slot.mayHold && m.pauses()
		f.Told = h.told == Unwell
		f.Retry.Error = h.bad.Error()
	}
	if h.retry.err != nil {
		f.Retry = h.retry.fact(now)
	}
	if err := h.mismatch(); err != nil {
		f.Retry.Error = err.Error()
	}
	if h.tell.err != nil {
		f.Untold = h.tell.fact(now)
	}
	return f
}

// Snapshot returns the facts about the machine's state.
func (m *Machine) Snapshot(now time.Time) Snapshot {
	s := Snapshot{State: m.state, Since: m.entered, Why: m.why, Lock: m.config.Lock, Holds: m.config.Lock && m.slot.mayHold}
	s.Gates = m.gateList(now)
	s.Need, s.Troubles, s.Hooked = m.need(), m.triggers.troubles(), m.gates.hooked
	if m.slot.mayHold {
		s.HeldSince = m.slot.since
	}
	if m.attempt.err != nil {
		s.Error = m.attempt.err.Error()
	}
	if deadline := m.deadline(); deadline.After(now) {
		s.Postponable = deadline
	}
	s.Well, s.HookFailed = m.well, m.hookFailed
	start, end := m.config.opening(now)
	switch m.state {
	case Starting:
		first := m.mustUndo()
		switch asking := first != nil && first.retry(m).err == nil && !first.unsettled(m, now); {
		case asking, m.slot.inspected && first != nil:
			s.Undo = m.undoing(now)
		case m.slot.inspected:
			s.Silent, s.SilentUntil = m.triggers.unheard(), m.startedAt.Add(sourceGrace)
		default:
			s.Retries = retries(now, m.slot.retry)
		}
	case Settling, Releasing:
		s.Undo = m.undoing(now)
		if m.state == Settling {
			s.Health = m.facts(now)
		}
	case Idle:
		if m.health.failed != nil {
			s.Failed = m.health.failed.Error()
		}
	case Waiting:
		if start.After(now) {
			s.Opens, s.ShutBy = start, m.config.Window.ShutBy(now)
		}
		if begin := m.begin(now); begin.After(now) && begin.After(start) {
			s.Begins = begin
		}
		if m.mayGo(now) && (!m.people.outdated(now) || m.cancelled(now)) {
			s.HeldBack = m.obstacle(now)
			s.HeldUntil = m.heldUntil(now, s.HeldBack)
		}
		s.Retries = retries(now, m.tries.slot, m.tries.reboot)
	case Locking:
		s.Shuts, s.BlockedBy = end, m.attempt.blockedBy
	case Preparing:
		if is(m.running, Drain{}.Kind()) {
			s.DrainUntil = m.began.Add(m.config.BeforeTimeout)
		}
		if a := m.attempt; !a.rebootAt.IsZero() {
			s.Users, s.RebootAt, s.Final = m.people.local.Users, a.rebootAt, a.final
			if a.warned {
				s.WarnedAt = a.warnedAt
			}
		}
	case Rebooting:
		s.GiveUp, s.How = m.attempt.graceEnd, m.choice
	}
	return s
}

// undoing returns what there is to undo, the next one first.
func (m *Machine) undoing(now time.Time) (all []Undo) {
	for _, o := range m.owed() {
		u := Undo{Name: o.name, Doing: o.doing(m)}
		retry := o.retry(m)
		switch {
		case o.unsettled(m, now):
			u.Settles = o.settles(m)
		case retry.err != nil:
			u.Retry = retry.fact(now)
			if !errors.Is(retry.err, ErrWhoseUnknown) && !errors.Is(retry.err, ErrGoingDown) {
				u.Advice = o.advice
			}
		}
		if o.isApart(m) {
			all = append([]Undo{u}, all...)
		} else {
			all = append(all, u)
		}
	}
	return all
}

func retries(now time.Time, of ...retry) (all []Retry) {
	for _, r := range of {
		if r.err != nil {
			all = append(all, r.fact(now))
		}
	}
	return all
}
