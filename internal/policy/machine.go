package policy

import (
	"math/rand/v2"
	"time"
)

// A State is where the daemon stands between "nothing to do" and "rebooting".
type State int

const (
	Starting  State = iota // asking etcd whether we hold a slot
	Settling               // undoing what is left from before the start
	Idle                   // no reboot pending
	Waiting                // a reboot is pending; the window is shut, somebody is at work, or a retry is due later
	Locking                // waiting for a slot
	Preparing              // holding the slot: gates asked again, users told
	Rebooting              // logind has been asked
	Releasing              // undoing an attempt
	Left                   // the end: the loop returns
)

var stateNames = [...]string{"starting", "settling", "idle", "waiting", "locking", "preparing", "rebooting", "releasing", "left"}

func (s State) String() string { return stateNames[s] }

// MarshalText makes the state its name in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Decision is what Step wants done.
type Decision struct {
	State  State
	Moved  []Move        // transitions made by this step, in order
	Start  Effect        // start this now; nil: nothing
	Cancel bool          // cancel the running effect; its Result is still expected
	Ask    *Need         // ask the gates about this, beside the running effect as well; it ends with Asked; nil: do not
	Look   bool          // start a look at who is at work, beside the running effect; it ends with Looked
	Nap    time.Duration // send a Tick after this long; 0: no timer is needed

	KeepPlace bool // with Cancel: the place in the queue is not given up
}

// A Move is one transition.
type Move struct {
	From State  `json:"from"`
	To   State  `json:"to"`
	Why  string `json:"why"`
}

// Machine is the policy. Not safe for concurrent use.
type Machine struct {
	config      Config
	rand        *rand.Rand
	wall        func(time.Time) time.Time // what the wall clock shows at a time, without a monotonic reading
	share       float64                   // of Config.Spread that is this host's, from 0 to 1
	startedAt   time.Time
	obligations []*obligation // in the order in which they are undone

	state   State
	entered time.Time
	why     string
	moved   []Move

	// What is known.
	triggers  triggers
	people    people
	slot      slot
	schedule  schedule
	tries     tries
	attempt   attempt
	gates     gates
	passed    []Gate // as they were when the reboot was decided
	drain     drain
	health    health
	leave     *Leave
	softSince time.Time // when this boot began, if it began with a soft reboot; else zero
	modes     *Modes    // in which the host can reboot, from the last check; nil if that did not ask
	choice    Choice    // how logind was asked to reboot last

	// What has happened: see Snapshot. What they lead to is never changed.
	well       *Well
	hookFailed *HookFailed

	// The effect in flight, and the look that may be.
	running Effect // nil: none
	began   time.Time
	stopped bool // it has been cancelled
	looking bool
	ended   ended
}

// ended is the effect whose end the current step has learned.
type ended struct {
	kind   Kind
	result Result
}

// Found is what a process finds when it starts.
type Found struct {
	// Kept is what the process before this one has left; nil when that is not known.
	Kept *Kept
	// Drained says that what ran before a reboot that did not come was not undone.
	Drained bool
	// Reboot is what this boot was for, if it was our doing and was not found well yet; else nil.
	Reboot *Purpose
	// OSVersion is the version of the operating system that runs; "" when that is not known.
	OSVersion string
	// SoftSince is when this boot began, if it began with a soft reboot; else zero.
	SoftSince time.Time
	// Sources will say whether a reboot is needed, besides update_engine.
	Sources []Source
}

// New returns a machine in state Starting. now is the time of the start; rand spreads retries over time.
func New(config Config, found Found, now time.Time, rand *rand.Rand) *Machine {
	m := newMachine(config, now, rand)
	m.drain.begun, m.health.runs, m.softSince = found.Drained, found.OSVersion, found.SoftSince
	for _, source := range found.Sources {
		m.triggers.of(source)
	}
	m.remember(found.Kept, now)
	if found.Reboot != nil {
		m.health.begin(*found.Reboot)
	}
	return m
}

