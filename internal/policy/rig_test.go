package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // status lines are in local time
	os.Exit(m.Run())
}

// t0 is when scripted machines start.
var t0 = time.Date(2026, 3, 2, 4, 0, 0, 0, time.UTC) // a Monday

var (
	errDown    = errors.New("etcd is down")
	errRefused = errors.New("access denied")
)

// Events by the names that scripts use.
var (
	need      = Update{Source: Engine, Pending: true, Version: "4081.2.0"}
	newer     = Update{Source: Engine, Pending: true, Version: "4081.2.1"}
	idle      = Update{Source: Engine}
	asked     = Update{Source: Requester, Pending: true}
	gone      = Absent{Source: Engine}
	notHeld   = Inspected{}
	fromAgo   = Inspected{Holding: HeldSinceBefore}
	fromNow   = Inspected{Holding: HeldThisBoot, Purpose: Purpose{Version: need.Version}}
	from      = Inspected{Holding: HeldUnrecorded}
	unsure    = Inspected{Holding: HeldUnknown}
	noAnswer  = Inspected{Err: errDown}
	got       = Locked{}
	noSlot    = Locked{Err: errDown}
	maybe     = Locked{Err: errDown, Unknown: true}
	lockEnded = Locked{Err: context.Canceled}
	well      = Verified{}
	given     = Unlocked{}
	notGiven  = Unlocked{Err: errDown}
	clear     = Checked{Held: true}
	crowded   = Checked{Held: true, Local: &twoUsers}
	blockaded = Checked{Held: true, Local: &backup}
	slotless  = Checked{Held: false}
	retracted = Checked{Held: true, Updates: []Update{{Source: Engine}}}
	unchecked = Checked{Err: errDown}
	lockDown  = Checked{Err: errDown, Local: &twoUsers} // logind answered, and etcd did not
	checkDead = Checked{Err: context.Canceled}
	warned    = Scheduled{}
	unwarned  = Scheduled{Err: errRefused}
	calledOff = Unscheduled{}
	standing  = Unscheduled{Err: errRefused}
	accepted  = Rebooted{}
	refused   = Rebooted{Err: errRefused}
	silent    = Rebooted{Err: errDown, Unknown: true}
	stop      = Leave{}
	stopDown  = Leave{KeepLock: true}
	reload    = Leave{Reload: true}
)

// Who may be at work.
var (
	twoUsers   = Local{Users: []string{"ann", "bob"}}
	atPackages = Local{Installing: "/var/lib/dpkg/lock-frontend"}
	backup     = Local{Inhibitors: []Inhibitor{{Who: "rsync", Why: "unattended backup", User: "root"}}}
	atApt      = Local{Installing: atPackages.Installing, Inhibitors: []Inhibitor{{Who: "APT", Why: "APT is installing or removing packages", User: "root"}}}
	foreign    = Local{Shutdown: Shutdown{Type: "poweroff", At: t0.Add(time.Hour)}}
)

// What a script can do besides: let time pass (a time.Duration, then a Tick),
// and, without an event, open or shut the window, have others be at work (a
// Local; what is scheduled stays) and cancel or replace what is scheduled.
type windowIs bool

type scheduledIs Shutdown

type stepped time.Duration // of the wall clock

type gatesSay Asked

var (
	cancels  = scheduledIs{}
	replaces = scheduledIs(foreign.Shutdown)
)

const (
	opens windowIs = true
	shuts windowIs = false
)

// rig drives a machine through a script. It answers looks by itself, and knows
// what is scheduled.
type rig struct {
	t         *testing.T
	m         *Machine
	now       time.Time
	door      *door
	local     Local
	lookErr   error
	gates     Asked
	scheduled Shutdown
	ahead     time.Duration // of the wall clock
	order     order         // of the running effect
	last      Decision
	started   []Kind
	moves     []Move
}

var people5m = Config{LoginDelay: 5 * time.Minute, LoginRetry: time.Hour, BeforeTimeout: 10 * time.Minute, HealthTimeout: 10 * time.Minute}

func newRig(t *testing.T, lock bool) *rig {
	r := &rig{t: t, now: t0, door: &door{open: true}}
	policy := people5m
	policy.Lock, policy.Window = lock, r.door
	return r.restart(policy)
}

// restart replaces the machine by a new one that knows that nothing is scheduled.
func (r *rig) restart(p Config) *rig {
	r.m = New(p, Found{}, r.now, rand.New(rand.NewPCG(1, 2)))
	r.m.wall = func(t time.Time) time.Time { return t.Add(r.ahead) }
	return r.do(Tick{}, calledOff)
}

