package policy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/race"
	"github.com/locksmithd/locksmith/test/randtest"
)

const (
	walks     = 100
	most      = 5 * walks // if the first walks have not met everything: the rarest is met once in thirty
	walkSteps = 10_000    // in each walk
	liveEvery = 20        // steps between two looks at whether there is still a way to the end
)

// TestRandomWalks lets machines meet whatever can happen, in any order, and
// checks at every step what doc.go promises. LOCKSMITH_SEED replays a run.
func TestRandomWalks(t *testing.T) {
	seed := randtest.Seed(t)
	seen := coverage{}
	for n := range uint64(most) {
		if n >= walks && len(seen.missing()) == 0 {
			break
		}
		if n >= walks/10 && race.Enabled { // the machine has no goroutine: the race detector only makes it slow
			return
		}
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
	for _, what := range seen.missing() {
		t.Errorf("%q was met %d times in %d walks of %d steps: too few", what, seen[what], most, walkSteps)
	}
	if testing.Verbose() {
		t.Log(seen)
	}
}

// coverage counts what walks have met.
type coverage map[string]int

// missing returns what was met too rarely: walks prove nothing about that.
func (c coverage) missing() (rare []string) {
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
		"end tell", "end drain", "end undrain", "end verify", "failed tell", "failed drain", "failed undrain", "failed verify",
		"drained", "gate shut", "takes the fix", "freed while unwell", "came back with the old version", "started drained",
		"failed inspect", "failed lock", "failed unlock", "failed look", "failed check", "failed schedule", "failed unschedule", "failed reboot",
		"unknown lock", "unknown reboot", "lost reply of lock", "lost reply of unlock", "failed lock while held",
		"taken away", "host rebooted", "process killed", "clock stepped", "policy changed",
		"reboot after the delay", "reboot after the last minute", "reboot without a delay", "reboot in spite of inhibitors",
		"cancelled by a user", "cancelled too late", "replaced by a user", "told again", "lost reply of schedule", "lost reply of unschedule",
		"logind rebooted", "started with a schedule", "queue left for somebody at work",
		"cancel heard in a check that failed", "cancel heard when it was to be called off", "last word differs", "late look",
		"place kept over an installation", "slot given back for an installation", "logind restarted", "logind lost what was scheduled", "started with nothing kept", "scheduled late", "rebooted as asked", "another version not postponed yet",
		"logind rebooted early, the clock was stepped", "called off, the clock was stepped", "no record of the slot",
	} {
		if c[what] < 3 {
			rare = append(rare, what)
		}
	}
	return rare
}

// world is everything around a machine, and keeps the truth about it.
type world struct {
	rand *rand.Rand
	seen coverage
	m    *Machine
	now  time.Time
	wall *skewed // what the machine's window is asked through; nil without a window

	ahead time.Duration // of the wall clock

	calm bool // little goes wrong, so that walks get far

	// The truth.
	held      bool // this host holds a slot
	sinceBoot bool // and took it after it last booted
	recorded  bool // and that is on record
	again     bool // what is on record is this boot, since the host was to reboot once more with it
	etcdUp    bool
	engine    bool // update_engine needs a reboot
	logindUp  bool
	local     Local // who is at work, and what is scheduled
	planned   bool  // what is scheduled, we did schedule
	late      order // of an unanswered call to schedule; logind may carry it out before lateEnd
	lateEnd   time.Time
	queued    bool     // logind has a call to reboot
	force     bool     // of that call
	down      bool     // it was accepted: the host goes down, unless something intervenes
	instance  int      // how often logind was started
	gateOpen  bool     // as the gates would answer
	hooked    bool     // something is hooked in before a reboot
	drained   bool     // it has begun, and was not undone
	drainDone bool     // it has succeeded
	sick      bool     // the host is not well
	went      bool     // the host goes down because we asked for it
	wellSince bool     // checks have found it well since the boot
	bootedFor *Purpose // what the host went down for; nil: it was not our doing, or is over
	runs      string   // the version of the operating system
	needsSlot bool     // what logind was asked for needs the slot, which was not taken away since
	kept      *Kept    // what the next process will know; nil: nothing

	// What the machine has been told about the update.
	engineSaid, requested bool

	// The effect in flight.
	running   Kind
	cancelled bool
	order     order
	takenFor  string  // the version in the record of the slot
	granted   bool    // Lock has taken the slot in this call, or Schedule has scheduled; the machine does not know it yet
	undone    bool    // Unlock has given it back, or Unschedule cancelled; the machine does not know it yet
	looking   bool    // a Look is running as well
	asking    bool    // the gates are asked as well
	look      answer  // what it has heard
	pace      float64 // how soon it ends
	check     answer  // what the running Check has heard

	// What the machine may be held to.
	left         bool
	leave        *Leave
	checked      *Checked // the Check whose end this step learns
	failed       Kind     // whose failure this step learns, unless it was cancelled or its outcome is unknown
	inspectOK    bool
	undoFailed   map[Kind]bool // Unlock or Unschedule that failed and was not tried since
	warned       bool          // users were, or were to be at the last moment
	warnedAt     time.Time     // when the warning began
	warnedDelay  time.Duration
	warnedFinal  bool          // after the deadline
	warnedAhead  time.Duration // how far the wall clock was ahead then
	announced    bool          // Schedule has said that it went well, and nothing since that it is over
	announcedBy  int           // the logind that said so
	gone         time.Time     // when others then cancelled or replaced it; zero: not yet
	said         Local         // what a Look or Check has said last
	saidErr      error         // or that it said nothing
	saidAt       time.Time     // when
	installing   time.Time     // since when it has been told of an installation; zero: the last word was that there is none
	version      string        // of the update, as last heard
	postponedFor string        // the version that people have held back
	postponed    time.Duration // for how long, until heldSince
	heldSince    time.Time     // since when they do now; zero: they do not
	cancelledAt  time.Time     // when it was seen that a user has cancelled

	log []string // the last steps
	err error
}

