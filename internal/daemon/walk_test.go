package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/randtest"
)

const (
	walks     = 60
	walkSteps = 10_000 // of each
	liveEvery = 20     // steps between two looks at whether there is still a way to the end
)

// TestRandomWalks lets machines meet whatever can happen, in any order, and
// checks at every step what doc.go promises. LOCKSMITH_SEED replays a run.
func TestRandomWalks(t *testing.T) {
	seed := randtest.Seed(t)
	seen := coverage{}
	for n := range uint64(walks) {
		w := newWorld(rand.New(rand.NewPCG(seed, n)), seen)
		for step := range walkSteps {
			w.step()
			if step%liveEvery == 0 && w.err == nil {
				w.err = w.live()
			}
			if w.err != nil {
				t.Fatalf("%v\nwalk %d, step %d, replay with LOCKSMITH_SEED=%d\n%s", w.err, n, step, seed, w.trace())
			}
		}
	}
	// A walk that does not get around shows nothing.
	for _, what := range []string{
		"move starting settling", "move starting idle", "move starting waiting",
		"move settling idle", "move settling waiting", "move idle waiting",
		"move waiting locking", "move waiting preparing", "move waiting idle", "move waiting releasing",
		"move locking preparing", "move locking waiting", "move locking releasing", "move locking idle",
		"move preparing rebooting", "move preparing releasing", "move preparing waiting", "move preparing idle",
		"move rebooting releasing", "move rebooting waiting", "move releasing waiting", "move releasing idle",
		"move starting left", "move settling left", "move idle left", "move waiting left", "move locking left",
		"move preparing left", "move rebooting left", "move releasing left",
		"end inspect", "end lock", "end unlock", "end look", "end check", "end schedule", "end unschedule", "end reboot",
		"failed inspect", "failed lock", "failed unlock", "failed look", "failed check", "failed schedule", "failed unschedule", "failed reboot",
		"unknown lock", "unknown reboot", "lost reply of lock", "lost reply of unlock", "failed lock while held",
		"taken away", "host rebooted", "process killed", "clock stepped", "policy changed",
		"reboot after the delay", "reboot after the last minute", "reboot without a delay", "reboot in spite of inhibitors",
		"cancelled by a user", "cancelled in vain", "replaced by a user", "told again", "lost reply of schedule", "lost reply of unschedule",
		"logind rebooted", "started with a schedule", "queue left for somebody at work",
	} {
		if seen[what] < 3 {
			t.Errorf("%q was met %d times in %d steps: not worth much", what, seen[what], walks*walkSteps)
		}
	}
	if testing.Verbose() {
		t.Log(seen)
	}
}

type coverage map[string]int

// world is everything around a machine, and keeps the truth about it.
type world struct {
	rand *rand.Rand
	seen coverage
	m    *Machine
	now  time.Time
	wall *skewed // what the machine's window is asked through; nil without a window

	calm bool // little goes wrong, so that it gets far

	// The truth.
	held      bool // this host holds a slot
	sinceBoot bool // and took it after it last booted
	etcdUp    bool
	engine    bool // update_engine needs a reboot
	logindUp  bool
	local     Local // who is at work, and what is scheduled
	planned   bool  // what is scheduled, we did schedule

	// What the machine has been told about the update.
	engineSaid, requested bool

	// The effect in flight.
	running   Effect
	cancelled bool
	order     Order
	granted   bool // Lock has taken the slot in this call, or Schedule has scheduled; nobody has heard of it yet
	undone    bool // Unlock has given it back, or Unschedule cancelled; nobody has heard of it yet
	looking   bool // a Look is running as well

	// What the machine may be held to.
	left        bool
	leave       *Leave
	checked     *Done  // the Check whose end this step learns
	failed      Effect // whose failure this step learns, unless it was cancelled or its outcome is unknown
	inspectOK   bool
	undoFailed  bool      // Unlock or Unschedule has, and was not tried since
	told        bool      // users have been, or were to be at the last moment
	toldAt      time.Time // when that began
	toldDelay   time.Duration
	toldFinal   bool      // after the deadline
	known       Local     // what a Look or Check has said last
	knownErr    error     // or that it said nothing
	knownAt     time.Time // when
	freeSince   time.Time // since when only people may hold it back
	cancelledAt time.Time // when it was seen that a user has cancelled

	log []string // the last steps
	err error
}

