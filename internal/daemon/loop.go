// Package daemon runs the policy of package policy on a host.
//
// [Run] is the loop: it performs at most one effect at a time, and a look at who is at work beside it, off the loop,
// and feeds the results back as events. What it talks to are interfaces of its own: the lock, the host, its scheduler
// of shutdowns.
//
// Guaranteed:
//   - what the next process has to know is kept before an effect begins;
//   - the end of Run waits for nobody for longer than a few seconds;
//   - an idle loop has no timer.
//
// Not guaranteed: that nobody schedules or cancels a shutdown in the moment between logind's last answer and the call
// that follows it. logind has no way to compare and change at once.
package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/internal/policy"
)

const (
	leaveTimeout = 5 * time.Second  // from being asked to leave to the end of Run
	undoTimeout  = 90 * time.Second // the same, if what ran before a reboot has to be undone; see TimeoutStopSec= of the unit
	askTimeout   = time.Second      // for logind to say whether the host is going down
)

// Run is the daemon's loop. It returns nil when ctx ended, and ErrBusGone when the bus went away. On the way out it
// gives a held slot back, unless logind has been asked to reboot, or the host is going down, or may be.
func Run(ctx context.Context, s Settings, p Parts) error {
	l := &loop{
		parts:      p,
		settings:   s,
		machine:    policy.New(s.Policy, p.Found, time.Now(), rand.New(rand.NewPCG(p.Seed, 0))),
		performers: performers(),
		events:     make(chan policy.Event),
		updates:    p.Updates,
		reload:     p.Reload,
		stopped:    ctx.Done(),
		alive:      time.Tick(p.AliveEvery),
	}
	return l.run(ctx)
}

type loop struct {
	parts      Parts
	settings   Settings
	machine    *policy.Machine
	performers map[policy.Kind]performer

	// What the loop waits for; nil where it does not, or not yet.
	nap     <-chan time.Time
	events  chan policy.Event // from what runs beside the loop
	updates <-chan policy.Event
	reload  <-chan Settings
	stopped <-chan struct{}
	timeUp  <-chan time.Time // to be stopped
	alive   <-chan time.Time

	next   *Settings // the settings to start over with, once the machine has left
	busErr error

	running policy.Kind             // the effect that runs
	cancel  context.CancelCauseFunc // ends running

	observed policy.Snapshot
	line     string       // the status line of observed
	heldBy   string       // what the log knows to hold the host back in this state
	kept     *policy.Kept // what was kept last; nil before that
	keepErr  error        // why the last keep failed
}

func (l *loop) run(ctx context.Context) error {
	// Effects outlive ctx: on the way out one attempt is made to give the slot back.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for event := policy.Event(policy.Tick{}); event != nil; {
		switch left := l.step(work, event) == policy.Left; {
		case !left:
			event = l.wait(ctx, work)
		case l.next != nil:
			l.startOver()
			event = policy.Tick{}
		default:
			return l.busErr
		}
	}
	const unknown = "stopped without knowing whether the slot was given back; it is sorted out at the next start"
	l.parts.Log.Error(unknown, l.facts(l.observed, journal.SlotMayBeHeld, unknown).Attr())
	return l.busErr
}

// startOver goes on with the next settings.
func (l *loop) startOver() {
	if l.machine.MayHold() {
		// The new configuration gives it back only if it has the same lock.
		const held = "the slot of the old configuration may still be held: unless it is the same lock, free it with locksmithctl unlock"
		l.parts.Log.Error(held, "slot", l.settings.Lock, l.facts(l.observed, journal.SlotMayBeHeld, held).Attr())
	}
	l.settings, l.next = *l.next, nil
	if l.settings.Begin != nil {
		l.settings.Begin()
	}
	l.machine = l.machine.Restart(l.settings.Policy, time.Now())
}

// wait returns the next event, nil when there is no more time to wait for one.
func (l *loop) wait(ctx, work context.Context) policy.Event {
	for {
		select {
		case <-l.alive: // an idle loop does nothing else
			l.parts.Alive()
		case <-l.nap:
			return policy.Tick{}
		case event := <-l.events:
			return event
		case event, ok := <-l.updates:
			switch {
			case ok:
				return event
			case ctx.Err() != nil:
				l.updates = nil // closed because we are to stop
			default:
				// Without a bus it is not known whether the host is going down.
				l.updates, l.reload, l.next, l.busErr = nil, nil, nil, ErrBusGone
				return policy.Leave{KeepLock: true}
			}
		case s := <-l.reload:
			if l.next == nil && s.Lock == l.settings.Lock {
				// A new window costs neither the slot nor the place in the queue.
				l.settings = s
				return policy.Reconfigure{Config: s.Policy}
			}
			l.next = &s
			return policy.Leave{Reload: true}
		case <-l.stopped:
			l.timeUp = time.After(leaveTimeout)
			if l.machine.Drained() {
				l.timeUp = time.After(undoTimeout)
			}
			l.stopped, l.reload, l.next = nil, nil, nil
			return policy.Leave{
				KeepLock:  l.machine.MayHold() && l.mayGoDown(work),
				KeepPlace: l.machine.Queues() && l.isRestarted(work),
			}
		case <-l.timeUp:
			return nil
		}
	}
}

