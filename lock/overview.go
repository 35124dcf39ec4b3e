package lock

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Overview is all that is known about a group at one moment.
type Overview struct {
	// Semaphore is what a client would create if Exists is false.
	Semaphore Semaphore
	Exists    bool
	// Holders are in the order of Semaphore.Holders.
	Holders []HolderInfo
	// Queue is in order: the first one is next.
	Queue []Waiter
	// Pause is not nil while nobody may take a slot. If there is one for the group and one for all
	// groups it is the latter.
	Pause *Pause
}

// HolderInfo is a holder of a slot. The Record is the zero Record if there is none, as when the slot
// was taken by a client that writes none.
type HolderInfo struct {
	ID     string
	Record Record
	// Broken says that there is a record that cannot be understood.
	Broken bool
	// Expired says that the time-to-live that the record asks for is over.
	Expired bool

	revision int64 // of the record
}

// Waiter is a host in the queue.
type Waiter struct {
	ID       string
	Hostname string
	Since    time.Time
	Version  string
	// Broken says that the entry cannot be understood; then only its ID is known.
	Broken bool
}

// overviewReads is all that counts for a group.
func (l *Lock) overviewReads() []Read {
	alive := l.aliveRange()
	alive.KeysOnly = true
	return append(keys(l.semaphoreKey(), l.pauseKey(), pauseAllKey), l.holdersRange(), alive, l.queueRange())
}

// Overview returns what is there. It only reads, and does not create the document.
func (l *Lock) Overview(ctx context.Context) (Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, _, err := l.overview(ctx)
	return o, l.outcome("read the lock", err)
}

func (l *Lock) overview(ctx context.Context) (Overview, Snapshot, error) {
	snap, err := l.store.Get(ctx, l.overviewReads()...)
	if err != nil {
		return Overview{}, snap, err
	}
	s, revision, err := l.parse(snap)
	if err != nil {
		return Overview{}, snap, err
	}
	o := Overview{Semaphore: s, Exists: revision != 0, Pause: l.pauseIn(snap)}
	expired := l.expired(snap)
	for _, id := range s.Holders {
		v := snap.Values[l.recordKey(id)]
		r, ok := parseRecord(v.Data)
		o.Holders = append(o.Holders, HolderInfo{
			ID: id, Record: r, Broken: !ok && v.ModRevision != 0, Expired: slices.Contains(expired, id), revision: v.ModRevision,
		})
	}
	for _, key := range l.queueIn(snap) {
		r, ok := parseWaiter(snap.Values[key].Data)
		o.Queue = append(o.Queue, Waiter{ID: idOf(key), Hostname: r.Hostname, Since: r.Since, Version: r.Version, Broken: !ok})
	}
	return o, snap, nil
}

// queueIn returns the keys of the entries in a snapshot of the queue, in order. What has no lease is
// no entry.
func (l *Lock) queueIn(snap Snapshot) []string {
	queue := slices.DeleteFunc(within(snap, l.queueRange()), func(key string) bool { return snap.Values[key].Lease == 0 })
	slices.SortStableFunc(queue, func(a, b string) int {
		return cmp.Compare(snap.Values[a].CreateRevision, snap.Values[b].CreateRevision)
	})
	return queue
}

// ReleaseExpired takes the slots of those away whose time-to-live is over, and returns their ids, of
// which some may have been released although there is an error.
func (l *Lock) ReleaseExpired(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	released, err := l.releaseExpired(ctx)
	return released, l.outcome("release expired slots", err)
}

func (l *Lock) releaseExpired(ctx context.Context) (released []string, err error) {
	alive := l.aliveRange()
	alive.KeysOnly = true
	reads := append(l.semaphoreOnly(), l.holdersRange(), alive)
	snap, err := l.store.Get(ctx, reads...)
	if err != nil {
		return nil, err
	}
	if _, _, err := l.parse(snap); err != nil {
		return nil, err
	}
	for _, id := range l.expired(snap) {
		removed, err := l.removeIfExpired(ctx, snap, reads, id)
		if err != nil {
			return released, err
		}
		if removed {
			released = append(released, id)
		}
		if snap, err = l.store.Get(ctx, reads...); err != nil {
			return released, err
		}
	}
	return released, nil
}

