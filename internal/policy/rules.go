package policy

import (
	"cmp"
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
		switch {
		case m.owes():
		case m.state == Settling && m.health.pending:
			return m.settling(now)
		default:
			return m.resume(m.undone())
		}
	case Idle:
		if o := m.mustUndo(); o != nil { // a look that was begun long ago has found it
			return m.backOut(o.name + " has to be undone")
		}
		if m.triggers.pending() {
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
		return Left, end + "; the slot is kept, since the host is going down, or may be"
	case m.leave.KeepLock:
		return Left, end + "; no slot is held"
	case m.running != nil || m.state == Rebooting:
		return m.state, "" // its end, or the reboot's, comes first
	}
	for _, o := range m.owed() {
		if err := o.retry(m).err; err != nil {
			return Left, fmt.Sprintf("%s; %s: %v", end, o.left, err)
		}
		if o.unsettled(m, now) && !m.leave.Reload {
			return Left, end + "; logind has not answered a call and may carry it out yet, and a slot that is held is kept for that"
		}
	}
	unknown := m.config.Lock && !m.slot.inspected
	switch {
	case unknown && m.state == Starting && (m.leave.Reload || !m.drain.begun): // the next process asks as well
		return Left, end + " before etcd said whether a slot is held"
	case m.owes() && (m.state == Settling || m.state == Releasing):
		return m.state, ""
	case m.owes():
		return Releasing, "asked to undo everything before the end"
	case unknown:
		return Left, end + " before etcd said whether a slot is held"
	case m.health.keeps && m.slot.mayHold:
		return Left, end + "; the slot is kept until this host is found well"
	}
	return Left, end + "; no slot is held"
}

func (m *Machine) starting(now time.Time) (State, string) {
	s, first := m.slot, m.mustUndo()
	switch {
	case first != nil && first.retry(m).err == nil && (!first.unsettled(m, now) || s.inspected && s.found == HeldThisBoot):
		return Starting, "" // that comes first, and a slot of this boot is kept until it can be done
	case !m.config.Lock:
		return m.resume("started")
	case !s.inspected:
		return Starting, ""
	case s.found == NotHeld:
		return m.resume("no slot is held")
	case s.found == HeldSinceBefore:
		return Settling, "a slot is held from before this boot"
	case s.found == HeldUnknown:
		return Settling, "it is not known whether a slot is held"
	case m.health.pending:
		return Settling, "a slot is held, and this host was not found well yet"
	case s.found == HeldUnrecorded:
		return Settling, "a slot is held, and not recorded since which boot"
	case m.mayGo(now) && first == nil && !m.outdated():
		return Waiting, "a slot taken during this boot is still held, and the reboot may go ahead"
	case m.config.open(now) && len(m.triggers.unheard()) > 0 && now.Before(m.startedAt.Add(sourceGrace)):
		return Starting, ""
	case m.mayGo(now) && m.outdated():
		return Settling, m.replaced()
	}
	return Settling, "a slot is held, but no reboot may go ahead now"
}

// resume returns the state in which no slot is held.
func (m *Machine) resume(why string) (State, string) {
	switch o := m.mustUndo(); {
	case o != nil:
		return Settling, why + "; " + o.name + " may be left from before the start"
	case m.health.pending:
		return Settling, why + "; this host was not found well yet"
	case m.triggers.pending():
		return Waiting, why + "; a reboot is needed"
	}
	return Idle, why
}

// settling goes on to another reboot where that may be what makes this host well.
func (m *Machine) settling(now time.Time) (State, string) {
	if m.running != nil || !m.fixDue(now) {
		return Settling, ""
	}
	why := "this host is unwell, and may reboot for " + m.triggers.version
	if m.config.Lock {
		return Locking, why
	}
	return Preparing, why
}

// backOut leaves a state in which there may be something to undo.
func (m *Machine) backOut(why string) (State, string) {
	if m.owes() {
		return Releasing, why
	}
	return m.resume(why)
}

// giveUp ends an attempt that failed; another comes later.
func (m *Machine) giveUp(now time.Time, err error) (State, string) {
	m.tries.reboot.fail(now, err, m.rand)
	return m.backOut(err.Error())
}

// shut says why mayGo is false.
func (m *Machine) shut() string {
	if !m.triggers.pending() {
		return "the update was withdrawn"
	}
	return "the reboot window has shut"
}

// replaced says that the slot is outdated.
func (m *Machine) replaced() string {
	known := func(version string) string { return cmp.Or(version, "unknown") }
	return fmt.Sprintf("the slot was taken for version %s, and a reboot is needed for %s now", known(m.slot.version), known(m.triggers.version))
}

// waiting goes on to take a slot once every gate that needs none is open.
func (m *Machine) waiting(now time.Time) (State, string) {
	switch o := m.mustUndo(); {
	case !m.triggers.pending() || m.slot.mayHold && !m.config.open(now):
		return m.backOut(m.shut())
	case o != nil:
		return m.backOut(o.name + " has to be undone")
	case m.outdated(): // it was found at the start, or etcd has not said whether it was taken
		return m.backOut(m.replaced())
	case m.health.pending && !m.takesFix():
		return m.backOut("this host is not well with the version that is wanted")
	case !m.config.open(now) || !m.ready(now) || !m.people.fresh(now):
		return Waiting, ""
	}
	switch by := m.obstacle(now); {
	case by == nil && !m.gates.fresh(now):
		return Waiting, ""
	case by != nil && m.slot.mayHold:
		return m.backOut("held back by " + by.Text)
	case by != nil:
		return Waiting, ""
	case m.config.Lock:
		return Locking, "the host may reboot now"
	}
	return Preparing, "the host may reboot now"
}