func newWorld(r *rand.Rand, seen coverage) *world {
	w := &world{rand: r, seen: seen, now: t0, etcdUp: true, logindUp: true, calm: r.IntN(2) == 0}
	w.boot()
	return w
}

func (w *world) chance(p float64) bool { return w.rand.Float64() < p }

// fault is chance for what goes wrong.
func (w *world) fault(p float64) bool {
	if w.calm {
		p /= 20
	}
	return w.chance(p)
}

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(d) + 1))
}

// pick returns one of the things that can happen.
func pick[T any](w *world, of ...T) T { return of[w.rand.IntN(len(of))] }

// policy draws a configuration.
func (w *world) policy() Policy {
	p := Policy{
		Lock:        w.chance(0.8),
		LoginDelay:  pick(w, 0, 20*time.Second, 2*time.Minute, 10*time.Minute),
		LoginRetry:  pick(w, time.Minute, 10*time.Minute, time.Hour),
		MaxPostpone: pick(w, 0, 5*time.Minute, 20*time.Minute, 6*time.Hour),
	}
	w.wall = nil
	if w.chance(0.8) {
		period := 10*time.Minute + w.upTo(12*time.Hour)
		w.wall = &skewed{Gate: &periodic{from: t0.Add(w.upTo(period)), period: period, length: time.Second + w.upTo(period-2*time.Second)}}
		p.Window = w.wall
	}
	return p
}

// boot starts a process that knows nothing.
func (w *world) boot() {
	p := w.policy()
	w.m = New(p, w.now, rand.New(rand.NewPCG(w.rand.Uint64(), 0)))
	w.engineSaid, w.requested, w.looking = false, false, false
	w.freeSince, w.cancelledAt = time.Time{}, time.Time{}
	if w.planned {
		w.seen["started with a schedule"]++
	}
	w.fresh()
}

// fresh forgets what was true of the machine before.
func (w *world) fresh() {
	w.left, w.leave, w.checked, w.undoFailed, w.inspectOK = false, nil, nil, false, false
	w.running, w.cancelled, w.granted, w.undone = None, false, false, false
	w.told, w.known, w.knownErr, w.knownAt = false, Local{}, nil, time.Time{}
	if !w.m.policy.Lock {
		w.held = false // another configuration's slot is nobody's business here
	}
	w.tell(Tick{})
}

func (w *world) open() bool { return w.wall == nil || w.wall.Open(w.now) }

func (w *world) pending() bool { return w.engineSaid || w.requested }

// overdue reports whether people cannot postpone the reboot any more.
func (w *world) overdue() bool {
	limit := w.m.policy.MaxPostpone
	return limit > 0 && !w.freeSince.IsZero() && w.now.Sub(w.freeSince) >= limit
}

// atWork reports whether somebody is known to be at work, which holds a slot back.
func (w *world) atWork() bool {
	return w.knownErr != nil || w.known.Shutdown.Type != "" || len(w.known.Inhibitors) > 0 && !w.overdue()
}

// step lets one thing happen.
func (w *world) step() {
	if w.left {
		w.goOn()
		return
	}
	w.meanwhile()
	w.now = w.now.Add(pick(w, 0, w.upTo(time.Second), w.upTo(10*time.Second), w.upTo(time.Minute)))
	if w.fires() {
		return
	}
	if w.planned && w.chance(0.01) {
		w.kill(w.chance(0.2))
		return
	}
	if w.looking && w.chance(0.3) {
		w.endLook()
		return
	}
	switch p := w.rand.Float64(); {
	case p < 0.40:
		if w.running != None {
			w.end(w.result())
			return
		}
		w.tell(Tick{})
	case p < 0.80:
		if nap := w.m.nap(w.now); nap > 0 {
			w.now = w.now.Add(nap)
		} else {
			w.now = w.now.Add(w.upTo(24 * time.Hour))
		}
		w.tell(Tick{})
	case p < 0.88:
		w.tell(Update{Source: Engine, Pending: w.engine, Version: pick(w, "", "1.2.3")})
	case p < 0.90:
		w.tell(Update{Source: Requester, Pending: w.chance(0.8)})
	case p < 0.91:
		w.tell(Update{Source: Gone})
	case p < 0.97:
		w.tell(Blocked{By: "held by somebody"})
	case p < 0.985:
		w.tell(pick(w, Leave{}, Leave{KeepLock: true}, Leave{Reload: true}))
	case p < 0.988:
		if w.leave == nil {
			w.seen["policy changed"]++
			lock := w.m.policy.Lock
			policy := w.policy()
			policy.Lock = lock
			w.tell(Repolicy{policy})
		}
	case p < 0.99:
		w.kill(w.chance(0.2))
	default:
		w.tell(Tick{})
	}
}

