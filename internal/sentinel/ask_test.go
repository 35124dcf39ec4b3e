package sentinel

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/must"
)

// units is a systemd whose unit does what a test wants.
type units struct {
	start func(ctx context.Context) error

	mu     sync.Mutex
	asked  []time.Time
	resets int
}

func (u *units) Start(ctx context.Context, unit string) error {
	u.mu.Lock()
	u.asked = append(u.asked, time.Now())
	u.mu.Unlock()
	if unit != Unit {
		return errors.New("another unit: " + unit)
	}
	return u.start(ctx)
}

func (u *units) ResetFailed(_ context.Context, unit string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if unit == Unit {
		u.resets++
	}
	return nil
}

// newAsker returns what asks a command, by a systemd whose unit ends at once without an answer.
func newAsker(t *testing.T) (Asker, *units) {
	u := &units{start: func(context.Context) error { return nil }}
	return Asker{Command: "reboot?", Period: time.Hour, Root: t.TempDir(), Units: u, Log: slog.New(slog.DiscardHandler)}, u
}

// answers is a unit that answers.
func (a Asker) answers(t *testing.T, command string, s State) func(context.Context) error {
	return func(context.Context) error {
		return Command{Text: command}.WriteAnswer(a.Root, s)
	}
}

func failed(f systemd.FailedUnit) func(context.Context) error {
	return func(context.Context) error {
		return &systemd.JobError{Unit: Unit, Result: "failed", Failed: []systemd.FailedUnit{f}}
	}
}

func TestAnswerIsWhatTheUnitHasWrittenSinceTheQuestion(t *testing.T) {
	a, u := newAsker(t)
	yes := State{Needed: true, Reason: "a new kernel"}
	for _, test := range []struct {
		what   string
		start  func(context.Context) error
		want   string
		resets int
	}{
		{"a yes", a.answers(t, "reboot?", yes), "yes: a new kernel", 0},
		{"no answer after a yes", func(context.Context) error { return nil }, "error: locksmith-sentinel.service has ended without an answer: *", 0},
		{"a no", a.answers(t, "reboot?", State{}), "no", 0},
		{"another command", a.answers(t, "other", yes), "error: locksmith-sentinel.service has run another command, other: after a change of the settings reload locksmithd", 0},
		{"nonsense", func(context.Context) error {
			return os.WriteFile(filepath.Join(a.Root, AnswerPath), []byte("yes"), 0o600)
		}, "error: locksmith-sentinel.service has ended without an answer: *", 0},
		{"a failure of the command", failed(systemd.FailedUnit{Name: Unit, Result: "exit-code", Status: 1, Text: "exit status 3"}), "error: exit status 3", 1},
		{"a failure of ours", failed(systemd.FailedUnit{Name: Unit, Result: "exit-code", Status: 203}), "error: locksmith-sentinel.service failed with exit status 203", 1},
		{"a time-out", failed(systemd.FailedUnit{Name: Unit, Result: "timeout", Text: "it was stopped"}), "error: locksmith-sentinel.service did not finish in time: it was stopped", 1},
		{"no unit", func(context.Context) error { return systemd.ErrNoUnit }, "error: there is no such unit", 1},
		// A yes that is written by what fails then is none.
		{"a yes, and a failure", func(ctx context.Context) error {
			return errors.Join(a.answers(t, "reboot?", yes)(ctx), errors.New("the bus is gone"))
		}, "error: the bus is gone", 1},
	} {
		u.start, u.resets = test.start, 0
		a.Ask(t.Context()).says(t, test.what, test.want)
		if u.resets != test.resets {
			t.Errorf("%s: the failed state is reset %d times, want %d", test.what, u.resets, test.resets)
		}
	}
}

func TestAnswerThatCannotBeForgottenIsNotAsked(t *testing.T) {
	a, u := newAsker(t)
	must.Do(t, os.MkdirAll(filepath.Join(a.Root, AnswerPath, "occupied"), 0o755))
	if s := a.Ask(t.Context()); s.Err == nil || !strings.Contains(s.Err.Error(), AnswerPath) || len(u.asked) > 0 {
		t.Errorf("got %+v, asked %d times", s, len(u.asked))
	}
}

func TestCommandThatNeverEndsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, u := newAsker(t)
		u.start = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		begin := time.Now()
		a.Ask(t.Context()).says(t, "the command", "error: no answer within 5m15s")
		if d := time.Since(begin); d != askTimeout {
			t.Errorf("it is given up after %v", d)
		}
	})
}

func TestCommandIsAskedAtOnceThenAtARandomTimeAndThenEveryPeriod(t *testing.T) {
	seconds := map[time.Duration]bool{}
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			a, u := newAsker(t)
			u.start = func(ctx context.Context) error {
				time.Sleep(20 * time.Second) // which does not shift the next
				return a.answers(t, "reboot?", State{})(ctx)
			}
			ctx, cancel := context.WithCancel(t.Context())
			begin := time.Now()
			states := a.Watch(ctx)
			for range 4 {
				(<-states).says(t, "the command", "no")
			}
			cancel()
			if _, open := <-states; open {
				t.Error("it goes on")
			}
			if u.asked[0] != begin {
				t.Errorf("it is asked first after %v", u.asked[0].Sub(begin))
			}
			second := u.asked[1].Sub(begin)
			seconds[second] = true
			if second > time.Hour+20*time.Second {
				t.Errorf("it is asked again after %v", second)
			}
			for i := 2; i < 4; i++ {
				if d := u.asked[i].Sub(u.asked[i-1]); d != time.Hour {
					t.Errorf("it is asked again after %v", d)
				}
			}
		})
	}
	if len(seconds) < 2 {
		t.Errorf("hosts that start at once ask at once again: %v", seconds)
	}
}

// What a command says while it is not followed any more is not reported.
func TestEndOfTheWatchEndsTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, u := newAsker(t)
		u.start = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		ctx, cancel := context.WithCancel(t.Context())
		states := a.Watch(ctx)
		synctest.Wait()
		cancel()
		if s, open := <-states; open || len(u.asked) != 1 {
			t.Errorf("got %+v, asked %d times", s, len(u.asked))
		}
	})
}
