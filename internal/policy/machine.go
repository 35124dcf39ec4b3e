package policy

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A State is where the daemon stands between "nothing to do" and "rebooting".
type State int

const (
	Starting  State = iota // asking etcd whether we hold a slot
	Settling               // undoing what is left from before the start: a slot, a reboot scheduled with logind
	Idle                   // no reboot pending
	Waiting                // a reboot is pending; the window is shut, somebody is at work, or a retry is due later
	Locking                // waiting for a slot
	Preparing              // holding the slot: gates asked again, users told
	Rebooting              // logind has been asked
	Releasing              // undoing an attempt: the reboot scheduled with logind first, then the slot
	Left                   // the end: the loop returns
)

var stateNames = [...]string{"starting", "settling", "idle", "waiting", "locking", "preparing", "rebooting", "releasing", "left"}

func (s State) String() string { return stateNames[s] }

// An Effect is something that the loop does for the machine.
type Effect int

const (
	None       Effect = iota
	Inspect           // read from etcd whether we hold a slot, and since which boot
	Lock              // wait for a slot and take it; ends with the slot, a lasting error, or when cancelled
	Unlock            // give the slot back
	Look              // ask who is at work on this host; the only effect that may run beside another one
	Check             // ask every gate that needs I/O: update_engine, who is at work, the lock
	Schedule          // schedule the reboot with logind, which tells users
	Unschedule        // make sure that no reboot comes which we have scheduled, or asked for
	Reboot            // ask logind
)

var effectNames = [...]string{"none", "inspect", "lock", "unlock", "look", "check", "schedule", "unschedule", "reboot"}

func (e Effect) String() string { return effectNames[e] }

// Holding says whether this host holds a slot, and whether it took it before
// or after it last booted.
type Holding int

const (
	NotHeld         Holding = iota
	HeldSinceBefore         // taken before this boot
	HeldThisBoot            // taken during this very boot
	HeldUnrecorded          // by somebody who left no record of the boot
)

// An Event is what Step is told: one of [Tick], [Update], [Blocked], [Done],
// [Reconfigure] and [Leave].
type Event any

type (
	// Tick: time has passed.
	Tick struct{}

	// Update: somebody who is believed said something about the update.
	Update struct {
		Source  Source
		Pending bool   // a reboot is needed
		Version string // of the update, if known
	}

	// Blocked: the running Lock effect says what it waits for.
	Blocked struct{ By string }

	// Done: the running effect has ended. Only the fields of its effect count.
	Done struct {
		Effect  Effect
		Err     error
		Unknown bool // Err leaves open whether it happened (Lock, Schedule, Reboot); without it nothing has

		Holding Holding // Inspect
		Held    bool    // Check: the slot is still ours, where a lock is wanted
		Local   *Local  // Look and Check: what logind answered, whatever else failed; nil when it did not
		Update  *Update // Check: what update_engine answered; nil when it did not
		Found   bool    // Unschedule: our reboot stood, and logind was asked to cancel it
		Logind  string  // Schedule, Unschedule, Check: which logind answered; another one has been started since. "" when nobody knows
	}

	// Reconfigure: the policy is another one from now on; the lock is the same.
	Reconfigure struct{ Config Config }

	// Leave: the process is asked to go, or to start over with a new configuration.
	Leave struct {
		Reload    bool // start over; a slot is not kept for the next configuration
		KeepLock  bool // the host is going down already: the slot covers that reboot too
		KeepPlace bool // another process is started at once: the place in the queue is for that
	}
)

// Local is what on this host may hold a reboot back, as logind knows it.
type Local struct {
	Users      []string    // login names of the people logged in
	Inhibitors []Inhibitor // block inhibitors for shutdown
	Unclear    error       // why these are not known, though logind answers; somebody may be at work then
	Shutdown   Shutdown    // what is scheduled
}

// An Inhibitor is a program that asks for the host not to be shut down.
type Inhibitor struct {
	Who, Why, User string
	PID            uint32 // 0 when nobody knows
}

