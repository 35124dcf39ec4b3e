package policy

import (
	"errors"
	"fmt"
	"time"
)

// next returns the state to be in, given what is known, and why.
func (m *Machine) next(now time.Time) (State, string) {
	if to, why := m.leaving(now); to != m.state {
		return to, why
	}
	switch m.state {
	case Starting:
		return m.starting(now)
	case Settling, Releasing:
		if !m.mayHold && !m.mayReboot() {
			if m.done != nil && m.done.Effect == Unschedule {
				return m.resume("no reboot of ours is scheduled with logind")
			}
			return m.resume("the slot was given back")
		}
	case Idle:
		if m.mayReboot() { // a look that was begun long ago has found it
			return m.backOut("a reboot of ours may be scheduled")
		}
		if m.pending() {
			return Waiting, "a reboot is needed"
		}
	case Waiting:
		return m.waiting(now)
	case Locking:
		return m.locking(now)
	case Preparing:
		return m.preparing(now)
	case Rebooting:
		return m.rebooting(now)
	}
	return m.state, ""
}

// leaving ends the machine once it is asked to: at once when the host is going
// down or there is nothing to undo, else after one attempt at that.
func (m *Machine) leaving(now time.Time) (State, string) {
	if m.leave == nil || m.state == Left {
		return m.state, ""
	}
	end := "stopped"
	if m.leave.Reload {
		end = "starting over"
	}
	switch {
	case m.state == Rebooting && !m.leave.Reload:
		return Left, end + "; logind was asked to reboot the host, and a slot that is held is kept for that"
	case m.leave.KeepLock && m.MayHold():
		return Left, end + "; the slot is kept, since the host is going down or nobody can tell"
	case m.leave.KeepLock:
		return Left, end + "; no slot is held"
	case m.running != None || m.state == Rebooting:
		return m.state, "" // its end, or the reboot's, comes first
	case !m.mayHold && !m.mayReboot():
		return Left, end + "; no slot is held"
	case m.mayReboot() && m.logind.err != nil:
		return Left, fmt.Sprintf("%s; a reboot that logind was asked for may still come, and a slot that is held is kept for it: %v", end, m.logind.err)
	case !m.leave.Reload && m.mayReboot() && now.Before(m.settledAt):
		return Left, end + "; logind has not answered a call and may carry it out yet, and a slot that is held is kept for that"
	case m.state == Starting && m.config.Lock && !m.inspected:
		return Left, end + " before etcd said whether a slot is held"
	case m.etcd.err != nil:
		return Left, fmt.Sprintf("%s; the slot could not be given back: %v", end, m.etcd.err)
	case m.state == Settling || m.state == Releasing:
		return m.state, ""
	}
	return Releasing, "asked to undo everything before the end"
}

func (m *Machine) starting(now time.Time) (State, string) {
	switch {
	case m.mayReboot() && m.logind.err == nil && (!now.Before(m.settledAt) || m.inspected && m.holding == HeldThisBoot):
		return Starting, "" // logind is asked first, and a slot of this boot is kept until it can be
	case !m.config.Lock:
		return m.resume("started")
	case !m.inspected:
		return Starting, ""
	case m.holding == NotHeld:
		return m.resume("no slot is held")
	case m.holding == HeldSinceBefore:
		return Settling, "a slot is held from before this boot"
	case m.holding == HeldUnrecorded:
		return Settling, "a slot is held, and not recorded since which boot"
	case m.mayGo(now) && !m.mayReboot():
		return Waiting, "a slot taken during this boot is still held, and the reboot may go ahead"
	case m.open(now) && !m.engineKnown && now.Before(m.startedAt.Add(engineGrace)):
		return Starting, ""
	}
	return Settling, "a slot is held, but no reboot may go ahead now"
}

// resume returns the state in which nothing is held.
func (m *Machine) resume(why string) (State, string) {
	switch {
	case m.mayReboot():
		return Settling, why + "; a reboot that logind was asked for before the start may still come"
	case m.pending():
		return Waiting, why + "; a reboot is needed"
	}
	return Idle, why
}

// backOut leaves a state in which there may be something to undo.
func (m *Machine) backOut(why string) (State, string) {
	if m.mayHold || m.mayReboot() {
		return Releasing, why
	}
	return m.resume(why)
}

// giveUp ends an attempt that failed; another comes later.
func (m *Machine) giveUp(now time.Time, err error) (State, string) {
	m.reboot.fail(now, err, m.rand)
	return m.backOut(err.Error())
}

