package policy

import "time"

// An Effect is something that the loop does for the machine; its type carries what it needs.
type Effect interface{ Kind() Kind }

// A Kind is what all effects of one type have in common.
type Kind struct {
	Name  string
	Limit time.Duration // of the time that one takes; 0: none
}

type (
	// Inspect asks the lock whether this host holds a slot, and in which boot it was taken. It ends with Inspected.
	Inspect struct{}

	// Lock waits for a slot and takes it. It ends with Locked: with the slot, a lasting error, or when cancelled.
	Lock struct {
		Version string // of the update
		NewOS   bool   // it is the version of the operating system that comes with it
		Reason  string // why a reboot is needed, in the words of the sources that have any
	}

	// Tell tells the fleet what this host does with its slot. It ends with Told.
	Tell struct{ Report Report }

	// Unlock gives the slot back. It ends with Unlocked.
	Unlock struct{}

	// Check asks every gate that needs I/O: update_engine, who is at work, the lock. It ends with Checked.
	Check struct{}

	// Drain runs what is hooked in before a reboot. It ends with Drained.
	Drain struct{ Facts Facts }

	// Undrain undoes that, also if it has ended halfway. It ends with Undrained.
	Undrain struct{ Facts Facts }

	// Verify checks whether the host is well after a reboot. It ends with Verified.
	Verify struct {
		Facts Facts
		Bad   error // why the host counts as unwell by now; nil: it does not
		Wrong bool  // it stays so whatever the checks say, since it runs the wrong version
		Slot  bool  // it holds a slot, which somebody may free
	}

	// Schedule schedules the reboot with logind, which tells users. It ends with Scheduled.
	Schedule struct {
		At      time.Time
		Message string // for users
		Final   bool   // they are told, whether logind schedules it or not
	}

	// Unschedule makes sure that no reboot that we have scheduled or asked for can come. It ends with Unscheduled.
	Unschedule struct {
		Stands bool      // a reboot of ours may be scheduled
		At     time.Time // of that reboot; zero when any may be ours
		Asked  bool      // a reboot that logind was asked for at once may be under way
	}

	// Reboot asks logind for the reboot. It ends with Rebooted.
	Reboot struct {
		Force   bool   // inhibitors do not count
		Version string // of the update
		NewOS   bool   // see Lock
		How     Choice
		Taken   time.Time // when the slot was taken, by the wall clock; zero without one, or when that is not known
	}
)

const (
	// LookLimit bounds a look at who is at work, which is no effect: it may run beside one.
	LookLimit = 30 * time.Second
	// AskLimit bounds a question to the gates, which is no effect either.
	AskLimit = 45 * time.Second

	effectLimit = 30 * time.Second
	// A Check that begins when the users' delay ends, and hangs, leaves nearly
	// as long again to call off what is scheduled.
	checkLimit = Backstop / 2
)

func (Inspect) Kind() Kind    { return Kind{"inspect", effectLimit} }
func (Lock) Kind() Kind       { return Kind{"lock", 0} }
func (Tell) Kind() Kind       { return Kind{"tell", effectLimit} }
func (Unlock) Kind() Kind     { return Kind{"unlock", effectLimit} }
func (Check) Kind() Kind      { return Kind{"check", checkLimit} }
func (Drain) Kind() Kind      { return Kind{"drain", 0} } // what is hooked in has limits of its own, which are settings
func (Undrain) Kind() Kind    { return Kind{"undrain", 0} }
func (Verify) Kind() Kind     { return Kind{"verify", 0} }
func (Schedule) Kind() Kind   { return Kind{"schedule", effectLimit} }
func (Unschedule) Kind() Kind { return Kind{"unschedule", effectLimit} }
func (Reboot) Kind() Kind     { return Kind{"reboot", effectLimit} }

// is reports whether an effect, which may be nil, is of a kind.
func is(e Effect, k Kind) bool { return e != nil && e.Kind() == k }
