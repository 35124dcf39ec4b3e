package lock

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// callTimeout bounds every call except Acquire, which bounds each of its tries instead.
const callTimeout = 10 * time.Second

// Lock is the lock of one group. It is for one caller at a time, and should live as long as the
// process does: it remembers a transaction whose outcome is unknown.
type Lock struct {
	Pauser // of this group
	store  Store
	prefix string
	max    atomic.Int64 // of a document that is created
	self   Record       // the host that Identify named
	disk   []string
	found  Snapshot // what Holder or Report has found last, for a Report or Release that follows

	// unresolved is the revision of the document that a transaction of unknown outcome compared,
	// or noRevision. As long as the document stays at it, the transaction may still happen.
	unresolved int64
}

// New returns the lock of a group; "" is the default group. max is the number of slots that the
// document gets if this client creates it. New does not use the store yet.
func New(store Store, group string, max int) (*Lock, error) {
	if err := ValidateGroup(group); err != nil {
		return nil, err
	}
	l := &Lock{store: store, prefix: Folder(group), unresolved: noRevision}
	l.Pauser = Pauser{store, l.pauseKey(), l.unwellRange()}
	return l, l.Declare(max)
}

// Declare replaces the max that New was given. It may be called at any time, also beside another call.
func (l *Lock) Declare(max int) error {
	if _, err := newSemaphore(0).SetMax(max); err != nil {
		return err
	}
	l.max.Store(int64(max))
	return nil
}

// Identify says which host this Lock acts for, with the tokens that earlier boots left on its disk. From then on
// Holder and Release check that the slot of an id was taken by that host, and if another host with the same machine
// id took it, return a [*CloneError]. Without Identify any slot can be looked up and released.
func (l *Lock) Identify(self Record, disk []string) {
	l.self, l.disk = self, disk
}

// Status returns the semaphore. It creates a missing document.
func (l *Lock) Status(ctx context.Context) (Semaphore, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var current Semaphore
	err := l.readAndChange(ctx, keys(l.semaphoreKey()), func(v view) (*change, error) {
		current = v.semaphore
		return nil, nil
	})
	return current, l.outcome("read the semaphore", err)
}

// SetMax sets the number of slots, from 0 up, and returns the semaphore before and after. Where
// after.Free is below zero, more hosts hold a slot than there are.
func (l *Lock) SetMax(ctx context.Context, n int) (before, after Semaphore, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	first := true
	err = l.readAndChange(ctx, keys(l.semaphoreKey()), func(v view) (*change, error) {
		if first || !v.undecided {
			before = v.semaphore
		}
		first = false
		var err error
		if after, err = v.semaphore.SetMax(n); err != nil || v.semaphore.Max == n {
			return nil, err
		}
		return &change{next: after}, nil
	})
	if err != nil {
		return Semaphore{}, Semaphore{}, l.outcome("set the number of slots", err)
	}
	return before, after, nil
}

// Release gives the slot of id back and deletes its record. The error is a [*NotHeldError] when id held
// none, unless the outcome of an earlier call was unknown: then holding none is success, and Release has
// made sure that it stays so.
func (l *Lock) Release(ctx context.Context, id string) error {
	return l.release(ctx, id, false)
}

// ReleaseWell is like Release, for the host that Identify named, once it is well after the reboot that the slot was
// for: it ends the pause that this host has caused.
func (l *Lock) ReleaseWell(ctx context.Context, id string) error {
	return l.release(ctx, id, true)
}

func (l *Lock) release(ctx context.Context, id string, well bool) (err error) {
	defer func() { err = l.outcome("release the slot of "+id, err) }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reads := keys(l.semaphoreKey(), l.recordKey(id), l.unwellKey(id))
	releasing := l.releasing(id, func(record Value) error { return l.cloneOf(id, l.self, record) })
	return l.changeFound(ctx, reads, func(v view) (*change, error) {
		c, err := releasing(v)
		record, _ := parseRecord(v.Values[l.recordKey(id)].Data)
		if entry := v.Values[l.unwellKey(id)]; c != nil && well && (record.BootID != l.self.BootID || record.Phase.booted()) {
			c.conds = append(c.conds, Cond{Key: l.unwellKey(id), ModRevision: entry.ModRevision})
			c.ops = append(c.ops, l.well(id, record, entry)...)
		}
		return c, err
	})
}

// ChangedError says that a slot has changed since it was looked at.
type ChangedError struct{ ID string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("the slot of %s was released or taken again in the meantime", safetext.Clean(e.ID))
}

// ReleaseRecord is like Release, for a holder as Overview has shown it: if anything about it has
// changed since, the error is a [*ChangedError] or a [*NotHeldError], and the slot stays.
func (l *Lock) ReleaseRecord(ctx context.Context, h HolderInfo) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := l.readAndChange(ctx, keys(l.semaphoreKey(), l.recordKey(h.ID)), l.releasing(h.ID, func(record Value) error {
		if record.ModRevision != h.revision {
			return &ChangedError{h.ID}
		}
		return nil
	}))
	return l.outcome("release the slot of "+h.ID, err)
}

