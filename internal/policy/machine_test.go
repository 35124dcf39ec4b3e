package policy

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
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
	idle      = Update{Source: Engine}
	asked     = Update{Source: Requester, Pending: true}
	gone      = Absent{Engine}
	notHeld   = Inspected{}
	fromAgo   = Inspected{Holding: HeldSinceBefore}
	fromNow   = Inspected{Holding: HeldThisBoot}
	from      = Inspected{Holding: HeldUnrecorded}
	noAnswer  = Inspected{Err: errDown}
	got       = Locked{}
	noSlot    = Locked{Err: errDown}
	maybe     = Locked{Err: errDown, Unknown: true}
	lockEnded = Locked{Err: context.Canceled}
	given     = Unlocked{}
	notGiven  = Unlocked{Err: errDown}
	clear     = Checked{Held: true}
	crowded   = Checked{Held: true, Local: &twoUsers}
	blockaded = Checked{Held: true, Local: &backup}
	slotless  = Checked{Held: false}
	retracted = Checked{Held: true, Update: &Update{Source: Engine}}
	unchecked = Checked{Err: errDown}
	lockDown  = Checked{Err: errDown, Local: &twoUsers} // logind answered, and etcd did not
	checkDead = Checked{Err: context.Canceled}
	told      = Scheduled{}
	untold    = Scheduled{Err: errRefused}
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
	twoUsers = Local{Users: []string{"ann", "bob"}}
	backup   = Local{Inhibitors: []Inhibitor{{Who: "rsync", Why: "unattended backup", User: "root"}}}
	foreign  = Local{Shutdown: Shutdown{Type: "poweroff", At: t0.Add(time.Hour)}}
)

// What a script can do besides: let time pass (a time.Duration, then a Tick),
// and, which nobody is told, open or shut the window, have others be at work (a
// Local; what is scheduled stays) and cancel or replace what is scheduled.
type windowIs bool

type scheduledIs Shutdown

type stepped time.Duration // of the wall clock

var (
	cancels  = scheduledIs{}
	replaces = scheduledIs(foreign.Shutdown)
)

const (
	opens windowIs = true
	shuts windowIs = false
)

// door is a Gate that tests open and shut as they like.
type door struct{ open bool }

func (g *door) Open(time.Time) bool { return g.open }

func (g *door) Next(t time.Time) (start, end time.Time) {
	if g.open {
		return t.Add(-time.Hour), t.Add(time.Hour)
	}
	return t.Add(6 * time.Hour), t.Add(7 * time.Hour)
}

// rig drives a machine through a script. It answers looks by itself, and knows
// what is scheduled.
type rig struct {
	t         *testing.T
	m         *Machine
	now       time.Time
	door      *door
	local     Local
	lookErr   error
	scheduled Shutdown
	ahead     time.Duration // of the wall clock
	order     order         // of the running effect
	last      Decision
	started   []Kind
	moves     []Move
}

var people5m = Config{LoginDelay: 5 * time.Minute, LoginRetry: time.Hour}

func newRig(t *testing.T, lock bool) *rig {
	r := &rig{t: t, now: t0, door: &door{open: true}}
	policy := people5m
	policy.Lock, policy.Window = lock, r.door
	return r.restart(policy)
}

// restart replaces the machine by a new one that knows that nothing is scheduled.
func (r *rig) restart(p Config) *rig {
	r.m = New(p, nil, r.now, rand.New(rand.NewPCG(1, 2)))
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

// end makes the end of the running effect one that goes with what is scheduled.
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
	toAwaiting  = []any{fromNow} // Starting, waiting for update_engine
	toSettling  = []any{fromAgo}
	toIdle      = []any{notHeld}
	toWaiting   = []any{shuts, notHeld, need}
	toMaybe     = []any{notHeld, need, maybe} // Waiting, and may hold a slot
	toLocking   = []any{notHeld, need}
	toPreparing = []any{notHeld, need, got}
	toDelay     = []any{notHeld, need, got, crowded, told} // Preparing, users have been told
	toRebooting = []any{notHeld, need, got, clear}
	toAccepted  = []any{notHeld, need, got, clear, accepted}
	toReleasing = []any{notHeld, need, got, unchecked}
	toStuck     = []any{notHeld, need, got, unchecked, notGiven} // Releasing, between two tries
)

const second = time.Second

