package daemon

import (
	"fmt"
	"strings"
	"time"
)

// Status says in one line, for systemctl status, what the daemon waits for,
// since when and until when. Times are local.
func (m *Machine) Status(now time.Time) string {
	switch m.state {
	case Starting:
		return "starting: asking etcd whether this host holds a slot" + m.etcd.String()
	case Settling:
		return "giving back the slot that was held at start" + m.etcd.String()
	case Idle:
		return "idle: no reboot is needed"
	case Releasing:
		return "giving the slot back: " + m.why + m.etcd.String()
	case Left:
		return m.why
	}

	text := "reboot needed since " + clock(m.pendingSince)
	if m.version != "" {
		text += " for version " + m.version
	}
	switch m.state {
	case Waiting:
		if start, _ := m.opening(now); start.After(now) {
			text += "; waiting for the reboot window, which opens " + clock(start)
		}
		if m.attempt.err != nil {
			text += fmt.Sprintf("; the last attempt failed: %v", m.attempt.err)
			if m.attempt.at.After(now) {
				text += ", trying again " + clock(m.attempt.at)
			}
		}
	case Locking:
		text += "; waiting for a slot since " + clock(m.entered)
		if m.blockedBy != "" {
			text += ": " + m.blockedBy
		}
	case Preparing:
		if m.rebootAt.IsZero() {
			return text + "; asking once more whether the host may reboot"
		}
		text += fmt.Sprintf("; users are logged in (%d), rebooting %s", m.users, clock(m.rebootAt))
	case Rebooting:
		text += "; rebooting, logind was asked " + clock(m.entered)
	}
	if m.lastErr != nil {
		text += fmt.Sprintf(" (%v)", m.lastErr)
	}
	return text
}

func (r *retry) String() string {
	if r.err == nil {
		return ""
	}
	return fmt.Sprintf("; failed: %v; trying again %s", r.err, clock(r.at))
}

// clock formats a time for people on this host.
func clock(t time.Time) string { return t.Local().Format("Mon 2006-01-02 15:04:05 MST") }

// oneLine makes a text fit for a status line: no line breaks or other control
// characters, whatever an error or a bus peer put into it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
