package daemon

import (
	"fmt"
	"time"
)

// Status says in one line, for systemctl status, what the daemon waits for,
// since when and until when. Times are local.
func (m *Machine) Status(now time.Time) string {
	var text string
	switch {
	case m.state == Left:
		return m.why
	case m.pending():
		text = "reboot needed since " + clock(m.pendingSince)
		if m.version != "" {
			text += " for version " + m.version
		}
		text += "; "
	case m.state != Starting && m.state != Settling && m.state != Idle:
		text = "the reboot is not needed any more; "
	}

	entered := clock(m.entered)
	since := " since " + entered
	start, end := m.opening(now)
	switch m.state {
	case Starting:
		if m.inspected {
			text += "a slot is held; waiting for update_engine until " + clock(m.startedAt.Add(engineGrace))
		} else {
			text += "starting: asking etcd whether this host holds a slot" + since + m.etcd.text(now)
		}
	case Settling:
		text += "giving back the slot that was held at start" + since + m.etcd.text(now)
	case Idle:
		text += "idle: no reboot is needed" + since
	case Waiting:
		if start.After(now) {
			text += "waiting" + since + " for the reboot window, which opens " + clock(start)
		} else {
			text += "waiting" + since
		}
		text += m.taking.text(now) + m.reboot.text(now)
	case Locking:
		text += "waiting for a slot" + since
		if !end.IsZero() {
			text += " until the reboot window shuts " + clock(end)
		}
		if m.blockedBy != "" {
			text += ": " + m.blockedBy
		}
	case Preparing:
		if m.rebootAt.IsZero() {
			text += "asking once more whether the host may reboot" + since
		} else {
			text += fmt.Sprintf("users are logged in (%d) and know since %s; rebooting %s, or once they have left",
				m.users, clock(m.rebootAt.Add(-LoginDelay)), clock(m.rebootAt))
		}
	case Rebooting:
		text += "rebooting: logind was asked " + entered
		if !m.graceEnd.IsZero() {
			text += ", trying again " + clock(m.graceEnd)
		}
	case Releasing:
		text += "giving the slot back" + since + ": " + m.why + m.etcd.text(now)
	}
	if m.lastErr != nil {
		text += fmt.Sprintf(" (%v)", m.lastErr)
	}
	return text
}

// clock formats a time for people on this host.
func clock(t time.Time) string { return t.Local().Format("Mon 2006-01-02 15:04:05 MST") }
