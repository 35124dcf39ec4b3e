package policy

import "time"

// An Event is an input of Step. It adds itself to what the machine knows.
type Event interface {
	fold(m *Machine, now time.Time)
}

// A Result is the event with which an effect ends.
type Result interface {
	Event
	// Failure is why the effect failed, nil when it did not.
	Failure() error
}

type (
	// Tick: time has passed.
	Tick struct{}

	// Update: a source that is believed said whether it needs a reboot.
	Update struct {
		Source  Source
		Pending bool   // a reboot is needed
		Version string // of the update, if known
		Reason  string // why, in the source's words, if it has any
		Kernel  bool   // no soft reboot would do, because another kernel is needed
		Soft    bool   // a soft reboot is enough with the mode auto
		Trouble error  // what somebody has to see to, though it is known whether a reboot is needed
	}

	// Absent: a source cannot say anything; what it said last still counts. Err says why, if somebody has to see to it.
	Absent struct {
		Source Source
		Err    error
	}

	// Blocked: the running Lock says what it waits for.
	Blocked struct{ By string }

	// Looked: a look at who is at work has ended.
	Looked struct {
		Local *Local // nil with an error
		Err   error
	}

	// Reconfigure: the configuration has changed; the lock is the same.
	Reconfigure struct{ Config Config }

	// Leave: the process is asked to end, or to start over with a new configuration.
	Leave struct {
		Reload    bool // start over; a slot is not kept for the next configuration
		KeepLock  bool // the host is going down already: the slot covers that reboot too
		KeepPlace bool // another process is started at once: the place in the queue is for that
	}
)

// The results. Err leaves open whether the thing was done where Unknown is set, and says that it was not where
// Unknown is there and not set.
type (
	Inspected struct {
		Holding Holding
		Purpose Purpose // for which the slot was taken, as far as it is recorded
		Err     error
	}

	Locked struct {
		Err     error
		Unknown bool
	}

	Told struct {
		Report Report
		Err    error
	}

	Unlocked struct{ Err error }

	Checked struct {
		Updates []Update // what the sources that can be asked have answered
		Local   *Local   // what logind answered, whatever else failed; nil when it did not
		Logind  string   // which logind that was, see Scheduled
		Held    bool     // the slot is still ours, where a lock is wanted
		Modes   *Modes   // how the host can reboot; nil if only a full reboot is wanted
		Err     error
	}

	Drained struct{ Err error }

	Undrained struct{ Err error }

	Verified struct {
		Taken bool // the slot is not this host's any more
		Err   error
	}

	Scheduled struct {
		Logind  string // which logind answered: one that has been started since has another name; "" when that is not known
		Err     error
		Unknown bool
	}

	Unscheduled struct {
		Found  bool   // our reboot stood, and logind was asked to cancel it
		Logind string // see Scheduled
		Err    error
	}

	Rebooted struct {
		How     Choice // logind was asked for in the end
		Err     error
		Unknown bool
	}
)

func (r Inspected) Failure() error   { return r.Err }
func (r Locked) Failure() error      { return r.Err }
func (r Told) Failure() error        { return r.Err }
func (r Unlocked) Failure() error    { return r.Err }
func (r Checked) Failure() error     { return r.Err }
func (r Drained) Failure() error     { return r.Err }
func (r Undrained) Failure() error   { return r.Err }
func (r Verified) Failure() error    { return r.Err }
func (r Scheduled) Failure() error   { return r.Err }
func (r Unscheduled) Failure() error { return r.Err }
func (r Rebooted) Failure() error    { return r.Err }

func (Tick) fold(*Machine, time.Time) {}

func (e Reconfigure) fold(m *Machine, now time.Time) {
	m.config = e.Config
	m.tries.reset() // an operator who reloads does not want to wait
}

func (e Leave) fold(m *Machine, now time.Time) { m.leave = &e }

// fold records all that a check has learned, also if it failed later.
func (r Checked) fold(m *Machine, now time.Time) {
	for _, u := range r.Updates {
		u.fold(m, now)
	}
	m.modes = r.Modes
	if r.Local != nil {
		m.people.saw(now, r.Local, nil)
		m.schedule.stands = m.schedule.ours(r.Local.Shutdown) || m.began.Before(m.schedule.settlesAt)
		if !m.schedule.stands {
			m.gone(now, r.Logind)
		}
	}
	if r.Err == nil && m.config.Lock {
		m.slot.mayHold = r.Held
	}
}
