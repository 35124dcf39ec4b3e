package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// A performer does an effect, beside the loop.
type performer func(*loop, context.Context, task, policy.Effect) policy.Result

// task is the input of an effect: the settings when it began, and why nothing could be kept then.
type task struct {
	Settings
	keepErr error
}

// performers returns what performs each kind of effect.
func performers() map[policy.Kind]performer {
	all := map[policy.Kind]performer{}
	add(all, (*loop).inspect)
	add(all, (*loop).acquire)
	add(all, (*loop).release)
	add(all, (*loop).check)
	add(all, (*loop).tell)
	add(all, (*loop).drain)
	add(all, (*loop).undrain)
	add(all, (*loop).verify)
	add(all, (*loop).schedule)
	add(all, (*loop).unschedule)
	add(all, (*loop).reboot)
	return all
}

// add adds the performer of a type of effects, which ends with a type of results.
func add[E policy.Effect, R policy.Result](all map[policy.Kind]performer, perform func(*loop, context.Context, task, E) R) {
	var effect E
	all[effect.Kind()] = func(l *loop, ctx context.Context, t task, e policy.Effect) policy.Result {
		return perform(l, ctx, t, e.(E))
	}
}

func (l *loop) inspect(ctx context.Context, t task, _ policy.Inspect) (r policy.Inspected) {
	r.Holding, r.Purpose, r.Err = t.Lock.Inspect(ctx)
	return r
}

func (l *loop) acquire(ctx context.Context, t task, e policy.Lock) policy.Locked {
	err := t.Lock.Acquire(ctx, e, func(by string) {
		select {
		case l.events <- policy.Blocked{By: by}:
		case <-ctx.Done():
		}
	})
	return policy.Locked{Err: err, Unknown: errors.Is(err, ErrUnknown)}
}

// release gives the slot back, unless the host is going down: then the slot covers the shutdown, no
// matter who asked for it. A logind that does not answer does not keep the slot, or one host with a
// broken logind would hold up the fleet.
func (l *loop) release(ctx context.Context, t task, _ policy.Unlock) policy.Unlocked {
	if l.isGoingDown(ctx) {
		return policy.Unlocked{Err: fmt.Errorf("%w, and needs its slot for that", policy.ErrGoingDown)}
	}
	return policy.Unlocked{Err: t.Lock.Release(ctx)}
}

// tell tells the fleet what this host does with its slot.
func (l *loop) tell(ctx context.Context, t task, e policy.Tell) policy.Told {
	return policy.Told{Report: e.Report, Err: t.Lock.Report(ctx, e.Report)}
}

// ask asks the gates that need I/O, besides who is at work. Whether something is hooked in matters only if they are
// open.
func (l *loop) ask(ctx context.Context, need policy.Need) (a policy.Asked) {
	if a.Obstacle = l.parts.Gate(ctx, need); a.Obstacle != nil {
		return a
	}
	var err error
	if a.Hooked, err = l.parts.Hooks.Hooked(ctx); err != nil {
		a.Obstacle = &policy.Obstacle{Kind: policy.Unclear, Text: fmt.Sprintf("what may be hooked in before a reboot: %v", err)}
	}
	return a
}

func (l *loop) drain(ctx context.Context, t task, e policy.Drain) policy.Drained {
	return policy.Drained{Err: within(ctx, t.Policy.BeforeTimeout, func(ctx context.Context) error { return l.parts.Hooks.Before(ctx, e.Facts) })}
}

func (l *loop) undrain(ctx context.Context, t task, e policy.Undrain) policy.Undrained {
	return policy.Undrained{Err: within(ctx, t.Policy.BeforeTimeout, func(ctx context.Context) error { return l.parts.Hooks.Undo(ctx, e.Facts) })}
}

