package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/lock"
)

// rereadAfter is how long a watch waits for changes at most before it reads again, in case that one was missed;
// coalesce is how long changes are gathered, since a fleet that is busy changes all the time.
const (
	rereadAfter = 10 * time.Minute
	coalesce    = time.Second
)

// Watch calls changed with the whole fleet, as Read does, now and after changes, at most once a second, until ctx ends,
// and returns why it ended. A failure of the store is reported as well, and does not end it; a store that refuses does.
func Watch(ctx context.Context, store lock.Store, max int, now func() time.Time, changed func(Fleet, error)) error {
	read := func(store lock.Store) (Fleet, error) { return Read(ctx, store, max, now()) }
	return watch(ctx, store, []lock.Watch{{Key: lock.Root + "/", End: lock.Root + "0"}}, read, changed) // "0" comes right after "/"
}

// WatchGroup is Watch for one group.
func WatchGroup(ctx context.Context, store lock.Store, group string, max int, now func() time.Time, changed func(Fleet, error)) error {
	read := func(store lock.Store) (Fleet, error) { return ReadGroup(ctx, store, group, max, now()) }
	return watch(ctx, store, lock.Everything(group, 0), read, changed)
}

// watch reads again whenever something that watches are for has changed.
func watch(ctx context.Context, store lock.Store, watches []lock.Watch, read func(lock.Store) (Fleet, error), changed func(Fleet, error)) error {
	for failures := 0; ; {
		first := &firstRevision{Store: store}
		f, err := read(first)
		if err == nil {
			failures = 0
			changed(f, nil)
			for i := range watches {
				watches[i].After = first.revision
			}
			limited, cancel := context.WithTimeout(ctx, rereadAfter)
			_, err = store.Wait(limited, watches...)
			if limited.Err() != nil {
				err = nil
			}
			cancel()
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, lock.ErrRefused):
			return fmt.Errorf("watch the hosts: %w", cmp.Or(ctx.Err(), err))
		case err != nil:
			changed(Fleet{}, fmt.Errorf("watch the hosts: %w", err))
			backoff.Sleep(ctx, backoff.Delay(failures, coalesce, 10*time.Second))
			failures++
		default:
			backoff.Sleep(ctx, coalesce)
		}
	}
}