func (m *Machine) locking(now time.Time) (State, string) {
	if m.running != nil {
		return Locking, ""
	}
	locked, ended := m.ended.result.(Locked)
	if ended && locked.Err != nil && !m.stopped {
		m.tries.slot.fail(now, locked.Err, m.rand)
		return Waiting, fmt.Sprintf("no slot: %v", locked.Err)
	}
	if !m.mayGo(now) {
		return m.backOut(m.shut())
	}
	if by := m.obstacle(now); by != nil {
		return m.backOut("held back by " + by.Text)
	}
	switch {
	case ended && locked.Err == nil && m.slot.version != m.triggers.version:
		return m.backOut(m.replaced())
	case ended && locked.Err == nil:
		m.tries.slot.reset()
		return Preparing, "got the slot"
	case ended: // it was cancelled for a reason that has gone meanwhile
		return Waiting, "left the queue"
	}
	return Locking, ""
}

func (m *Machine) preparing(now time.Time) (State, string) {
	switch {
	case m.running != nil:
		return Preparing, ""
	case !m.mayGo(now):
		return m.backOut(m.shut())
	case m.outdated():
		return m.backOut(m.replaced())
	case m.health.pending && !m.takesFix():
		return m.backOut("this host is not well with the version that is wanted")
	}
	if by := m.gates.shut(now); by != nil {
		return m.giveUp(now, errors.New("held back by "+by.Text))
	}
	if by := m.noRoom(now); by != nil {
		return m.giveUp(now, errors.New("held back by "+by.Text))
	}
	switch r := m.ended.result.(type) {
	case Told:
		if r.Err != nil && r.Report.Again { // what comes of the next boot is judged by the record
			return m.giveUp(now, fmt.Errorf("could not record that this host reboots once more: %w", r.Err))
		}
	case Drained:
		if r.Err != nil {
			return m.giveUp(now, fmt.Errorf("what runs before a reboot has failed: %w", r.Err))
		}
		m.attempt.passed, m.attempt.checkAt = false, now
	case Scheduled:
		if r.Err != nil && (!m.attempt.final || m.stopped) {
			return m.giveUp(now, fmt.Errorf("could not tell the users who are logged in: %w", r.Err))
		}
		// logind may refuse because of an inhibitor that does not count any more: users have the delay nevertheless.
		m.attempt.warned, m.attempt.err = true, r.Err
	case Checked:
		switch {
		case m.stopped:
		case r.Err != nil:
			return m.giveUp(now, fmt.Errorf("could not check whether the host may reboot: %w", r.Err))
		case m.config.Lock && !m.slot.mayHold:
			return m.giveUp(now, errors.New("somebody has taken the slot away"))
		default:
			return m.checked(now)
		}
	}
	return Preparing, ""
}

// checked goes on after a check that every gate but those on this host passed.
func (m *Machine) checked(now time.Time) (State, string) {
	if m.cancelled(now) {
		return m.backOut("a user has cancelled the reboot")
	}
	if a := m.attempt; a.warned && !m.schedule.stands && !(a.final && m.overdue(now)) {
		m.attempt = attempt{asking: a.asking, asked: a.asked, told: a.told} // users are told again: that it cannot be cancelled, or that it can
	}
	if by := m.obstacle(now); by != nil {
		return m.giveUp(now, errors.New("held back by "+by.Text))
	}
	if m.gates.hooked && !m.drain.begun {
		m.attempt.passed = true
		return Preparing, ""
	}
	warned := m.attempt.warned
	if len(m.people.local.Users) == 0 || !warned && m.delay(now) == 0 || warned && !now.Before(m.attempt.rebootAt) {
		switch g := m.gates; { // the check may have taken longer than it may
		case g.obstacle != nil:
			return m.giveUp(now, errors.New("held back by "+g.obstacle.Text))
		case g.outdated(now):
			return m.giveUp(now, errors.New("what the gates answered before the last check is too old"))
		}
		m.schedule.askedAt = now
		why := "every gate is open"
		if m.choice = m.choose(); m.choice.Text != "" {
			why += "; " + m.choice.Text
		}
		m.passed = m.gateList(now)
		return Rebooting, why
	}
	if drift := m.drift(now); m.schedule.stands && drift.Abs() > MaxDrift {
		return m.giveUp(now, fmt.Errorf("the clock was stepped by %v, and logind would reboot at another time than users were told", drift.Truncate(time.Millisecond)))
	}
	if !warned {
		m.warn(now)
	}
	m.attempt.checkAt = now.Add(min(LookEvery, m.attempt.rebootAt.Sub(now)))
	return Preparing, ""
}

func (m *Machine) rebooting(now time.Time) (State, string) {
	a := &m.attempt
	if r, ended := m.ended.result.(Rebooted); ended {
		if r.Err != nil && !r.Unknown {
			return m.giveUp(now, fmt.Errorf("the reboot was refused: %w", r.Err))
		}
		a.err, m.choice = r.Err, r.How
		a.graceEnd = now.Add(RebootGrace)
	}
	if a.graceEnd.IsZero() || now.Before(a.graceEnd) {
		return Rebooting, ""
	}
	err := fmt.Errorf("the host is still up %v after logind was asked to reboot it", RebootGrace)
	if a.err != nil {
		err = fmt.Errorf("%w: %w", err, a.err)
	}
	return m.giveUp(now, err)
}