// step feeds one event to the machine and does what it decides.
func (l *loop) step(work context.Context, event policy.Event) policy.State {
	if r, ok := event.(policy.Result); ok { // not a look, whose failure the status reports
		if err := r.Failure(); err != nil && !errors.Is(err, context.Canceled) {
			l.logFailure(err)
		}
	}
	now := time.Now()
	d := l.machine.Step(now, event)
	l.keep(l.machine.Kept(now)) // before an observer sees it
	l.show(l.machine.Snapshot(now), d.Moved)
	switch {
	case d.Cancel && d.KeepPlace:
		l.cancel(ErrKeepPlace)
	case d.Cancel:
		l.cancel(nil)
	}
	if d.Start != nil {
		l.running, l.cancel = d.Start.Kind(), l.start(work, d.Start)
	}
	if need := d.Ask; need != nil {
		l.beside(work, policy.AskLimit, func(ctx context.Context) policy.Event { return l.ask(ctx, *need) })
	}
	if d.Look {
		l.beside(work, policy.LookLimit, func(ctx context.Context) policy.Event { return l.look(ctx) })
	}
	l.nap = nil
	if d.Nap > 0 {
		l.nap = time.After(d.Nap)
	}
	return d.State
}

// show tells the log and the observers what the machine has come to, if that is new.
func (l *loop) show(s policy.Snapshot, moves []policy.Move) {
	line := s.Line(l.settings.Policy.Clock)
	l.log(s, line, moves)
	if line == l.line && reflect.DeepEqual(s, l.observed) {
		return
	}
	l.observed, l.line = s, line
	for _, o := range l.parts.Observers {
		o.Observe(s, line, moves)
	}
}

// keep writes down what the next process has to know, if that has changed.
func (l *loop) keep(k policy.Kept) {
	if l.kept != nil && *l.kept == k {
		return
	}
	before := l.keepErr
	if l.keepErr = l.parts.Keep(k); l.keepErr == nil {
		l.kept = &k
	} else if before == nil {
		l.parts.Log.Warn("a restart of the daemon would forget what is going on, and users cannot be told of a reboot", "error", l.keepErr)
	}
}

// start runs an effect beside the loop, which gets its result. It returns what cancels the effect.
func (l *loop) start(work context.Context, e policy.Effect) context.CancelCauseFunc {
	t, perform := task{l.settings, l.keepErr}, l.performers[e.Kind()]
	return l.beside(work, e.Kind().Limit, func(ctx context.Context) policy.Event { return perform(l, ctx, t, e) })
}

// beside runs do beside the loop, which gets its event, within a limit if that is not 0.
func (l *loop) beside(work context.Context, limit time.Duration, do func(context.Context) policy.Event) context.CancelCauseFunc {
	ctx, cancel := context.WithCancelCause(work)
	stop := func() {}
	if limit > 0 {
		ctx, stop = context.WithTimeout(ctx, limit)
	}
	go func() {
		defer cancel(nil)
		defer stop()
		select {
		case l.events <- do(ctx):
		case <-work.Done():
		}
	}()
	return cancel
}

// isGoingDown reports whether logind says that the host is shutting down.
func (l *loop) isGoingDown(ctx context.Context) bool {
	down, err := l.askGoingDown(ctx)
	return err == nil && down
}

// mayGoDown reports whether the host is shutting down, or may be.
func (l *loop) mayGoDown(ctx context.Context) bool {
	down, err := l.askGoingDown(ctx)
	if err != nil {
		l.parts.Log.Warn("cannot tell whether the host is going down: a lock is kept until the next start", "error", err)
	}
	return down || err != nil
}

func (l *loop) askGoingDown(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return l.parts.Host.GoingDown(ctx)
}

// isRestarted reports whether the service manager says that it starts the daemon again.
func (l *loop) isRestarted(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	restarted, err := l.parts.Restarting(ctx)
	if err != nil {
		l.parts.Log.Warn("cannot tell whether the daemon is started again: its place in the queue is given up", "error", err)
	}
	return restarted
}
