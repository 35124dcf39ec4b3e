package lock

import (
	"context"
	"time"
)

const (
	// rereadAfter is how long the head of the queue, and who is near it, trusts a watch that reports nothing.
	rereadAfter = 5 * time.Minute
	// rereadPlaceAfter is the same for all others, of which there may be thousands.
	rereadPlaceAfter = time.Hour
)

// waitBehind waits, behind another host, until the key ahead, the own entry or a pause has changed. Where
// ahead is the key of the own entry, another process has that, and a change of the document ends the wait, too.
// It returns true if the id has a slot already: the other process has taken it, or an administrator, and the
// host ahead may wait for that very slot.
func (a *acquisition) waitBehind(ctx context.Context, snap Snapshot, ahead string) (got bool, err error) {
	s, _, err := a.parse(snap)
	if err != nil {
		return false, err
	}
	if s.Holds(a.id) {
		err := a.cloneOf(a.id, a.record, snap.Values[a.recordKey(a.id)])
		return err == nil, err
	}
	now := WaitStatus{Semaphore: s, Ahead: idOf(ahead), Pause: a.pauseIn(snap)}
	atMost := rereadPlaceAfter
	if a.place.nearHead {
		atMost = rereadAfter
	}
	if _, full := s.Acquire(a.id); full != nil || now.Pause != nil {
		a.place.stuck = stuckHead{}
	} else {
		atMost = stuckAfter
		if document := snap.Values[a.semaphoreKey()].ModRevision; a.place.stuck.document != document {
			a.place.stuck = stuckHead{document: document} // most free slots are about to be taken
		} else if removed, err := a.removeStuckHead(ctx, snap); removed || err != nil {
			return false, err
		}
	}
	if ahead == a.queueKey(a.id) {
		now.Ahead, now.Beside = "", true
		ahead = a.semaphoreKey()
	}
	a.waitFor(now)
	var watches []Watch
	for _, key := range []string{ahead, a.queueKey(a.id), a.pauseKey(), pauseAllKey} {
		watches = append(watches, Watch{Key: key, After: snap.Revision})
	}
	_, err = a.watch(ctx, atMost, watches...)
	return false, err
}

// watch waits for a change, up to atMost, and until the place is lost. A result without values means that the
// keys have to be read.
func (a *acquisition) watch(ctx context.Context, atMost time.Duration, watches ...Watch) (Snapshot, error) {
	alive := a.place.until(ctx)
	limited, cancel := context.WithTimeout(alive, atMost)
	defer cancel()
	changed, err := a.store.Wait(limited, watches...)
	switch {
	case err == nil:
		return changed, nil
	case ctx.Err() != nil:
		return Snapshot{}, ctx.Err()
	case alive.Err() != nil:
		return Snapshot{}, context.Cause(alive)
	case limited.Err() != nil:
		return Snapshot{}, nil
	}
	return Snapshot{}, err
}