func newWorld(r *rand.Rand, seen coverage) *world {
	w := &world{rand: r, seen: seen, now: t0, etcdUp: true, logindUp: true, gateOpen: true, calm: r.IntN(2) == 0, hooked: r.IntN(3) == 0, runs: "1.2.2"}
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
		Lock:          w.chance(0.8),
		LoginDelay:    pick(w, 0, 20*time.Second, 2*time.Minute, 10*time.Minute),
		LoginRetry:    pick(w, time.Minute, 10*time.Minute, time.Hour),
		MaxPostpone:   pick(w, 0, time.Minute, 10*time.Minute, 20*time.Minute, 6*time.Hour),
		BeforeTimeout: pick(w, 10*time.Second, 10*time.Minute),
		HealthTimeout: pick(w, 10*time.Second, 10*time.Minute),
		HealthFailure: pick(w, PauseVersion, HoldSlot, ReleaseSlot),
		ReleaseDelay:  pick(w, 0, 0, time.Minute),
	}
	w.wall = nil
	if w.chance(0.8) {
		period := 10*time.Minute + w.upTo(12*time.Hour)
		w.wall = &skewed{ahead: w.ahead, Window: &periodic{from: t0.Add(w.upTo(period)), period: period, length: time.Second + w.upTo(period-2*time.Second)}}
		p.Window = w.wall
		p.Spread = pick(w, 0, time.Second, time.Minute)
	}
	return p
}

// boot starts a process that knows what the one before it has kept.
func (w *world) boot() {
	w.m = newMachine(w.policy(), w.now, rand.New(rand.NewPCG(w.rand.Uint64(), 0)))
	w.m.wall = func(t time.Time) time.Time { return t.Add(w.ahead) }
	w.m.drain.begun, w.m.health.runs = w.drained, w.runs
	w.m.remember(w.kept, w.now)
	if w.bootedFor != nil {
		w.m.health.begin(*w.bootedFor)
	}
	if w.drained {
		w.seen["started drained"]++
	}
	if w.planned {
		w.seen["started with a schedule"]++
	}
	if w.kept == nil {
		w.seen["started with nothing kept"]++
		w.kept = new(Kept)
		w.announced, w.gone, w.cancelledAt = false, time.Time{}, time.Time{}
	}
	if w.announced != w.kept.Scheduled.Announced {
		w.fail("announced %v, and kept is %+v", w.announced, w.kept)
	}
	if cancelled := w.m.people.cancelledAt; cancelled.IsZero() != w.cancelledAt.IsZero() || cancelled.After(w.now) {
		w.fail("a user has cancelled at %v, and the new process says %v", w.cancelledAt, cancelled)
	}
	w.cancelledAt = w.m.people.cancelledAt
	w.engineSaid, w.requested, w.looking, w.asking = false, !w.kept.Request.Since.IsZero(), false, false
	w.version = w.kept.Request.Version
	w.postponed, w.heldSince, w.postponedFor = w.kept.Postponed.For, time.Time{}, cmp.Or(w.version, w.kept.Postponed.Version)
	w.fresh()
}

// fresh forgets what was true of the machine before.
func (w *world) fresh() {
	w.left, w.leave, w.checked, w.undoFailed, w.inspectOK = false, nil, nil, map[Kind]bool{}, false
	w.running, w.cancelled, w.granted, w.undone = nothing, false, false, false
	w.warned, w.said, w.saidErr, w.saidAt = false, Local{}, nil, time.Time{}
	if !w.m.config.Lock {
		w.held, w.needsSlot = false, false // the slot of another configuration does not count here
	}
	w.tell(Tick{})
}

// step lets one thing happen.
func (w *world) step() {
	if w.left {
		w.goOn()
		return
	}
	w.meanwhile()
	w.now = w.now.Add(pick(w, 0, w.upTo(time.Second), w.upTo(10*time.Second), w.upTo(time.Minute)))
	if w.m.people.cancelledAt.Equal(w.now) {
		w.now = w.now.Add(time.Nanosecond) // to tell the next cancel from this one
	}
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
	if w.asking && w.chance(0.5) {
		w.endAsk()
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
		w.tell(Absent{Source: Engine})
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

// kill ends the process without warning, or the host with it.
func (w *world) kill(host bool) {
	if w.running == locks && !w.held && w.etcdUp && w.chance(0.5) {
		w.take()
	}
	if w.running == schedules && !w.granted && !w.planned {
		w.late, w.lateEnd = w.order, w.now.Add(callGrace/2)
	}
	if w.running == unschedules { // the next process will not know who has cancelled it
		w.announced = false
	}
	w.logindUp = w.logindUp && !((w.planned || w.queued) && w.chance(0.3)) // whatever ended this process may have ended logind
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
		w.bootsNext()
		w.local, w.planned, w.late = Local{}, false, order{}
		w.queued, w.down = false, false
	} else {
		w.seen["process killed"]++
	}
	if host || w.chance(0.1) && (w.late == order{} || w.now.After(w.lateEnd)) {
		w.kept = nil // or somebody deleted it, but not within the minute that doc.go excludes
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
	for range 3 { // no event starts an effect any more
		w.tell(pick[Event](w, Tick{}, Update{Source: Engine, Pending: true}, Leave{}, Blocked{}))
	}
	w.commit()
	w.kill(w.leave.KeepLock)
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
