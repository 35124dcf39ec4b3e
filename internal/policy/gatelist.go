package policy

import (
	"slices"
	"time"
)

// A Gate is one condition of a reboot, and what it says now. This host reboots only while every gate says yes.
type Gate struct {
	Name   ObstacleKind `json:"name"`
	Answer Answer       `json:"answer"`
	Why    string       `json:"why,omitempty"` // for people
}

// An Answer is what a gate says.
type Answer string

const (
	Yes      Answer = "yes"
	No       Answer = "no"
	NotAsked Answer = "not asked" // it is asked later, or its last answer is too old to count
	Unknown  Answer = "unknown"   // it was asked and gave no clear answer, which counts as no
)

// Gates that are not obstacles on this host; the others have the names of those.
const (
	NeedGate   ObstacleKind = "update" // a reboot is needed
	BeginGate  ObstacleKind = "begin"  // hosts do not all begin at once
	RetryGate  ObstacleKind = "retry"  // the last attempt failed, and the next one comes later
	UndoGate   ObstacleKind = "undo"   // what an earlier attempt has left has to be undone first
	HealthGate ObstacleKind = "health" // the host was not found well since its last reboot
	SlotGate   ObstacleKind = "slot"   // of the lock
)

// AskOrder returns the gates that package gates asks, in this order. The first one that says no ends that.
func AskOrder() []ObstacleKind { return []ObstacleKind{Attempts, MayReboot, Alerts} }

// Why a gate has no answer.
const (
	onceNeeded = "asked once a reboot is needed"
	onceOthers = "asked once the gates before it say yes"
	tooOld     = "its last answer is too old to count"
)

// gateNames are all gates, in the order in which they count.
func gateNames() []ObstacleKind {
	names := []ObstacleKind{
		NeedGate, WindowShut, BeginGate, RetryGate, UndoGate, HealthGate, TooEarly, Held, OtherShutdown, Inhibited, Installing,
		LoggedIn, Cancelled,
	}
	return append(append(names, AskOrder()...), NoRoom, SlotGate)
}

// gateList returns every gate with its answer. It decides nothing: what counts is what obstacles and the other functions
// say by which the machine moves. Once logind was asked to reboot, it is the gates as they were then.
func (m *Machine) gateList(now time.Time) (all []Gate) {
	if m.state == Rebooting {
		return m.passed
	}
	standing, overruled := m.obstacles(now)
	for _, name := range gateNames() {
		g := Gate{Name: name}
		switch {
		case name == NeedGate:
			g.Answer, g.Why = m.needGate()
		case !m.triggers.pending():
			g.Answer, g.Why = NotAsked, onceNeeded
		default:
			g.Answer, g.Why = m.gate(now, name, standing, overruled)
		}
		all = append(all, g)
	}
	return all
}

func (m *Machine) needGate() (Answer, string) {
	switch {
	case m.triggers.pending():
		return Yes, ""
	case m.state == Starting && len(m.triggers.unheard()) > 0:
		return Unknown, "not every source has said yet whether a reboot is needed"
	}
	return No, "no reboot is needed"
}

func (m *Machine) gate(now time.Time, name ObstacleKind, standing, overruled []Obstacle) (Answer, string) {
	clock := m.config.Clock
	start, end := m.config.opening(now)
	switch name {
	case WindowShut:
		switch {
		case start.After(now):
			return No, windowShut(start, m.config.Window.ShutBy(now), clock).Text
		case m.config.Window == nil:
			return Yes, "no window is set"
		case end.IsZero():
			return Yes, "nothing shuts it"
		}
		return Yes, "open until " + clock(end)
	case BeginGate:
		if begin := m.begin(now); begin.After(now) && begin.After(start) && m.state != Locking && m.state != Preparing {
			return No, "this host begins " + clock(begin) + ", since hosts do not all begin at once"
		}
		return Yes, ""
	case RetryGate:
		for _, r := range []retry{m.tries.slot, m.tries.reboot} {
			if r.err != nil && now.Before(r.at) {
				return No, "trying again " + clock(r.at) + ", the last attempt failed: " + r.err.Error()
			}
		}
		return Yes, ""
	case UndoGate:
		if m.attempts() {
			return Yes, ""
		}
		if owed := m.owed(); len(owed) > 0 {
			return No, owed[0].doing(m)
		}
		return Yes, ""
	case HealthGate:
		if m.health.pending && !m.takesFix() {
			return No, "this host was not found well since its last reboot"
		}
		return Yes, ""
	case SlotGate:
		return m.slotGate()
	case Held, OtherShutdown, Inhibited, Installing, LoggedIn:
		return m.localGate(now, name, standing, overruled)
	case Attempts, MayReboot, Alerts, NoRoom:
		return m.askedGate(now, name, standing)
	}
	if o := ofKind(standing, name); o != nil {
		return No, o.Text
	}
	return Yes, ""
}

