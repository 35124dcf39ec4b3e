package lock

import (
	"context"
	"slices"
	"time"
)

// stuckAfter is how long a slot may stay free before those behind the head of the queue look up who the head
// is, and then how long until they remove it, unless its place stays for longer: time for several tries of everything.
const stuckAfter = 2 * time.Minute

// stuckHead is an entry at the head of the queue that leaves a free slot alone, as first seen; without a key
// it is a free slot whose head has yet to be looked up. A head that is alive takes a slot in seconds. Its
// lease is not a sign of life: before etcd 3.6 anybody who can connect to it can keep every lease alive.
type stuckHead struct {
	key             string
	entry, document int64 // revisions
	since           time.Time
}

// removeStuckHead deletes the entry at the head of the queue if it has left a free slot alone for too long, given
// a snapshot in which a slot is free and nothing is paused. The head may be the entry of this id, where another
// process made it and died. It returns true if there may be another head.
func (a *acquisition) removeStuckHead(ctx context.Context, snap Snapshot) (removed bool, err error) {
	entries := a.queueRange()
	entries.KeysOnly, entries.CreatedBefore = true, snap.Values[a.queueKey(a.id)].CreateRevision+1
	queue, err := a.store.Get(ctx, entries)
	if err != nil {
		return false, err
	}
	key, entry, err := a.firstPlace(ctx, byCreation(queue, entries))
	if err != nil || key == "" {
		return false, err
	}
	head := stuckHead{key: key, entry: entry.ModRevision, document: snap.Values[a.semaphoreKey()].ModRevision, since: a.place.stuck.since}
	if head != a.place.stuck {
		head.since = time.Now()
		a.place.stuck = head
	}
	if host, _ := parseEntry(entry.Data); time.Since(head.since) < max(stuckAfter, host.Stay) {
		return false, nil
	}
	a.place.stuck = stuckHead{}
	_, _, err = a.store.Commit(ctx, []Cond{
		{Key: a.semaphoreKey(), ModRevision: head.document}, {Key: a.pauseKey()}, {Key: pauseAllKey}, {Key: head.key, ModRevision: head.entry},
	}, a.unqueue(idOf(head.key), entry))
	return true, err
}

// firstPlace returns the first of the entries that is a place in the queue; "" if none is.
func (a *acquisition) firstPlace(ctx context.Context, entries []string) (string, Value, error) {
	for page := range slices.Chunk(entries, pageSize) {
		snap, err := a.store.Get(ctx, keys(page...)...)
		if err != nil {
			return "", Value{}, err
		}
		for _, key := range page {
			if v := snap.Values[key]; isPlace(v) {
				return key, v, nil
			}
		}
	}
	return "", Value{}, nil
}
