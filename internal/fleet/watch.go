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
	return watch(ctx, store, "", func() (Fleet, error) { return Read(ctx, store, max, now()) }, changed)
}

// WatchGroup is Watch for one group.
func WatchGroup(ctx context.Context, store lock.Store, group string, max int, now func() time.Time, changed func(Fleet, error)) error {
	return watch(ctx, store, group, func() (Fleet, error) { return ReadGroup(ctx, store, group, max, now()) }, changed)
}

// watch reads again whenever something below the folder of a group has changed. That of the default group has all
// others.
func watch(ctx context.Context, store lock.Store, group string, read func() (Fleet, error), changed func(Fleet, error)) error {
	folder := lock.Folder(group)
	everything := lock.Watch{Key: folder + "/", End: folder + "0"}
	for failures := 0; ; {
		snap, err := store.Get(ctx, lock.Read{Key: everything.Key, End: everything.End, Limit: 1, KeysOnly: true})
		var f Fleet
		if err == nil {
			f, err = read()
		}
		if err == nil {
			failures = 0
			changed(f, nil)
			everything.After = snap.Revision
			limited, cancel := context.WithTimeout(ctx, rereadAfter)
			_, err = store.Wait(limited, everything)
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
