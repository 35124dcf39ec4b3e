package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/randtest"
)

const (
	walks     = 100
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
		"cancel heard in a check that failed", "cancel heard when it was to be called off", "last word differs", "late look",
		"logind restarted", "logind lost what was scheduled", "started with nothing kept", "scheduled late", "rebooted as asked", "another version postponed anew",
		"logind rebooted early, the clock was stepped", "called off, the clock was stepped", "no record of the slot",
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

	ahead time.Duration // of the wall clock

	calm bool // little goes wrong, so that it gets far

	// The truth.
	held      bool // this host holds a slot
	sinceBoot bool // and took it after it last booted
	recorded  bool // and that is on record
	etcdUp    bool
	engine    bool // update_engine needs a reboot
	logindUp  bool
	local     Local // who is at work, and what is scheduled
	planned   bool  // what is scheduled, we did schedule
	late      order // of a call to schedule that logind carries out later, if it does so before lateEnd
	lateEnd   time.Time
	queued    bool  // logind has a call for a reboot before it
	force     bool  // of that
	down      bool  // it has accepted that, and the host goes down, if nothing comes between
	instance  int   // of logind: how often it was started
	needsSlot bool  // what it was asked for was for a reboot with the slot, which nobody has taken away since
	kept      *Kept // what the next process will know; nil: nothing

	// What the machine has been told about the update.
	engineSaid, requested bool

	// The effect in flight.
	running   Kind
	cancelled bool
	order     order
	granted   bool    // Lock has taken the slot in this call, or Schedule has scheduled; nobody has heard of it yet
	undone    bool    // Unlock has given it back, or Unschedule cancelled; nobody has heard of it yet
	looking   bool    // a Look is running as well
	look      answer  // what it has heard
	pace      float64 // how soon it ends
	check     answer  // what the running Check has heard

	// What the machine may be held to.
	left         bool
	leave        *Leave
	checked      *done // the Check whose end this step learns
	failed       Kind  // whose failure this step learns, unless it was cancelled or its outcome is unknown
	inspectOK    bool
	undoFailed   map[Kind]bool // Unlock or Unschedule has, and was not tried since
	told         bool          // users have been, or were to be at the last moment
	toldAt       time.Time     // when that began
	toldDelay    time.Duration
	toldFinal    bool          // after the deadline
	toldAhead    time.Duration // of the wall clock then
	announced    bool          // Schedule has said that it went well, and nothing since that it is over
	announcedBy  int           // the logind that said so
	gone         time.Time     // when others then cancelled or replaced it; zero: not yet
	known        Local         // what a Look or Check has said last
	knownErr     error         // or that it said nothing
	knownAt      time.Time     // when
	version      string        // of the update, as last heard
	postponedFor string        // the version that people have held back
	postponed    time.Duration // for how long, until heldSince
	heldSince    time.Time     // since when they do now; zero: they do not
	cancelledAt  time.Time     // when it was seen that a user has cancelled

	log []string // the last steps
	err error
}

// decision is a Decision, with the kind of effect that is started and what it carries.
type decision struct {
	Decision
	Start Kind
	order order
}

func decide(d Decision) decision { return decision{d, kindOf(d.Start), orderOf(d.Start)} }

// done is how an effect ends; only the fields of its kind count.
type done struct {
	Effect  Kind
	Err     error
	Unknown bool
	Holding Holding
	Held    bool
	Local   *Local
	Update  *Update
	Found   bool
	Logind  string
}

func (d done) result() Result {
	switch d.Effect {
	case inspects:
		return Inspected{d.Holding, d.Err}
	case locks:
		return Locked{d.Err, d.Unknown}
	case unlocks:
		return Unlocked{d.Err}
	case checks:
		return Checked{d.Update, d.Local, d.Logind, d.Held, d.Err}
	case schedules:
		return Scheduled{d.Logind, d.Err, d.Unknown}
	case unschedules:
		return Unscheduled{d.Found, d.Logind, d.Err}
	case reboots:
		return Rebooted{d.Err, d.Unknown}
	}
	panic("no effect " + d.Effect.Name)
}