// A Shutdown is one that is scheduled with logind; the zero one is none.
type Shutdown struct {
	Type string    // "reboot", "poweroff", ...
	At   time.Time // zero: it is under way

	Message string // what users are told besides
}

// A Source is who said that a reboot is needed.
type Source int

const (
	Engine    Source = iota // update_engine: what it says last is true
	Requester               // a person or a script (locksmithctl send-need-reboot)
	Gone                    // update_engine has left the bus, or was never there
)

// A Gate answers whether the host may reboot at a given time; package window
// has the only implementation outside tests.
type Gate interface {
	Open(t time.Time) bool
	Next(t time.Time) (start, end time.Time)
}

// Config is the part of the configuration that the machine needs.
type Config struct {
	Lock   bool // a slot is needed (strategy etcd-lock)
	Window Gate // nil: always open

	// Spread is how long after the window has opened this host may begin, by lot, so that hosts that no lock
	// puts in order do not all begin at once; less in a short window. 0: it begins when the window opens.
	Spread time.Duration
	// Zone returns the time zone of the times that people read; nil: as it was at the start.
	Zone func() *time.Location

	LoginDelay  time.Duration // from telling users to the reboot; 0: they are not told
	LoginRetry  time.Duration // from a user's cancelling the reboot to the next attempt
	MaxPostpone time.Duration // bounds what users and inhibitors can postpone; 0: nothing does
}

const (
	// MaxNap bounds every nap while something is pending.
	MaxNap = time.Minute
	// LookEvery is how often it is asked who is at work on this host.
	LookEvery = 15 * time.Second
	// FinalDelay bounds the users' delay once nothing can be postponed any more.
	FinalDelay = time.Minute
	// Backstop is how long after the users' delay logind reboots the host by
	// itself, in case that this process has died.
	Backstop = 30 * time.Second
	// MaxDrift is how far the wall clock may go off from the time that passes
	// while a reboot is scheduled with logind, which goes by the wall clock.
	MaxDrift = 5 * time.Second
	// CheckTimeout bounds a Check. One that begins when the users' delay ends leaves,
	// when it hangs, nearly as long again to call off what is scheduled.
	CheckTimeout = Backstop / 2
	// callGrace is how long a call that logind has not answered may still be carried out, by
	// a logind that answers others by now: polkit may be asked for 25 s in between.
	callGrace = time.Minute
	// RebootGrace is how long an accepted reboot may take to end this process.
	// Inhibitor locks of type "delay" and slow services come before that.
	RebootGrace = 15 * time.Minute
	// engineGrace is how long a start waits for update_engine's first word
	// before it takes silence for "nothing pending".
	engineGrace = 10 * time.Second
)

// A Decision is what Step wants done.
type Decision struct {
	State  State
	Moved  []Move        // transitions made by this step, in order
	Start  Effect        // start this now
	Cancel bool          // cancel the running effect; its Done is still expected
	Look   bool          // start a Look now, beside the running effect
	Nap    time.Duration // send a Tick after this long; 0: no timer is needed
	Order  Order

	KeepPlace bool // with Cancel: the place in the queue is not given up
}

// An Order is what an effect has to know; only the fields of its effect count.
type Order struct {
	Version string    // Lock: of the update
	Stands  bool      // Unschedule: a reboot of ours may be scheduled
	At      time.Time // Schedule, and Unschedule: of our reboot; zero when any may be ours
	Asked   bool      // Unschedule: a reboot that logind was asked for at once may be under way
	Message string    // Schedule: for users
	Final   bool      // Schedule: they are told, whether logind schedules it or not
	Force   bool      // Reboot: inhibitors do not count
}

// A Move is one transition.
type Move struct {
	From, To State
	Why      string
}

