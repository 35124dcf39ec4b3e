package policy

import "time"

// Next is what comes next on this host, and when.
type Next struct {
	What string    // for people
	At   time.Time // when it comes at the latest or, while something is shut, at the earliest; zero: nobody knows
}

// Next returns what comes next, as far as that is known.
func (s Snapshot) Next() Next {
	if u := s.Undo; len(u) > 0 && (s.State == Starting || s.State == Settling || s.State == Releasing) {
		switch {
		case !u[0].Settles.IsZero():
			return Next{u[0].Doing, u[0].Settles}
		case u[0].Retry.Error != "":
			return Next{u[0].Doing + ", once more", u[0].Retry.At}
		}
		return Next{u[0].Doing, time.Time{}}
	}
	switch s.State {
	case Starting:
		switch {
		case len(s.Silent) > 0:
			return Next{"the slot is given back unless a reboot is needed", s.SilentUntil}
		case len(s.Retries) > 0:
			return Next{"etcd is asked once more whether this host holds a slot", s.Retries[0].At}
		}
		return Next{"etcd says whether this host holds a slot", time.Time{}}
	case Settling:
		return s.Health.next()
	case Idle:
		return Next{"nothing, until a reboot is needed", time.Time{}}
	case Waiting:
		return s.afterWaiting()
	case Locking:
		return Next{"this host takes a slot once one is free, and checks every gate again", time.Time{}}
	case Preparing:
		switch {
		case !s.DrainUntil.IsZero():
			return Next{"what runs before the reboot ends, and every gate is checked again", s.DrainUntil}
		case !s.RebootAt.IsZero():
			return Next{"this host reboots, or earlier if the users leave", s.RebootAt}
		}
		return Next{"every gate is checked again, and this host reboots", time.Time{}}
	case Rebooting:
		return Next{"this host goes down; if it does not, the reboot is tried again", s.GiveUp}
	}
	return Next{}
}

func (h *Health) next() Next {
	switch {
	case h == nil:
		return Next{}
	case !h.Releases.IsZero():
		return Next{"the slot is given back", h.Releases}
	case h.Unwell:
		return Next{"the checks after the reboot run again", h.Retry.At}
	}
	return Next{"the checks after the reboot succeed, or this host counts as unwell", h.Until}
}

func (s Snapshot) afterWaiting() Next {
	switch {
	case !s.Opens.IsZero():
		return Next{"the reboot window opens", s.Opens}
	case !s.Begins.IsZero():
		return Next{"this host begins", s.Begins}
	case s.HeldBack != nil && !s.Postponable.IsZero():
		return Next{"this host reboots once it is not held back; people can postpone that no longer", s.Postponable}
	case s.HeldBack != nil:
		return Next{"this host goes on once it is not held back", time.Time{}}
	}
	next := Next{What: "the gates are asked"}
	for _, r := range s.Retries {
		if r.At.After(next.At) {
			next = Next{"this host tries again", r.At}
		}
	}
	return next
}