func (r *rig) do(script ...any) *rig {
	r.t.Helper()
	for _, s := range script {
		switch s := s.(type) {
		case windowIs:
			r.door.open = bool(s)
		case Local:
			r.local = s
			if s.Shutdown.Type != "" {
				r.scheduled = s.Shutdown
			}
		case scheduledIs:
			r.scheduled = Shutdown(s)
		case stepped:
			r.ahead += time.Duration(s)
		case error:
			r.lookErr = s
		case gatesSay:
			r.gates = Asked(s)
		case time.Duration:
			r.now = r.now.Add(s)
			r.step(Tick{})
		case Result:
			if want := resultOf(s); want != kindOf(r.m.running) {
				r.t.Fatalf("the script ends %v in state %v, but %v is running", want.Name, r.m.state, kindOf(r.m.running).Name)
			}
			r.step(r.end(s))
		case Event:
			r.step(s)
		}
	}
	return r
}

// end makes a result agree with what is scheduled.
func (r *rig) end(result Result) Result {
	switch result := result.(type) {
	case Scheduled:
		if result.Err == nil {
			r.scheduled = Shutdown{Type: "reboot", At: r.order.at}
		}
	case Unscheduled:
		if result.Err == nil && r.order.stands && !r.order.at.IsZero() && r.scheduled.Ours(r.order.at) {
			r.scheduled, result.Found = Shutdown{}, true
		}
		return result
	case Checked:
		if result.Err == nil || result.Local != nil {
			var local Local
			if result.Local != nil {
				local = *result.Local
			}
			local.Shutdown = r.scheduled
			result.Local = &local
		}
		return result
	}
	return result
}

// step steps the machine, and answers the look that it may start.
func (r *rig) step(ev Event) {
	r.one(ev)
	if r.last.Ask != nil {
		r.answerAsk()
	}
	first := r.last
	if !first.Look {
		return
	}
	local := r.local
	local.Shutdown = r.scheduled
	d := Looked{&local, r.lookErr}
	if d.Err != nil {
		d.Local = nil
	}
	r.one(d)
	if first.Start != nil && r.last.Start != nil || first.Cancel && r.last.Cancel || r.last.Look {
		r.t.Fatalf("%+v, and after a look %+v", first, r.last)
	}
	if r.last.Start == nil {
		r.last.Start = first.Start
	}
	r.last.Cancel = r.last.Cancel || first.Cancel
	if r.last.Ask != nil {
		r.answerAsk()
	}
}

// answerAsk answers for the gates.
func (r *rig) answerAsk() {
	first := r.last
	r.one(r.gates)
	if first.Start != nil && r.last.Start != nil || first.Cancel && r.last.Cancel || r.last.Ask != nil {
		r.t.Fatalf("%+v, and after the gates were asked %+v", first, r.last)
	}
	if r.last.Start == nil {
		r.last.Start = first.Start
	}
	r.last.Cancel, r.last.Look = r.last.Cancel || first.Cancel, r.last.Look || first.Look
}

func (r *rig) one(ev Event) {
	r.last = r.m.Step(r.now, ev)
	r.moves = append(r.moves, r.last.Moved...)
	if r.last.Start != nil {
		r.started = append(r.started, r.last.Start.Kind())
		r.order = orderOf(r.last.Start)
	}
	if zero := r.last.State == Idle || r.last.State == Left; r.last.Nap < 0 || r.last.Nap > MaxNap || zero != (r.last.Nap == 0) {
		r.t.Errorf("in state %v the nap is %v", r.last.State, r.last.Nap)
	}
	if r.m.Status(r.now) == "" {
		r.t.Errorf("in state %v there is no status", r.last.State)
	}
}

// expect checks the last decision.
func (r *rig) expect(state State, start Kind, cancel bool) {
	r.t.Helper()
	if r.last.State != state || kindOf(r.last.Start) != start || r.last.Cancel != cancel {
		r.t.Errorf("got state %v, start %q, cancel %v (%s)\nwant state %v, start %q, cancel %v",
			r.last.State, kindOf(r.last.Start).Name, r.last.Cancel, r.m.why, state, start.Name, cancel)
	}
}

func (r *rig) count(e Kind) (n int) {
	for _, s := range r.started {
		if s == e {
			n++
		}
	}
	return n
}

