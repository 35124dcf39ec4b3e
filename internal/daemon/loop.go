package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// A Locker is the lock, as this host sees it. Except where noted, an error
// leaves everything open.
type Locker interface {
	// Inspect asks whether this host holds a slot, and in which boot it was taken.
	Inspect(ctx context.Context) (policy.Holding, error)
	// StillHeld asks, right before the reboot, whether the slot is still this host's.
	StillHeld(ctx context.Context) (bool, error)
	// Acquire waits for a slot and takes it; holding one already is success.
	// blocked is told what it waits for. It ends soon after ctx does. An error
	// that matches ErrUnknown leaves open whether the slot was taken; any other
	// says that this call took none. It gives its place in the queue up, unless ctx
	// was cancelled with the cause ErrKeepPlace.
	Acquire(ctx context.Context, version string, blocked func(by string)) error
	// Release gives the slot back; having none is success.
	Release(ctx context.Context) error
}

// A Host is what reboots.
type Host interface {
	// Local asks who is at work on it. An error means that somebody may be.
	Local(ctx context.Context) (policy.Local, error)
	// Reboot asks for the reboot and returns once it is accepted; it is not while
	// an inhibitor blocks it, except by force. An error that matches ErrUnknown
	// leaves open whether it was.
	Reboot(ctx context.Context, force bool) error
	// GoingDown reports whether the host is shutting down already. An error means that it may be.
	GoingDown(ctx context.Context) (bool, error)
}

// A Scheduler keeps the one shutdown that is scheduled, which it carries out when
// its time comes. An error leaves everything open.
type Scheduler interface {
	Scheduled(ctx context.Context) (policy.Shutdown, error)
	// Instance names the one that answers now: a restarted one has another name.
	Instance(ctx context.Context) (string, error)
	// Schedule tells users that the host reboots, and replaces what is scheduled. An error
	// that matches ErrUnknown leaves open whether it was scheduled, or will be.
	Schedule(ctx context.Context, at time.Time, message string) error
	// Cancel drops what is scheduled; nothing being so is success.
	Cancel(ctx context.Context) error
}

// ErrUnknown marks errors that leave open whether the thing was done.
var ErrUnknown = errors.New("outcome unknown")

// ErrKeepPlace is why the context of Acquire ends when the next process is to have its place in
// the queue.
var ErrKeepPlace = errors.New("the place in the queue is kept for the next process")

// ErrBusGone is returned by Run when the bus connection is lost. The process
// should end, for its service manager to start it anew.
var ErrBusGone = errors.New("the connection to the system bus is lost")

// Settings are what a new configuration can change.
type Settings struct {
	Policy policy.Config
	// Lock is nil unless Policy.Lock. With the same one as before a held slot
	// is kept; with another it is given back first.
	Lock Locker
}

// Parts are the real things that Run connects.
type Parts struct {
	// Updates tells about update_engine and requests. Closed before the context
	// of Run has ended, it says that the bus is gone.
	Updates <-chan policy.Update
	// AskEngine asks update_engine whether it needs a reboot; nil when it does not say.
	AskEngine func(ctx context.Context) *policy.Update
	Host      Host
	Scheduler Scheduler
	// Announce shows a message to everybody who is logged in, and waits for nobody.
	Announce func(message string)
	// Kept is what the process before this one has kept of this boot; nil when nobody knows.
	Kept *policy.Kept
	// Keep replaces that. It is called from the loop, before what it tells of is begun.
	Keep func(policy.Kept) error
	// Restarting reports whether this process is ended for another to be started at once.
	Restarting func(ctx context.Context) (bool, error)
	// Reload delivers new settings, already checked.
	Reload <-chan Settings
	// Report is called from the loop when the state or its description has changed.
	Report func(Report)
	// Alive is called every AliveEvery, if that is not zero, for as long as the loop turns.
	Alive      func()
	AliveEvery time.Duration
	Log        *slog.Logger
	// Seed makes the spreading of retries repeatable.
	Seed uint64
}

// A Report is what the world is told about the daemon.
type Report struct {
	State  policy.State
	Lock   bool   // a slot is needed, as in Policy
	Status string // for people

	obstacle string // who holds the reboot back, which the log tells of as well
}

