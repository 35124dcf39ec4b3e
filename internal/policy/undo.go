package policy

import (
	"errors"
	"time"
)

var (
	// ErrGoingDown is why nothing is undone any more.
	ErrGoingDown = errors.New("the host is going down already")
	// ErrWhoseUnknown is why a reboot that stands is neither called off nor taken for another's.
	ErrWhoseUnknown = errors.New("nobody knows whether locksmithd has scheduled it, as nothing was kept of the process before this one")
)

// An obligation is something that an attempt has done to the world, and has to undo unless the host reboots.
type obligation struct {
	name string
	// owed reports whether there is something to undo, or may be.
	owed func(*Machine) bool
	// apart, if set, reports that it cannot belong to the obligations before it, and need not wait for them.
	apart func(*Machine) bool
	// settles, if set, returns when it can first be undone: until then a call that was not answered may be carried out.
	settles func(*Machine) time.Time
	// stays: it may stay while the next attempt is waited for.
	stays bool

	undo  func(*Machine) Effect
	retry func(*Machine) *retry

	doing  func(*Machine) string // what undoing it is, for the status
	advice string                // what to do when it fails again and again
	undone string                // once it is
	left   string                // that it was left behind, to be followed by why
}

// obligations are what there is to undo, in the order in which that is done.
var obligations = []*obligation{
	{
		name:    "a reboot of ours",
		owed:    func(m *Machine) bool { return m.schedule.mayReboot() },
		settles: func(m *Machine) time.Time { return m.schedule.settlesAt },
		undo: func(m *Machine) Effect {
			return Unschedule{Stands: m.schedule.stands, At: m.schedule.at, Asked: !m.schedule.askedAt.IsZero()}
		},
		retry: func(m *Machine) *retry { return &m.schedule.retry },
		doing: func(m *Machine) string {
			switch {
			case m.state == Starting:
				return "asking logind whether a reboot is scheduled"
			case m.state == Settling:
				return "asking logind whether a reboot still stands that locksmithd asked for before this start"
			case !m.schedule.askedAt.IsZero():
				return "asking logind and systemd whether the reboot that logind was asked for is under way"
			}
			return "calling off the reboot scheduled with logind"
		},
		advice: "a slot that is held is kept until logind answers: if it does not, run systemctl restart systemd-logind",
		undone: "no reboot of ours is scheduled with logind",
		left:   "a reboot that logind was asked for may still come, and a slot that is held is kept for it",
	},
	{
		name:   "a drain",
		owed:   func(m *Machine) bool { return m.drain.begun },
		undo:   func(m *Machine) Effect { return Undrain{Facts{m.triggers.version, m.why}} },
		retry:  func(m *Machine) *retry { return &m.drain.retry },
		doing:  func(*Machine) string { return "undoing what ran before the reboot" },
		advice: "a slot that is held is kept until that succeeds: see systemctl status locksmith-reboot-cancelled.target",
		undone: "what ran before the reboot is undone",
		left:   "what ran before the reboot is not undone",
	},
	{
		name: "a slot",
		owed: func(m *Machine) bool { return m.slot.inspected && m.slot.mayHold && !m.health.keeps },
		// A slot from before this boot: no schedule outlives a boot but a soft reboot. Starting does not give it back.
		apart: func(m *Machine) bool {
			return m.state == Settling && m.slot.found == HeldSinceBefore && m.softSince.IsZero()
		},
		stays: true,
		undo:  func(*Machine) Effect { return Unlock{} },
		retry: func(m *Machine) *retry { return &m.slot.retry },
		doing: func(m *Machine) string {
			switch {
			case m.slot.found == HeldUnknown:
				return "giving back the slot that this host may hold"
			case m.state == Settling:
				return "giving back the slot that was held at start"
			}
			return "giving the slot back"
		},
		undone: "the slot was given back",
		left:   "the slot could not be given back",
	},
}

func (o *obligation) isApart(m *Machine) bool { return o.apart != nil && o.apart(m) }

// unsettled reports whether the outcome of a call that was not answered has to be waited for.
func (o *obligation) unsettled(m *Machine, now time.Time) bool {
	return o.settles != nil && now.Before(o.settles(m))
}

// owed returns what there is to undo, in order.
func (m *Machine) owed() (owed []*obligation) {
	for _, o := range m.obligations {
		if o.owed(m) {
			owed = append(owed, o)
		}
	}
	return owed
}

func (m *Machine) owes() bool { return len(m.owed()) > 0 }

// mustUndo returns the first thing that has to be undone before the next attempt, nil for none.
func (m *Machine) mustUndo() *obligation {
	for _, o := range m.owed() {
		if !o.stays {
			return o
		}
	}
	return nil
}

// due returns what to undo now, nil for nothing.
func (m *Machine) due(now time.Time) *obligation {
	for n, o := range m.owed() {
		if (n == 0 || o.isApart(m)) && !now.Before(o.retry(m).at) && !o.unsettled(m, now) {
			return o
		}
	}
	return nil
}

// undone says what the effect that has ended has undone.
func (m *Machine) undone() string {
	if r, ok := m.ended.result.(Verified); ok {
		switch failed := m.health.failed; {
		case r.Taken:
			return "somebody has freed the slot of this host, which is not well"
		case failed != nil:
			return failed.Error()
		}
		return "this host is well after its reboot"
	}
	for _, o := range m.obligations {
		if is(o.undo(m), m.ended.kind) {
			return o.undone
		}
	}
	return "nothing is left to undo"
}