// TestTransitions is the state table.
func TestTransitions(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   []any
		script []any
		state  State
		start  Kind
		cancel bool
		why    string // part of it
	}{
		{"a start asks etcd for a slot", toStarting, nil, Starting, inspects, false, "started"},
		{"nothing held at start, nothing pending", toStarting, []any{notHeld}, Idle, nothing, false, "no slot is held"},
		{"nothing held at start, reboot pending", toStarting, []any{need, notHeld}, Locking, locks, false, "may reboot now"},
		{"nothing held at start, reboot pending, window shut", toStarting, []any{shuts, need, notHeld}, Waiting, nothing, false, "a reboot is needed"},
		{"etcd down at start: no answer yet", toStarting, []any{noAnswer}, Starting, nothing, false, "started"},
		{"etcd down at start: asks again", toStarting, []any{noAnswer, 1 * second}, Starting, inspects, false, "started"},
		{"held since before this boot", toStarting, []any{fromAgo}, Settling, unlocks, false, "before this boot"},
		{"held since before this boot, reboot pending", toStarting, []any{need, fromAgo}, Settling, unlocks, false, "before this boot"},
		{"held since before this boot, reboot pending, window shut", toStarting, []any{shuts, need, fromAgo}, Settling, unlocks, false, "before this boot"},
		{"held since before this boot, window shut", toStarting, []any{shuts, fromAgo}, Settling, unlocks, false, "before this boot"},
		{"held without a record", toStarting, []any{from}, Settling, unlocks, false, "not recorded since which boot"},
		{"held without a record, reboot pending", toStarting, []any{need, from}, Settling, unlocks, false, "not recorded since which boot"},
		{"held since this boot, reboot pending: goes on", toStarting, []any{need, fromNow}, Locking, locks, false, "may reboot now"},
		{"held since this boot, asked for by hand: goes on", toStarting, []any{asked, fromNow}, Locking, locks, false, "may reboot now"},
		{"held since this boot, reboot pending, window shut", toStarting, []any{shuts, need, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, nothing pending", toStarting, []any{idle, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, update_engine gone", toStarting, []any{gone, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, update_engine silent, window shut", toStarting, []any{shuts, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, update_engine silent: waits", toAwaiting, nil, Starting, nothing, false, "started"},
		{"waiting for update_engine: it needs a reboot", toAwaiting, []any{9 * second, need}, Locking, locks, false, "may reboot now"},
		{"waiting for update_engine: it needs none", toAwaiting, []any{9 * second, idle}, Settling, unlocks, false, "no reboot may go ahead"},
		{"waiting for update_engine: it is gone", toAwaiting, []any{9 * second, gone}, Settling, unlocks, false, "no reboot may go ahead"},
		{"waiting for update_engine: somebody asks for a reboot", toAwaiting, []any{9 * second, asked}, Locking, locks, false, "may reboot now"},
		{"waiting for update_engine: the window shuts", toAwaiting, []any{shuts, 9 * second}, Settling, unlocks, false, "no reboot may go ahead"},
		{"waiting for update_engine: still", toAwaiting, []any{9 * second}, Starting, nothing, false, "started"},
		{"waiting for update_engine: no longer", toAwaiting, []any{10 * second}, Settling, unlocks, false, "no reboot may go ahead"},

		{"settled, nothing pending", toSettling, []any{given}, Idle, nothing, false, "given back"},
		{"settled, reboot pending", toSettling, []any{need, given}, Locking, locks, false, "may reboot now"},
		{"settled, reboot pending, window shut", toSettling, []any{shuts, need, given}, Waiting, nothing, false, "given back"},
		{"an update while settling waits", toSettling, []any{need}, Settling, nothing, false, "before this boot"},
		{"settling fails", toSettling, []any{notGiven}, Settling, nothing, false, "before this boot"},
		{"settling fails, update comes: still first", toSettling, []any{notGiven, need}, Settling, nothing, false, "before this boot"},
		{"settling fails and is tried again", toSettling, []any{notGiven, 1 * second}, Settling, unlocks, false, "before this boot"},

		{"an update ends idleness", toIdle, []any{need}, Locking, locks, false, "may reboot now"},
		{"a request ends idleness", toIdle, []any{asked}, Locking, locks, false, "may reboot now"},
		{"an update, window shut", toIdle, []any{shuts, need}, Waiting, nothing, false, "a reboot is needed"},
		{"progress does not end idleness", toIdle, []any{idle}, Idle, nothing, false, "no slot"},
		{"update_engine's leaving does not end idleness", toIdle, []any{gone}, Idle, nothing, false, "no slot"},

		{"the window stays shut", toWaiting, []any{time.Minute}, Waiting, nothing, false, "a reboot is needed"},
		{"the window opens", toWaiting, []any{opens, time.Minute}, Locking, locks, false, "may reboot now"},
		{"withdrawn while waiting", toWaiting, []any{idle}, Idle, nothing, false, "withdrawn"},
		{"update_engine's leaving is no withdrawal", toWaiting, []any{gone}, Waiting, nothing, false, "a reboot is needed"},
		{"the same update again", toWaiting, []any{need}, Waiting, nothing, false, "a reboot is needed"},
		{"waiting for the next try, window open", toMaybe, nil, Waiting, nothing, false, "no slot: etcd is down"},
		{"waiting for the next try: due", toMaybe, []any{5 * second}, Locking, locks, false, "may reboot now"},
		{"waiting, may hold: the window shuts", toMaybe, []any{shuts, Tick{}}, Releasing, unlocks, false, "window has shut"},
		{"waiting, may hold: withdrawn", toMaybe, []any{idle}, Releasing, unlocks, false, "withdrawn"},
		{"waiting, holds nothing: the window shuts", toLocking, []any{noSlot, shuts, Tick{}}, Waiting, nothing, false, "no slot"},

		{"got the slot", toLocking, []any{got}, Preparing, checks, false, "got the slot"},
		{"still no slot", toLocking, []any{time.Hour}, Locking, nothing, false, "may reboot now"},
		{"told what blocks", toLocking, []any{Blocked{By: "held by a"}}, Locking, nothing, false, "may reboot now"},
		{"lock error: nothing taken", toLocking, []any{noSlot}, Waiting, nothing, false, "no slot: etcd is down"},
		{"lock error: perhaps taken", toLocking, []any{maybe}, Waiting, nothing, false, "no slot: etcd is down"},
		{"the window shuts while locking", toLocking, []any{shuts, Tick{}}, Locking, nothing, true, "may reboot now"},
		{"cancelled once only", toLocking, []any{shuts, Tick{}, Tick{}, idle}, Locking, nothing, false, "may reboot now"},
		{"the window shut while locking: nothing taken", toLocking, []any{shuts, Tick{}, lockEnded}, Waiting, nothing, false, "window has shut"},
		{"the window shut while locking: perhaps taken", toLocking, []any{shuts, Tick{}, Locked{Err: context.Canceled, Unknown: true}}, Releasing, unlocks, false, "window has shut"},
		{"the window shut while locking: taken all the same", toLocking, []any{shuts, Tick{}, got}, Releasing, unlocks, false, "window has shut"},
		{"the window shut, nobody noticed, and then the slot", toLocking, []any{shuts, got}, Releasing, unlocks, false, "window has shut"},
		{"the window shuts and opens again while locking", toLocking, []any{shuts, Tick{}, opens, lockEnded}, Locking, locks, false, "may reboot now"},
		{"withdrawn while locking", toLocking, []any{idle}, Locking, nothing, true, "may reboot now"},
		{"withdrawn while locking: nothing taken", toLocking, []any{idle, lockEnded}, Idle, nothing, false, "withdrawn"},
		{"withdrawn while locking: taken all the same", toLocking, []any{idle, got}, Releasing, unlocks, false, "withdrawn"},

		{"every gate is open", toPreparing, []any{clear}, Rebooting, reboots, false, "every gate is open"},
		{"the gates cannot be asked", toPreparing, []any{unchecked}, Releasing, unlocks, false, "could not check"},
		{"the slot was taken away", toPreparing, []any{slotless}, Waiting, nothing, false, "taken the slot away"},
		{"the slot was taken away: queues again, but not at once", toPreparing, []any{slotless, 5 * second}, Locking, locks, false, "may reboot now"},
		{"users are logged in", toPreparing, []any{crowded}, Preparing, schedules, false, "got the slot"},
		{"users could not be told", toPreparing, []any{crowded, untold}, Releasing, unschedules, false, "could not tell the users"},
		{"users could not be told, and do not know of it any more", toPreparing, []any{crowded, untold, calledOff}, Releasing, unlocks, false, "could not tell the users"},
		{"the delay is not over", toDelay, []any{time.Minute, crowded, LookEvery - second}, Preparing, nothing, false, "got the slot"},
		{"the gates are asked again and again", toDelay, []any{LookEvery}, Preparing, checks, false, "got the slot"},
		{"all have logged out", toDelay, []any{time.Minute, clear}, Rebooting, reboots, false, "every gate is open"},
		{"the delay is over", toDelay, []any{5 * time.Minute, crowded}, Rebooting, reboots, false, "every gate is open"},
		{"the slot is taken away during the delay", toDelay, []any{time.Minute, slotless}, Releasing, unschedules, false, "taken the slot away"},
		{"the slot is taken away during the delay, and the reboot called off", toDelay, []any{time.Minute, slotless, calledOff}, Waiting, nothing, false, "no reboot of ours"},
		{"the gates cannot be asked during the delay", toDelay, []any{time.Minute, unchecked}, Releasing, unschedules, false, "could not check"},
		{"the window shuts during a check", toPreparing, []any{shuts, Tick{}}, Preparing, nothing, true, "got the slot"},
		{"the window shut during a check", toPreparing, []any{shuts, Tick{}, checkDead}, Releasing, unlocks, false, "window has shut"},
		{"the window shut during a check that nobody cancelled", toPreparing, []any{shuts, clear}, Releasing, unlocks, false, "window has shut"},
		{"the window shut, and the check says that the slot is gone", toPreparing, []any{shuts, slotless}, Waiting, nothing, false, "window has shut"},
		{"the window shuts and opens again during a check", toPreparing, []any{shuts, Tick{}, opens, checkDead}, Preparing, checks, false, "got the slot"},
		{"a check that was cancelled counts for nothing", toPreparing, []any{shuts, Tick{}, opens, clear}, Preparing, checks, false, "got the slot"},
		{"users may not have been told", toPreparing, []any{crowded, shuts, Tick{}, opens, Scheduled{Err: context.Canceled}}, Releasing, unschedules, false, "could not tell"},
		{"users have been told although nobody wanted it any more", toPreparing, []any{crowded, shuts, Tick{}, opens, told}, Preparing, nothing, false, "got the slot"},
		{"the window shuts during the delay", toDelay, []any{shuts, time.Minute}, Releasing, unschedules, false, "window has shut"},
		{"withdrawn during a check", toPreparing, []any{idle}, Preparing, nothing, true, "got the slot"},
		{"withdrawn, says the check", toPreparing, []any{retracted}, Releasing, unlocks, false, "withdrawn"},
		{"withdrawn during the delay", toDelay, []any{idle}, Releasing, unschedules, false, "withdrawn"},

		{"logind is being asked", toRebooting, []any{30 * second}, Rebooting, nothing, false, "every gate is open"},
		{"withdrawn while logind is being asked: too late", toRebooting, []any{idle}, Rebooting, nothing, false, "every gate is open"},
		{"the window shuts while logind is being asked: too late", toRebooting, []any{shuts, Tick{}}, Rebooting, nothing, false, "every gate is open"},
		{"refused", toRebooting, []any{refused}, Releasing, unlocks, false, "refused: access denied"},
		{"accepted", toRebooting, []any{accepted}, Rebooting, nothing, false, "every gate is open"},
		{"accepted, not yet over", toAccepted, []any{RebootGrace - second}, Rebooting, nothing, false, "every gate is open"},
		{"accepted, but it never ends", toAccepted, []any{RebootGrace}, Releasing, unschedules, false, "still up"},
		{"accepted, never ends, and logind says so", toAccepted, []any{RebootGrace, calledOff}, Releasing, unlocks, false, "still up"},
		{"accepted, never ends, withdrawn", toAccepted, []any{idle, RebootGrace, calledOff, given}, Idle, nothing, false, "given back"},
		{"unknown whether accepted", toRebooting, []any{silent}, Rebooting, nothing, false, "every gate is open"},
		{"unknown whether accepted: bounded", toRebooting, []any{silent, RebootGrace}, Releasing, unschedules, false, "etcd is down"},
		{"unknown whether accepted, and never known", toRebooting, []any{silent, RebootGrace, standing, second, standing}, Releasing, nothing, false, "etcd is down"},

		{"released, next try later", toReleasing, []any{given}, Waiting, nothing, false, "given back"},
		{"released, withdrawn", toReleasing, []any{idle, given}, Idle, nothing, false, "given back"},
		{"release fails", toReleasing, []any{notGiven}, Releasing, nothing, false, "could not check"},
		{"release is not cut short", toReleasing, []any{idle, time.Minute}, Releasing, nothing, false, "could not check"},
		{"release is tried again", toStuck, []any{1 * second}, Releasing, unlocks, false, "could not check"},
		{"release fails, withdrawn: still to be released", toStuck, []any{idle}, Releasing, nothing, false, "could not check"},

		{"stop while starting", toStarting, []any{stop}, Starting, nothing, true, "started"},
		{"stopped while starting", toStarting, []any{stop, noAnswer}, Left, nothing, false, "before etcd said"},
		{"stopped while starting between two tries", toStarting, []any{noAnswer, stop}, Left, nothing, false, "before etcd said"},
		{"stopped while starting, with an answer", toStarting, []any{stop, fromNow}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while starting, nothing held", toStarting, []any{stop, notHeld}, Left, nothing, false, "no slot is held"},
		{"stop while waiting for update_engine", toAwaiting, []any{stop}, Releasing, unlocks, false, "undo everything before the end"},
		{"stop while settling", toSettling, []any{stop}, Settling, nothing, false, "before this boot"},
		{"stopped while settling", toSettling, []any{stop, given}, Left, nothing, false, "no slot is held"},
		{"stopped while settling fails", toSettling, []any{stop, notGiven}, Left, nothing, false, "could not be given back: etcd is down"},
		{"stop while idle", toIdle, []any{stop}, Left, nothing, false, "no slot is held"},
		{"stop while waiting", toWaiting, []any{stop}, Left, nothing, false, "no slot is held"},
		{"stop while waiting, may hold", toMaybe, []any{stop}, Releasing, unlocks, false, "undo everything before the end"},
		{"stop while locking", toLocking, []any{stop}, Locking, nothing, true, "may reboot now"},
		{"stopped while locking, nothing taken", toLocking, []any{stop, lockEnded}, Left, nothing, false, "no slot is held"},
		{"stopped while locking, perhaps taken", toLocking, []any{stop, maybe}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while locking, taken", toLocking, []any{stop, got}, Releasing, unlocks, false, "undo everything before the end"},
		{"stop while preparing", toPreparing, []any{stop}, Preparing, nothing, true, "got the slot"},
		{"stopped while preparing", toPreparing, []any{stop, checkDead}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while preparing, all clear", toPreparing, []any{stop, clear}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while preparing, slot gone", toPreparing, []any{stop, slotless}, Left, nothing, false, "no slot is held"},
		{"stop during the delay", toDelay, []any{stop}, Releasing, unschedules, false, "undo everything before the end"},
		{"stop while logind is being asked", toRebooting, []any{stop}, Left, nothing, true, "logind was asked"},
		{"stop after logind accepted", toAccepted, []any{stop}, Left, nothing, false, "logind was asked"},
		{"stop while releasing", toReleasing, []any{stop}, Releasing, nothing, false, "could not check"},
		{"stopped while releasing", toReleasing, []any{stop, given}, Left, nothing, false, "no slot is held"},
		{"stopped while releasing, in vain", toReleasing, []any{stop, notGiven}, Left, nothing, false, "could not be given back: etcd is down"},
		{"stop between two tries to release", toStuck, []any{stop}, Left, nothing, false, "could not be given back: etcd is down"},
		{"stop with the last release on its way", toDelay, []any{stop, calledOff, given}, Left, nothing, false, "no slot is held"},

		{"the host goes down while starting", toStarting, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down while settling", toSettling, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down while idle", toIdle, []any{stopDown}, Left, nothing, false, "no slot is held"},
		{"the host goes down while waiting", toWaiting, []any{stopDown}, Left, nothing, false, "no slot is held"},
		{"the host goes down while waiting, may hold", toMaybe, []any{stopDown}, Left, nothing, false, "the slot is kept"},
		{"the host goes down while locking", toLocking, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down while preparing", toPreparing, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down during the delay", toDelay, []any{stopDown}, Left, nothing, false, "the slot is kept"},
		{"the host goes down while logind is being asked", toRebooting, []any{stopDown}, Left, nothing, true, "logind was asked"},
		{"the host goes down as it should", toAccepted, []any{stopDown}, Left, nothing, false, "logind was asked"},
		{"the host goes down while releasing", toReleasing, []any{stopDown}, Left, nothing, true, "the slot is kept"},

		{"reload while starting", toStarting, []any{reload, noAnswer}, Left, nothing, false, "starting over before etcd said"},
		{"reload while settling", toSettling, []any{reload, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while idle", toIdle, []any{reload}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while waiting", toWaiting, []any{reload}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while locking", toLocking, []any{reload, lockEnded}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while preparing", toPreparing, []any{reload, checkDead, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while logind is being asked", toRebooting, []any{reload}, Rebooting, nothing, false, "every gate is open"},
		{"reload while logind is being asked, which refuses", toRebooting, []any{reload, refused}, Releasing, unlocks, false, "refused"},
		{"reload after logind refused", toRebooting, []any{reload, refused, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload after logind accepted", toAccepted, []any{reload}, Rebooting, nothing, false, "every gate is open"},
		{"reload after logind accepted, and it never ends", toAccepted, []any{reload, RebootGrace, calledOff, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload after logind accepted, then stop", toAccepted, []any{reload, stop}, Left, nothing, false, "logind was asked"},
		{"reload while releasing", toReleasing, []any{reload, given}, Left, nothing, false, "starting over; no slot is held"},
		{"nothing happens any more", toIdle, []any{stop, need, time.Hour, reload, Blocked{}}, Left, nothing, false, "stopped; no slot is held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true).do(c.from...).do(c.script...)
			r.expect(c.state, c.start, c.cancel)
			if !strings.Contains(r.m.why, c.why) {
				t.Errorf("why is %q, want something with %q", r.m.why, c.why)
			}
		})
	}
}

// TestTransitionsWithoutLock is what differs under strategy reboot.
func TestTransitionsWithoutLock(t *testing.T) {
	free := Checked{}
	for _, c := range []struct {
		name   string
		script []any
		state  State
		start  Kind
		cancel bool
	}{
		{"idle at once", nil, Idle, nothing, false},
		{"an update", []any{need}, Preparing, checks, false},
		{"an update, window shut", []any{shuts, need}, Waiting, nothing, false},
		{"the window opens", []any{shuts, need, opens, time.Minute}, Preparing, checks, false},
		{"every gate is open", []any{need, free}, Rebooting, reboots, false},
		{"users", []any{need, Checked{Local: &twoUsers}}, Preparing, schedules, false},
		{"withdrawn", []any{need, idle, checkDead}, Idle, nothing, false},
		{"the window shuts", []any{need, shuts, free}, Waiting, nothing, false},
		{"refused", []any{need, free, refused}, Waiting, nothing, false},
		{"refused, tried again", []any{need, free, refused, 5 * second}, Preparing, checks, false},
		{"accepted but never ends", []any{need, free, accepted, RebootGrace, calledOff}, Waiting, nothing, false},
		{"a gate cannot be asked", []any{need, unchecked}, Waiting, nothing, false},
		{"stop", []any{need, stop, checkDead}, Left, nothing, false},
		{"stop during the delay", []any{need, Checked{Local: &twoUsers}, told, stop}, Releasing, unschedules, false},
		{"stopped during the delay", []any{need, Checked{Local: &twoUsers}, told, stop, calledOff}, Left, nothing, false},
		{"reload", []any{need, free, reload, refused}, Left, nothing, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false).do(c.script...)
			r.expect(c.state, c.start, c.cancel)
			if slices.ContainsFunc(r.started, func(e Kind) bool { return e == inspects || e == locks || e == unlocks }) {
				t.Errorf("the lock was used: %v", r.started)
			}
		})
	}
}

func TestLockFromBeforeThisBootIsReleasedFirstWhateverElseIsPending(t *testing.T) {
	for _, window := range []windowIs{opens, shuts} {
		for _, pending := range []Event{need, asked, idle, gone} {
			r := newRig(t, true).do(window, pending, fromAgo)
			r.expect(Settling, unlocks, false)
			for range 50 { // etcd is down for long: nothing else is begun
				r.do(notGiven, MaxNap, pending)
			}
			if n := r.count(unlocks); n != 51 || len(r.started) != 2+n {
				t.Errorf("window %v, %+v: started %v", window, pending, r.started)
			}
		}
	}
}

func TestWithdrawnUpdateDropsThePlanAndReleasesTheLock(t *testing.T) {
	for name, script := range map[string][]any{
		"waiting":          {shuts, notHeld, need, idle},
		"waiting, maybe":   {notHeld, need, maybe, idle, given},
		"locking":          {notHeld, need, idle, lockEnded},
		"locking, got it":  {notHeld, need, idle, got, given},
		"preparing":        {notHeld, need, got, idle, checkDead, given},
		"says the check":   {notHeld, need, got, retracted, given},
		"during the delay": {notHeld, need, got, crowded, told, idle, calledOff, given},
		"after a refusal":  {notHeld, need, got, clear, refused, given, idle},
		"with a request":   {notHeld, need, asked, idle, lockEnded},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(script...)
			r.expect(Idle, nothing, false)
			if r.m.MayHold() || r.m.triggers.version != "" {
				t.Errorf("may hold %v, version %q", r.m.MayHold(), r.m.triggers.version)
			}
			r.do(time.Hour)
			r.expect(Idle, nothing, false)
		})
	}
}

// A request by hand comes without update_engine's knowledge, which goes on
// saying that it is idle.
func TestRequestOutlivesEnginesIdleness(t *testing.T) {
	r := newRig(t, true).do(idle, notHeld, asked, idle, gone, got, retracted)
	r.expect(Rebooting, reboots, false)
}

func TestRefusedRebootReleasesTheLockAndTriesAgain(t *testing.T) {
	r := newRig(t, true).do(toLocking...)
	var last time.Duration
	for n := range 12 {
		r.do(got, clear, refused)
		r.expect(Releasing, unlocks, false)
		r.do(given)
		r.expect(Waiting, nothing, false)
		if !strings.Contains(r.m.Status(r.now), "the last attempt failed: the reboot was refused: access denied") {
			t.Fatalf("the status does not say why: %s", r.m.Status(r.now))
		}
		var waited time.Duration
		for r.last.State == Waiting {
			waited += r.last.Nap
			r.do(r.last.Nap)
		}
		r.expect(Locking, locks, false)
		if full := min(15*time.Minute, 5*time.Second<<n); waited < full/2 || waited > full {
			t.Errorf("after %d refusals it waited %v, want %v to %v", n+1, waited, full/2, full)
		}
		last = waited
	}
	if last < 30*time.Second {
		t.Errorf("the waits do not grow: the last is %v", last)
	}
	if r.count(reboots) != 12 {
		t.Errorf("asked for a reboot %d times", r.count(reboots))
	}
}

// Whatever was open at the last look, another one comes right before the reboot.
func TestEveryGateIsAskedAgainRightBeforeTheReboot(t *testing.T) {
	t.Run("after the lock", func(t *testing.T) {
		r := newRig(t, true).do(toLocking...).do(3*time.Hour, got)
		r.expect(Preparing, checks, false)
	})
	t.Run("after the login delay", func(t *testing.T) {
		r := newRig(t, true).do(toDelay...)
		for range 4 {
			r.do(time.Minute)
			r.expect(Preparing, checks, false)
			r.do(crowded)
			r.expect(Preparing, nothing, false)
		}
		r.do(time.Minute)
		r.expect(Preparing, checks, false)
		r.do(crowded)
		r.expect(Rebooting, reboots, false)
	})
	for name, script := range map[string][]any{
		"the window has shut":     {shuts, crowded},
		"the update is withdrawn": {retracted},
		"the slot is not ours":    {slotless},
		"a gate does not answer":  {unchecked},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(5 * time.Minute).do(script...)
			if r.count(reboots) != 0 || r.last.State == Preparing {
				t.Errorf("in state %v, started %v", r.last.State, r.started)
			}
		})
	}
}

func TestUsersAreToldOnceAndHaveFiveMinutes(t *testing.T) {
	r := newRig(t, true).do(toPreparing...).do(crowded)
	r.expect(Preparing, schedules, false)
	r.do(20*second, told) // a slow terminal does not lengthen it
	for r.last.State == Preparing {
		if is(r.m.running, checks) {
			r.do(crowded)
		} else {
			r.do(r.last.Nap)
		}
	}
	r.expect(Rebooting, reboots, false)
	if waited := r.now.Sub(t0); waited != 5*time.Minute {
		t.Errorf("rebooted after %v, want 5m", waited)
	}
	if n := r.count(schedules); n != 1 {
		t.Errorf("the users were told %d times", n)
	}
}

func TestUsersWhoLogOutDoNotDelayTheReboot(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(time.Minute, crowded, time.Minute, clear)
	r.expect(Rebooting, reboots, false)
}

func TestUsersWhoCameDuringTheDelayAreNoNewDelay(t *testing.T) {
	r := newRig(t, true).do(toDelay...)
	for n := range 5 {
		r.do(time.Minute, Checked{Held: true, Local: &Local{Users: []string{"ann", "bob", "eve", "joe", "kim"}[n:]}})
	}
	r.expect(Rebooting, reboots, false)
}

// A new attempt, after the slot was given back, is a new warning.
func TestUsersAreToldAgainBeforeAnotherAttempt(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(shuts, time.Minute, calledOff, given, opens, time.Minute, got, crowded)
	r.expect(Preparing, schedules, false)
}

// The machine counts its naps by the monotonic clock; the window alone looks at
// the wall clock, and it is asked again within MaxNap whatever it said before.
func TestClockStepDoesNotFoolTheWindow(t *testing.T) {
	opening := span{t0.Add(6 * time.Hour), t0.Add(7 * time.Hour)}
	for _, c := range []struct {
		name         string
		before, step time.Duration // what the wall clock is ahead of the truth at first, and is then put forward by
		first        State
		open         bool
	}{
		{"forward into the window", 0, 6*time.Hour + time.Minute, Waiting, true},
		{"forward, not yet there", 0, 3 * time.Hour, Waiting, false},
		{"forward past the window", 0, 48 * time.Hour, Waiting, false},
		{"back into the window", 8 * time.Hour, -100 * time.Minute, Waiting, true},
		{"forward out of the window", 6 * time.Hour, 2 * time.Hour, Locking, false},
		{"back out of the window", 6*time.Hour + time.Minute, -2 * time.Hour, Locking, false},
		{"back by years", 6*time.Hour + time.Minute, -20 * 365 * 24 * time.Hour, Locking, false},
		{"from 1970", -56 * 365 * 24 * time.Hour, 56*365*24*time.Hour + 6*time.Hour + time.Minute, Waiting, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			gate := &spans{opening}
			wall := &skewed{Gate: gate, ahead: c.before}
			r.restart(Config{Lock: true, Window: wall, LoginDelay: 5 * time.Minute, LoginRetry: time.Hour})
			r.do(notHeld, need)
			if r.last.State != c.first {
				t.Fatalf("before the step: %v, want %v", r.last.State, c.first)
			}
			wall.ahead += c.step
			nap := r.last.Nap
			if nap <= 0 || nap > MaxNap {
				t.Fatalf("the nap is %v", nap)
			}
			r.do(nap)
			switch {
			case c.open:
				r.expect(Locking, locks, false)
			case c.first == Locking:
				r.expect(Locking, nothing, true)
				r.do(lockEnded)
				r.expect(Waiting, nothing, false)
			default:
				r.expect(Waiting, nothing, false)
			}
		})
	}
}

// An opening is met to the moment, and left to the moment.
func TestNapsEndWithTheWindowsEnds(t *testing.T) {
	r := newRig(t, true)
	gate := &spans{{t0.Add(90*time.Second + time.Millisecond), t0.Add(200 * time.Second)}}
	r.restart(Config{Lock: true, Window: gate, LoginDelay: 5 * time.Minute, LoginRetry: time.Hour})
	r.do(15*second, notHeld, need)
	for r.last.State == Waiting {
		r.do(r.last.Nap)
	}
	if r.now != (*gate)[0].start {
		t.Errorf("locking at %v, want %v", r.now, (*gate)[0].start)
	}
	for !r.last.Cancel {
		r.do(r.last.Nap)
	}
	r.expect(Locking, nothing, true)
	if r.now != (*gate)[0].end {
		t.Errorf("no longer locking at %v, want %v", r.now, (*gate)[0].end)
	}
}

// No lock puts hosts with strategy reboot in order: the lot does, once for each process.
func TestHostsWithoutALockDoNotAllBeginWhenTheWindowOpens(t *testing.T) {
	open := t0.Add(time.Hour)
	for _, c := range []struct{ length, delay, spread, most time.Duration }{
		{4 * time.Hour, 5 * time.Minute, time.Minute, time.Minute},
		{5 * time.Minute, 0, time.Minute, 30 * time.Second},
		{10 * second, 0, time.Minute, 0},                   // to leave time for the reboot
		{6 * time.Minute, 5 * time.Minute, time.Minute, 0}, // users' time just fits
		{4 * time.Hour, 5 * time.Minute, 0, 0},
	} {
		policy := Config{Window: &spans{{open, open.Add(c.length)}}, LoginDelay: c.delay, Spread: c.spread}
		begun := map[time.Duration]bool{}
		const hosts = 20
		for seed := range uint64(hosts) {
			r := &rig{t: t, now: t0}
			r.m = New(policy, nil, r.now, rand.New(rand.NewPCG(seed, 0)))
			r.do(Tick{}, calledOff, need)
			begins := r.m.config.begin(t0, r.m.share)
			if status := r.m.Status(r.now); strings.Contains(status, "; this host begins "+policy.Clock(begins)) != (c.most > 0) {
				t.Errorf("the status says %s", status)
			}
			for r.last.State == Waiting {
				r.do(r.last.Nap)
			}
			r.expect(Preparing, checks, false)
			begun[r.now.Sub(open)] = true
			if c.spread > 0 && r.now != begins {
				t.Errorf("it begins at %v, and not at %v as it says", r.now, begins)
			}
		}
		for after := range begun {
			if after < 0 || after > c.most {
				t.Errorf("in a window of %v a host begins after %v, want %v at most", c.length, after, c.most)
			}
		}
		if c.most > 0 && len(begun) < hosts || c.most == 0 && len(begun) > 1 {
			t.Errorf("in a window of %v, %d hosts begin at %d times", c.length, hosts, len(begun))
		}
		// In the midst of it nobody waits.
		r := &rig{t: t, now: open.Add(c.most)}
		r.m = New(policy, nil, r.now, rand.New(rand.NewPCG(1, 0)))
		r.do(Tick{}, calledOff, need).expect(Preparing, checks, false)
	}
}

// Holding already is what Lock calls success, and what etcd said last is not
// forgotten when the next attempt fails.
func TestHoldingAlreadyIsSuccess(t *testing.T) {
	newRig(t, true).do(need, fromNow, got).expect(Preparing, checks, false)
	newRig(t, true).do(toMaybe...).do(5*second, got).expect(Preparing, checks, false)
}

func TestFailedLockDoesNotForgetASlotHeldBefore(t *testing.T) {
	for name, before := range map[string][]any{
		"known":   {need, fromNow},
		"perhaps": {notHeld, need, maybe, 5 * second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(before...)
			r.expect(Locking, locks, false)
			r.do(noSlot) // this time it was not taken; before it was, or may have been
			r.expect(Waiting, nothing, false)
			r.do(shuts, Tick{})
			r.expect(Releasing, unlocks, false)
		})
	}
}

func TestEtcdDownAtBootKeepsTrying(t *testing.T) {
	for name, pending := range map[string]Event{"nothing pending": idle, "reboot pending": need} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(pending)
			for n := range 500 {
				r.do(noAnswer)
				r.expect(Starting, nothing, false)
				if s := r.m.Status(r.now); !strings.Contains(s, "etcd is down") || !strings.Contains(s, "trying again") {
					t.Fatalf("the status does not say so: %s", s)
				}
				var waited time.Duration
				for r.last.Start == nil {
					waited += r.last.Nap
					r.do(r.last.Nap)
				}
				r.expect(Starting, inspects, false)
				if full := min(time.Minute, time.Second<<min(n, 10)); waited < full/2 || waited > full {
					t.Fatalf("try %d came after %v, want %v to %v", n+2, waited, full/2, full)
				}
			}
			r.do(notHeld)
			if s := r.m.Status(r.now); strings.Contains(s, "etcd is down") {
				t.Errorf("the status still says: %s", s)
			}
		})
	}
}