// Machine is the policy. Not safe for concurrent use.
type Machine struct {
	config Config
	rand   *rand.Rand
	wall   func(time.Time) time.Time // what the wall clock shows at a time, without a monotonic reading

	state   State
	entered time.Time
	why     string
	moved   []Move

	// What is known.
	engine       bool // update_engine needs a reboot
	request      bool // somebody asked for a reboot
	pendingSince time.Time
	version      string
	engineKnown  bool
	startedAt    time.Time
	inspected    bool
	holding      Holding // what Inspect found
	mayHold      bool    // we hold a slot, or cannot rule it out; besides what a running Lock may do
	blockedBy    string  // what Lock waits for

	// What is known of who is at work on this host.
	local       Local
	localErr    error     // why local is not known
	lookAt      time.Time // when local has to be asked for anew
	mayStand    bool      // a reboot that we scheduled stands, or we cannot rule it out
	scheduled   time.Time // for when, by the wall clock, we scheduled it; zero: any that stands may be ours
	announced   bool      // users were told of it, and we have not called it off: if it is gone, a user has cancelled it
	logindName  string    // of the logind that has it
	cancelledAt time.Time // when that was seen; zero: never
	askedAt     time.Time // when logind was asked to reboot, as long as it may still do so; zero: it was not
	settledAt   time.Time // from then on no call that logind did not answer can still be carried out

	// How long people have held back the reboot that is pending.
	postponed    time.Duration // until heldSince
	heldSince    time.Time     // since when they do so now; zero: they do not
	postponedFor string        // the version that it was for; "" when that is not known

	// The effect in flight, and the Look that may be.
	running Effect
	began   time.Time
	stopped bool // it has been cancelled
	looking bool
	done    *Done // its result, during the step that learns it

	// The current state's own business.
	checkAt  time.Time // Preparing: ask the gates again
	toldAt   time.Time // Preparing: the start of the users' delay; zero when nobody had to be told
	rebootAt time.Time // Preparing: its end
	told     bool      // Preparing: the users were told
	final    bool      // Preparing: and that they cannot cancel it
	force    bool      // Rebooting: inhibitors do not count
	graceEnd time.Time // Rebooting: logind may have the request, and this is how long it has for it

	share   float64 // of Config.Spread that is this host's, from 0 to 1
	leave   *Leave
	etcd    retry // of Inspect and Unlock: these must succeed before anything else
	logind  retry // of Unschedule: so must this
	taking  retry // of the way to a slot
	reboot  retry // of the way from there to the reboot: each try keeps a slot from others
	lastErr error // that did not stop us: a reboot that was not answered
}

// New returns a machine in state Starting. kept is what the process before this one has
// left, nil when nobody knows. now is the time of the start; rand spreads retries over time.
func New(config Config, kept *Kept, now time.Time, rand *rand.Rand) *Machine {
	m := newMachine(config, now, rand)
	m.remember(kept, now)
	return m
}

func newMachine(config Config, now time.Time, rand *rand.Rand) *Machine {
	return &Machine{
		config: config, rand: rand, wall: func(t time.Time) time.Time { return t.Round(0) },
		state: Starting, entered: now, startedAt: now, why: "started", share: rand.Float64(),
		mayHold: config.Lock, // by the process before this one, or by hand
		etcd:    retry{first: time.Second, limit: time.Minute},
		logind:  retry{first: time.Second, limit: time.Minute},
		taking:  retry{first: 5 * time.Second, limit: time.Minute},
		reboot:  retry{first: 5 * time.Second, limit: 15 * time.Minute},
	}
}

// Restart returns a machine in state Starting with another policy, that knows
// of the update and of logind what m knew: update_engine repeats itself, people
// do not.
func (m *Machine) Restart(config Config, now time.Time) *Machine {
	n := newMachine(config, now, m.rand)
	n.engine, n.request, n.engineKnown = m.engine, m.request, m.engineKnown
	n.pendingSince, n.version = m.pendingSince, m.version
	n.wall, n.looking, n.share = m.wall, m.looking, m.share
	n.mayStand, n.scheduled, n.announced, n.logindName = m.mayStand, m.scheduled, m.announced, m.logindName
	n.cancelledAt, n.askedAt, n.settledAt = m.cancelledAt, m.askedAt, m.settledAt
	n.postponed, n.heldSince, n.postponedFor = m.postponed, m.heldSince, m.postponedFor
	return n
}