// meanwhile changes the truth without telling anybody.
func (w *world) meanwhile() {
	if w.etcdUp && w.fault(0.05) || !w.etcdUp && w.chance(0.05) {
		w.etcdUp = !w.etcdUp
	}
	if w.fault(0.05) {
		w.engine = w.chance(0.7)
	}
	if w.logindUp && w.fault(0.03) || !w.logindUp && w.chance(0.05) {
		w.logindUp = !w.logindUp
	}
	if w.fault(0.05) {
		w.local.Users = pick(w, nil, people.Users)
	}
	if w.fault(0.03) || w.chance(0.01) && len(w.local.Inhibitors) > 0 {
		w.local.Inhibitors = pick(w, nil, nil, backup.Inhibitors)
	}
	w.others()
	if w.fault(0.01) && w.wall != nil {
		w.seen["clock stepped"]++
		w.wall.ahead += pick[time.Duration](w, -1, 1) * pick(w, w.upTo(time.Minute), w.upTo(6*time.Hour), w.upTo(1000*time.Hour))
	}
	if w.fault(0.01) && w.held {
		w.seen["taken away"]++
		w.held = false // unlocked by hand; an undecided transaction fails then
	}
	w.commit()
}

// others lets people schedule and cancel shutdowns.
func (w *world) others() {
	switch {
	case w.local.Shutdown.Type != "" && !w.planned:
		if w.chance(0.2) {
			w.local.Shutdown = Shutdown{}
		}
	case w.planned && w.fault(0.05), w.fault(0.005):
		if w.planned {
			w.seen["replaced by a user"]++
		}
		// A message of ours may have been left for others to use.
		w.local.Shutdown = Shutdown{Type: pick(w, "reboot", "poweroff"), At: w.now.Add(time.Second + w.upTo(time.Hour)).Round(0), Mark: w.chance(0.3)}
		w.planned = false
	case w.planned && w.chance(0.02), w.planned && w.overdue() && w.chance(0.5):
		w.local.Shutdown, w.planned = Shutdown{}, false
	}
}

// fires lets logind do what is scheduled and due, and reports whether the host
// goes down for it.
func (w *world) fires() bool {
	s := w.local.Shutdown
	if s.Type == "" || s.At.After(w.now) {
		return false
	}
	if w.planned {
		w.seen["logind rebooted"]++
		if w.toldAt.IsZero() || s.At.Sub(w.toldAt) < w.toldDelay {
			w.fail("logind reboots %v after users were told", s.At.Sub(w.toldAt))
		}
	}
	w.local.Shutdown, w.planned = Shutdown{}, false
	w.kill(true)
	return true
}

// scheduledByUs tells, as the loop does, whether what is scheduled is ours.
func (w *world) scheduledByUs() bool {
	s := w.local.Shutdown
	return s.Mark && (w.order.At.IsZero() || s.At.Equal(w.order.At))
}

// commit lets a transaction of the running effect happen.
func (w *world) commit() {
	switch {
	case w.running == Schedule || w.running == Unschedule:
		switch {
		case !w.logindUp || !w.chance(0.3):
		case w.running == Schedule && w.local.Shutdown.Type == "" && !w.granted:
			w.schedule()
		case w.running == Unschedule && w.scheduledByUs():
			w.local.Shutdown, w.planned, w.undone = Shutdown{}, false, true
		}
	case !w.etcdUp || !w.chance(0.3):
	case w.running == Lock && !w.held && !w.granted:
		w.held, w.sinceBoot, w.granted = true, true, true
	case w.running == Unlock && w.held:
		w.held, w.undone = false, true
	}
}