// verify checks whether the host is well, and records what has come of the reboot. It asks for the slot of a host that
// is unwell: somebody may have freed it.
func (l *loop) verify(ctx context.Context, t task, e policy.Verify) (r policy.Verified) {
	r.Err = within(ctx, t.Policy.HealthTimeout, func(ctx context.Context) error { return l.parts.Hooks.After(ctx, e.Facts) })
	result := r.Err
	if e.Wrong || result != nil {
		result = e.Bad
	}
	if errors.Is(r.Err, context.Canceled) {
		return r
	}
	if result != nil || r.Err == nil {
		if err := l.parts.Ended(ctx, result); err != nil {
			l.parts.Log.Warn("what the reboot came to is not recorded", "error", err)
		}
	}
	if e.Bad != nil && e.Slot {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		held, err := t.Lock.StillHeld(ctx)
		r.Taken = err == nil && !held
	}
	return r
}

// within bounds what is hooked in, and says so if it took too long.
func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was not over within %v", limit))
	defer cancel()
	return do(ctx)
}

func (l *loop) reboot(ctx context.Context, _ task, e policy.Reboot) policy.Rebooted {
	begin := func() {
		if err := l.parts.Begin(ctx, e); err != nil {
			l.parts.Log.Warn("it will not be known after the boot what this reboot was for", "error", err)
		}
	}
	begin()
	done, err := l.parts.Host.Reboot(ctx, e.How.Mode, e.Force)
	if done != e.How.Mode {
		e.How = e.How.Refused()
		l.parts.Log.Warn("logind was asked for " + e.How.Text)
		begin()
	}
	return policy.Rebooted{How: e.How, Err: err, Unknown: errors.Is(err, ErrUnknown)}
}

// look asks who is at work.
func (l *loop) look(ctx context.Context) policy.Looked {
	local, err := l.parts.Host.Local(ctx)
	if err != nil {
		return policy.Looked{Err: err}
	}
	return policy.Looked{Local: &local}
}

// check asks every gate that needs I/O. The lock may take seconds to answer, in which a user may log
// in or cancel: logind, which answers at once, is asked again after it. Its first answer is for when
// the lock does not answer at all.
func (l *loop) check(ctx context.Context, t task, _ policy.Check) (r policy.Checked) {
	defer func() { r.Logind = l.instance(ctx) }()
	r.Updates = l.parts.AskSources(ctx)
	if t.Policy.Mode != policy.FullReboot {
		r.Modes = new(l.parts.Host.Modes())
	}
	first := l.look(ctx)
	if r.Local, r.Err = first.Local, first.Err; r.Err != nil || !t.Policy.Lock {
		return r
	}
	if r.Held, r.Err = t.Lock.StillHeld(ctx); r.Err != nil {
		return r
	}
	again := l.look(ctx)
	if again.Err == nil {
		r.Local = again.Local
	}
	r.Err = again.Err
	return r
}

// schedule schedules the reboot with logind, which tells users. It does not if that cannot be kept:
// the next process would take the reboot for somebody else's.
func (l *loop) schedule(ctx context.Context, t task, e policy.Schedule) policy.Scheduled {
	err := t.keepErr
	if err == nil {
		err = l.scheduleUnlessOther(ctx, t, e)
	}
	// Whatever the reason, the users' delay begins now, and this process alone keeps it.
	if err != nil && e.Final && !errors.Is(ctx.Err(), context.Canceled) {
		l.parts.Announce(e.Message)
	}
	return policy.Scheduled{Logind: l.instance(ctx), Err: err, Unknown: errors.Is(err, ErrUnknown)}
}

// scheduleUnlessOther schedules the reboot, unless something is scheduled: it does not replace another plan. If it is
// cut short, it is unknown whether it scheduled the reboot; logind takes calls in order, so its next answer tells.
func (l *loop) scheduleUnlessOther(ctx context.Context, t task, e policy.Schedule) error {
	before, err := l.parts.Host.Scheduled(ctx)
	switch {
	case err != nil:
		return err
	case before.Type != "":
		return fmt.Errorf("a %s is scheduled for %s already", before.Type, t.Policy.Clock(before.At))
	}
	if err := l.parts.Host.Schedule(ctx, e.At, e.Message); err != nil {
		if after, readErr := l.parts.Host.Scheduled(ctx); readErr != nil || !after.Ours(e.At) {
			return err
		}
	}
	l.parts.Log.Info("users are told of the reboot", "message", e.Message)
	return nil
}