// Hosts that failed together do not come back together.
func TestRetriesAreSpread(t *testing.T) {
	seen := map[time.Time]bool{}
	for seed := range uint64(20) {
		m := New(Config{Lock: true}, nil, t0, rand.New(rand.NewPCG(seed, 0)))
		for _, ev := range []Event{Tick{}, calledOff, noAnswer} {
			m.Step(t0, ev)
		}
		seen[m.slot.retry.at] = true
	}
	if len(seen) < 18 {
		t.Errorf("20 hosts try again at %d moments", len(seen))
	}
}

func TestIdleAgainMeansThatTheNextUpdateStartsAfresh(t *testing.T) {
	r := newRig(t, true).do(toLocking...).do(noSlot, idle)
	r.expect(Idle, nothing, false)
	r.do(need)
	r.expect(Locking, locks, false) // at once, not after the backoff of the last
	if s := r.m.Status(r.now); strings.Contains(s, "etcd is down") {
		t.Errorf("the status still says: %s", s)
	}
}

// The states in which nothing is waited for have no timer; every other asks
// again within MaxNap. The bound itself is checked in every step of every test.
func TestIdleNeedsNoTimer(t *testing.T) {
	for _, lock := range []bool{true, false} {
		r := newRig(t, lock)
		if lock {
			r.do(notHeld)
		}
		for _, ev := range []Event{idle, gone, Tick{}, need, idle} {
			if r.do(ev); r.last.State == Idle && r.last.Nap != 0 {
				t.Errorf("after %+v the nap is %v", ev, r.last.Nap)
			}
			if r.m.running != nil {
				r.do(done{Effect: kindOf(r.m.running), Err: context.Canceled}.result())
			}
		}
	}
}

