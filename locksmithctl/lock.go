package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/lock"
)

var errTimeoutWithoutWait = errors.New("-timeout is for -wait: without it nothing is waited for")

func (a *app) lockCommand() *cobra.Command {
	var (
		wait    bool
		timeout timeFlag
	)
	cmd := &cobra.Command{
		Use:   "lock [ID] [-wait [-timeout TIME]]",
		Short: "Take a slot of the lock",
		Long: `lock takes a slot for the machine with this id, by default this machine. It fails if
none is free or the lock is paused, and does not mind the queue. If the machine holds a
slot already, that is success as well.

With -wait it waits in the queue for its turn, as hosts do, and for the end of a pause,
until it has the slot. When it is interrupted, or after -timeout, it leaves the queue.
Where another process is in the queue for the same machine, such as its locksmithd, it
waits beside that, and leaves it its place.

locksmithd releases the slot of its own machine when it starts, whoever took it.
Until then, or "locksmithctl unlock", one host less can reboot: a slot that is taken
like this has no time-to-live.`,
		Args: takes(0, 1, "at most one argument, a machine id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout != 0 && !wait {
				return usageError{errTimeoutWithoutWait}
			}
			id, err := a.target(args)
			if err != nil {
				return err
			}
			if err := lock.ValidateID(id); err != nil {
				return usageError{err}
			}
			return a.withLock(func(s session) error {
				record, err := a.record(s, id)
				if err != nil {
					return err
				}
				if wait {
					return a.lockWaiting(cmd.Context(), s, id, record, time.Duration(timeout))
				}
				already, err := s.TryAcquire(cmd.Context(), id, record)
				if err != nil {
					return s.explain(err, mayHold(id))
				}
				if already {
					a.note("%s holds a slot already", id)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait in the queue until there is a slot")
	timeoutFlag(cmd, &timeout)
	return cmd
}

// mayHold says what to do if it is unknown whether id has a slot.
func mayHold(id string) string {
	return fmt.Sprintf(`%s may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock %s" gives it back`, id, word(id))
}

// lockWaiting takes a slot in turn, and says what it waits for.
func (a *app) lockWaiting(ctx context.Context, s session, id string, record lock.Record, timeout time.Duration) error {
	limited, cancel := withTimeout(ctx, timeout)
	defer cancel()
	note, written := a.notesBeside()
	told, last := "", "etcd has not answered yet"
	err := s.Acquire(limited, id, record, func(w lock.Waiting, err error) {
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
		if text != told {
			told = text
			note(text)
		}
	})
	written()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lock.ErrUnknown):
		return s.explain(err, mayHold(id))
	case limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("take a slot for %s: not within %v: %s", id, timeout, last)
	}
	return err
}

// notesBeside returns a note that does not wait for the terminal: who stops that, with Ctrl-S, stops neither the
// wait nor the hosts that wait behind. Of what could not be written meanwhile the last is kept. written waits
// for what is left to be written, for a second at most.
func (a *app) notesBeside() (note func(text string), written func()) {
	texts, done := make(chan string, 16), make(chan struct{})
	go func() {
		defer close(done)
		for text := range texts {
			a.note("%s", text)
		}
	}()
	note = func(text string) {
		for {
			select {
			case texts <- text:
				return
			default:
			}
			select {
			case <-texts: // the oldest
			default:
			}
		}
	}
	written = func() {
		close(texts)
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	return note, written
}