func newMachine(config Config, now time.Time, rand *rand.Rand) *Machine {
	return &Machine{
		config: config, rand: rand, wall: func(t time.Time) time.Time { return t.Round(0) }, share: rand.Float64(),
		startedAt: now, obligations: obligations,
		state: Starting, entered: now, why: "started",
		triggers: newTriggers(Engine, Requester),
		// The process before this one may have taken a slot, or somebody by hand.
		slot:     slot{mayHold: config.Lock, retry: retry{first: time.Second, limit: time.Minute}},
		schedule: schedule{retry: retry{first: time.Second, limit: time.Minute}},
		drain:    drain{retry: retry{first: 5 * time.Second, limit: time.Minute}},
		health:   newHealth(),
		tries: tries{
			slot:   retry{first: 5 * time.Second, limit: time.Minute},
			reboot: retry{first: 5 * time.Second, limit: 15 * time.Minute},
		},
	}
}

// Restart returns a machine in state Starting with another configuration, that knows what m
// knew of the update, of people and of logind: update_engine repeats itself, people do not.
func (m *Machine) Restart(config Config, now time.Time) *Machine {
	n := newMachine(config, now, m.rand)
	n.wall, n.share, n.obligations, n.looking = m.wall, m.share, m.obligations, m.looking
	n.triggers, n.people, n.schedule, n.drain, n.health = m.triggers, m.people, m.schedule, m.drain, m.health
	n.people.look, n.gates.asking, n.softSince = look{}, m.gates.asking, m.softSince
	n.well, n.hookFailed = m.well, m.hookFailed
	for _, r := range []*retry{&n.schedule.retry, &n.drain.retry, &n.health.retry, &n.health.tell} {
		r.reset()
	}
	return n
}

// MayHold reports whether this host holds a slot or may do so.
func (m *Machine) MayHold() bool { return m.slot.mayHold || m.Queues() }

// Drained reports whether what runs before a reboot has begun, and was not undone.
func (m *Machine) Drained() bool { return m.drain.begun }

// Queues reports whether this host waits for a slot.
func (m *Machine) Queues() bool { return is(m.running, Lock{}.Kind()) }

// Step tells the machine that ev happened at now and returns what to do. The loop must start and cancel what it is
// told to, and report each started effect's end with exactly one Result. now is what time.Now says: delays are
// measured with its monotonic reading, so that a step of the clock makes none of them shorter or longer. Its wall
// clock is for the window, and for what is scheduled with logind: that is called off when a check finds the clock
// stepped.
func (m *Machine) Step(now time.Time, ev Event) Decision {
	m.moved, m.ended = nil, ended{}
	if r, ok := ev.(Result); ok {
		m.ended, m.running = ended{m.running.Kind(), r}, nil
	}
	ev.fold(m, now)
	for range stateNames { // a step goes through no state twice
		m.judge(now)
		to, why := m.next(now)
		if to == m.state {
			break
		}
		m.enter(now, to, why)
	}
	m.count(now)

	d := Decision{State: m.state, Moved: m.moved}
	want := m.want(now)
	switch {
	case m.running == nil && want != nil:
		m.running, m.began, m.stopped = want, now, false
		m.drain.begun = m.drain.begun || is(want, Drain{}.Kind())
		if l, ok := want.(Lock); ok {
			m.slot.version = l.Version
		}
		d.Start = want
	case m.running != nil && want == nil && !m.stopped:
		m.stopped = true
		d.Cancel, d.KeepPlace = true, m.leave != nil && m.leave.KeepPlace || m.mayQueue(now)
	}
	if m.wantAsk(now) {
		need := m.need()
		m.gates.asking, d.Ask = true, &need
		m.attempt.asking = m.state == Preparing
	}
	if m.wantLook(now) {
		m.looking, d.Look = true, true
	}
	d.Nap = m.nap(now)
	return d
}

// mayGo reports whether the gates that need no I/O are open.
func (m *Machine) mayGo(now time.Time) bool {
	return m.leave == nil && m.triggers.pending() && m.config.open(now)
}

// enter moves to a state, with a new attempt.
func (m *Machine) enter(now time.Time, to State, why string) {
	m.moved = append(m.moved, Move{From: m.state, To: to, Why: why})
	m.state, m.entered, m.why = to, now, why
	m.ended, m.attempt = ended{}, attempt{}
	m.attempt.asked = !m.config.Lock && m.gates.fresh(now) // nothing has come between
	if h := &m.health; to == Settling && h.pending && h.since.IsZero() {
		h.since = now
	}
	if to == Idle {
		m.tries.reset()
	}
}