func TestRestartRemembersTheUpdateAndNothingElse(t *testing.T) {
	for _, ev := range []Event{need, asked} {
		r := newRig(t, true).do(shuts, notHeld, ev, reload)
		r.expect(Left, nothing, false)
		since := r.m.triggers.since
		r.m = r.m.Restart(Config{Lock: true}, r.now.Add(time.Hour))
		r.do(Tick{})
		r.expect(Starting, inspects, false)
		if !r.m.MayHold() {
			t.Error("a new group's lock is not known to be free before etcd said so")
		}
		r.do(notHeld)
		r.expect(Locking, locks, false)
		if r.m.triggers.since != since {
			t.Errorf("pending since %v, want %v", r.m.triggers.since, since)
		}
	}
	r := newRig(t, true).do(shuts, notHeld, need, reload)
	r.m = r.m.Restart(Config{}, r.now)
	r.do(Tick{})
	r.expect(Preparing, checks, false)
	if r.m.triggers.version != "4081.2.0" {
		t.Errorf("the version is %q", r.m.triggers.version)
	}
}

func TestStatusSaysWhatIsWaitedForSinceWhenUntilWhen(t *testing.T) {
	gate := &spans{{t0.Add(24 * time.Hour), t0.Add(25 * time.Hour)}}
	const (
		needed = "reboot needed since Mon 2026-03-02 04:00:01 UTC for version 4081.2.0; "
	)
	for _, c := range []struct {
		name   string
		script []any
		want   string
	}{
		{"starting", []any{1 * second},
			"starting: asking etcd whether this host holds a slot since Mon 2026-03-02 04:00:00 UTC"},
		{"starting, etcd down", []any{1 * second, noAnswer},
			"starting: asking etcd whether this host holds a slot since Mon 2026-03-02 04:00:00 UTC; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"starting, reboot pending", []any{1 * second, need},
			needed + "starting: asking etcd whether this host holds a slot since Mon 2026-03-02 04:00:00 UTC"},
		{"starting, update_engine silent", []any{opens, 1 * second, fromNow},
			"a slot is held; waiting for update_engine until Mon 2026-03-02 04:00:10 UTC"},
		{"settling", []any{1 * second, fromAgo},
			"giving back the slot that was held at start since Mon 2026-03-02 04:00:01 UTC"},
		{"settling, etcd down", []any{1 * second, fromAgo, notGiven},
			"giving back the slot that was held at start since Mon 2026-03-02 04:00:01 UTC; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"idle", []any{1 * second, notHeld},
			"idle: no reboot is needed since Mon 2026-03-02 04:00:01 UTC"},
		{"waiting", []any{1 * second, notHeld, need},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC for the reboot window, which opens Tue 2026-03-03 04:00:00 UTC"},
		{"waiting after a failure", []any{opens, 1 * second, notHeld, need, noSlot},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC; trying again Mon 2026-03-02 04:00:05 UTC, the last attempt failed: etcd is down"},
		{"locking", []any{opens, 1 * second, notHeld, need, Blocked{By: "held by a, b"}, time.Minute},
			needed + "waiting for a slot since Mon 2026-03-02 04:00:01 UTC: held by a, b"},
		{"locking within a window", []any{1 * second, notHeld, need, 24 * time.Hour, Blocked{By: "held by a"}},
			needed + "waiting for a slot since Tue 2026-03-03 04:00:01 UTC until the reboot window shuts Tue 2026-03-03 05:00:00 UTC: held by a"},
		{"preparing", []any{opens, 1 * second, notHeld, need, got},
			needed + "asking once more whether the host may reboot since Mon 2026-03-02 04:00:01 UTC"},
		{"users", []any{opens, 1 * second, notHeld, need, got, crowded, told, time.Minute},
			needed + "users are logged in (ann, bob) and know since Mon 2026-03-02 04:00:01 UTC; rebooting Mon 2026-03-02 04:05:01 UTC, or once they have left, unless they cancel it with shutdown -c"},
		{"users, being told", []any{opens, 1 * second, notHeld, need, got, crowded},
			needed + "telling the users who are logged in (ann, bob) of the reboot Mon 2026-03-02 04:05:01 UTC"},
		{"users, a deadline", []any{opens, 1 * second, notHeld, Reconfigure{Config{Lock: true, LoginDelay: time.Minute, MaxPostpone: time.Hour}}, need, got, crowded, told},
			needed + "users are logged in (ann, bob) and know since Mon 2026-03-02 04:00:01 UTC; rebooting Mon 2026-03-02 04:01:01 UTC, or once they have left, unless they cancel it with shutdown -c; users and inhibitors can postpone it until Mon 2026-03-02 05:00:01 UTC"},
		{"held back", []any{opens, 1 * second, notHeld, backup, need},
			needed + "waiting since Mon 2026-03-02 04:00:01 UTC; held back by \"unattended backup\" (rsync, root): block inhibitor"},
		{"calling off", []any{opens, 1 * second, notHeld, need, got, crowded, told, LookEvery, blockaded},
			needed + "calling off the reboot scheduled with logind since Mon 2026-03-02 04:00:16 UTC: held back by \"unattended backup\" (rsync, root): block inhibitor"},
		{"withdrawn, not yet out", []any{opens, 1 * second, notHeld, need, got, idle},
			"the reboot is not needed any more; asking once more whether the host may reboot since Mon 2026-03-02 04:00:01 UTC"},
		{"rebooting", []any{opens, 1 * second, notHeld, need, got, clear},
			needed + "rebooting: logind was asked Mon 2026-03-02 04:00:01 UTC"},
		{"rebooting, accepted", []any{opens, 1 * second, notHeld, need, got, clear, accepted},
			needed + "rebooting: logind was asked Mon 2026-03-02 04:00:01 UTC, trying again Mon 2026-03-02 04:15:01 UTC"},
		{"rebooting, unknown", []any{opens, 1 * second, notHeld, need, got, clear, silent},
			needed + "rebooting: logind was asked Mon 2026-03-02 04:00:01 UTC, trying again Mon 2026-03-02 04:15:01 UTC (etcd is down)"},
		{"releasing", []any{opens, 1 * second, notHeld, need, got, clear, refused},
			needed + "giving the slot back since Mon 2026-03-02 04:00:01 UTC: the reboot was refused: access denied"},
		{"releasing, in vain", []any{opens, 1 * second, notHeld, need, got, clear, refused, notGiven},
			needed + "giving the slot back since Mon 2026-03-02 04:00:01 UTC: the reboot was refused: access denied; trying again Mon 2026-03-02 04:00:01 UTC, the last attempt failed: etcd is down"},
		{"left", []any{1 * second, notHeld, stop},
			"stopped; no slot is held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			policy := people5m
			policy.Lock, policy.Window = true, gate
			if len(c.script) > 0 && c.script[0] == opens {
				policy.Window = nil
			}
			r.restart(policy).do(c.script...)
			if got := r.m.Status(r.now); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Local time may jump by an hour, twice a year: only what people read changes.
func TestDaylightSavingChangesOnlyWhatPeopleRead(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatalf("install tzdata: %v", err)
	}
	for _, start := range []time.Time{
		time.Date(2026, 3, 29, 0, 58, 0, 0, time.UTC),  // 01:58 in Berlin; 02:00 becomes 03:00
		time.Date(2026, 10, 25, 0, 58, 0, 0, time.UTC), // 02:58 in Berlin; 03:00 becomes 02:00
	} {
		run := func(loc *time.Location) (moves []Move, naps []time.Duration) {
			r := newRig(t, true)
			r.now = start.In(loc)
			r.restart(Config{Lock: true, Window: &spans{{start, start.Add(time.Hour)}}, LoginDelay: 5 * time.Minute})
			r.do(notHeld, need, got, crowded, told)
			for r.last.State == Preparing {
				if is(r.m.running, checks) {
					r.do(crowded)
					continue
				}
				naps = append(naps, r.last.Nap)
				r.do(r.last.Nap)
			}
			return r.moves, naps
		}
		moves, naps := run(berlin)
		wantMoves, wantNaps := run(time.UTC)
		if !slices.Equal(moves, wantMoves) || !slices.Equal(naps, wantNaps) {
			t.Errorf("in Berlin %v %v\nin UTC %v %v", moves, naps, wantMoves, wantNaps)
		}
	}
}

// span is an opening, and spans is a Gate made of them, in order.
type span struct{ start, end time.Time }

type spans []span

func (g *spans) Open(t time.Time) bool {
	start, _ := g.Next(t)
	return !start.After(t)
}

func (g *spans) Next(t time.Time) (start, end time.Time) {
	for _, s := range *g {
		if t.Before(s.end) {
			return s.start, s.end
		}
	}
	far := t.AddDate(100, 0, 0)
	return far, far.Add(time.Hour)
}

// skewed is a Gate on a wall clock that is ahead of the time that passes.
type skewed struct {
	Gate
	ahead time.Duration
}

func (g *skewed) Open(t time.Time) bool { return g.Gate.Open(t.Add(g.ahead)) }

func (g *skewed) Next(t time.Time) (start, end time.Time) {
	start, end = g.Gate.Next(t.Add(g.ahead))
	return start.Add(-g.ahead), end.Add(-g.ahead)
}

// An administrator may change the host's time zone while the daemon runs.
func TestTimesForPeopleAreInTheTimeZoneOfTheMoment(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	policy := Config{Zone: func() *time.Location { return zone }}
	m := New(policy, nil, t0, rand.New(rand.NewPCG(1, 0)))
	for _, name := range []string{"CET", "JST"} {
		zone = time.FixedZone(name, 3600)
		if s := m.Status(t0); !strings.Contains(s, " "+name) || strings.Contains(s, "UTC") {
			t.Errorf("the status is %q, want one in %s", s, name)
		}
	}
}