func (w *world) schedule() {
	w.local.Shutdown, w.planned, w.granted = Shutdown{Type: "reboot", At: w.order.At, Mark: true}, true, true
}

// result draws an end of the running effect that its contract allows.
func (w *world) result() Done {
	d := Done{Effect: w.running}
	failed := !w.etcdUp || w.fault(0.2)
	switch w.running {
	case Schedule, Unschedule:
		failed = !w.logindUp || w.fault(0.2)
	case Check:
		failed = failed || !w.logindUp
	}
	if w.cancelled && w.chance(0.8) {
		failed = true
	}
	if failed {
		d.Err = pick(w, errDown, errRefused)
		if w.cancelled {
			d.Err = context.Canceled
		}
	}
	switch w.running {
	case Inspect:
		if !failed {
			d.Holding = w.holding()
		}
	case Lock:
		if !failed && !w.held {
			w.held, w.sinceBoot = true, true
		}
		d.Unknown = failed && (w.granted || w.chance(0.3))
		if w.granted && failed {
			w.seen["lost reply of lock"]++
		}
		if failed && !d.Unknown && w.held {
			w.seen["failed lock while held"]++
		}
	case Unlock:
		if !failed {
			w.held = false
		}
		if failed && w.undone {
			w.seen["lost reply of unlock"]++
		}
	case Schedule:
		switch {
		case !failed && !w.granted && w.local.Shutdown.Type != "":
			d.Err = errors.New("something else is scheduled")
		case !failed && !w.granted:
			w.schedule()
		case failed && w.granted:
			w.seen["lost reply of schedule"]++
		}
	case Unschedule:
		if !failed && w.scheduledByUs() {
			w.local.Shutdown, w.planned = Shutdown{}, false
		}
		if failed && w.undone {
			w.seen["lost reply of unschedule"]++
		}
	case Check:
		if w.chance(0.7) {
			d.Update = &Update{Source: Engine, Pending: w.engine}
		}
		d.Holding, d.Local = w.holding(), w.local
		if failed {
			d.Holding, d.Local = pick(w, NotHeld, d.Holding), pick(w, Local{}, w.local)
		}
	case Reboot:
		d.Unknown = failed && w.chance(0.5)
	}
	return d
}

func (w *world) holding() Holding {
	switch {
	case !w.m.policy.Lock:
		return pick(w, NotHeld, HeldThisBoot) // does not count
	case !w.held:
		return NotHeld
	case w.sinceBoot:
		return HeldThisBoot
	}
	return HeldSinceBefore
}

// end reports the end of the running effect.
func (w *world) end(d Done) {
	w.seen["end "+d.Effect.String()]++
	if d.Err != nil {
		w.seen["failed "+d.Effect.String()]++
	}
	if d.Unknown {
		w.seen["unknown "+d.Effect.String()]++
	}
	cancelled := w.cancelled
	w.running, w.cancelled, w.granted, w.undone = None, false, false, false
	switch d.Effect {
	case Inspect:
		w.inspectOK = w.inspectOK || d.Err == nil
	case Unlock, Unschedule:
		w.undoFailed = d.Err != nil
		if d.Effect == Unschedule && d.Err == nil && w.known.Shutdown.At.Equal(w.order.At) {
			w.known.Shutdown = Shutdown{}
		}
	case Schedule:
		w.told = d.Err == nil || w.toldFinal
	case Check:
		if d.Err == nil {
			w.known, w.knownErr, w.knownAt = d.Local, nil, w.now
		}
		if d.Err == nil && !cancelled {
			w.checked = &d
		}
	}
	if d.Err != nil && !d.Unknown && !cancelled {
		w.failed = d.Effect
	}
	w.tell(d)
	w.checked, w.failed = nil, None
}

// endLook reports the end of the running Look.
func (w *world) endLook() {
	d := Done{Effect: Look, Local: w.local}
	w.seen["end look"]++
	if !w.logindUp || w.fault(0.1) {
		w.seen["failed look"]++
		d.Err = errRefused
	}
	w.looking = false
	w.known, w.knownErr, w.knownAt = d.Local, d.Err, w.now
	before := w.m.state
	if w.tell(d); before == Locking && w.cancelled && w.atWork() {
		w.seen["queue left for somebody at work"]++
	}
}

