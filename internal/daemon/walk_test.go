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
	walks     = 40
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
		"move starting settling", "move starting idle", "move starting waiting", "move starting locking",
		"move settling idle", "move settling waiting", "move idle waiting",
		"move waiting locking", "move waiting preparing", "move waiting idle", "move waiting releasing",
		"move locking preparing", "move locking waiting", "move locking releasing", "move locking idle",
		"move preparing rebooting", "move preparing releasing", "move preparing waiting", "move preparing idle",
		"move rebooting releasing", "move rebooting waiting", "move releasing waiting", "move releasing idle",
		"move starting left", "move settling left", "move idle left", "move waiting left", "move locking left",
		"move preparing left", "move rebooting left", "move releasing left",
		"end inspect", "end lock", "end unlock", "end check", "end tell", "end reboot",
		"failed inspect", "failed lock", "failed unlock", "failed check", "failed tell", "failed reboot",
		"unknown lock", "unknown reboot", "lost reply of lock", "lost reply of unlock", "failed lock while held",
		"taken away", "host rebooted", "process killed", "clock stepped", "reboot after the delay",
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

	// The truth.
	held      bool // this host holds a slot
	sinceBoot bool // and took it after it last booted
	etcdUp    bool
	engine    bool // update_engine needs a reboot
	users     int

	// What the machine has been told about the update.
	engineSaid, requested bool

	// The effect in flight.
	running   Effect
	cancelled bool
	granted   bool // Lock has taken the slot in this call; nobody has heard of it yet
	unlocked  bool // Unlock has given it back; nobody has heard of it yet

	// What the machine may be held to.
	left         bool
	leave        *Leave
	checked      *Done     // the Check whose end this step learns
	failed       Effect    // whose failure this step learns, unless it was cancelled or its outcome is unknown
	crowdedSince time.Time // since when a Check says that users are logged in
	toldSince    bool
	inspectOK    bool
	unlockFailed bool

	log []string // the last steps
	err error
}

func newWorld(r *rand.Rand, seen coverage) *world {
	w := &world{rand: r, seen: seen, now: t0, etcdUp: true}
	w.boot()
	return w
}

func (w *world) chance(p float64) bool { return w.rand.Float64() < p }

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(d) + 1))
}

// pick returns one of the things that can happen.
func pick[T any](w *world, of ...T) T { return of[w.rand.IntN(len(of))] }

// policy draws a configuration.
func (w *world) policy() Policy {
	p := Policy{Lock: w.chance(0.8)}
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
	w.engineSaid, w.requested = false, false
	w.fresh()
}

// fresh forgets what was true of the machine before.
func (w *world) fresh() {
	w.left, w.leave, w.checked, w.unlockFailed, w.inspectOK = false, nil, nil, false, false
	w.running, w.cancelled, w.granted, w.unlocked = None, false, false, false
	w.crowdedSince, w.toldSince = time.Time{}, false
	if !w.m.policy.Lock {
		w.held = false // another configuration's slot is nobody's business here
	}
	w.tell(Tick{})
}

func (w *world) open() bool { return w.wall == nil || w.wall.Open(w.now) }

func (w *world) pending() bool { return w.engineSaid || w.requested }

// step lets one thing happen.
func (w *world) step() {
	if w.left {
		w.goOn()
		return
	}
	w.meanwhile()
	w.now = w.now.Add(pick(w, 0, w.upTo(time.Second), w.upTo(10*time.Second), w.upTo(time.Minute)))
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
	case p < 0.99:
		w.kill(w.chance(0.2))
	default:
		w.tell(Tick{})
	}
}

// meanwhile changes the truth without telling anybody.
func (w *world) meanwhile() {
	if w.chance(0.05) {
		w.etcdUp = !w.etcdUp
	}
	if w.chance(0.05) {
		w.engine = w.chance(0.7)
	}
	if w.chance(0.05) {
		w.users = pick(w, 0, 0, 1, 7)
	}
	if w.chance(0.01) && w.wall != nil {
		w.seen["clock stepped"]++
		w.wall.ahead += pick[time.Duration](w, -1, 1) * pick(w, w.upTo(time.Minute), w.upTo(6*time.Hour), w.upTo(1000*time.Hour))
	}
	if w.chance(0.01) && w.held {
		w.seen["taken away"]++
		w.held = false // unlocked by hand; an undecided transaction fails then
	}
	w.commit()
}

// commit lets a transaction of the running effect happen.
func (w *world) commit() {
	switch {
	case !w.etcdUp || !w.chance(0.3):
	case w.running == Lock && !w.held && !w.granted:
		w.held, w.sinceBoot, w.granted = true, true, true
	case w.running == Unlock && w.held:
		w.held, w.unlocked = false, true
	}
}

