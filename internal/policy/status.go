package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Line says in one line, for systemctl status, what the daemon waits for, since when and until
// when. clock writes times.
func (s Snapshot) Line(clock func(time.Time) string) string {
	var text string
	switch {
	case s.State == Left:
		return s.Why
	case s.Need.Sources != nil:
		text = "reboot needed since " + clock(s.Need.Since)
		if s.Need.Version != "" {
			text += " for version " + s.Need.Version
		}
		if !slices.Equal(s.Need.Reasons, s.Need.Sources) {
			text += " (" + strings.Join(s.Need.Reasons, ", ") + ")"
		}
		text += "; "
	case s.State != Starting && s.State != Settling && s.State != Idle:
		text = "the reboot is not needed any more; "
	}
	return text + s.Doing(clock)
}

// Doing is the part of Line that comes after why a reboot is needed.
func (s Snapshot) Doing(clock func(time.Time) string) string {
	text := s.doing(clock)
	if s.Error != "" {
		text += " (" + s.Error + ")"
	}
	for _, trouble := range s.Troubles {
		text += "; " + trouble
	}
	return text
}

func (s Snapshot) doing(clock func(time.Time) string) string {
	since := " since " + clock(s.Since)
	switch s.State {
	case Starting:
		switch {
		case s.Silent != nil:
			return "a slot is held; waiting for " + strings.Join(s.Silent, ", ") + " until " + clock(s.SilentUntil)
		case s.Undo == nil:
			return "starting: asking etcd whether this host holds a slot" + since + lines(s.Retries, clock)
		case s.Undo[0].line(clock) == "":
			return "starting: " + s.Undo[0].Doing + since
		}
		return "a slot is held" + s.Undo[0].line(clock)
	case Settling:
		if s.Undo == nil {
			return s.Health.line(clock)
		}
		return s.Undo[0].Doing + since + s.Undo[0].line(clock)
	case Idle:
		text := "idle: no reboot is needed" + since
		if s.Failed != "" {
			text += "; the last reboot failed: " + s.Failed
		}
		return text
	case Waiting:
		return "waiting" + since + s.waiting(clock) + lines(s.Retries, clock)
	case Locking:
		text := "waiting for a slot" + since
		if !s.Shuts.IsZero() {
			text += " until the reboot window shuts " + clock(s.Shuts)
		}
		if s.BlockedBy != "" {
			text += ": " + s.BlockedBy
		}
		return text
	case Preparing:
		if !s.DrainUntil.IsZero() {
			return "running what is hooked in before the reboot" + since + ", which has until " + clock(s.DrainUntil)
		}
		if s.RebootAt.IsZero() {
			return "checking again whether the host may reboot" + since
		}
		return s.warned(clock)
	case Rebooting:
		text := "rebooting: logind was asked " + clock(s.Since)
		if s.How.Text != "" {
			text += " for " + s.How.Text
		}
		if !s.GiveUp.IsZero() {
			text += ", trying again " + clock(s.GiveUp)
		}
		return text
	case Releasing:
		text := s.Undo[0].Doing + since + ": " + s.Why
		for _, u := range s.Undo {
			text += u.line(clock)
		}
		return text
	}
	return ""
}

// line says what the checks after a reboot have come to. What is wrong comes last, since the status may be cut short.
func (h *Health) line(clock func(time.Time) string) (text string) {
	switch {
	case h == nil:
		return "settling"
	case !h.Releases.IsZero():
		return "this host is well, and gives the slot back " + clock(h.Releases)
	case h.Unwell:
		text = "this host is unwell after its reboot"
		if h.Pauses {
			text += "; hosts that wait for the same version wait, until it is well or locksmithctl resume lets them go on"
		}
		if h.Untold.Error != "" {
			text += "; etcd could not be told" + h.Untold.line(clock)
		}
	default:
		text = "checking whether this host is well after its reboot since " + clock(h.Since) + ", until " + clock(h.Until)
	}
	return text + h.Retry.line(clock)
}

func (s Snapshot) waiting(clock func(time.Time) string) (text string) {
	if !s.Opens.IsZero() {
		text += " for " + windowShut(s.Opens, s.ShutBy, clock).Text
	}
	if !s.Begins.IsZero() {
		text += "; this host begins " + clock(s.Begins) + ", since hosts do not all begin at once"
	}
	if s.HeldBack != nil {
		text += "; held back by " + s.HeldBack.Text + s.until(clock)
	}
	return text
}

func (s Snapshot) warned(clock func(time.Time) string) string {
	users := safetext.List(s.Users)
	if s.WarnedAt.IsZero() {
		return fmt.Sprintf("telling the users who are logged in (%s) of the reboot %s", users, clock(s.RebootAt))
	}
	text := fmt.Sprintf("users are logged in (%s) and know since %s; rebooting %s, or once they have left", users, clock(s.WarnedAt), clock(s.RebootAt))
	if s.Final {
		return text + "; it cannot be cancelled any more"
	}
	return text + ", unless they cancel it with shutdown -c" + s.until(clock)
}

// until says how long people can postpone the reboot, if that is bounded.
func (s Snapshot) until(clock func(time.Time) string) string {
	if s.Postponable.IsZero() {
		return ""
	}
	return "; users and inhibitors can postpone it until " + clock(s.Postponable)
}

func (u Undo) line(clock func(time.Time) string) string {
	if !u.Settles.IsZero() {
		return "; logind has not answered a call, and may carry it out until " + clock(u.Settles)
	}
	text := u.Retry.line(clock)
	if u.Advice != "" {
		text += "; " + u.Advice
	}
	return text
}

func lines(retries []Retry, clock func(time.Time) string) (text string) {
	for _, r := range retries {
		text += r.line(clock)
	}
	return text
}

// line says when it is tried again and what failed last; the error comes last, since
// the status may be cut short where it is shown.
func (r Retry) line(clock func(time.Time) string) string {
	switch {
	case r.Error == "":
		return ""
	case r.At.IsZero():
		return "; the last attempt failed: " + r.Error
	}
	return "; trying again " + clock(r.At) + ", the last attempt failed: " + r.Error
}