// kill ends the process without warning, or the host with it.
func (w *world) kill(host bool) {
	if w.running == Lock && w.etcdUp && w.chance(0.5) {
		w.held, w.sinceBoot = true, true
	}
	down := w.upTo(10 * time.Minute)
	if !host && w.planned && !w.local.Shutdown.At.After(w.now.Add(down)) {
		w.seen["logind rebooted"]++
		host = true
	}
	w.now = w.now.Add(down)
	if host {
		w.seen["host rebooted"]++
		w.sinceBoot = false
		w.local, w.planned = Local{}, false
	} else {
		w.seen["process killed"]++
	}
	w.note("killed, host %v", host)
	w.boot()
}

// goOn is what comes after Left: another configuration or another process.
func (w *world) goOn() {
	if w.leave.Reload {
		if w.running != None {
			w.fail("%v is running while the machine is replaced", w.running)
			return
		}
		w.note("restart")
		w.m = w.m.Restart(w.policy(), w.now)
		if w.m.pending() != w.pending() {
			w.fail("a restart took the update from %v to %v", w.pending(), w.m.pending())
		}
		w.fresh()
		return
	}
	for range 3 { // whatever still comes, nothing is begun
		w.tell(pick[Event](w, Tick{}, Update{Source: Engine, Pending: true}, Leave{}, Blocked{}))
	}
	w.commit()
	w.kill(w.leave.KeepLock)
}

// tell steps the machine and checks everything that must hold then.
func (w *world) tell(ev Event) {
	switch ev := ev.(type) {
	case Update:
		w.hear(ev)
	case Done:
		if ev.Update != nil {
			w.hear(*ev.Update)
		}
	case Leave:
		w.leave = &ev
	}
	switch {
	case !w.pending():
		w.freeSince = time.Time{}
	case w.freeSince.IsZero() && w.open():
		w.freeSince = w.now
	}
	before := w.m.state
	cancelled := w.wasCancelled()
	d := w.m.Step(w.now, ev)
	if cancelled && !w.overdue() && before == Preparing && w.open() && w.pending() && w.leave == nil {
		w.seen["cancelled by a user"]++
		w.cancelledAt = w.now
	}
	w.note("%T%+v -> %v, start %v %v, cancel %v, look %v, nap %v; held %v, open %v, pending %v, local %+v, planned %v, etcd up %v, overdue %v",
		ev, ev, d.State, d.Start, d.Order.At, d.Cancel, d.Look, d.Nap, w.held, w.open(), w.pending(), w.local, w.planned, w.etcdUp, w.overdue())
	w.moves(before, d)
	w.decided(before, d)
	if d.State != Preparing {
		w.told = false
	}
	if d.Start != None {
		w.running, w.order = d.Start, d.Order
	}
	if d.Cancel {
		w.cancelled = true
	}
	if d.Look {
		w.looking = true
	}
	w.holds(d)
	w.left = d.State == Left
}

// wasCancelled reports whether the check whose end this step learns has found
// that somebody has cancelled or replaced our reboot.
func (w *world) wasCancelled() bool {
	if w.checked == nil || !w.told || w.m.policy.Lock && w.checked.Holding == NotHeld {
		return false
	}
	s := w.checked.Local.Shutdown
	return !(s.Mark && s.At.Equal(w.toldAt.Add(w.toldDelay+backstop).Truncate(time.Microsecond)))
}

func (w *world) hear(u Update) {
	switch u.Source {
	case Engine:
		if w.engineSaid && !u.Pending {
			w.requested = false
		}
		w.engineSaid = u.Pending
	case Requester:
		w.requested = u.Pending
	}
}

// moves checks the transitions of a step.
func (w *world) moves(before State, d Decision) {
	if len(d.Moved) > 4 {
		w.fail("%d transitions in one step", len(d.Moved))
	}
	for _, move := range d.Moved {
		w.seen["move "+move.From.String()+" "+move.To.String()]++
		if move.From != before || move.To == before || move.Why == "" {
			w.fail("from %v it moved %+v", before, move)
		}
		if move.From == Left {
			w.fail("there is a way back from the end")
		}
		before = move.To
	}
	if d.State != before || w.m.state != before {
		w.fail("it moved to %v and says %v", before, d.State)
	}
}

