package lock

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// The queue has two keys for a host that waits, both with its lease. P/queue/ID is its entry; entries are in the
// order in which they were created. P/order/N/ID is its place in an index of them, whose keys are in reverse order
// of N, which is made of that revision. Etcd can read the key right after a given one without looking at all of
// them, and so a host finds the entry to watch. The index may lack an entry that was made a moment ago. So the
// first host by the index looks once at the entries themselves: no other entry can come before it from then on.

const (
	// queueLease is how long a place in the queue outlives its host.
	queueLease = time.Minute

	// rereadAfter is how long the head of the queue, and hosts near it, trust a watch that reports nothing;
	// rereadPlaceAfter is the same for all others, perhaps thousands.
	rereadAfter      = 5 * time.Minute
	rereadPlaceAfter = time.Hour

	// pageSize is how many keys are read at once where the first is usually enough.
	pageSize = 8
	// maxReads is how many keys are read at once where all are needed: etcd refuses a transaction of more than
	// 128 operations (--max-txn-ops).
	maxReads = 100
)

// place is a place in the queue.
type place struct {
	session
	created  int64    // revision at which the entry was created
	revision int64    // of the entry's last change; 0: there is no entry yet
	indexed  bool     // the entry is in the index
	late     bool     // a transaction that makes the entry may still happen, as long as the lease lives
	head     bool     // no entry is, or can come, before it
	nearHead bool     // fewer than a page of entries are before it, by the index
	holders  []string // of slots, as last read: readState reads their entries, too
	stuck    stuckHead
}

// indexed is what a key of the index holds. Keys in that range with other data are not places.
var indexed = []byte("{}")

// isPlace reports whether an entry is a place in the queue: it ends with its host, and can be understood.
func isPlace(entry Value) bool {
	_, ok := parseEntry(entry.Data)
	return ok && entry.Lease != 0
}

// unqueue deletes an entry and its key in the index.
func (l *Lock) unqueue(id string, entry Value) []Op {
	return []Op{{Key: l.queueKey(id), Delete: true}, {Key: l.orderKey(id, entry.CreateRevision), Delete: true}}
}

// ofAnother reports whether an entry is the place of another process. There should not be two processes of one
// owner. If there are, they do not take the place from each other endlessly.
func (a *acquisition) ofAnother(entry Value) bool {
	r, _ := parseEntry(entry.Data)
	return isPlace(entry) && entry.Lease != a.place.lease && (r.Owner != a.record.Owner || a.evicted)
}

// enqueue makes an entry in the queue, or takes over the one that an earlier process of the same owner
// has left. It does nothing where another process was quicker. document is the revision of the document as last seen.
func (a *acquisition) enqueue(ctx context.Context, found Value, document int64) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := a.queueKey(a.id)
	if a.place.lease == 0 {
		s, err := startSession(ctx, limited, a.store, cmp.Or(a.record.Stay, queueLease))
		if err != nil {
			return err
		}
		a.place.session = s
	}
	for failures := 0; ; {
		if found.Lease == a.place.lease { // an earlier try has worked after all
			a.place.created, a.place.revision = found.CreateRevision, found.ModRevision
			return nil
		}
		ops := []Op{{Key: key, Value: a.entryDoc, Lease: a.place.lease}}
		useless := found.ModRevision != 0 && !isPlace(found) // it may never end, and be old
		switch err := a.cloneOf(a.id, a.record, found); {
		case useless:
			ops = a.unqueue(a.id, found)
		case err != nil:
			return err
		case a.ofAnother(found):
			return nil
		case found.ModRevision != 0: // its key in the index must not outlive it
			ops = append(ops, Op{Key: a.orderKey(a.id, found.CreateRevision), Value: indexed, Lease: a.place.lease})
		}
		// A try that is still under way compares the same revision, or one that has passed.
		conds := []Cond{{Key: key, ModRevision: found.ModRevision}}
		if a.record.Stay != 0 {
			// Its place would outlive this call, which may have ended when the entry is made. Withdraw, which writes the
			// document, prevents that.
			conds = append(conds, Cond{Key: a.semaphoreKey(), ModRevision: document})
		}
		ok, now, err := a.store.Commit(limited, conds, ops)
		switch {
		case err == nil && ok && useless:
			found = Value{}
		case err == nil && ok:
			a.place.created, a.place.revision = now.Revision, now.Revision
			if found.CreateRevision != 0 {
				a.place.created, a.place.indexed = found.CreateRevision, true
			}
			return nil
		case err == nil:
			found, document = now.Values[key], now.Values[a.semaphoreKey()].ModRevision
		case errors.Is(err, ErrNoLease):
			return fmt.Errorf("%w: %w", ErrLostPlace, err)
		case errors.Is(err, ErrRefused):
			return err
		default:
			a.place.late = true
			now, readErr := a.reread(limited, keys(key, a.semaphoreKey()), &failures)
			if readErr != nil {
				return err
			}
			found, document = now.Values[key], now.Values[a.semaphoreKey()].ModRevision
		}
	}
}

