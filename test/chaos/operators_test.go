package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// operator is an administrator with locksmithctl.
type operator struct{ lockClient }

// long is the duration of a long pause: longer than any run, unless it is ended.
const long = time.Hour

func (o *operator) act(ctx context.Context) {
	switch n := o.rng.IntN(100); {
	case n < 25:
		o.setMax(o.rng.IntN(o.run.Hosts/2 + 1))
	case n < 45:
		o.status()
	case n < 65:
		o.overview()
	case n < 85:
		o.release(o.rng.IntN(o.run.Hosts + o.run.Old + o.run.Remote))
	case n < 90:
		o.resume(resume)
	default:
		o.stopAndGo(ctx)
	}
	pace(ctx, time.Duration(o.rng.IntN(10))*time.Millisecond)
}

// stopAndGo pauses and resumes.
func (o *operator) stopAndGo(ctx context.Context) {
	stop, ends, goOn := pause, lapse, resume
	if o.rng.IntN(5) == 0 {
		stop, ends, goOn = pauseAll, lapseAll, resumeAll
	}
	durations := []time.Duration{0, 0, time.Second, 2 * time.Second, long, long}
	if stop == pauseAll { // which other operators may end
		durations = durations[:4]
	}
	d := durations[o.rng.IntN(len(durations))]
	n := int(o.run.pauses.Add(1))
	var lapsing []*op
	stopped := o.pausing(input{kind: stop, n: n}, func(ctx context.Context) (output, error) {
		if d > 0 && d < long { // it may end at any time from now on, since the time of the grant is unknown
			lapsing = append(lapsing, o.run.history.call(o.number, input{group: o.group, kind: ends, n: n}))
		}
		info := lock.PauseInfo{By: "chaos", Reason: fmt.Sprint(n)}
		var err error
		if stop == pauseAll {
			_, err = lock.NewGroups(o.tap, 1).Pause(ctx, info, d)
		} else {
			_, err = o.lock.Pause(ctx, info, d)
		}
		return output{result: done}, err
	})
	pace(ctx, time.Duration(o.rng.IntN(20))*time.Millisecond)
	if resumed, _ := o.resume(goOn); stopped.result == done && !stopped.undecided && (resumed.result == done || resumed.result == nothing) {
		o.run.history.close(lapsing) // no pause is left to end
	}
}

// pausing is do for an operation on a pause. If it is uncertain which pause is in force, a lease that is left is
// not a violation.
func (o *operator) pausing(in input, call func(context.Context) (output, error)) output {
	before := o.tap.unanswered.Load()
	out := o.do(in, call)
	if o.tap.unanswered.Load() != before || out.result != done && out.result != nothing {
		o.tap.long = nil
	}
	return out
}

// resume ends pauses. all is false if unwell hosts may still pause their versions.
func (o *operator) resume(which kind) (out output, all bool) {
	before, was := o.tap.resumes, lock.Resumed{}
	call := o.run.history.now()
	out = o.pausing(input{kind: which}, func(ctx context.Context) (output, error) {
		var err error
		if which == resumeAll {
			was, err = lock.NewGroups(o.tap, 1).Resume(ctx)
		} else {
			was, err = o.lock.Resume(ctx)
		}
		all = err == nil
		if was.Pause != nil { // even if the versions could not be resumed
			return output{result: done}, nil
		}
		return output{result: nothing}, err
	})
	o.resumed(call, was.Unwell, before, all)
	return out, all
}

// mend ends whatever keeps hosts from their turn.
func (o *operator) mend(ctx context.Context) error {
	n := 1 + o.rng.IntN(2)
	mended := func(which kind) func() output {
		return func() output {
			out, all := o.resume(which)
			if !all {
				out.result = unknown
			}
			return out
		}
	}
	if until(ctx, mended(resumeAll), done, nothing) &&
		until(ctx, mended(resume), done, nothing) &&
		until(ctx, func() output { return o.setMax(n) }, done) {
		return nil
	}
	return fmt.Errorf("the operator of group %d can neither resume nor set the number of slots", o.group)
}