// The ways to the states, for strategy etcd-lock. newRig has got to Inspect.
var (
	toStarting  = []any{}
	toAwaiting  = []any{fromNow}       // Starting, waiting for update_engine
	toSettling  = []any{fromAgo, well} // giving the slot back
	toIdle      = []any{notHeld}
	toWaiting   = []any{shuts, notHeld, need}
	toMaybe     = []any{notHeld, need, maybe} // Waiting, and may hold a slot
	toLocking   = []any{notHeld, need}
	toPreparing = []any{notHeld, need, got}
	toDelay     = []any{notHeld, need, got, crowded, warned} // Preparing, users have been told
	toRebooting = []any{notHeld, need, got, clear}
	toAccepted  = []any{notHeld, need, got, clear, accepted}
	toReleasing = []any{notHeld, need, got, unchecked}
	toStuck     = []any{notHeld, need, got, unchecked, notGiven} // Releasing, between two tries
)

const second = time.Second

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
	tells       = Tell{}.Kind()
	drains      = Drain{}.Kind()
	undrains    = Undrain{}.Kind()
	verifies    = Verify{}.Kind()
)

// kindOf returns the kind of an effect, nothing for none.
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
	case Told:
		return tells
	case Drained:
		return drains
	case Undrained:
		return undrains
	case Verified:
		return verifies
	}
	panic(fmt.Sprintf("no effect ends with %T", r))
}

// ends returns how an effect of a kind ends with an error.
func ends(k Kind, err error) Result {
	switch k {
	case inspects:
		return Inspected{Err: err}
	case locks:
		return Locked{Err: err}
	case unlocks:
		return Unlocked{Err: err}
	case checks:
		return Checked{Err: err}
	case schedules:
		return Scheduled{Err: err}
	case unschedules:
		return Unscheduled{Err: err}
	case tells:
		return Told{Err: err}
	case drains:
		return Drained{Err: err}
	case undrains:
		return Undrained{Err: err}
	case verifies:
		return Verified{Err: err}
	}
	return Rebooted{Err: err}
}

// order is what an effect carries, whatever its type.
type order struct {
	at      time.Time
	message string
	stands  bool
	asked   bool
	final   bool
	force   bool
	report  Report
	recheck bool
	version string // of Lock
}

func orderOf(e Effect) order {
	switch e := e.(type) {
	case Schedule:
		return order{at: e.At, message: e.Message, final: e.Final}
	case Unschedule:
		return order{at: e.At, stands: e.Stands, asked: e.Asked}
	case Reboot:
		return order{force: e.Force}
	case Verify:
		return order{recheck: e.Bad != nil && e.Slot}
	case Tell:
		return order{report: e.Report}
	case Lock:
		return order{version: e.Version}
	}
	return order{}
}

// Status is the line that people see.
func (m *Machine) Status(now time.Time) string { return m.Snapshot(now).Line(m.config.Clock) }

var errNonsense = errors.New("nonsense")

// bounded returns a rig with MAX_POSTPONE of a day.
func bounded(t *testing.T) *rig {
	r := newRig(t, true)
	p := people5m
	p.Lock, p.Window, p.MaxPostpone = true, r.door, 24*time.Hour
	return r.restart(p).do(notHeld)
}

// await lets time pass in naps, with checks answered by who is at work.
func (r *rig) await(state State, limit time.Duration) {
	r.t.Helper()
	end := r.now.Add(limit)
	for r.last.State != state {
		switch {
		case r.now.After(end):
			r.t.Fatalf("still in state %v: %v", r.last.State, r.m.Status(r.now))
		case is(r.m.running, checks):
			r.do(Checked{Held: true, Local: &r.local})
		default:
			r.do(r.last.Nap)
		}
	}
}

var clock = Config{}.Clock

// again replaces the machine by that of the next process, which knows what this one has kept.
func (r *rig) again() *rig {
	r.t.Helper()
	kept := r.m.Kept(r.now)
	return r.start(&kept)
}

// reload replaces a machine that has left by that of the next configuration.
func (r *rig) reload() *rig {
	r.t.Helper()
	r.expect(Left, nothing, false)
	r.m = r.m.Restart(r.m.config, r.now)
	return r.do(Tick{})
}

func (r *rig) start(kept *Kept) *rig {
	r.m = newMachine(r.m.config, r.now, rand.New(rand.NewPCG(1, 2)))
	r.m.wall = func(t time.Time) time.Time { return t.Add(r.ahead) }
	r.m.remember(kept, r.now)
	return r.do(Tick{})
}
