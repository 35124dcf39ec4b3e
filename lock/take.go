package lock

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// candidate is a host that wants a slot.
type candidate struct {
	id                  string
	record              Record
	began               time.Time
	holderDoc, entryDoc []byte // what it leaves as a holder, and in the queue
}

// newCandidate refuses what cannot be written.
func newCandidate(id string, r Record) (*candidate, error) {
	if err := ValidateID(id); err != nil {
		return nil, fmt.Errorf("take a slot: %w", err)
	}
	r.Owner = cmp.Or(r.Owner, rand.Text())
	holder, entry, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("take a slot for %s: %w", id, err)
	}
	return &candidate{id: id, record: r, began: time.Now(), holderDoc: holder, entryDoc: entry}, nil
}

// shortWait is a wait after which the Since of a record is still when the slot is taken.
const shortWait = time.Second

// holder returns what the candidate leaves as a holder that takes its slot now.
func (c *candidate) holder() ([]byte, error) {
	if c.record.Since.IsZero() || time.Since(c.began) < shortWait {
		return c.holderDoc, nil
	}
	r := c.record
	r.Since = time.Now().UTC()
	holder, _, err := r.encode()
	return holder, err
}

// TryAcquire takes a slot for id and writes its record with it, regardless of the queue. already
// is true when id held one before; its record is then left alone. The error is a [*FullError] when no
// slot is free, a [*PausedError] during a pause, and a [*CloneError] when another host holds a slot, or
// waits for one, under the same id.
func (l *Lock) TryAcquire(ctx context.Context, id string, r Record) (already bool, err error) {
	c, err := newCandidate(id, r)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reads := l.gates(id)
	snap, err := l.store.Get(ctx, reads...)
	if err == nil {
		already, _, err = l.take(ctx, snap, reads, c, func(Snapshot) ([]Cond, error) { return nil, nil })
	}
	return already, l.outcome("take a slot for "+id, err)
}

// gates is what must be read before id may take a slot.
func (l *Lock) gates(id string) []Read {
	return append(keys(l.semaphoreKey(), l.recordKey(id), l.queueKey(id), l.pauseKey(), pauseAllKey), l.unwellRange())
}

// take takes a slot, given a snapshot of reads, which include the gates, and deletes the candidate's place in the
// queue with the same transaction. depends says what else the slot depends on. now is the last snapshot seen.
func (l *Lock) take(ctx context.Context, snap Snapshot, reads []Read, c *candidate, depends func(Snapshot) ([]Cond, error)) (already bool, now Snapshot, err error) {
	alive := aliveLease{lock: l}
	defer func() { alive.end(ctx, err == nil && !already) }()
	now, err = l.change(ctx, snap, reads, func(v view) (*change, error) {
		holds := v.semaphore.Holds(c.id)
		if already = holds && !v.undecided; holds {
			err := l.cloneOf(c.id, c.record, v.Values[l.recordKey(c.id)])
			if err != nil || c.record.Stay == 0 {
				return nil, err
			}
			// A Withdraw that another process has sent could still release the slot.
			return &change{next: v.semaphore, reads: keys(l.recordKey(c.id), l.queueKey(c.id))}, nil
		}
		entry := v.Values[l.queueKey(c.id)]
		if err := l.cloneOf(c.id, c.record, entry); err != nil && isPlace(entry) {
			return nil, err
		}
		if p := l.pauseOf(c.record.Version, v.Snapshot); p != nil {
			return nil, &PausedError{Pause: *p}
		}
		conds, err := depends(v.Snapshot)
		if err != nil {
			return nil, err
		}
		next, err := v.semaphore.Acquire(c.id)
		if err != nil {
			return nil, err
		}
		holder, err := c.holder()
		if err != nil {
			return nil, err
		}
		ch := &change{
			next: next,
			conds: append(conds, Cond{Key: l.pauseKey()}, Cond{Key: pauseAllKey},
				Cond{Key: l.recordKey(c.id), ModRevision: v.Values[l.recordKey(c.id)].ModRevision},
				Cond{Key: l.queueKey(c.id), ModRevision: entry.ModRevision}),
			ops:   []Op{{Key: l.recordKey(c.id), Value: holder}},
			reads: []Read{l.unwellRange()},
		}
		// A snapshot that events have changed may lack the first entry. (Where it has one, all were read, and each
		// later entry comes with a write of the document.)
		if r := l.unwellRange(); len(keysIn(v.Snapshot, r)) == 0 {
			ch.conds = append(ch.conds, Cond{Key: r.Key, End: r.End})
		}
		if entry.ModRevision != 0 {
			ch.ops = append(ch.ops, l.unqueue(c.id, entry)...)
		}
		keep, err := alive.ops(ctx, c.id, c.record.TTL, Value{})
		ch.ops = append(ch.ops, keep...)
		return ch, err
	})
	return already, now, err
}

// revokeTimeout bounds the cleaning up after a call. It is enough for a second try, by another member of etcd,
// where the first has no answer: otherwise one lost message would block the queue for as long as the lease lives.
const revokeTimeout = 4 * time.Second

// revoke ends a lease that is not needed any more, even if ctx has ended. If it cannot, the lease runs out
// by itself.
func revoke(ctx context.Context, store Leases, lease int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	_ = store.Revoke(ctx, lease)
}