// ChangedError says that a slot is not as it was when it was looked at.
type ChangedError struct{ ID string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("the slot of %s was released or taken anew in the meantime", clean(e.ID))
}

// ReleaseRecord is like Release, for a holder as Overview has shown it: if anything about it has
// changed since, the error is a [*ChangedError] or a [*NotHeldError], and the slot stays.
func (l *Lock) ReleaseRecord(ctx context.Context, h HolderInfo) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := l.readAndChange(ctx, keys(l.semaphoreKey(), l.recordKey(h.ID)), func(v view) (*change, error) {
		if v.undecided && !v.semaphore.Holds(h.ID) {
			return nil, nil
		}
		next, err := v.semaphore.Release(h.ID)
		if err != nil {
			return nil, err
		}
		if v.Values[l.recordKey(h.ID)].ModRevision != h.revision {
			return nil, &ChangedError{h.ID}
		}
		return &change{next: next, conds: []Cond{{Key: l.recordKey(h.ID), ModRevision: h.revision}}, ops: l.forget(h.ID)}, nil
	})
	return l.outcome("release the slot of "+h.ID, err)
}

// coalesce is how long changes are gathered before WatchOverview and Gone look again.
const coalesce = 200 * time.Millisecond

// WatchOverview calls back with what is there, now and after every change, until ctx ends, and returns
// why it does not go on. Changes that come close together are one. A failure of the store is called
// back as well, and does not end it; only a store that refuses or a document that cannot be understood
// does.
func (l *Lock) WatchOverview(ctx context.Context, changed func(Overview, error)) error {
	return l.follow(ctx, "watch the lock", func(o Overview, err error) bool {
		changed(o, err)
		return false
	})
}

// Gone returns once id neither holds a slot nor waits for one, or if all is true, once nobody does. A
// failure of the store does not end it, except for one as for WatchOverview.
func (l *Lock) Gone(ctx context.Context, id string, all bool) error {
	return l.follow(ctx, "wait", func(o Overview, err error) bool {
		switch {
		case err != nil:
			return false
		case all:
			return len(o.Holders) == 0 && len(o.Queue) == 0
		}
		return !o.Semaphore.Holds(id) && !slices.ContainsFunc(o.Queue, func(w Waiter) bool { return w.ID == id })
	})
}

// follow calls back now and after every change until enough returns true.
func (l *Lock) follow(ctx context.Context, verb string, enough func(Overview, error) bool) error {
	for failures := 0; ; {
		err := l.followOnce(ctx, func(o Overview) bool {
			failures = 0
			return enough(o, nil)
		})
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", verb, ctx.Err())
		case permanent(err):
			return fmt.Errorf("%s: %w", verb, err)
		}
		enough(Overview{}, fmt.Errorf("%s: %w", verb, err))
		sleep(ctx, backoff(failures, 250*time.Millisecond, 10*time.Second))
		failures++
	}
}

func (l *Lock) followOnce(ctx context.Context, enough func(Overview) bool) error {
	alive := l.aliveRange()
	for {
		o, snap, err := l.overview(ctx)
		if err != nil {
			return err
		}
		if enough(o) {
			return nil
		}
		// From the records to the semaphore is all of a group, in the order of keys, that is not of
		// another, except what lives.
		limited, cancel := context.WithTimeout(ctx, rereadAfter)
		_, err = l.store.Wait(limited,
			Watch{Key: l.holdersRange().Key, End: l.semaphoreKey() + "\x00", After: snap.Revision},
			Watch{Key: alive.Key, End: alive.End, After: snap.Revision},
			Watch{Key: pauseAllKey, After: snap.Revision})
		tired := limited.Err() != nil
		cancel()
		if ctx.Err() != nil || err != nil && !tired {
			return cmp.Or(ctx.Err(), err)
		}
		sleep(ctx, coalesce)
	}
}