// MayHold reports whether this host holds a slot or may do so.
func (m *Machine) MayHold() bool { return m.mayHold || m.running == Lock }

// Queues reports whether this host waits for a slot.
func (m *Machine) Queues() bool { return m.running == Lock }

// Step tells the machine that ev happened at now and returns what to do. The
// loop must start and cancel what it is told to, and report each started
// effect's end with exactly one Done. now is what time.Now says: delays are
// measured with its monotonic reading, so that a step of the clock makes none of
// them shorter or longer. Its wall clock is for the window, and for what is
// scheduled with logind: that is called off when a check finds the clock stepped.
func (m *Machine) Step(now time.Time, ev Event) Decision {
	m.moved = nil
	m.learn(now, ev)
	for range stateNames { // a step goes through no state twice
		to, why := m.next(now)
		if to == m.state {
			break
		}
		m.enter(now, to, why)
	}
	m.done = nil
	m.count(now)

	d := Decision{State: m.state, Moved: m.moved}
	want := m.want(now)
	switch {
	case m.running == None && want != None:
		m.running, m.began, m.stopped = want, now, false
		m.mayStand = m.mayStand || want == Schedule
		if want == Reboot {
			m.askedAt = now
		}
		d.Start, d.Order = want, m.order()
	case m.running != None && want != m.running && !m.stopped:
		m.stopped = true
		d.Cancel, d.KeepPlace = true, m.leave != nil && m.leave.KeepPlace
	}
	if m.wantLook(now) {
		m.looking, d.Look = true, true
	}
	d.Nap = m.nap(now)
	return d
}

func (m *Machine) order() Order {
	return Order{Version: m.version, Stands: m.mayStand, At: m.scheduled, Asked: !m.askedAt.IsZero(), Message: m.message(), Final: m.final, Force: m.force}
}

// learn folds ev into what is known.
func (m *Machine) learn(now time.Time, ev Event) {
	switch ev := ev.(type) {
	case Tick:
	case Update:
		m.update(now, ev)
	case Blocked:
		if m.running == Lock {
			m.blockedBy = ev.By
		}
	case Done:
		if ev.Effect == Look {
			m.looking = false
			if m.saw(now, ev.Local, ev.Err); ev.Local != nil {
				// That it is gone says nothing: the look may have begun before it was scheduled.
				m.mayStand = m.mayStand || m.ours(ev.Local.Shutdown)
			}
			return
		}
		m.running, m.done = None, &ev
		m.ended(now, ev)
	case Reconfigure:
		m.config = ev.Config
		m.taking.reset() // an operator who reloads does not want to wait
		m.reboot.reset()
	case Leave:
		m.leave = &ev
	default:
		panic(fmt.Sprintf("policy: unknown event %T", ev))
	}
}

// ended folds the end of an effect into what is known. An error says nothing
// about the slot, except that of Lock: then it was not taken this time.
func (m *Machine) ended(now time.Time, d Done) {
	if d.Update != nil {
		m.update(now, *d.Update)
	}
	switch d.Effect {
	case Lock:
		m.mayHold = m.mayHold || d.Err == nil || d.Unknown
	case Inspect:
		if m.etcd.note(now, d.Err, m.rand) {
			m.inspected, m.holding, m.mayHold = true, d.Holding, d.Holding != NotHeld
		}
	case Unlock:
		if m.etcd.note(now, d.Err, m.rand) {
			m.mayHold = false
		}
	case Schedule:
		if d.Err == nil {
			m.announced, m.logindName = true, d.Logind
		} else if d.Unknown {
			m.settledAt = now.Add(callGrace)
		}
	case Unschedule:
		if d.Found {
			m.announced = false
		}
		if m.logind.note(now, d.Err, m.rand) {
			m.gone(now, d.Logind)
			m.askedAt = time.Time{}
		}
	case Reboot:
		if d.Err != nil && !d.Unknown {
			m.askedAt = time.Time{}
		}
	case Check:
		if d.Local != nil {
			m.saw(now, d.Local, nil)
			if m.mayStand = m.ours(d.Local.Shutdown) || m.began.Before(m.settledAt); !m.mayStand {
				m.gone(now, d.Logind)
			}
		}
		if d.Err == nil && m.config.Lock {
			m.mayHold = d.Held
		}
	}
}

