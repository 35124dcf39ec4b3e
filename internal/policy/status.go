package policy

import (
	"errors"
	"fmt"
	"time"
)

// Status says in one line, for systemctl status, what the daemon waits for,
// since when and until when, in the policy's time zone.
func (m *Machine) Status(now time.Time) string {
	var text string
	switch {
	case m.state == Left:
		return m.why
	case m.pending():
		text = "reboot needed since " + m.config.Clock(m.pendingSince)
		if m.version != "" {
			text += " for version " + m.version
		}
		text += "; "
	case m.state != Starting && m.state != Settling && m.state != Idle:
		text = "the reboot is not needed any more; "
	}

	entered := m.config.Clock(m.entered)
	since := " since " + entered
	start, end := m.opening(now)
	switch m.state {
	case Starting:
		switch {
		case m.mayReboot() && m.logind.err == nil && !now.Before(m.settledAt):
			text += "starting: asking logind whether a reboot is scheduled" + since
		case m.inspected && m.mayReboot():
			text += "a slot is held" + m.logindText(now)
		case m.inspected:
			text += "a slot is held; waiting for update_engine until " + m.config.Clock(m.startedAt.Add(engineGrace))
		default:
			text += "starting: asking etcd whether this host holds a slot" + since + m.etcd.text(now, m.config.Clock)
		}
	case Settling:
		if m.mayHold && (!m.mayReboot() || m.covered()) {
			text += "giving back the slot that was held at start" + since + m.etcd.text(now, m.config.Clock)
		} else {
			text += "asking logind whether a reboot still stands that locksmithd asked for before this start" + since + m.logindText(now)
		}
	case Idle:
		text += "idle: no reboot is needed" + since
	case Waiting:
		text += "waiting" + since
		if start.After(now) {
			text += " for the reboot window, which opens " + m.config.Clock(start)
		}
		if begin := m.begin(now); begin.After(now) && begin.After(start) {
			text += "; this host begins " + m.config.Clock(begin) + ", since hosts without a lock do not all begin when the window opens"
		}
		if by := m.HeldBackBy(now); by != "" {
			text += "; held back by " + by + m.until(now)
		}
		text += m.taking.text(now, m.config.Clock) + m.reboot.text(now, m.config.Clock)
	case Locking:
		text += "waiting for a slot" + since
		if !end.IsZero() {
			text += " until the reboot window shuts " + m.config.Clock(end)
		}
		if m.blockedBy != "" {
			text += ": " + m.blockedBy
		}
	case Preparing:
		switch {
		case m.rebootAt.IsZero():
			text += "asking once more whether the host may reboot" + since
		case !m.told:
			text += fmt.Sprintf("telling the users who are logged in (%s) of the reboot %s", list(m.local.Users), m.config.Clock(m.rebootAt))
		default:
			text += fmt.Sprintf("users are logged in (%s) and know since %s; rebooting %s, or once they have left",
				list(m.local.Users), m.config.Clock(m.toldAt), m.config.Clock(m.rebootAt))
			if m.final {
				text += "; it cannot be cancelled any more"
			} else {
				text += ", unless they cancel it with shutdown -c" + m.until(now)
			}
		}
	case Rebooting:
		text += "rebooting: logind was asked " + entered
		if !m.graceEnd.IsZero() {
			text += ", trying again " + m.config.Clock(m.graceEnd)
		}
	case Releasing:
		doing := "giving the slot back"
		switch {
		case !m.askedAt.IsZero():
			doing = "asking logind and systemd whether the reboot that logind was asked for is under way"
		case m.mayStand:
			doing = "calling off the reboot scheduled with logind"
		}
		text += doing + since + ": " + m.why + m.logindText(now) + m.etcd.text(now, m.config.Clock)
	}
	if m.lastErr != nil {
		text += fmt.Sprintf(" (%v)", m.lastErr)
	}
	return text
}

// logindText says why it is not known yet whether a reboot of ours may come, and what to do
// if logind never answers.
func (m *Machine) logindText(now time.Time) string {
	switch {
	case !m.mayReboot():
		return ""
	case now.Before(m.settledAt):
		return fmt.Sprintf("; logind has not answered a call, and may carry it out until %s", m.config.Clock(m.settledAt))
	case m.logind.err == nil:
		return ""
	case errors.Is(m.logind.err, ErrWhoseUnknown), errors.Is(m.logind.err, ErrGoingDown):
		return m.logind.text(now, m.config.Clock)
	}
	return m.logind.text(now, m.config.Clock) + "; a slot that is held is kept until logind answers: if it does not, run systemctl restart systemd-logind"
}

// HeldBackBy says who holds the reboot back while nothing else does; empty when
// nobody does.
func (m *Machine) HeldBackBy(now time.Time) string {
	if m.state != Waiting || !m.mayGo(now) || m.outdated(now) && !m.cancelled(now) {
		return ""
	}
	if by := m.obstacle(now); by != nil {
		return by.Text
	}
	return ""
}

// until says how long people can postpone the reboot, if that is bounded.
func (m *Machine) until(now time.Time) string {
	if m.deadline().IsZero() || m.overdue(now) {
		return ""
	}
	return "; users and inhibitors can postpone it until " + m.config.Clock(m.deadline())
}

const clockLayout = "Mon 2006-01-02 15:04:05 MST"

// Clock formats a time for people on this host.
func (p Config) Clock(t time.Time) string {
	loc := time.Local
	if p.Zone != nil {
		loc = p.Zone()
	}
	return t.In(loc).Format(clockLayout)
}