// answer is what an effect has heard so far: logind and the lock are asked one after
// another, and other things happen in between.
type answer struct {
	step   int    // of asking
	failed bool   // somebody did not answer; nobody else is asked then
	local  *Local // the last that logind said
	at     time.Time
	held   bool // by this host
	update *Update
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
func (w *world) policy() Config {
	p := Config{
		Lock:        w.chance(0.8),
		LoginDelay:  pick(w, 0, 20*time.Second, 2*time.Minute, 10*time.Minute),
		LoginRetry:  pick(w, time.Minute, 10*time.Minute, time.Hour),
		MaxPostpone: pick(w, 0, time.Minute, 10*time.Minute, 20*time.Minute, 6*time.Hour),
	}
	w.wall = nil
	if w.chance(0.8) {
		period := 10*time.Minute + w.upTo(12*time.Hour)
		w.wall = &skewed{ahead: w.ahead, Gate: &periodic{from: t0.Add(w.upTo(period)), period: period, length: time.Second + w.upTo(period-2*time.Second)}}
		p.Window = w.wall
		p.Spread = pick(w, 0, time.Second, time.Minute)
	}
	return p
}

// boot starts a process that knows what the one before it has kept.
func (w *world) boot() {
	w.m = newMachine(w.policy(), w.now, rand.New(rand.NewPCG(w.rand.Uint64(), 0)))
	w.m.wall = func(t time.Time) time.Time { return t.Add(w.ahead) }
	w.m.remember(w.kept, w.now)
	if w.planned {
		w.seen["started with a schedule"]++
	}
	if w.kept == nil {
		w.seen["started with nothing kept"]++
		w.kept = new(Kept)
		w.announced, w.gone, w.cancelledAt = false, time.Time{}, time.Time{}
	}
	if w.announced != w.kept.Scheduled.Told {
		w.fail("announced %v, and kept is %+v", w.announced, w.kept)
	}
	if cancelled := w.m.people.cancelledAt; cancelled.IsZero() != w.cancelledAt.IsZero() || cancelled.After(w.now) {
		w.fail("a user has cancelled at %v, and the new process says %v", w.cancelledAt, cancelled)
	}
	w.cancelledAt = w.m.people.cancelledAt
	w.engineSaid, w.requested, w.looking = false, !w.kept.Request.Since.IsZero(), false
	w.version = w.kept.Request.Version
	w.postponed, w.heldSince, w.postponedFor = w.kept.Postponed.For, time.Time{}, w.kept.Postponed.Version
	w.fresh()
}

// fresh forgets what was true of the machine before.
func (w *world) fresh() {
	w.left, w.leave, w.checked, w.undoFailed, w.inspectOK = false, nil, nil, map[Kind]bool{}, false
	w.running, w.cancelled, w.granted, w.undone = nothing, false, false, false
	w.told, w.known, w.knownErr, w.knownAt = false, Local{}, nil, time.Time{}
	if !w.m.config.Lock {
		w.held, w.needsSlot = false, false // another configuration's slot is nobody's business here
	}
	w.tell(Tick{})
}

func (w *world) open() bool { return w.wall == nil || w.wall.Open(w.now) }

func (w *world) pending() bool { return w.engineSaid || w.requested }

// overdue reports whether people cannot postpone the reboot any more.
func (w *world) overdue() bool {
	held := w.postponed
	if !w.heldSince.IsZero() {
		held += w.now.Sub(w.heldSince)
	}
	return w.m.config.MaxPostpone > 0 && held >= w.m.config.MaxPostpone
}

// count keeps the time for which people hold the reboot back, in an open window and
// from there on.
func (w *world) count(state State) {
	known := !w.knownAt.IsZero() && !w.now.After(w.knownAt.Add(LookEvery+MaxNap))
	people := known && blocks(w.known)
	if known && len(w.known.Users) > 0 && w.wall != nil {
		_, end := w.wall.Next(w.now)
		people = people || !end.After(w.now.Add(w.policyDelay()+Backstop))
	}
	people = people || state == Preparing && (w.told || w.running == schedules) ||
		!w.cancelledAt.IsZero() && w.now.Before(w.cancelledAt.Add(w.m.config.LoginRetry))
	switch {
	case !w.pending() || !w.open():
	case people && w.heldSince.IsZero():
		w.heldSince = w.now
	case !people && known && !w.heldSince.IsZero():
		w.postponed, w.heldSince = w.postponed+w.now.Sub(w.heldSince), time.Time{}
	}
}

// clock is what logind goes by.
func (w *world) clock() time.Time { return w.now.Add(w.ahead) }

// atWork reports whether somebody is known to be at work, which holds a slot back.
func (w *world) atWork() bool {
	return w.knownErr != nil || w.known.Shutdown.Type != "" || blocks(w.known) && !w.overdue()
}

// blocks reports whether there is, or may be, what holds a slot back until the deadline.
func blocks(l Local) bool { return len(l.Inhibitors) > 0 || l.Unclear != nil }

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
	if w.looking && w.chance(w.pace) {
		w.endLook()
		return
	}
	switch p := w.rand.Float64(); {
	case p < 0.40:
		if w.running != nothing {
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
		w.tell(Update{Source: Engine, Pending: w.engine, Version: pick(w, "", "1.2.3", "1.2.3", "1.2.3", "1.2.4")})
	case p < 0.90:
		w.tell(Update{Source: Requester, Pending: w.chance(0.8)})
	case p < 0.91:
		w.tell(Absent{Engine})
	case p < 0.97:
		w.tell(Blocked{By: "held by somebody"})
	case p < 0.985:
		w.tell(pick(w, Leave{}, Leave{KeepLock: true}, Leave{Reload: true}))
	case p < 0.988:
		if w.leave == nil {
			w.seen["policy changed"]++
			lock := w.m.config.Lock
			policy := w.policy()
			policy.Lock = lock
			w.tell(Reconfigure{policy})
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
	if w.fault(0.05) || w.chance(0.01) {
		w.local.Users = pick(w, nil, twoUsers.Users)
	}
	if w.fault(0.03) || w.chance(0.01) && len(w.local.Inhibitors) > 0 {
		w.local.Inhibitors = pick(w, nil, nil, backup.Inhibitors)
	}
	if w.fault(0.02) || w.chance(0.01) && w.local.Unclear != nil {
		w.local.Unclear = pick(w, nil, nil, errNonsense)
	}
	w.others()
	if w.fault(0.01) || w.planned && w.chance(0.02) {
		w.seen["clock stepped"]++
		w.ahead += pick[time.Duration](w, -1, 1) * pick(w, w.upTo(10*time.Second), w.upTo(time.Minute), w.upTo(6*time.Hour), w.upTo(1000*time.Hour))
		if w.wall != nil {
			w.wall.ahead = w.ahead
		}
	}
	if w.fault(0.01) && w.held {
		w.seen["taken away"]++
		w.held, w.needsSlot = false, false // unlocked by hand; an undecided transaction fails then
	}
	if (w.planned || w.queued) && w.chance(0.01) {
		w.restartLogind()
	}
	switch {
	case !w.logindUp || w.now.After(w.lateEnd):
		w.late = order{}
	case !w.late.at.IsZero() && w.local.Shutdown.Type == "" && w.chance(0.3):
		w.seen["scheduled late"]++
		w.schedule(w.late)
	}
	if w.chance(0.3) {
		w.answerReboot()
	}
	if w.down && w.chance(0.02) {
		w.down = false // the service manager did not do it
	}
	if w.held && (w.fault(0.01) || w.planned && w.chance(0.05)) {
		w.recorded = false // locked by hand with an old tool
	}
	if w.looking && w.look.step == 0 && w.chance(0.2) {
		w.ask(&w.look)
	}
	if w.running == checks && w.chance(0.3) {
		w.ask(&w.check)
	}
	w.commit()
}

// ask has an effect hear one more answer: a Look that of logind, a Check those of
// update_engine and logind, of the lock, and of logind again.
func (w *world) ask(a *answer) {
	last := 1
	if a == &w.check && w.m.config.Lock {
		last = 3
	}
	if a.step >= last || a.failed {
		return
	}
	a.step++
	switch {
	case a.step == 2:
		a.failed, a.held = !w.etcdUp, w.holding() != NotHeld
	case w.logindUp:
		before := a.local
		local := w.local
		a.local, a.at = &local, w.now
		if before != nil && before.Shutdown != local.Shutdown {
			w.seen["last word differs"]++
		}
	default:
		a.failed = true
	}
	if a.step == 1 && a == &w.check && w.chance(0.7) {
		a.update = &Update{Source: Engine, Pending: w.engine}
	}
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
		w.dropped()
		w.local.Shutdown = Shutdown{Type: pick(w, "reboot", "poweroff"), At: w.clock().Add(time.Second + w.upTo(time.Hour))}
	case w.planned && w.chance(0.02), w.planned && w.overdue() && w.chance(0.5):
		w.dropped()
	}
}

// dropped is what others do to what we scheduled.
func (w *world) dropped() {
	w.local.Shutdown, w.planned = Shutdown{}, false
	if w.announced && w.gone.IsZero() {
		w.gone = w.now
	}
}

// fires lets logind do what is scheduled and due, and reports whether the host
// goes down for it.
func (w *world) fires() bool {
	if w.down && w.chance(0.1) {
		w.seen["rebooted as asked"]++
		w.goesDown()
		w.kill(true)
		return true
	}
	s := w.local.Shutdown
	if s.Type == "" || s.At.After(w.clock()) {
		return false
	}
	if w.planned {
		w.seen["logind rebooted"]++
		w.goesDown()
		after, drift := s.At.Add(-w.ahead).Sub(w.toldAt), w.ahead-w.toldAhead
		switch early := w.toldAt.IsZero() || after < w.toldDelay; {
		case early && drift > MaxDrift: // nobody had the time to call it off: holds looks at that
			w.seen["logind rebooted early, the clock was stepped"]++
		case early:
			w.fail("logind reboots %v after users were told", after)
		}
	}
	w.local.Shutdown, w.planned = Shutdown{}, false
	w.kill(true)
	return true
}

// goesDown is when logind does what we have asked it for, for which the host has its slot.
func (w *world) goesDown() {
	if w.needsSlot && !w.held {
		w.fail("the host goes down because we asked for it, and has no slot")
	}
}

// scheduledByUs tells, as the loop does, whether what is scheduled is to be cancelled.
func (w *world) scheduledByUs() bool {
	return w.order.stands && !w.order.at.IsZero() && w.local.Shutdown.Ours(w.order.at)
}

// undecided tells, as the loop does, that logind cannot say that nothing of ours comes.
func (w *world) undecided() bool {
	if w.order.asked {
		w.answerReboot() // calls are answered in their order
	}
	return !w.logindUp || w.order.asked && w.down || w.order.stands && w.order.at.IsZero() && w.local.Shutdown.Type == "reboot"
}

// answerReboot has logind take the call for a reboot, if there is one.
func (w *world) answerReboot() {
	if w.queued && w.logindUp {
		w.queued = false
		w.down = w.down || w.force || len(w.local.Inhibitors) == 0
	}
}

// commit lets a transaction of the running effect happen.
func (w *world) commit() {
	switch {
	case w.running == schedules || w.running == unschedules:
		switch {
		case !w.logindUp || !w.chance(0.3):
		case w.running == schedules && w.local.Shutdown.Type == "" && !w.granted:
			w.schedule(w.order)
			w.granted = true
		case w.running == unschedules && !w.undecided() && w.scheduledByUs():
			w.local.Shutdown, w.planned, w.undone = Shutdown{}, false, true
		}
	case !w.etcdUp || !w.chance(0.3):
	case w.running == locks && !w.held && !w.granted:
		w.held, w.sinceBoot, w.recorded, w.granted = true, true, true, true
	case w.running == unlocks && w.held && !(w.down && w.logindUp):
		w.held, w.undone = false, true
	}
}

func (w *world) schedule(o order) {
	w.local.Shutdown, w.planned, w.late = Shutdown{Type: "reboot", At: o.at}, true, order{}
	w.needsSlot = w.m.config.Lock && w.held
}

// restartLogind restarts logind, which loses what it was asked for, and, before systemd 257,
// what is scheduled.
func (w *world) restartLogind() {
	w.seen["logind restarted"]++
	w.instance++
	w.queued, w.late = false, order{}
	if w.planned && w.chance(0.5) {
		w.seen["logind lost what was scheduled"]++
		w.local.Shutdown, w.planned = Shutdown{}, false
	}
}

// result draws an end of the running effect that its contract allows.
func (w *world) result() done {
	d := done{Effect: w.running}
	failed := !w.etcdUp || w.fault(0.2)
	switch w.running {
	case schedules:
		failed = !w.logindUp || w.fault(0.2)
	case unschedules:
		failed = w.undecided() || w.fault(0.2)
	case unlocks:
		failed = failed || w.down && w.logindUp
	case checks:
		for failed = w.fault(0.2); !failed && !w.cancelled && w.check.step < 3; {
			before := w.check.step
			if w.ask(&w.check); w.check.step == before {
				break
			}
		}
		failed = failed || w.check.failed
	}
	if w.cancelled && (w.running == checks || w.chance(0.8)) {
		failed = true
	}
	if failed {
		d.Err = pick(w, errDown, errRefused)
		if w.cancelled {
			d.Err = context.Canceled
		}
	}
	switch w.running {
	case inspects:
		if !failed {
			d.Holding = w.holding()
		}
	case locks:
		if !failed && !w.held {
			w.held, w.sinceBoot, w.recorded = true, true, true
		}
		d.Unknown = failed && (w.granted || w.chance(0.3))
		if w.granted && failed {
			w.seen["lost reply of lock"]++
		}
		if failed && !d.Unknown && w.held {
			w.seen["failed lock while held"]++
		}
	case unlocks:
		if !failed {
			w.held = false
		}
		if failed && w.undone {
			w.seen["lost reply of unlock"]++
		}
	case schedules:
		switch {
		case !failed && !w.granted && w.local.Shutdown.Type != "":
			d.Err = errors.New("something else is scheduled")
		case !failed && !w.granted:
			w.schedule(w.order)
		case failed && w.granted:
			d.Unknown = w.chance(0.5) // or it is read that it stands, and cancelled
			w.seen["lost reply of schedule"]++
		case failed && w.chance(0.5):
			d.Unknown = true
			w.late, w.lateEnd = w.order, w.now.Add(callGrace/2)
		}
	case unschedules:
		d.Found = w.undone || w.scheduledByUs() && (!failed || w.chance(0.3))
		if !failed && w.scheduledByUs() {
			w.local.Shutdown, w.planned = Shutdown{}, false
		}
		if failed && w.undone {
			w.seen["lost reply of unschedule"]++
		}
	case checks:
		d.Update, d.Held, d.Local = w.check.update, w.check.held, w.check.local
	case reboots:
		asked := w.queued
		w.answerReboot()
		switch {
		case !w.logindUp, w.fault(0.2):
			d.Err, d.Unknown = errDown, true
		case asked && !w.down, w.fault(0.6) && !w.down:
			d.Err, w.queued = errRefused, false
		default:
			d.Err = nil
		}
	}
	d.Logind = fmt.Sprint(w.instance)
	return d
}

func (w *world) holding() Holding {
	switch {
	case !w.m.config.Lock:
		return pick(w, NotHeld, HeldThisBoot) // does not count
	case !w.held:
		return NotHeld
	case !w.recorded:
		w.seen["no record of the slot"]++
		return HeldUnrecorded
	case w.sinceBoot:
		return HeldThisBoot
	}
	return HeldSinceBefore
}

// end reports the end of the running effect.
func (w *world) end(d done) {
	w.seen["end "+d.Effect.Name]++
	if d.Err != nil {
		w.seen["failed "+d.Effect.Name]++
	}
	if d.Unknown {
		w.seen["unknown "+d.Effect.Name]++
	}
	cancelled := w.cancelled
	w.running, w.cancelled, w.granted, w.undone = nothing, false, false, false
	switch d.Effect {
	case inspects:
		w.inspectOK = w.inspectOK || d.Err == nil
	case unlocks, unschedules:
		w.undoFailed[d.Effect] = d.Err != nil
		if d.Found {
			w.announced = false
		}
		if d.Effect == unschedules && d.Err == nil && w.known.Shutdown.At.Equal(w.order.at) {
			w.known.Shutdown = Shutdown{}
		}
	case schedules:
		w.told = d.Err == nil || w.toldFinal
		if d.Err == nil {
			w.announced, w.announcedBy, w.gone = true, w.instance, time.Time{}
			if !w.planned {
				w.gone = w.now
			}
		}
	case checks:
		if d.Local != nil {
			w.known, w.knownErr, w.knownAt = *d.Local, nil, w.now
		}
		if d.Err == nil && !cancelled {
			w.checked = &d
		}
	}
	if d.Err != nil && !d.Unknown && !cancelled {
		w.failed = d.Effect
	}
	w.tell(d.result())
	w.checked, w.failed = nil, nothing
}

// endLook reports the end of the running Look.
func (w *world) endLook() {
	w.ask(&w.look)
	d := Looked{Local: w.look.local}
	w.seen["end look"]++
	if d.Local != nil && d.Local.Shutdown != w.local.Shutdown {
		w.seen["late look"]++
	}
	w.known, w.knownErr, w.knownAt = Local{}, nil, w.now
	if d.Local == nil || w.fault(0.1) {
		w.seen["failed look"]++
		d.Local, d.Err = nil, errRefused
		w.knownErr = d.Err
	} else {
		w.known = *d.Local
	}
	w.looking = false
	before := w.m.state
	if w.tell(d); before == Locking && w.cancelled && w.atWork() {
		w.seen["queue left for somebody at work"]++
	}
}

// kill ends the process without warning, or the host with it.
func (w *world) kill(host bool) {
	if w.running == locks && w.etcdUp && w.chance(0.5) {
		w.held, w.sinceBoot, w.recorded = true, true, true
	}
	if w.running == schedules && !w.granted && !w.planned {
		w.late, w.lateEnd = w.order, w.now.Add(callGrace/2)
	}
	if w.running == unschedules { // nobody will know who has cancelled it
		w.announced = false
	}
	w.logindUp = w.logindUp && !((w.planned || w.queued) && w.chance(0.3)) // what took the one may have hit the other
	if !host && (w.planned || w.queued) && w.chance(0.3) {
		w.restartLogind()
	}
	down := w.upTo(10 * time.Minute)
	switch {
	case host:
	case w.planned && !w.local.Shutdown.At.After(w.clock().Add(down)):
		w.seen["logind rebooted"]++
		w.goesDown()
		host = true
	case w.down && w.chance(0.5):
		w.goesDown()
		host = true
	}
	w.now = w.now.Add(down)
	if host {
		w.seen["host rebooted"]++
		w.sinceBoot = false
		w.local, w.planned, w.late = Local{}, false, order{}
		w.queued, w.down = false, false
	} else {
		w.seen["process killed"]++
	}
	if host || w.chance(0.1) {
		w.kept = nil // or somebody wiped it
	}
	w.note("killed, host %v, kept %+v", host, w.kept)
	w.boot()
}

// goOn is what comes after Left: another configuration or another process.
func (w *world) goOn() {
	if w.leave.Reload {
		if w.running != nothing {
			w.fail("%v is running while the machine is replaced", w.running)
			return
		}
		w.note("restart")
		w.m = w.m.Restart(w.policy(), w.now)
		if w.m.triggers.pending() != w.pending() {
			w.fail("a restart took the update from %v to %v", w.pending(), w.m.triggers.pending())
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
	case Checked:
		if ev.Update != nil {
			w.hear(*ev.Update)
		}
	case Leave:
		w.leave = &ev
	}
	before, heard := w.m.state, w.m.people.cancelledAt
	d := decide(w.m.Step(w.now, ev))
	w.heard(ev, w.m.people.cancelledAt != heard)
	w.note("%T%+v -> %v, start %v %v, cancel %v, look %v, nap %v; held %v, open %v, pending %v, local %+v, planned %v, etcd up %v, overdue %v",
		ev, ev, d.State, d.Start, d.order.at, d.Cancel, d.Look, d.Nap, w.held, w.open(), w.pending(), w.local, w.planned, w.etcdUp, w.overdue())
	w.moves(before, d)
	w.decided(before, d)
	if d.State != Preparing {
		w.told = false
	}
	if d.Start != nothing {
		w.running, w.order, w.check = d.Start, d.order, answer{}
	}
	if d.Cancel {
		w.cancelled = true
	}
	if d.Look {
		w.looking, w.look, w.pace = true, answer{}, pick(w, 0.3, 0.3, 0.3, 0.3, 0.05)
	}
	w.count(d.State)
	if d.Start == reboots {
		w.queued, w.force = true, d.order.force
		w.needsSlot = w.m.config.Lock && w.held
	}
	kept := w.m.Kept(w.now)
	w.kept = &kept
	w.holds(d)
	w.left = d.State == Left
}

// heard checks that a cancel is heard from whatever answer tells of it, and never
// where there was none.
func (w *world) heard(ev Event, heard bool) {
	var tells bool
	var err error
	switch r := ev.(type) {
	case Unscheduled:
		tells = r.Err == nil
	case Checked:
		tells, err = r.Local != nil && !w.ours(r.Local.Shutdown), r.Err
	}
	cancelled := tells && w.announced && !w.gone.IsZero() && w.announcedBy == w.instance
	if heard != cancelled {
		w.fail("after %T%+v a user's cancel is heard: %v; cancelled %v", ev, ev, heard, cancelled)
	}
	if heard {
		w.seen["cancelled by a user"]++
		if _, ok := ev.(Unscheduled); ok {
			w.seen["cancel heard when it was to be called off"]++
		} else if err != nil {
			w.seen["cancel heard in a check that failed"]++
		}
		w.cancelledAt = w.now
	}
	if tells {
		w.announced, w.gone = false, time.Time{}
	}
}

// ours tells what we scheduled last from anything else.
func (w *world) ours(s Shutdown) bool {
	return s.Type == "reboot" && s.At.Equal(w.toldAt.Add(w.toldAhead+w.toldDelay+Backstop).Truncate(time.Microsecond))
}

// wasCancelled reports whether the check whose end this step learns has found
// that somebody has cancelled or replaced our reboot.
func (w *world) wasCancelled() bool { return w.told && !w.ours(w.checked.Local.Shutdown) }

func (w *world) hear(u Update) {
	was := w.pending()
	switch u.Source {
	case Engine:
		if w.engineSaid && !u.Pending {
			w.requested = false
		}
		w.engineSaid = u.Pending
	case Requester:
		w.requested = u.Pending
	}
	switch {
	case !w.pending() && (was || u.Source == Engine):
		w.version, w.postponed, w.heldSince, w.postponedFor = "", 0, time.Time{}, ""
	case w.pending() && u.Pending && u.Version != "":
		w.version = u.Version
	}
	if w.pending() && w.version != "" && w.version != w.postponedFor {
		if w.postponedFor != "" {
			w.seen["another version postponed anew"]++
			w.postponed, w.heldSince = 0, time.Time{}
		}
		w.postponedFor = w.version
	}
}

// moves checks the transitions of a step.
func (w *world) moves(before State, d decision) {
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
func (w *world) decided(before State, d decision) {
	lock := w.m.config.Lock
	if d.Start != nothing && w.running != nothing {
		w.fail("%v is started while %v is running", d.Start, w.running)
	}
	if d.Cancel && (w.running == nothing || w.cancelled || d.Start != nothing) {
		w.fail("nothing is there to be cancelled: running %v, cancelled %v, start %v", w.running, w.cancelled, d.Start)
	}
	if d.Cancel && (w.running == unlocks || w.running == unschedules && before != Starting) && d.State != Left {
		w.fail("giving the slot back is cut short")
	}
	if d.Start == locks && w.held && !w.sinceBoot {
		w.fail("a slot from before this boot is kept")
	}
	if d.Start != nothing && d.Start == w.failed {
		w.fail("%v has just failed and is started again at once", d.Start)
	}
	if d.Start == locks && w.checked != nil {
		w.fail("a slot that was taken away is taken again at once")
	}
	if d.Look && (w.looking || d.State != Waiting && d.State != Locking || !w.open() || !w.pending() || w.leave != nil) {
		w.fail("a look in state %v, looking %v", d.State, w.looking)
	}
	if d.Start == unlocks && w.planned {
		w.fail("the slot is given back and our reboot stands")
	}
	if delay := w.policyDelay(); d.Start == locks || d.Start == schedules || d.Start == reboots {
		if w.now.Before(w.cancelledAt.Add(w.m.config.LoginRetry)) && !w.overdue() {
			w.fail("%v is started %v after a user has cancelled", d.Start, w.now.Sub(w.cancelledAt))
		}
		if !w.gone.IsZero() && !w.overdue() && (d.Start != reboots || w.check.at.After(w.gone)) {
			w.fail("%v is started, and nobody has heard that a user has cancelled", d.Start)
		}
		if d.Start == locks && (w.knownAt.IsZero() || w.now.Sub(w.knownAt) >= LookEvery || w.atWork()) {
			w.fail("lock is started, known since %v: %+v, %v", w.knownAt, w.known, w.knownErr)
		}
		if d.Start != reboots && w.wall != nil && len(w.known.Users) > 0 && delay > 0 {
			if _, end := w.wall.Next(w.now); !end.After(w.now.Add(delay + Backstop)) {
				w.fail("%v is started, and the window shuts within the users' delay", d.Start)
			}
		}
	}
	if w.failed == reboots && d.State == Rebooting {
		w.fail("it waits for a reboot that was refused")
	}
	if d.Start != nothing && (w.left || d.State == Left) {
		w.fail("%v is started after the end", d.Start)
	}
	if w.leave != nil && d.Start != nothing && d.Start != unlocks && d.Start != unschedules {
		w.fail("%v is started after it was asked to leave", d.Start)
	}
	switch d.Start {
	case inspects, unlocks:
		if !lock {
			w.fail("%v is started under strategy reboot", d.Start)
		}
	case locks, checks, schedules, reboots:
		if d.Start == locks && !lock {
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
	case schedules:
		final := w.overdue()
		if w.checked == nil || len(w.checked.Local.Users) == 0 || w.checked.Local.Shutdown.Type != "" {
			w.fail("users are told, after the check %+v", w.checked)
		}
		if w.told {
			w.seen["told again"]++
			if final == w.toldFinal && !w.wasCancelled() {
				w.fail("users are told twice")
			}
		}
		w.toldAt, w.toldDelay, w.toldFinal, w.told = w.now, d.order.at.Sub(w.clock())-Backstop, final, false
		w.toldAhead = w.ahead
		if short := w.policyDelay() - w.toldDelay; short > time.Microsecond || short < 0 || w.toldDelay <= 0 {
			w.fail("users have %v, want %v", w.toldDelay, w.policyDelay())
		}
	case reboots:
		if w.checked == nil {
			w.fail("reboot without a check right before")
			break
		}
		if lock && !w.checked.Held {
			w.fail("reboot without the slot")
		}
		if d.order.force != w.overdue() {
			w.fail("force is %v, overdue %v", d.order.force, w.overdue())
		}
		local := w.checked.Local
		if blocks(*local) {
			w.seen["reboot in spite of inhibitors"]++
			if !w.overdue() {
				w.fail("reboot in spite of inhibitors")
			}
		}
		if w.wasCancelled() && w.overdue() {
			w.seen["cancelled in vain"]++
			if local.Shutdown.Type != "" || !w.toldFinal && len(local.Users) > 0 && w.policyDelay() > 0 {
				w.fail("a reboot that a user has cancelled without being answered, or %+v", local.Shutdown)
			}
		} else if local.Shutdown.Type != "" && !(w.told && w.ours(local.Shutdown)) {
			w.fail("reboot beside %+v", local.Shutdown)
		}
		switch {
		case len(local.Users) == 0:
		case (!w.told || w.wasCancelled()) && w.m.config.LoginDelay == 0:
			w.seen["reboot without a delay"]++
		case !w.told || w.now.Sub(w.toldAt) < w.toldDelay:
			w.fail("reboot %v after users were told, told %v", w.now.Sub(w.toldAt), w.told)
		case w.toldFinal:
			w.seen["reboot after the last minute"]++
		default:
			w.seen["reboot after the delay"]++
		}
	}
	if drift := w.ahead - w.toldAhead; w.checked != nil && w.told && w.ours(w.checked.Local.Shutdown) && drift.Abs() > MaxDrift {
		if d.State == Preparing {
			w.fail("the clock was stepped by %v, and what is scheduled is left", drift)
		}
		w.seen["called off, the clock was stepped"]++
	}
	if d.State == Left && !w.left && w.planned && !w.m.schedule.settlesAt.After(w.now) && before != Rebooting && !w.leave.KeepLock && !w.undoFailed[unlocks] && !w.undoFailed[unschedules] && w.m.schedule.stands && w.inspectOK {
		w.fail("left with a reboot scheduled, without need")
	}
	if d.State == Left && !w.left && w.held && lock && !w.m.schedule.settlesAt.After(w.now) && before != Rebooting && !w.leave.KeepLock && !w.undoFailed[unlocks] && !w.undoFailed[unschedules] && w.inspectOK {
		w.fail("left with the slot, without need")
	}
}

// policyDelay is what users who are told now have to have.
func (w *world) policyDelay() time.Duration {
	if w.overdue() {
		return min(w.m.config.LoginDelay, time.Minute)
	}
	return w.m.config.LoginDelay
}

// holds checks what must hold between two steps.
func (w *world) holds(d decision) {
	if forever := d.State == Idle || d.State == Left; d.Nap < 0 || d.Nap > MaxNap || forever != (d.Nap == 0) {
		w.fail("the nap is %v in state %v", d.Nap, d.State)
	}
	if kindOf(w.m.running) != w.running {
		w.fail("the machine says that %v is running, and %v is", w.m.running, w.running)
	}
	if (w.planned || !w.late.at.IsZero()) && !w.m.schedule.stands {
		w.fail("our reboot stands and the machine rules it out")
	}
	if w.m.looking != w.looking {
		w.fail("the machine says %v about a look, and it is %v", w.m.looking, w.looking)
	}
	if w.leave != nil && d.State != Left && d.State != Rebooting && !w.cancelled && !w.m.schedule.settlesAt.After(w.now) && w.running != unlocks && w.running != unschedules {
		w.fail("asked to leave, it goes on with %v", w.running)
	}
	if w.m.config.Lock && w.held && !w.m.MayHold() {
		w.fail("a slot is held and the machine rules it out")
	}
	if !w.m.config.Lock && w.m.MayHold() {
		w.fail("without a lock nothing is held")
	}
	idling := w.running == nothing || w.cancelled
	switch d.State {
	case Idle:
		if w.m.MayHold() || w.m.schedule.mayReboot() || w.pending() {
			w.fail("idle, may hold %v, may stand %v, pending %v", w.m.MayHold(), w.m.schedule.stands, w.pending())
		}
	case Waiting:
		if w.m.MayHold() && !w.open() {
			w.fail("waits for the window while it may hold a slot")
		}
		if w.m.MayHold() && !w.knownAt.IsZero() && w.now.Sub(w.knownAt) < LookEvery && w.m.ready(w.now) && w.atWork() {
			w.fail("waits for somebody at work while it may hold a slot")
		}
		if !w.pending() || w.running != nothing {
			w.fail("waiting, pending %v, running %v", w.pending(), w.running)
		}
	case Locking, Preparing:
		if !w.open() && !(w.running != nothing && w.cancelled) {
			w.fail("%v goes on although the window is shut", d.State)
		}
		if d.State == Locking && w.running != locks {
			w.fail("locking, running %v", w.running)
		}
		if d.State == Locking && !w.cancelled && w.atWork() {
			w.fail("queues while somebody is at work")
		}
		if d.State == Locking && !w.cancelled && !w.looking && w.now.Sub(w.knownAt) >= LookEvery {
			w.fail("queues without looking")
		}
	case Settling, Releasing:
		if idling && w.leave == nil && !w.m.slot.retry.at.After(w.now) && !w.m.schedule.retry.at.After(w.now) && !w.m.schedule.settlesAt.After(w.now) {
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
	const steps, limit = 400, RebootGrace + 30*time.Minute + time.Hour // which is the longest that a user may cancel it for
	c := *w
	m := *w.m
	m.triggers.sources = slices.Clone(m.triggers.sources)
	c.undoFailed = maps.Clone(w.undoFailed)
	c.m, c.log = &m, append([]string(nil), w.log...)
	c.rand = rand.New(rand.NewPCG(uint64(w.now.UnixNano()), 1))
	c.seen = coverage{}
	m.rand = c.rand
	m.config.Window, c.wall = nil, nil
	c.etcdUp, c.logindUp, c.local.Users, c.local.Inhibitors, c.local.Unclear, c.engine = true, true, nil, nil, nil, c.engineSaid
	if !c.planned {
		c.local.Shutdown = Shutdown{}
	}
	if c.planned && m.schedule.stands && m.schedule.at.IsZero() { // as the status line says
		c.local.Shutdown, c.planned = Shutdown{}, false
	}
	c.late = order{}
	c.answerReboot()
	c.note("the world turns kind")

	for range steps {
		switch {
		case c.err != nil:
			w.log = c.log
			return c.err
		case c.now.Sub(w.now) > limit:
			return fmt.Errorf("no way to the end within %v: %v", limit, m.Status(c.now))
		case c.left && !c.leave.Reload:
			return nil
		case c.left:
			m = *m.Restart(Config{Lock: m.config.Lock}, c.now)
			c.fresh()
			c.tell(Tick{})
		case c.pending() && m.state == Rebooting, !c.pending() && m.state == Idle && !c.held:
			return nil
		case c.down, c.planned && !c.local.Shutdown.At.After(c.clock()):
			return nil // logind reboots the host
		case c.looking && c.chance(0.5):
			local := c.local
			c.looking = false
			c.known, c.knownErr, c.knownAt = local, nil, c.now
			c.tell(Looked{Local: &local})
		case c.running != nothing && (c.running != locks || c.cancelled || c.chance(0.5)):
			c.now = c.now.Add(c.upTo(20 * time.Second))
			local := c.local
			c.check.at = c.now
			d := done{Effect: c.running, Holding: c.holding(), Held: c.held, Local: &local, Found: c.undone, Logind: fmt.Sprint(c.instance)}
			switch {
			case c.cancelled:
				d.Err, d.Unknown, d.Local = context.Canceled, c.running == locks, nil
			case c.running == locks && !c.held:
				c.held, c.sinceBoot, c.recorded = true, true, true
			case c.running == unlocks:
				c.held = false
			case c.running == schedules && !c.granted && c.local.Shutdown.Type == "":
				c.schedule(c.order)
			case c.running == unschedules && c.undecided():
				d.Err = errRefused
			case c.running == unschedules && c.scheduledByUs():
				c.local.Shutdown, c.planned, d.Found = Shutdown{}, false, true
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