// shut says why mayGo is false.
func (m *Machine) shut() string {
	if !m.pending() {
		return "the update was withdrawn"
	}
	return "the reboot window has shut"
}

// waiting goes for a slot once nothing that can be told without one is in the way.
func (m *Machine) waiting(now time.Time) (State, string) {
	switch {
	case !m.pending() || m.mayHold && !m.open(now):
		return m.backOut(m.shut())
	case m.mayReboot():
		return m.backOut("a reboot was called off")
	case !m.open(now) || !m.due(now) || !m.fresh(now):
		return Waiting, ""
	case m.obstacle(now) != nil && m.mayHold:
		return m.backOut("held back by " + m.obstacle(now).Text)
	case m.obstacle(now) != nil:
		return Waiting, ""
	case m.config.Lock:
		return Locking, "the host may reboot now"
	}
	return Preparing, "the host may reboot now"
}

func (m *Machine) locking(now time.Time) (State, string) {
	d := m.done
	switch {
	case m.running != None:
	case d != nil && d.Err != nil && !m.stopped:
		m.taking.fail(now, d.Err, m.rand)
		return Waiting, fmt.Sprintf("no slot: %v", d.Err)
	case !m.mayGo(now):
		return m.backOut(m.shut())
	case m.obstacle(now) != nil:
		return m.backOut("held back by " + m.obstacle(now).Text)
	case d != nil && d.Err == nil:
		m.taking.reset()
		return Preparing, "got the slot"
	case d != nil: // it was cancelled for a reason that has gone meanwhile
		return Waiting, "left the queue"
	}
	return Locking, ""
}

func (m *Machine) preparing(now time.Time) (State, string) {
	d := m.done
	switch {
	case m.running != None:
	case !m.mayGo(now):
		return m.backOut(m.shut())
	case d == nil:
	case d.Effect == Schedule && d.Err != nil && (!m.final || m.stopped):
		return m.giveUp(now, fmt.Errorf("could not tell the users who are logged in: %w", d.Err))
	case d.Effect == Schedule:
		// logind may refuse to because of an inhibitor that does not count any
		// more: the delay is theirs all the same.
		m.told, m.lastErr = true, d.Err
	case m.stopped:
	case d.Err != nil:
		return m.giveUp(now, fmt.Errorf("could not check whether the host may reboot: %w", d.Err))
	case m.config.Lock && !m.mayHold:
		return m.giveUp(now, errors.New("somebody has taken the slot away"))
	default:
		return m.checked(now)
	}
	return Preparing, ""
}

// checked goes on after a check that every gate but those on this host passed.
func (m *Machine) checked(now time.Time) (State, string) {
	overdue := m.overdue(now)
	if m.cancelled(now) {
		return m.backOut("a user has cancelled the reboot")
	}
	if m.told && !m.mayStand && !(m.final && overdue) { // they are told anew: that it cannot be cancelled, or that it can
		m.toldAt, m.rebootAt, m.told = time.Time{}, time.Time{}, false
	}
	if by := m.obstacle(now); by != nil {
		return m.giveUp(now, errors.New("held back by "+by.Text))
	}
	delay := m.delay(now)
	if len(m.local.Users) == 0 || !m.told && delay == 0 || m.told && !now.Before(m.rebootAt) {
		m.force = overdue
		return Rebooting, "every gate is open"
	}
	if drift := m.drift(now); m.mayStand && drift.Abs() > MaxDrift {
		return m.giveUp(now, fmt.Errorf("the clock was stepped by %v, and logind would reboot at another time than users were told", drift))
	}
	if !m.told {
		m.toldAt, m.rebootAt, m.final = now, now.Add(delay), overdue
		m.scheduled = m.wall(now).Add(delay + Backstop).Truncate(time.Microsecond) // as precise as logind is
	}
	m.checkAt = earliest(now.Add(LookEvery), m.rebootAt)
	return Preparing, ""
}

func (m *Machine) rebooting(now time.Time) (State, string) {
	if d := m.done; d != nil {
		if d.Err != nil && !d.Unknown {
			return m.giveUp(now, fmt.Errorf("the reboot was refused: %w", d.Err))
		}
		m.lastErr = d.Err
		m.graceEnd = now.Add(RebootGrace)
	}
	if m.graceEnd.IsZero() || now.Before(m.graceEnd) {
		return Rebooting, ""
	}
	err := fmt.Errorf("the host is still up %v after logind was asked to reboot it", RebootGrace)
	if m.lastErr != nil {
		err = fmt.Errorf("%w: %w", err, m.lastErr)
	}
	return m.giveUp(now, err)
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