// attempts reports whether an attempt is under way: what it does is undone only if it does not end in a reboot.
func (m *Machine) attempts() bool {
	return m.state == Waiting || m.state == Locking || m.state == Preparing
}

func (m *Machine) slotGate() (Answer, string) {
	switch {
	case !m.config.Lock:
		return Yes, "no slot is needed"
	case !m.slot.inspected:
		return Unknown, "it is not known yet whether this host holds a slot"
	case m.state == Preparing && m.slot.mayHold:
		return Yes, "this host holds a slot"
	case m.state == Locking && m.attempt.blockedBy != "":
		return No, "waiting for a slot: " + m.attempt.blockedBy
	case m.state == Locking:
		return No, "waiting for a slot"
	}
	return NotAsked, onceOthers
}

// localGate answers for what a look at this host has found. An answer counts until the next look has ended, which may be
// under way.
func (m *Machine) localGate(now time.Time, name ObstacleKind, standing, overruled []Obstacle) (Answer, string) {
	switch {
	case m.people.until.IsZero():
		return NotAsked, onceOthers
	case m.people.outdated(now):
		return NotAsked, tooOld
	case m.people.err != nil:
		return Unknown, unclear(m.people.err).Text
	}
	if o := ofKind(standing, name); o != nil {
		return No, o.Text
	}
	if o := ofKind(standing, Unclear); o != nil && m.people.local.Unclear != nil && (name == Inhibited || name == LoggedIn) {
		return Unknown, o.Text
	}
	o := ofKind(overruled, name)
	switch {
	case o == nil:
		return Yes, ""
	case name == LoggedIn && m.delay(now) == 0:
		return Yes, o.Text + " do not delay the reboot"
	case name == LoggedIn:
		return Yes, o.Text + " are told before the reboot"
	}
	return Yes, o.Text + " has held the reboot back for as long as it may"
}

// askedGate answers for what package gates was asked, and for the room that the window has for what is hooked in.
func (m *Machine) askedGate(now time.Time, name ObstacleKind, standing []Obstacle) (Answer, string) {
	switch {
	case m.gates.until.IsZero():
		return NotAsked, onceOthers
	case m.gates.outdated(now):
		return NotAsked, tooOld
	}
	order := append(AskOrder(), NoRoom)
	if o := m.gates.obstacle; o != nil {
		at := slices.Index(order, o.Kind)
		switch {
		case o.Kind == Unrecorded:
			at = slices.Index(order, Attempts)
		case at < 0: // it is not known whether there are hooks, on which room depends
			at = len(order) - 1
		}
		switch mine := slices.Index(order, name); {
		case mine == at && o.Kind == name:
			return No, o.Text
		case mine == at:
			return Unknown, o.Text
		case mine > at:
			return NotAsked, onceOthers
		}
	}
	if o := ofKind(standing, name); o != nil { // room
		return No, o.Text
	}
	return Yes, ""
}

// ofKind returns the first obstacle of a kind, nil for none.
func ofKind(all []Obstacle, kind ObstacleKind) *Obstacle {
	if i := slices.IndexFunc(all, func(o Obstacle) bool { return o.Kind == kind }); i >= 0 {
		return &all[i]
	}
	return nil
}