// releasing gives the slot of id back if check accepts its record.
func (l *Lock) releasing(id string, check func(record Value) error) decision {
	return func(v view) (*change, error) {
		if v.undecided && !v.semaphore.Holds(id) {
			return nil, nil
		}
		next, err := v.semaphore.Release(id)
		if err != nil {
			return nil, err
		}
		record := v.Values[l.recordKey(id)]
		if err := check(record); err != nil {
			return nil, err
		}
		return &change{
			next:  next,
			conds: []Cond{{Key: l.recordKey(id), ModRevision: record.ModRevision}},
			ops:   []Op{{Key: l.recordKey(id), Delete: true}, {Key: l.aliveKey(id), Delete: true}},
		}, nil
	}
}

// Withdraw makes sure that id neither holds a slot nor has a place of owner in the queue, and that no transaction which
// any process has sent can still give it either. It always writes the document. A call of Acquire in the queue ends by
// it, see ErrLostPlace, or goes on at the end of the queue without a Stay; only one that has not come so far can still
// succeed. The error is a [*CloneError] if another host holds the slot; then nothing has changed.
func (l *Lock) Withdraw(ctx context.Context, id, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reads := keys(l.semaphoreKey(), l.recordKey(id), l.queueKey(id))
	releasing := l.releasing(id, func(record Value) error { return l.cloneOf(id, l.self, record) })
	err := l.readAndChange(ctx, reads, func(v view) (c *change, err error) {
		c = &change{next: v.semaphore}
		if v.semaphore.Holds(id) {
			if c, err = releasing(v); err != nil {
				return nil, err
			}
		}
		c.reads = reads[1:]
		if entry := v.Values[l.queueKey(id)]; entry.ModRevision != 0 {
			if r, _ := parseEntry(entry.Data); r.Owner == owner {
				c.conds = append(c.conds, Cond{Key: l.queueKey(id), ModRevision: entry.ModRevision})
				c.ops = append(c.ops, l.unqueue(id, entry)...)
			}
		}
		return c, nil
	})
	return l.outcome("end the wait and the slot of "+id, err)
}

// LeaveQueue ends the place of owner in the queue for id, if it has one, and leaves a slot alone. A call of Acquire
// with a Stay that waits in this place ends with ErrLostPlace.
func (l *Lock) LeaveQueue(ctx context.Context, id, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, keys(l.queueKey(id))...)
	entry := snap.Values[l.queueKey(id)]
	if r, _ := parseEntry(entry.Data); err == nil && entry.ModRevision != 0 && r.Owner == owner {
		// If the entry has changed, it is that of a newer wait.
		_, _, err = l.store.Commit(ctx, []Cond{{Key: l.queueKey(id), ModRevision: entry.ModRevision}}, l.unqueue(id, entry))
	}
	if err != nil {
		return fmt.Errorf("leave the queue for %s: %w", id, err)
	}
	return nil
}

// holderReads reads what is known of a holder, the document first.
func (l *Lock) holderReads(id string) []Read {
	return keys(l.semaphoreKey(), l.recordKey(id), l.aliveKey(id), l.unwellKey(id))
}

// Holder reports whether id holds a slot, and its record: the zero Record where none can be read. It only reads.
func (l *Lock) Holder(ctx context.Context, id string) (held bool, r Record, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("look up the slot of %s: %w", id, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, l.holderReads(id)...)
	if err != nil {
		return false, Record{}, err
	}
	s, revision, err := l.parse(snap)
	if err != nil {
		return false, Record{}, err
	}
	if revision == l.unresolved {
		return false, Record{}, fmt.Errorf("an earlier change: %w", ErrUnknown)
	}
	if !s.Holds(id) {
		return false, Record{}, nil
	}
	record := snap.Values[l.recordKey(id)]
	if err := l.cloneOf(id, l.self, record); err != nil {
		return false, Record{}, err
	}
	l.found = snap
	r, _ = parseRecord(record.Data)
	return true, r, nil
}

// Fence makes sure that no transaction which an earlier process of this host sent, without learning its
// outcome, can still happen: it writes the document again, unchanged. Until then neither "holds a slot"
// nor "holds none" is certain for a process that was just started, because a member of etcd may have
// paused before it applied the transaction. Calls of this Lock need no Fence: it remembers.
func (l *Lock) Fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, keys(l.semaphoreKey())...)
	if err == nil {
		before := l.unresolved
		l.unresolved = snap.Values[l.semaphoreKey()].ModRevision
		if _, err = l.change(ctx, snap, keys(l.semaphoreKey()), func(view) (*change, error) { return nil, nil }); permanent(err) {
			l.unresolved = before
		}
	}
	return l.outcome("fence the semaphore", err)
}