// decided checks what a step has begun and ended.
func (w *world) decided(before State, d Decision) {
	lock := w.m.policy.Lock
	if d.Start != None && w.running != None {
		w.fail("%v is started while %v is running", d.Start, w.running)
	}
	if d.Cancel && (w.running == None || w.cancelled || d.Start != None) {
		w.fail("nothing is there to be cancelled: running %v, cancelled %v, start %v", w.running, w.cancelled, d.Start)
	}
	if d.Cancel && (w.running == Unlock || w.running == Unschedule && before != Starting) && d.State != Left {
		w.fail("giving the slot back is cut short")
	}
	if d.Start == Lock && w.held && !w.sinceBoot {
		w.fail("a slot from before this boot is kept")
	}
	if d.Start != None && d.Start == w.failed {
		w.fail("%v has just failed and is started again at once", d.Start)
	}
	if d.Start == Lock && w.checked != nil {
		w.fail("a slot that was taken away is taken again at once")
	}
	if d.Look && (w.looking || d.State != Waiting && d.State != Locking || !w.open() || !w.pending() || w.leave != nil) {
		w.fail("a look in state %v, looking %v", d.State, w.looking)
	}
	if d.Start == Unlock && w.planned && w.sinceBoot {
		w.fail("the slot is given back and our reboot stands")
	}
	if d.Start == Unschedule && d.Order.At.IsZero() && d.State != Starting && d.State != Settling {
		w.fail("what others have scheduled may be cancelled")
	}
	if delay := w.policyDelay(); d.Start == Lock || d.Start == Schedule || d.Start == Reboot {
		if w.now.Before(w.cancelledAt.Add(w.m.policy.LoginRetry)) && !w.overdue() {
			w.fail("%v is started %v after a user has cancelled", d.Start, w.now.Sub(w.cancelledAt))
		}
		if d.Start == Lock && (w.knownAt.IsZero() || w.now.Sub(w.knownAt) >= lookEvery || w.atWork()) {
			w.fail("lock is started, known since %v: %+v, %v", w.knownAt, w.known, w.knownErr)
		}
		if d.Start != Reboot && w.wall != nil && len(w.known.Users) > 0 && delay > 0 {
			if _, end := w.wall.Next(w.now); !end.After(w.now.Add(delay + backstop)) {
				w.fail("%v is started, and the window shuts within the users' delay", d.Start)
			}
		}
	}
	if w.failed == Reboot && d.State == Rebooting {
		w.fail("it waits for a reboot that was refused")
	}
	if d.Start != None && (w.left || d.State == Left) {
		w.fail("%v is started after the end", d.Start)
	}
	if w.leave != nil && d.Start != None && d.Start != Unlock && d.Start != Unschedule {
		w.fail("%v is started after it was asked to leave", d.Start)
	}
	switch d.Start {
	case Inspect, Unlock:
		if !lock {
			w.fail("%v is started under strategy reboot", d.Start)
		}
	case Lock, Check, Schedule, Reboot:
		if d.Start == Lock && !lock {
			w.fail("lock is started under strategy reboot")
		}
		if !w.pending() {
			w.fail("%v is started and no update is pending", d.Start)
		}
		if !w.open() {
			w.fail("%v is started and the window is shut", d.Start)
		}
	}
	switch d.Start {
	case Schedule:
		final := w.overdue()
		if w.checked == nil || len(w.checked.Local.Users) == 0 || w.checked.Local.Shutdown.Type != "" {
			w.fail("users are told, after the check %+v", w.checked)
		}
		if w.told {
			w.seen["told again"]++
			if !final || w.toldFinal {
				w.fail("users are told twice")
			}
		}
		w.toldAt, w.toldDelay, w.toldFinal, w.told = w.now, d.Order.At.Sub(w.now)-backstop, final, false
		if short := w.policyDelay() - w.toldDelay; short > time.Microsecond || short < 0 || w.toldDelay <= 0 {
			w.fail("users have %v, want %v", w.toldDelay, w.policyDelay())
		}
	case Reboot:
		if lock && !w.held {
			w.fail("reboot without the slot")
		}
		if w.checked == nil {
			w.fail("reboot without a check right before")
			break
		}
		if d.Order.Force != w.overdue() {
			w.fail("force is %v, overdue %v", d.Order.Force, w.overdue())
		}
		local := w.checked.Local
		if len(local.Inhibitors) > 0 {
			w.seen["reboot in spite of inhibitors"]++
			if !w.overdue() {
				w.fail("reboot in spite of inhibitors")
			}
		}
		if gone := w.wasCancelled(); gone && w.overdue() {
			w.seen["cancelled in vain"]++
			if local.Shutdown.Type != "" || !w.toldFinal && len(local.Users) > 0 && w.policyDelay() > 0 {
				w.fail("a reboot that a user has cancelled without being answered, or %+v", local.Shutdown)
			}
		} else if gone || !w.told && local.Shutdown.Type != "" {
			w.fail("reboot although a user has cancelled it, or %+v", local.Shutdown)
		}
		switch {
		case len(local.Users) == 0:
		case (!w.told || w.wasCancelled()) && w.m.policy.LoginDelay == 0:
			w.seen["reboot without a delay"]++
		case !w.told || w.now.Sub(w.toldAt) < w.toldDelay:
			w.fail("reboot %v after users were told, told %v", w.now.Sub(w.toldAt), w.told)
		case w.toldFinal:
			w.seen["reboot after the last minute"]++
		default:
			w.seen["reboot after the delay"]++
		}
	}
	if d.State == Left && !w.left && w.planned && before != Rebooting && !w.leave.KeepLock && !w.undoFailed && w.m.mayStand && w.inspectOK {
		w.fail("left with a reboot scheduled, without need")
	}
	if d.State == Left && !w.left && w.held && lock && before != Rebooting && !w.leave.KeepLock && !w.undoFailed && w.inspectOK {
		w.fail("left with the slot, without need")
	}
}