// saw notes who is at work on this host, or that nobody knows.
func (m *Machine) saw(now time.Time, local *Local, err error) {
	m.local, m.localErr, m.lookAt = Local{}, err, now.Add(LookEvery)
	if local != nil {
		m.local = *local
	}
}

// gone notes that logind says that no reboot of ours is scheduled. If we have not called it
// off, a user has cancelled it, whatever else has become of this attempt; unless logind was
// restarted, which loses what is scheduled before systemd 257.
func (m *Machine) gone(now time.Time, logind string) {
	restarted := logind != "" && m.logindName != "" && logind != m.logindName
	if m.announced && !restarted {
		m.cancelledAt = now
	}
	m.mayStand, m.announced = false, false
}

// mayReboot reports whether logind may reboot the host because we asked it to, now or later.
func (m *Machine) mayReboot() bool { return m.mayStand || !m.askedAt.IsZero() }

// ours reports whether a shutdown is the reboot that we scheduled, or may be.
func (m *Machine) ours(s Shutdown) bool {
	return s.Ours(m.scheduled) && (m.mayStand || !m.scheduled.IsZero())
}

// Ours reports whether a shutdown is the reboot that this program scheduled for a time, or
// may be, if the time is zero: nobody knows it then. What users are told tells nothing: anybody
// can change it, and logind does at a restart.
func (s Shutdown) Ours(at time.Time) bool {
	return s.Type == "reboot" && (at.IsZero() || s.At.Equal(at))
}

func (m *Machine) update(now time.Time, u Update) {
	was := m.pending()
	switch u.Source {
	case Engine:
		// update_engine reports progress all day long; only when it takes back
		// an update that it had announced is a request withdrawn with it.
		if m.engine && !u.Pending {
			m.request = false
		}
		m.engine, m.engineKnown = u.Pending, true
	case Requester:
		m.request = u.Pending
	case Gone:
		// Its last word stands: the update is still installed.
		m.engineKnown = true
	}
	switch {
	case !m.pending() && (was || u.Source == Engine):
		m.pendingSince, m.version = time.Time{}, ""
		m.postponeAnew("")
	case !m.pending():
	case !was:
		m.pendingSince = now
		fallthrough
	default:
		// While update_engine has an update, that is what the reboot is for.
		if u.Pending && u.Version != "" && (u.Source == Engine || !m.engine || m.version == "") {
			m.version = u.Version
		}
		if m.version != "" && m.version != m.postponedFor {
			if m.postponedFor != "" {
				m.postponeAnew(m.version)
			}
			m.postponedFor = m.version
		}
	}
}

// postponeAnew forgets how long people held the reboot back for another version.
func (m *Machine) postponeAnew(version string) {
	m.postponed, m.heldSince, m.postponedFor = 0, time.Time{}, version
}

func (m *Machine) pending() bool { return m.engine || m.request }

func (m *Machine) open(now time.Time) bool {
	return m.config.Window == nil || m.config.Window.Open(now)
}

// mayGo reports whether the gates that need no I/O are open.
func (m *Machine) mayGo(now time.Time) bool {
	return m.leave == nil && m.pending() && m.open(now)
}