// findAhead returns the key in the index of the host right before this one; "" if this one is
// the first. It puts this host into the index first, if need be.
func (a *acquisition) findAhead(ctx context.Context) (Snapshot, string, error) {
	own := a.orderKey(a.id, a.place.created)
	entry := a.queueKey(a.id)
	next := Read{Key: own + "\x00", End: a.orderRange().End, Limit: pageSize}
	for {
		reads := append(a.gates(a.id), next)
		var snap Snapshot
		var err error
		if a.place.indexed {
			snap, err = a.store.Get(ctx, reads...)
		} else {
			_, snap, err = a.store.Commit(ctx, []Cond{{Key: entry, ModRevision: a.place.revision}}, []Op{{Key: own, Value: indexed, Lease: a.place.lease}}, reads...)
			a.place.indexed = err == nil
		}
		if err != nil {
			return snap, "", err
		}
		if snap.Values[entry].ModRevision != a.place.revision {
			return snap, "", ErrLostPlace
		}
		found := keysIn(snap, next)
		a.place.nearHead = len(found) < pageSize
		for _, key := range found {
			if v := snap.Values[key]; v.Lease != 0 && bytes.Equal(v.Data, indexed) {
				return snap, key, nil
			}
		}
		if len(found) < pageSize {
			return snap, "", nil
		}
		next.Key = found[len(found)-1] + "\x00" // those found have no lease, and so are not places
	}
}

// waitBehind waits, behind another host, until the key ahead, the own entry, a pause or an unwell host has changed. If
// ahead is the key of this id's own entry, another process has it, and a change of the document also ends the wait. It
// returns true if the id has a slot already: the other process has taken it, or an administrator, and the host
// ahead may wait for that very slot.
func (a *acquisition) waitBehind(ctx context.Context, snap Snapshot, ahead string) (got bool, err error) {
	s, _, err := a.parse(snap)
	if err != nil {
		return false, err
	}
	if s.Holds(a.id) {
		err := a.cloneOf(a.id, a.record, snap.Values[a.recordKey(a.id)])
		return err == nil, err
	}
	if a.versionPause(a.record.Version, snap) != nil {
		return false, errOutside
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
	_, err = a.watch(ctx, atMost, a.watches(ahead, snap.Revision)...)
	return false, err
}

// watches are those of a key, the own entry, the pauses and the unwell hosts, for changes after a revision.
func (a *acquisition) watches(key string, after int64) []Watch {
	unwell := a.unwellRange()
	return []Watch{
		{Key: key, After: after}, {Key: a.queueKey(a.id), After: after},
		{Key: a.pauseKey(), After: after}, {Key: pauseAllKey, After: after},
		{Key: unwell.Key, End: unwell.End, After: after},
	}
}

// watch waits for a change, up to atMost, and until the place is lost. A result without values means that the
// keys have to be read.
func (a *acquisition) watch(ctx context.Context, atMost time.Duration, watches ...Watch) (Snapshot, error) {
	alive := cmp.Or(a.place.alive, ctx) // without a lease there is none to lose
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
