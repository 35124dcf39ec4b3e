package policy

import (
	"fmt"
	"time"
)

// The kinds of effects, by the names that scripts use.
var (
	nothing     = Kind{}
	inspects    = Inspect{}.Kind()
	locks       = Lock{}.Kind()
	unlocks     = Unlock{}.Kind()
	checks      = Check{}.Kind()
	schedules   = Schedule{}.Kind()
	unschedules = Unschedule{}.Kind()
	reboots     = Reboot{}.Kind()
)

// kindOf returns an effect's kind, that of nothing for none.
func kindOf(e Effect) Kind {
	if e == nil {
		return nothing
	}
	return e.Kind()
}

// resultOf returns the kind of effect that ends with a result.
func resultOf(r Result) Kind {
	switch r.(type) {
	case Inspected:
		return inspects
	case Locked:
		return locks
	case Unlocked:
		return unlocks
	case Checked:
		return checks
	case Scheduled:
		return schedules
	case Unscheduled:
		return unschedules
	case Rebooted:
		return reboots
	}
	panic(fmt.Sprintf("no effect ends with %T", r))
}

// order is what an effect carries, whatever its type.
type order struct {
	at      time.Time
	message string
	stands  bool
	asked   bool
	final   bool
	force   bool
}

func orderOf(e Effect) order {
	switch e := e.(type) {
	case Schedule:
		return order{at: e.At, message: e.Message, final: e.Final}
	case Unschedule:
		return order{at: e.At, stands: e.Stands, asked: e.Asked}
	case Reboot:
		return order{force: e.Force}
	}
	return order{}
}

// Status is the line that people see.
func (m *Machine) Status(now time.Time) string { return m.Snapshot(now).Line(m.config.Clock) }