// policyDelay is what users who are told now have to have.
func (w *world) policyDelay() time.Duration {
	if w.overdue() {
		return min(w.m.policy.LoginDelay, time.Minute)
	}
	return w.m.policy.LoginDelay
}

// holds checks what must hold between two steps.
func (w *world) holds(d Decision) {
	if forever := d.State == Idle || d.State == Left; d.Nap < 0 || d.Nap > maxNap || forever != (d.Nap == 0) {
		w.fail("the nap is %v in state %v", d.Nap, d.State)
	}
	if w.m.running != w.running {
		w.fail("the machine says that %v is running, and %v is", w.m.running, w.running)
	}
	if w.planned && !w.m.mayStand {
		w.fail("our reboot stands and the machine rules it out")
	}
	if w.m.looking != w.looking {
		w.fail("the machine says %v about a look, and it is %v", w.m.looking, w.looking)
	}
	if w.leave != nil && d.State != Left && d.State != Rebooting && !w.cancelled && w.running != Unlock && w.running != Unschedule {
		w.fail("asked to leave, it goes on with %v", w.running)
	}
	if w.m.policy.Lock && w.held && !w.m.MayHold() {
		w.fail("a slot is held and the machine rules it out")
	}
	if !w.m.policy.Lock && w.m.MayHold() {
		w.fail("without a lock nothing is held")
	}
	idling := w.running == None || w.cancelled
	switch d.State {
	case Idle:
		if w.m.MayHold() || w.m.mayStand || w.pending() {
			w.fail("idle, may hold %v, may stand %v, pending %v", w.m.MayHold(), w.m.mayStand, w.pending())
		}
	case Waiting:
		if w.m.MayHold() && !w.open() {
			w.fail("waits for the window while it may hold a slot")
		}
		if w.m.MayHold() && !w.knownAt.IsZero() && w.now.Sub(w.knownAt) < lookEvery && w.m.due(w.now) && w.atWork() {
			w.fail("waits for somebody at work while it may hold a slot")
		}
		if !w.pending() || w.running != None {
			w.fail("waiting, pending %v, running %v", w.pending(), w.running)
		}
	case Locking, Preparing:
		if !w.open() && !(w.running != None && w.cancelled) {
			w.fail("%v goes on although the window is shut", d.State)
		}
		if d.State == Locking && w.running != Lock {
			w.fail("locking, running %v", w.running)
		}
		if d.State == Locking && !w.cancelled && w.atWork() {
			w.fail("queues while somebody is at work")
		}
		if d.State == Locking && !w.cancelled && !w.looking && w.now.Sub(w.knownAt) >= lookEvery {
			w.fail("queues without looking")
		}
	case Settling, Releasing:
		if idling && w.leave == nil && !w.m.etcd.at.After(w.now) && !w.m.logind.at.After(w.now) {
			w.fail("%v waits for nothing", d.State)
		}
	}
	if status := w.m.Status(w.now); status == "" || strings.Contains(status, "0001-01-01") || strings.Contains(status, "%!") {
		w.fail("the status is %q", status)
	}
}