const (
	effectTimeout = 30 * time.Second // of every effect but Check, and Lock, which waits as long as it takes
	leaveTimeout  = 5 * time.Second  // from being asked to leave to the end of Run
	askTimeout    = time.Second      // for logind to say whether the host is going down
)

// Run is the daemon's loop. It returns nil when ctx ended, and ErrBusGone when
// the bus went away. On the way out it gives a held slot back, unless logind has
// been asked to reboot, the host is going down, or nobody can tell.
func Run(ctx context.Context, s Settings, p Parts) error {
	l := &loop{
		parts:    p,
		settings: s,
		machine:  policy.New(s.Policy, p.Kept, time.Now(), rand.New(rand.NewPCG(p.Seed, 0))),
		results:  make(chan policy.Done),
		blocked:  make(chan policy.Blocked),
		nap:      time.NewTimer(policy.MaxNap),
	}
	return l.run(ctx)
}

type loop struct {
	parts    Parts
	settings Settings
	machine  *policy.Machine
	results  chan policy.Done
	blocked  chan policy.Blocked
	nap      *time.Timer
	cancel   context.CancelCauseFunc // of the running effect

	reported Report
	kept     *policy.Kept // what was kept last; nil before that
	keepErr  error        // why what is to be kept is not
}

func (l *loop) run(ctx context.Context) error {
	// Effects outlive ctx: on the way out one attempt is made to give the slot back.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer l.nap.Stop()

	var alive, timeUp <-chan time.Time
	if l.parts.AliveEvery > 0 {
		t := time.NewTicker(l.parts.AliveEvery)
		defer t.Stop()
		alive = t.C
	}
	var (
		stopped = ctx.Done()
		updates = l.parts.Updates
		reload  = l.parts.Reload
		next    *Settings // to start over with, once the machine has left
		busErr  error
		event   policy.Event = policy.Tick{}
	)
	for {
		if l.step(work, event) == policy.Left {
			if next == nil {
				return busErr
			}
			if l.machine.MayHold() {
				// Nobody looks after it any more, unless the new configuration
				// has the same lock.
				l.parts.Log.Error("the slot of the old configuration may still be held: unless it is the same lock, free it with locksmithctl unlock",
					"slot", l.settings.Lock)
			}
			l.settings, next = *next, nil
			l.machine = l.machine.Restart(l.settings.Policy, time.Now())
			event = policy.Tick{}
			continue
		}
		event = policy.Tick{}
		select {
		case <-l.nap.C:
		case <-alive:
			l.parts.Alive()
		case event = <-l.results:
		case event = <-l.blocked:
		case u, ok := <-updates:
			switch {
			case ok:
				event = u
			case ctx.Err() != nil:
				updates = nil // closed because we are to stop
			default:
				// Without a bus nobody can say whether the host is going down.
				event = policy.Leave{KeepLock: true}
				updates, reload, next, busErr = nil, nil, nil, ErrBusGone
			}
		case s := <-reload:
			if next == nil && s.Lock == l.settings.Lock {
				// Neither a slot nor a place in the queue is lost over a new window.
				l.settings, event = s, policy.Reconfigure{Config: s.Policy}
				break
			}
			next, event = &s, policy.Leave{Reload: true}
		case <-stopped:
			timeUp = time.After(leaveTimeout)
			event = policy.Leave{
				KeepLock:  l.machine.MayHold() && l.mayGoDown(work),
				KeepPlace: l.machine.Queues() && l.isRestarted(work),
			}
			stopped, reload, next = nil, nil, nil
		case <-timeUp:
			l.parts.Log.Error("stopped without knowing whether the slot was given back; it is sorted out at the next start")
			return busErr
		}
	}
}