// enter moves to a state and clears what belonged to the one before.
func (m *Machine) enter(now time.Time, to State, why string) {
	m.moved = append(m.moved, Move{From: m.state, To: to, Why: why})
	m.state, m.entered, m.why = to, now, why
	m.done = nil
	m.blockedBy = ""
	m.checkAt, m.toldAt, m.rebootAt, m.graceEnd = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	m.told, m.final = false, false
	m.lastErr = nil
	if to == Idle {
		m.taking.reset()
		m.reboot.reset()
	}
}

// want returns the effect that should be running now.
func (m *Machine) want(now time.Time) Effect {
	switch m.state {
	case Starting:
		switch {
		case m.leave != nil:
		case m.running != None:
			return m.running
		case m.mayReboot() && m.settled(now):
			return Unschedule
		case m.config.Lock && !m.inspected && !now.Before(m.etcd.at):
			return Inspect
		}
	case Settling, Releasing:
		switch {
		case m.running != None:
			return m.running
		case m.mayReboot() && m.settled(now):
			return Unschedule
		case m.mayHold && (!m.mayReboot() || m.covered()) && !now.Before(m.etcd.at):
			return Unlock
		}
	case Locking:
		if m.mayGo(now) && m.obstacle(now) == nil {
			return Lock
		}
	case Preparing:
		switch {
		case !m.mayGo(now):
		case m.running != None:
			return m.running
		case !m.rebootAt.IsZero() && !m.told:
			return Schedule
		case !now.Before(m.checkAt):
			return Check
		}
	case Rebooting:
		if m.graceEnd.IsZero() {
			return Reboot
		}
	}
	return None
}

// settled reports whether logind can be asked what has become of our calls.
func (m *Machine) settled(now time.Time) bool {
	return !now.Before(m.logind.at) && !now.Before(m.settledAt)
}

// covered reports whether the slot that we hold cannot be that of a reboot which
// stands: it is from before this boot, which no schedule outlives.
func (m *Machine) covered() bool {
	return m.state == Settling && m.mayHold && m.holding == HeldSinceBefore
}

// wantLook reports whether it has to be asked who is at work.
func (m *Machine) wantLook(now time.Time) bool {
	if m.looking || m.fresh(now) || !m.mayGo(now) {
		return false
	}
	return m.state == Locking || m.state == Waiting && m.due(now)
}

// fresh reports whether it is known who is at work.
func (m *Machine) fresh(now time.Time) bool { return now.Before(m.lookAt) }

// nap returns how long nothing needs to be asked again; 0 is for ever.
func (m *Machine) nap(now time.Time) time.Duration {
	if m.state == Idle || m.state == Left {
		return 0
	}
	start, end := m.opening(now)
	nap := MaxNap
	for _, t := range []time.Time{
		m.startedAt.Add(engineGrace), m.etcd.at, m.logind.at, m.settledAt, m.taking.at, m.reboot.at, m.lookAt, m.checkAt, m.graceEnd,
		m.deadline(), start, m.begin(now), end, end.Add(-m.delay(now) - Backstop),
	} {
		if d := t.Sub(now); d > 0 && d < nap {
			nap = d
		}
	}
	return nap
}

// opening returns the window's opening that contains now, or the next one; the
// zero time when there is no window.
func (m *Machine) opening(now time.Time) (start, end time.Time) {
	if m.config.Window == nil {
		return time.Time{}, time.Time{}
	}
	return m.config.Window.Next(now)
}

// begin returns when this host may begin in the opening that contains now or comes next; zero for no matter
// when. Users' time, and a try or two, have to fit behind it.
func (m *Machine) begin(now time.Time) time.Time {
	if m.config.Window == nil || m.config.Spread == 0 {
		return time.Time{}
	}
	start, end := m.opening(now)
	length := end.Sub(start)
	most := min(m.config.Spread, length/10, length-m.config.LoginDelay-2*Backstop)
	return start.Add(time.Duration(m.share * float64(max(0, most))))
}