// want returns the effect that should be running now: the running one for as long as it may go on.
func (m *Machine) want(now time.Time) Effect {
	switch {
	case !m.mayWork(now):
		return nil
	case m.running != nil:
		return m.running
	}
	switch m.state {
	case Starting: // what may not stay is undone first, whether a slot is held or not
		if o := m.due(now); o != nil && !o.stays {
			return o.undo(m)
		}
		if m.config.Lock && !m.slot.inspected && !now.Before(m.slot.retry.at) {
			return Inspect{}
		}
		if m.slot.retry.err != nil { // the end of a drain does not wait for etcd
			return m.verify(now)
		}
	case Settling, Releasing:
		if o := m.due(now); o != nil {
			return o.undo(m)
		}
		if m.state == Settling && m.leave == nil && !m.fixDue(now) {
			if tell := m.tell(now); tell != nil {
				return tell
			}
			return m.verify(now)
		}
	case Locking:
		return Lock{Version: m.triggers.version, NewOS: m.newOS(), Reason: m.triggers.words()}
	case Preparing:
		switch r := m.report(); {
		case !m.attempt.asked:
		case r.Phase != m.attempt.told:
			return Tell{r}
		case m.mustDrain():
			return Drain{Facts{m.triggers.version, m.needed()}}
		case !m.attempt.rebootAt.IsZero() && !m.attempt.warned:
			return Schedule{At: m.schedule.at, Message: m.message(), Final: m.attempt.final}
		case !now.Before(m.attempt.checkAt):
			return Check{}
		}
	case Rebooting:
		return Reboot{Force: m.overdue(now), Version: m.triggers.version, NewOS: m.newOS(), How: m.choice, Taken: m.taken()}
	}
	return nil
}

// mayQueue reports whether the host may wait for a slot.
func (m *Machine) mayQueue(now time.Time) bool {
	return m.state == Locking && m.mayGo(now) && m.obstacle(now) == nil
}

// mayWork reports whether the state's effects may run.
func (m *Machine) mayWork(now time.Time) bool {
	switch m.state {
	case Starting:
		return m.leave == nil
	case Settling:
		checks := is(m.running, Verify{}.Kind()) || is(m.running, Tell{}.Kind())
		return !checks || m.leave == nil && !m.fixDue(now)
	case Releasing:
		return true
	case Locking:
		return m.mayQueue(now) && !m.outdated()
	case Preparing:
		return m.mayGo(now) && !m.outdated()
	case Rebooting:
		return m.attempt.graceEnd.IsZero()
	}
	return false
}

// wantLook reports whether the host has to be asked who is at work.
func (m *Machine) wantLook(now time.Time) bool {
	if m.looking || m.people.fresh(now) || !m.mayGo(now) {
		return false
	}
	return m.state == Locking || m.seeks(now)
}

// seeks reports whether the host looks for an occasion to reboot: one that is unwell does so while it settles.
func (m *Machine) seeks(now time.Time) bool {
	return (m.state == Waiting || m.state == Settling && m.takesFix() && !m.owes()) && m.ready(now)
}

// report is what the fleet is to know of the slot during an attempt; zero: nothing new.
func (m *Machine) report() Report {
	switch {
	case !m.config.Lock:
	case m.mustDrain():
		return Report{Phase: Draining, Why: m.needed()}
	case m.drain.done || m.health.pending:
		return Report{Phase: Leaving, Why: m.needed(), Again: m.health.pending, Version: m.triggers.version, NewOS: m.newOS(), Reason: m.triggers.words()}
	}
	return Report{Phase: m.attempt.told}
}

// nap returns how long nothing needs to be asked again; 0 is forever.
func (m *Machine) nap(now time.Time) time.Duration {
	if m.state == Idle || m.state == Left {
		return 0
	}
	nap := MaxNap
	until := func(t time.Time) {
		if d := t.Sub(now); d > 0 && d < nap {
			nap = d
		}
	}
	for _, o := range m.obligations {
		until(o.retry(m).at)
		if o.settles != nil {
			until(o.settles(m))
		}
	}
	start, end := m.config.opening(now)
	for _, t := range []time.Time{
		m.startedAt.Add(sourceGrace), m.tries.slot.at, m.tries.reboot.at, m.people.until, m.attempt.checkAt, m.attempt.graceEnd,
		m.gates.until, m.config.Earliest, m.softAgain(), m.health.retry.at, m.health.tell.at,
		m.health.wellAt.Add(m.config.ReleaseDelay), m.health.since.Add(m.config.HealthTimeout),
		m.deadline(), start, m.begin(now), end, end.Add(-m.delay(now) - Backstop),
	} {
		until(t)
	}
	return nap
}