// result draws an end of the running effect that its contract allows.
func (w *world) result() Done {
	d := Done{Effect: w.running}
	failed := !w.etcdUp || w.chance(0.2)
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
		if failed && w.unlocked {
			w.seen["lost reply of unlock"]++
		}
	case Check:
		if w.chance(0.7) {
			d.Update = &Update{Source: Engine, Pending: w.engine}
		}
		d.Holding, d.Users = w.holding(), w.users
		if failed {
			d.Holding, d.Users = pick(w, NotHeld, d.Holding), pick(w, 0, w.users)
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
	w.running, w.cancelled, w.granted, w.unlocked = None, false, false, false
	switch d.Effect {
	case Inspect:
		w.inspectOK = w.inspectOK || d.Err == nil
	case Unlock:
		w.unlockFailed = d.Err != nil
	case Tell:
		w.toldSince = w.toldSince || !cancelled
	case Check:
		if d.Err == nil && !cancelled {
			w.checked = &d
			if d.Users > 0 && w.crowdedSince.IsZero() {
				w.crowdedSince = w.now
			}
		}
	}
	if d.Err != nil && !d.Unknown && !cancelled && d.Effect != Tell {
		w.failed = d.Effect
	}
	w.tell(d)
	w.checked, w.failed = nil, None
}

// kill ends the process without warning, or the host with it.
func (w *world) kill(host bool) {
	if w.running == Lock && w.etcdUp && w.chance(0.5) {
		w.held, w.sinceBoot = true, true
	}
	w.now = w.now.Add(w.upTo(10 * time.Minute))
	if host {
		w.seen["host rebooted"]++
		w.sinceBoot = false
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
	before := w.m.state
	d := w.m.Step(w.now, ev)
	w.note("%T%+v -> %v, start %v, cancel %v, nap %v; held %v, open %v, pending %v, users %d, etcd up %v",
		ev, ev, d.State, d.Start, d.Cancel, d.Nap, w.held, w.open(), w.pending(), w.users, w.etcdUp)
	w.moves(before, d)
	w.decided(before, d)
	if d.State != Preparing {
		w.crowdedSince, w.toldSince = time.Time{}, false
	}
	if d.Start != None {
		w.running = d.Start
	}
	if d.Cancel {
		w.cancelled = true
	}
	w.holds(d)
	w.left = d.State == Left
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
	if d.Cancel && w.running == Unlock && d.State != Left {
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
	if w.failed == Reboot && d.State == Rebooting {
		w.fail("it waits for a reboot that was refused")
	}
	if d.Start != None && (w.left || d.State == Left) {
		w.fail("%v is started after the end", d.Start)
	}
	if w.leave != nil && d.Start != None && d.Start != Unlock {
		w.fail("%v is started after it was asked to leave", d.Start)
	}
	switch d.Start {
	case Inspect, Unlock:
		if !lock {
			w.fail("%v is started under strategy reboot", d.Start)
		}
	case Lock, Check, Tell, Reboot:
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
	case Tell:
		if w.crowdedSince.IsZero() || w.toldSince {
			w.fail("users are told: logged in since %v, told before %v", w.crowdedSince, w.toldSince)
		}
	case Reboot:
		if lock && !w.held {
			w.fail("reboot without the slot")
		}
		if w.checked == nil {
			w.fail("reboot without a check right before")
		} else if w.checked.Users > 0 {
			w.seen["reboot after the delay"]++
			if since := w.now.Sub(w.crowdedSince); !w.toldSince || since < LoginDelay {
				w.fail("reboot %v after users were seen, told %v", since, w.toldSince)
			}
		}
	}
	if d.State == Left && !w.left && w.held && lock && before != Rebooting && !w.leave.KeepLock && !w.unlockFailed && w.inspectOK {
		w.fail("left with the slot, without need")
	}
}

// holds checks what must hold between two steps.
func (w *world) holds(d Decision) {
	if forever := d.State == Idle || d.State == Left; d.Nap < 0 || d.Nap > MaxNap || forever != (d.Nap == 0) {
		w.fail("the nap is %v in state %v", d.Nap, d.State)
	}
	if w.m.running != w.running {
		w.fail("the machine says that %v is running, and %v is", w.m.running, w.running)
	}
	if w.leave != nil && d.State != Left && d.State != Rebooting && !w.cancelled && w.running != Unlock {
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
		if w.m.MayHold() || w.pending() {
			w.fail("idle, may hold %v, pending %v", w.m.MayHold(), w.pending())
		}
	case Waiting:
		if w.m.MayHold() && !w.open() {
			w.fail("waits for the window while it may hold a slot")
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
	case Settling, Releasing:
		if idling && w.leave == nil && !w.m.etcd.at.After(w.now) {
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
	const steps, limit = 200, RebootGrace + 30*time.Minute
	c := *w
	m := *w.m
	c.m, c.log = &m, append([]string(nil), w.log...)
	c.rand = rand.New(rand.NewPCG(uint64(w.now.UnixNano()), 1))
	c.seen = coverage{}
	m.rand = c.rand
	m.policy.Window, c.wall = nil, nil
	c.etcdUp, c.users, c.engine = true, 0, c.engineSaid
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
		case c.running != None && (c.running != Lock || c.cancelled || c.chance(0.5)):
			c.now = c.now.Add(c.upTo(20 * time.Second))
			d := Done{Effect: c.running, Holding: c.holding()}
			switch {
			case c.cancelled:
				d.Err, d.Unknown = context.Canceled, c.running == Lock
			case c.running == Lock && !c.held:
				c.held, c.sinceBoot = true, true
			case c.running == Unlock:
				c.held = false
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
