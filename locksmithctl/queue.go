package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/lock"
)

// queueFlags are the flags of a command that can wait in the queue for its slot.
type queueFlags struct {
	wait    bool
	timeout timeFlag
}

func (f *queueFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait in the queue until there is a slot")
	f.timeout.register(cmd, "timeout", timeoutUsage)
}

// check refuses a time-out for a command that does not wait.
func (f *queueFlags) check() error {
	if f.timeout != 0 && !f.wait {
		return usageError{errors.New("-timeout is for -wait: without -wait the command does not wait")}
	}
	return nil
}

// acquire takes a slot, with -wait in its turn. already reports that id held one before; with -wait that is not known.
// An error says what to do, by unknown, if it is not known whether id has a slot now.
func (a *app) acquire(ctx context.Context, s session, id string, record lock.Record, f queueFlags, unknown string) (already bool, err error) {
	if f.wait {
		err = a.acquireInTurn(ctx, s, id, record, time.Duration(f.timeout))
	} else {
		already, err = s.TryAcquire(ctx, id, record)
	}
	return already, explain(err, unknown)
}

// acquireInTurn waits in the queue for a slot, and says what it waits for.
func (a *app) acquireInTurn(ctx context.Context, s session, id string, record lock.Record, timeout time.Duration) error {
	limited, cancel := withTimeout(ctx, timeout)
	defer cancel()
	notes := a.startNotes()
	noted, last := "", "etcd has not answered yet"
	var freed []notify.Event
	defer func() { a.tell(ctx, freed...) }()
	err := s.Acquire(limited, id, record, func(w lock.WaitStatus, err error) {
		if h := w.Expired; h != nil {
			freed = append(freed, slotExpired(s.settings.Group, *h, ""))
			notes.add("freed the expired slot of " + cmp.Or(h.Record.Hostname, h.ID))
			return
		}
		if limited.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			last = err.Error()
			text = last + "; still trying"
		} else {
			last = w.String()
			text = "waiting: " + last
		}
		if text != noted {
			noted = text
			notes.add(text)
		}
	})
	notes.end()
	if err != nil && !errors.Is(err, lock.ErrUnknown) && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("take a slot for %s: none within %v: %s", id, timeout, last)
	}
	return err
}

// withTimeout limits ctx, unless timeout is 0.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
