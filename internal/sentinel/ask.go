package sentinel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/systemd"
)

// Unit runs the command: see Command.
const Unit = "locksmith-sentinel.service"

const (
	// askTimeout is how long the unit may take, a little more than its own TimeoutStartSec=, which usually ends it.
	askTimeout = 5*time.Minute + 15*time.Second
	// resetTimeout bounds a call that only changes what systemctl shows.
	resetTimeout = 10 * time.Second
)

// Units starts units of systemd.
type Units interface {
	// Start starts a unit and waits for the end of its job. At the end of ctx it stops what is still starting.
	Start(ctx context.Context, unit string) error
	// ResetFailed makes a unit that has failed inactive.
	ResetFailed(ctx context.Context, unit string) error
}

// Asker asks a command again and again, in a unit of its own.
type Asker struct {
	Command string        // as in the settings
	Period  time.Duration // between two questions
	Root    string        // directory that stands for "/"
	Units   Units
	Log     *slog.Logger
}

// Watch sends what the command says: first immediately, then after a random part of the period, so that hosts that were
// started together do not go on asking together, and from then on every period, until ctx ends.
func (a Asker) Watch(ctx context.Context) <-chan State {
	states := make(chan State)
	go func() {
		defer close(states)
		for wait := rand.N(a.Period); ; wait = a.Period {
			next := time.After(wait)
			s := a.Ask(ctx)
			if ctx.Err() != nil {
				return
			}
			select {
			case states <- s:
			case <-ctx.Done():
				return
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	}()
	return states
}

// Ask asks the command once.
func (a Asker) Ask(ctx context.Context) State {
	// Only an answer to this question counts.
	if err := forgetAnswer(a.Root); err != nil {
		return State{Err: err}
	}
	asking, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %v", askTimeout))
	defer cancel()
	err := a.Units.Start(asking, Unit)
	if err == nil {
		return readAnswer(a.Root, a.Command)
	}
	a.resetFailed(ctx)
	return State{Err: errors.New(describe(err))}
}

// describe says why a start of the unit failed, in the words of what it ran if it has said why.
func describe(err error) string {
	if job, ok := errors.AsType[*systemd.JobError](err); ok && len(job.Failed) == 1 {
		if f := job.Failed[0]; f.Name == Unit && f.Result == "exit-code" && f.Text != "" {
			return f.Text
		}
	}
	return safetext.Cut(err.Error(), maxReason)
}

// resetFailed ends the failed state of the unit, since the status says what is wrong. An alert about failed units could
// hold reboots back.
func (a Asker) resetFailed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTimeout)
	defer cancel()
	if err := a.Units.ResetFailed(ctx, Unit); err != nil {
		a.Log.Debug(fmt.Sprintf("%s may stay a failed unit: %v", Unit, err))
	}
}