// live checks that from here there is a way to the end: once the world is kind,
// the host reboots if it is to, and holds nothing if not, within a bounded
// number of steps and a bounded time.
func (w *world) live() error {
	const steps, limit = 400, rebootGrace + 30*time.Minute + time.Hour // which is the longest that a user may cancel it for
	c := *w
	m := *w.m
	c.m, c.log = &m, append([]string(nil), w.log...)
	c.rand = rand.New(rand.NewPCG(uint64(w.now.UnixNano()), 1))
	c.seen = coverage{}
	m.rand = c.rand
	m.policy.Window, c.wall = nil, nil
	c.etcdUp, c.logindUp, c.local.Users, c.local.Inhibitors, c.engine = true, true, nil, nil, c.engineSaid
	if !c.planned {
		c.local.Shutdown = Shutdown{}
	}
	c.note("the world turns kind")

	for range steps {
		switch {
		case c.err != nil:
			return c.err
		case c.now.Sub(w.now) > limit:
			return fmt.Errorf("no way to the end within %v: %v", limit, m.Status(c.now))
		case c.left && !c.leave.Reload:
			return nil
		case c.left:
			m = *m.Restart(Policy{Lock: m.policy.Lock}, c.now)
			c.fresh()
			c.tell(Tick{})
		case c.pending() && m.state == Rebooting, !c.pending() && m.state == Idle && !c.held:
			return nil
		case c.planned && !c.local.Shutdown.At.After(c.now):
			return nil // logind reboots the host
		case c.looking && c.chance(0.5):
			c.looking = false
			c.known, c.knownErr, c.knownAt = c.local, nil, c.now
			c.tell(Done{Effect: Look, Local: c.local})
		case c.running != None && (c.running != Lock || c.cancelled || c.chance(0.5)):
			c.now = c.now.Add(c.upTo(20 * time.Second))
			d := Done{Effect: c.running, Holding: c.holding(), Local: c.local}
			switch {
			case c.cancelled:
				d.Err, d.Unknown = context.Canceled, c.running == Lock
			case c.running == Lock && !c.held:
				c.held, c.sinceBoot = true, true
			case c.running == Unlock:
				c.held = false
			case c.running == Schedule && !c.granted && c.local.Shutdown.Type == "":
				c.schedule()
			case c.running == Unschedule && c.scheduledByUs():
				c.local.Shutdown, c.planned = Shutdown{}, false
			}
			c.end(d)
		case m.state == Idle:
			return errors.New("idle for ever, and a slot is held")
		default:
			c.now = c.now.Add(m.nap(c.now))
			c.tell(Tick{})
		}
	}
	w.log = c.log
	return fmt.Errorf("no way to the end in %d steps: %v", steps, m.Status(c.now))
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *world) note(format string, args ...any) {
	if len(w.log) == 40 {
		w.log = append(w.log[:0], w.log[1:]...)
	}
	w.log = append(w.log, fmt.Sprintf("%d ", w.now.Unix())+fmt.Sprintf(format, args...))
}

func (w *world) trace() string { return strings.Join(w.log, "\n") }

// periodic is a Gate that opens again and again, and always has.
type periodic struct {
	from           time.Time
	period, length time.Duration
}

func (g *periodic) Open(t time.Time) bool {
	start, _ := g.Next(t)
	return !start.After(t)
}

func (g *periodic) Next(t time.Time) (start, end time.Time) {
	into := t.Sub(g.from) % g.period
	if into < 0 {
		into += g.period
	}
	start = t.Add(-into)
	if into >= g.length {
		start = start.Add(g.period)
	}
	return start, start.Add(g.length)
}