func (l *loop) unschedule(ctx context.Context, t task, e policy.Unschedule) (r policy.Unscheduled) {
	r.Found, r.Err = l.callOff(ctx, t, e)
	r.Logind = l.instance(ctx)
	return r
}

// callOff returns no error if no reboot that we scheduled or asked for can still come, and reports whether it asked
// logind to cancel one. It calls off neither a reboot that is under way nor one that may be somebody else's. logind
// cancels whatever is scheduled: also what somebody schedules between its last answer and the call that follows.
func (l *loop) callOff(ctx context.Context, t task, e policy.Unschedule) (found bool, err error) {
	if e.Asked { // logind takes calls in their order: this answer comes after that call
		switch down, err := l.parts.Host.GoingDown(ctx); {
		case err != nil:
			return false, fmt.Errorf("it is not known whether the reboot that logind was asked for is under way: %w", err)
		case down:
			return false, policy.ErrGoingDown
		}
	}
	if !e.Stands {
		return false, nil
	}
	standing, err := l.parts.Host.Scheduled(ctx)
	switch {
	case err != nil || !standing.Ours(e.At):
		return false, err
	case l.isGoingDown(ctx):
		return false, policy.ErrGoingDown
	case e.At.IsZero():
		return false, fmt.Errorf("a reboot is scheduled for %s, and %w: it is left alone, and a slot of this boot is kept for it; shutdown -c cancels it", t.Policy.Clock(standing.At), policy.ErrWhoseUnknown)
	}
	// The answers may have taken a second.
	if standing, err = l.parts.Host.Scheduled(ctx); err != nil || !standing.Ours(e.At) {
		return false, err
	}
	return true, cancelReboot(ctx, l.parts.Host, e.At)
}

// instance names the logind that answers; "" when that is not known.
func (l *loop) instance(ctx context.Context) string {
	name, err := l.parts.Host.Instance(ctx)
	if err != nil {
		l.parts.Log.Debug("cannot tell whether logind was restarted", "error", err)
	}
	return name
}

// CallOff cancels the reboot that a daemon, now ended, left scheduled according to kept. keep replaces what is
// kept. CallOff reports whether it cancelled the reboot: it does not while the host is going down, nor if somebody
// else scheduled it.
func CallOff(ctx context.Context, host Host, kept policy.Kept, keep func(policy.Kept) error) (bool, error) {
	at := time.UnixMicro(kept.Scheduled.Usec)
	if down, err := host.GoingDown(ctx); err == nil && down { // asked first, as a silent logind delays the others
		return false, nil
	}
	// If it is gone, the next daemon finds out by itself.
	if standing, err := host.Scheduled(ctx); err != nil || !standing.Ours(at) {
		return false, err
	}
	kept.Scheduled.Announced = false // or the next daemon would take it for a user's cancel
	if err := keep(kept); err != nil {
		return false, err
	}
	if err := cancelReboot(ctx, host, at); err != nil {
		return false, err
	}
	kept.Scheduled = policy.KeptSchedule{}
	return true, keep(kept)
}

// cancelReboot cancels what is scheduled. It returns nil if no reboot at that time is scheduled afterwards, even
// if the answer to the cancel was lost.
func cancelReboot(ctx context.Context, host Host, at time.Time) error {
	cancelErr := host.Cancel(ctx)
	standing, err := host.Scheduled(ctx)
	switch {
	case err != nil:
		return errors.Join(cancelErr, err)
	case !standing.Ours(at):
		return nil
	case cancelErr != nil:
		return cancelErr
	}
	return errors.New("logind has not cancelled the reboot that was scheduled")
}