// step feeds one event to the machine and does what it decides.
func (l *loop) step(work context.Context, event policy.Event) policy.State {
	if d, ok := event.(policy.Done); ok && d.Effect != policy.Look { // of a look the status tells
		if d.Err != nil && !errors.Is(d.Err, context.Canceled) {
			l.parts.Log.Warn(d.Effect.String()+" failed", "error", d.Err)
		}
	}
	now := time.Now()
	d := l.machine.Step(now, event)
	l.keep(l.machine.Kept(now)) // before anybody hears of it
	report := Report{State: d.State, Lock: l.settings.Policy.Lock, Status: l.machine.Status(now), obstacle: l.machine.HeldBackBy(now)}
	for _, move := range d.Moved {
		l.parts.Log.Info(move.To.String(), "from", move.From, "why", move.Why, "status", report.Status)
	}
	if by := report.obstacle; by != "" && by != l.reported.obstacle {
		l.parts.Log.Info("held back", "by", by, "status", report.Status)
	}
	if report != l.reported {
		l.reported = report
		l.parts.Report(report)
	}
	switch {
	case d.Cancel && d.KeepPlace:
		l.cancel(ErrKeepPlace)
	case d.Cancel:
		l.cancel(nil)
	}
	if d.Start != policy.None {
		l.cancel = l.start(work, d.Start, d.Order)
	}
	if d.Look {
		l.start(work, policy.Look, policy.Order{})
	}
	if d.Nap > 0 {
		l.nap.Reset(d.Nap)
	} else {
		l.nap.Stop()
	}
	return d.State
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

// start runs an effect beside the loop, which gets its Done. It returns what
// cancels the effect.
func (l *loop) start(work context.Context, e policy.Effect, o policy.Order) context.CancelCauseFunc {
	ctx, cancel := context.WithCancelCause(work)
	stop := func() {}
	switch e {
	case policy.Lock:
	case policy.Check:
		ctx, stop = context.WithTimeout(ctx, policy.CheckTimeout)
	default:
		ctx, stop = context.WithTimeout(ctx, effectTimeout)
	}
	s, keepErr := l.settings, l.keepErr
	go func() {
		defer cancel(nil)
		defer stop()
		var done policy.Done
		if e == policy.Schedule && keepErr != nil { // the next process would take it for somebody else's
			done.Err = keepErr
		} else {
			done = l.perform(ctx, s, e, o)
		}
		// Whatever the reason, the users' delay begins now, and this process alone keeps it.
		if e == policy.Schedule && done.Err != nil && o.Final && !errors.Is(ctx.Err(), context.Canceled) {
			l.parts.Announce(o.Message)
		}
		done.Effect = e
		done.Unknown = errors.Is(done.Err, ErrUnknown)
		select {
		case l.results <- done:
		case <-work.Done():
		}
	}()
	return cancel
}

func (l *loop) perform(ctx context.Context, s Settings, e policy.Effect, o policy.Order) (d policy.Done) {
	switch e {
	case policy.Inspect:
		d.Holding, d.Err = s.Lock.Inspect(ctx)
	case policy.Lock:
		d.Err = s.Lock.Acquire(ctx, o.Version, func(by string) {
			select {
			case l.blocked <- policy.Blocked{By: by}:
			case <-ctx.Done():
			}
		})
	case policy.Unlock:
		d.Err = l.release(ctx, s)
	case policy.Look:
		d.Local, d.Err = l.local(ctx)
	case policy.Check:
		d = l.check(ctx, s)
		d.Logind = l.instance(ctx)
	case policy.Schedule:
		d.Err = l.schedule(ctx, s, o)
		d.Logind = l.instance(ctx)
	case policy.Unschedule:
		d.Found, d.Err = l.unschedule(ctx, s, o)
		d.Logind = l.instance(ctx)
	case policy.Reboot:
		d.Err = l.parts.Host.Reboot(ctx, o.Force)
	default:
		panic(fmt.Sprintf("daemon: no effect %v", e))
	}
	return d
}

// local asks who is at work; nil when logind does not say.
func (l *loop) local(ctx context.Context) (*policy.Local, error) {
	local, err := l.parts.Host.Local(ctx)
	if err != nil {
		return nil, err
	}
	return &local, nil
}

// instance names the logind that answers; "" when nobody knows.
func (l *loop) instance(ctx context.Context) string {
	name, err := l.parts.Scheduler.Instance(ctx)
	if err != nil {
		l.parts.Log.Debug("cannot tell whether logind was restarted", "error", err)
	}
	return name
}

// check asks every gate that needs I/O. The lock may take seconds to answer, in
// which somebody may come to work or cancel: logind, which answers at once, is asked
// again after it. Its first answer is for when the lock does not answer at all.
func (l *loop) check(ctx context.Context, s Settings) (d policy.Done) {
	d.Update = l.parts.AskEngine(ctx)
	if d.Local, d.Err = l.local(ctx); d.Err != nil || !s.Policy.Lock {
		return d
	}
	if d.Held, d.Err = s.Lock.StillHeld(ctx); d.Err != nil {
		return d
	}
	again, err := l.local(ctx)
	if err == nil {
		d.Local = again
	}
	d.Err = err
	return d
}

// schedule schedules the reboot, unless something is scheduled: nobody else's
// plan is replaced. Cut short, it leaves open whether it did; logind takes calls in
// their order, so that whoever asks then hears the truth.
func (l *loop) schedule(ctx context.Context, s Settings, o policy.Order) error {
	before, err := l.parts.Scheduler.Scheduled(ctx)
	switch {
	case err != nil:
		return err
	case before.Type != "":
		return fmt.Errorf("a %s is scheduled for %s already", before.Type, s.Policy.Clock(before.At))
	}
	if err := l.parts.Scheduler.Schedule(ctx, o.At, o.Message); err != nil {
		if after, readErr := l.parts.Scheduler.Scheduled(ctx); readErr != nil || !after.Ours(o.At) {
			return err
		}
	}
	l.parts.Log.Info("users are told of the reboot", "message", o.Message)
	return nil
}

// unschedule returns nil once no reboot can come that we have scheduled, or asked for, and
// whether logind was asked to cancel one. One that is under way is not called off, nor is one
// that may be somebody else's. logind cancels whatever is scheduled: what somebody schedules
// between the last look and the call that follows it goes as well.
func (l *loop) unschedule(ctx context.Context, s Settings, o policy.Order) (found bool, err error) {
	if o.Asked { // it takes calls in their order: what it says now, it says after that one
		switch down, err := l.parts.Host.GoingDown(ctx); {
		case err != nil:
			return false, fmt.Errorf("it is not known whether the reboot that logind was asked for is under way: %w", err)
		case down:
			return false, policy.ErrGoingDown
		}
	}
	var standing policy.Shutdown
	ours := func() (bool, error) {
		standing, err = l.parts.Scheduler.Scheduled(ctx)
		return standing.Ours(o.At), err
	}
	if !o.Stands {
		return false, nil
	}
	if stands, err := ours(); err != nil || !stands {
		return false, err
	}
	if l.isGoingDown(ctx) {
		return false, policy.ErrGoingDown
	}
	if o.At.IsZero() {
		return false, fmt.Errorf("a reboot is scheduled for %s, and %w: it is left alone, and a slot of this boot is kept for it; shutdown -c cancels it", s.Policy.Clock(standing.At), policy.ErrWhoseUnknown)
	}
	if stands, err := ours(); err != nil || !stands { // that may have taken a second
		return false, err
	}
	cancelErr := l.parts.Scheduler.Cancel(ctx)
	stands, err := ours()
	switch {
	case err != nil:
		return true, errors.Join(cancelErr, err)
	case stands && cancelErr != nil:
		return true, cancelErr
	case stands:
		return true, errors.New("logind has not cancelled the reboot that was scheduled")
	}
	return true, nil
}

// release gives the slot back, unless the host is going down: then the slot
// covers that, whoever asked for it. A logind that does not say does not keep it,
// or one host with a broken logind would hold up the fleet.
func (l *loop) release(ctx context.Context, s Settings) error {
	if l.isGoingDown(ctx) {
		return fmt.Errorf("%w, and needs its slot for that", policy.ErrGoingDown)
	}
	return s.Lock.Release(ctx)
}

// isGoingDown reports whether logind says that the host is shutting down.
func (l *loop) isGoingDown(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	down, err := l.parts.Host.GoingDown(ctx)
	return err == nil && down
}

// mayGoDown reports whether the host is shutting down, or may be.
func (l *loop) mayGoDown(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	down, err := l.parts.Host.GoingDown(ctx)
	if err != nil {
		l.parts.Log.Warn("cannot tell whether the host is going down: a lock is kept until the next start", "error", err)
		return true
	}
	return down
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
