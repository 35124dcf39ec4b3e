package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

var errTimeoutWithoutWait = errors.New("-timeout is for -wait: without it nothing is waited for")

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

// withTimeout bounds ctx, unless length is 0.
func withTimeout(ctx context.Context, length time.Duration) (context.Context, context.CancelFunc) {
	if length == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, length)
}

// mayHold says what to do if it is unknown whether id has a slot.
func mayHold(id string) string {
	return fmt.Sprintf(`%s may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock %s" gives it back`, id, word(id))
}
