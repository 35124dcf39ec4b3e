package inventory

import (
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// fill writes into the record what the daemon does now, with these settings.
func (h *Host) fill(s policy.Snapshot, now time.Time, settings policy.Config) {
	h.State, h.Since, h.WaitsFor = State(s.State.String()), s.Since, WaitsFor(s)
	switch {
	case s.Health == nil:
	case s.Health.Unwell:
		h.State = Unwell
	case !s.Health.Releases.IsZero():
		h.State = Releasing
	default:
		h.State = Checking
	}
	// Whoever holds the slots changes with every reboot of another host, and the lock has it.
	s.BlockedBy = ""
	h.Why = s.Doing(settings.Clock)
	h.Need, h.NotBefore, h.Opens, h.Shuts, h.Room = nil, notBefore(s, now, settings), time.Time{}, time.Time{}, 0
	if s.Hooked {
		h.Room = settings.BeforeTimeout + policy.Backstop
	}
	if s.Need.Sources != nil {
		h.Need = &Need{s.Need.Version, s.Need.Since, s.Need.Reasons}
	}
	if settings.Window != nil {
		h.Opens, h.Shuts = settings.Window.Next(now)
	}
}

// Reasons are what WaitsFor may return, but for "".
var Reasons = []string{
	string(policy.WindowShut), string(policy.Held), string(policy.TooEarly), string(policy.OtherShutdown), string(policy.Unclear),
	string(policy.Inhibited), string(policy.Installing), string(policy.LoggedIn), string(policy.Cancelled), string(policy.NoRoom),
	string(policy.Attempts), string(policy.MayReboot), string(policy.Alerts), "slot", "hooks", "turn", "news", "retry",
}

// WaitsFor says in a word what holds back a reboot that is needed, as [Host.WaitsFor] has it; "" for nothing.
func WaitsFor(s policy.Snapshot) string {
	switch {
	case s.State == policy.Locking:
		return "slot"
	case s.State == policy.Preparing && !s.DrainUntil.IsZero():
		return "hooks"
	case s.State == policy.Preparing && !s.RebootAt.IsZero():
		return string(policy.LoggedIn)
	case s.State != policy.Waiting:
		return ""
	case s.HeldBack != nil:
		return string(s.HeldBack.Kind)
	case !s.Opens.IsZero():
		return string(policy.WindowShut)
	case !s.Begins.IsZero():
		return "turn"
	case len(s.Silent) > 0:
		return "news"
	case len(s.Retries) > 0:
		return "retry"
	}
	return ""
}

// notBefore returns the earliest time of the reboot that is waited for; zero where it may be now, or nobody knows.
func notBefore(s policy.Snapshot, now time.Time, settings policy.Config) (earliest time.Time) {
	if s.State != policy.Waiting {
		return earliest
	}
	times := []time.Time{s.HeldUntil, s.Begins, settings.Earliest}
	for _, r := range s.Retries {
		times = append(times, r.At)
	}
	for _, t := range times {
		if t.After(now) && t.After(earliest) {
			earliest = t
		}
	}
	return earliest
}

// changed reports whether a record differs from the one before in more than what changes by itself: its texts, the next
// window, the earliest time of the reboot, and the time of the boot, which is counted back from now.
func (h Host) changed(before Host) bool {
	key := func(h Host) Host {
		h.Updated, h.Booted, h.Why, h.Opens, h.Shuts = time.Time{}, time.Time{}, "", time.Time{}, time.Time{}
		h.NotBefore, h.Need, h.Hold, h.Window, h.Last = time.Time{}, nil, nil, nil, nil
		return h
	}
	return key(h) != key(before) || version(h.Need) != version(before.Need) ||
		valueOf(h.Hold) != valueOf(before.Hold) || valueOf(h.Window) != valueOf(before.Window) || valueOf(h.Last) != valueOf(before.Last)
}

// version returns the version that is needed, and whether a reboot is.
func version(n *Need) (v struct {
	version string
	needed  bool
}) {
	if n != nil {
		v.version, v.needed = n.Version, true
	}
	return v
}

// valueOf is what p points at, the zero value for nil.
func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
