package lock

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// Root is the folder of all keys, as hosts in the field know it.
const Root = "coreos.com/updateengine/rebootlock"

const (
	// callTimeout bounds every call except Acquire, which bounds each of its tries instead.
	callTimeout = 10 * time.Second

	// maxConflicts is how many changes of others a call puts up with before it gives up. Each of
	// them means that somebody else got through, so that only a broken client can use it up.
	maxConflicts = 40

	// rereadAfter is how long the head of the queue believes a watch that says nothing, and
	// rereadPlaceAfter how long the others do, who are many.
	rereadAfter      = 5 * time.Minute
	rereadPlaceAfter = time.Hour

	// stuckAfter is how long the head of the queue may leave a free slot alone before those behind it look who it
	// is, and then how long before they take it for gone: some tries of everything.
	stuckAfter = 2 * time.Minute

	// queueLease is how long a place in the queue outlives its host.
	queueLease = time.Minute

	// revokeTimeout bounds the tidying up after a call. It is enough for a second try, by another member of
	// etcd, where the first has no answer: else one lost message would hold up the queue for as long as the
	// lease lives.
	revokeTimeout = 4 * time.Second

	// noRevision is no revision of a document, not even of one that does not exist (0).
	noRevision = -1
)

// ErrUnknown marks the error of a call whose change may have happened, or may still happen: etcd
// did not say and could not be asked. The next call on the same Lock that changes or may change the
// document finds out; for a pause there is nothing that does.
var ErrUnknown = errors.New("outcome unknown, it may have happened or still happen")

// DocumentError says that the document cannot be understood. No call changes such a document.
type DocumentError struct {
	Key string
	Err error
}

func (e *DocumentError) Error() string {
	return fmt.Sprintf("cannot use the semaphore at etcd key %s: %v; put it right with etcdctl put, or delete the key once no host is rebooting",
		e.Key, e.Err)
}

func (e *DocumentError) Unwrap() error { return e.Err }

// Lock is the lock of one group. It is for one caller at a time, and should live as long as the
// process does: it remembers a transaction whose outcome is unknown.
type Lock struct {
	store  Store
	prefix string
	max    atomic.Int64 // of a document that is created
	self   Record       // who the caller is, as far as it said
	disk   []string

	// looked is what Holder has read, for a Release that follows.
	looked Snapshot

	// unresolved is the revision of the document that a transaction of unknown outcome compared,
	// or noRevision. As long as the document stays at it, the transaction may still happen.
	unresolved int64
}

// New returns the lock of a group; "" is the default group. max is the number of slots that the
// document gets if this client is the one to create it. New does not use the store yet.
func New(store Store, group string, max int) (*Lock, error) {
	if err := ValidateGroup(group); err != nil {
		return nil, err
	}
	l := &Lock{store: store, prefix: prefix(group), unresolved: noRevision}
	return l, l.Declare(max)
}

// Declare is for another max than that of New. It may be called at any time, also beside another call.
func (l *Lock) Declare(max int) error {
	if _, err := newSemaphore(0).SetMax(max); err != nil {
		return err
	}
	l.max.Store(int64(max))
	return nil
}

// Identify says which host this Lock acts for, with the tokens that earlier boots left on its disk. From
// then on Holder and Release look whether what an id holds was taken by that host, and if it was by
// another one, which has the same machine id, return a [*CloneError]. Without it anybody's slot can be
// looked up and released.
func (l *Lock) Identify(self Record, disk []string) {
	l.self, l.disk = self, disk
}

// ValidateGroup refuses names whose key would not be the group's own, and names that cannot be
// printed. "" is the default group.
func ValidateGroup(group string) error {
	// Clients that clean the key as if it were a path end up at another group's.
	if escaped := url.QueryEscape(group); escaped == "." || escaped == ".." {
		return fmt.Errorf("group %q is not a name: its key would be that of another group", group)
	}
	if !printable(group) {
		return fmt.Errorf("group %q has characters that cannot be printed", group)
	}
	return nil
}

// prefix is what all keys of a group begin with.
func prefix(group string) string {
	if group == "" {
		return Root
	}
	return Root + "/groups/" + url.QueryEscape(group)
}

// The keys of a group, and the one of all groups.

func (l *Lock) semaphoreKey() string       { return l.prefix + "/semaphore" }
func (l *Lock) recordKey(id string) string { return l.prefix + "/holders/" + url.QueryEscape(id) }
func (l *Lock) aliveKey(id string) string  { return l.prefix + "/alive/" + url.QueryEscape(id) }
func (l *Lock) queueKey(id string) string  { return l.prefix + "/queue/" + url.QueryEscape(id) }
func (l *Lock) pauseKey() string           { return l.prefix + "/pause" }

const pauseAllKey = Root + "/pause-all"

// Status returns the semaphore. It creates the document when there is none.
func (l *Lock) Status(ctx context.Context) (Semaphore, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var current Semaphore
	err := l.readAndChange(ctx, l.semaphoreOnly(), func(v view) (*change, error) {
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
	err = l.readAndChange(ctx, l.semaphoreOnly(), func(v view) (*change, error) {
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

// TryAcquire takes a slot for id and writes its record with it, whoever waits in the queue. already
// is true when id held one before; its record is then left alone. The error is a [*FullError] when no
// slot is free, a [*PausedError] when nobody may take one now, and a [*CloneError] when another host
// holds one under the same id.
func (l *Lock) TryAcquire(ctx context.Context, id string, r Record) (already bool, err error) {
	h, err := newHost(id, r)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reads := l.gates(id)
	snap, err := l.store.Get(ctx, reads...)
	if err == nil {
		already, _, err = l.acquire(ctx, snap, reads, h, byHand)
	}
	return already, l.outcome("take a slot for "+id, err)
}

// Release gives the slot of id back and deletes its record. The error is a [*NotHeldError] when it
// held none, unless an earlier call had left that open: then nothing held is what was wanted, and
// Release has made sure that it stays so.
func (l *Lock) Release(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := l.release(ctx, id)
	return l.outcome("release the slot of "+id, err)
}

func (l *Lock) release(ctx context.Context, id string) (err error) {
	reads := keys(l.semaphoreKey(), l.recordKey(id))
	snap := l.looked
	if s, revision, err := l.parse(snap); err != nil || revision == 0 || !s.Holds(id) || l.unresolved != noRevision {
		if snap, err = l.store.Get(ctx, reads...); err != nil {
			return err
		}
	}
	_, err = l.change(ctx, snap, reads, l.releasing(id, func(record Value) error { return l.cloneOf(id, l.self, record) }))
	return err
}

// releasing gives the slot of id back, if its record is as it has to be.
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

// Holder reports whether id holds a slot, and its record; r is the zero Record when there is none
// that can be read. It only reads.
func (l *Lock) Holder(ctx context.Context, id string) (held bool, r Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	held, r, err = l.holder(ctx, id)
	if err != nil {
		err = fmt.Errorf("look up the slot of %s: %w", id, err)
	}
	return held, r, err
}

func (l *Lock) holder(ctx context.Context, id string) (held bool, r Record, err error) {
	snap, err := l.store.Get(ctx, keys(l.semaphoreKey(), l.recordKey(id))...)
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
	l.looked = snap
	r, _ = parseRecord(record.Data)
	return true, r, nil
}

// Fence makes sure that no transaction which an earlier process of this host sent, and did not see the
// end of, can still happen: it writes the document once more, as it is. Until then neither "holds a
// slot" nor "holds none" is certain for a process that was started anew, because a member of etcd may
// have stood still with the transaction in its hands. Calls of this Lock need no Fence: it remembers.
func (l *Lock) Fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, l.semaphoreOnly()...)
	if err == nil {
		before := l.unresolved
		l.unresolved = snap.Values[l.semaphoreKey()].ModRevision
		if _, err = l.change(ctx, snap, l.semaphoreOnly(), func(view) (*change, error) { return nil, nil }); permanent(err) {
			l.unresolved = before
		}
	}
	return l.outcome("fence the semaphore", err)
}

// host is one that wants a slot.
type host struct {
	id                   string
	record               Record
	holderDoc, waiterDoc []byte
}

// newHost refuses what cannot be written.
func newHost(id string, r Record) (*host, error) {
	if err := ValidateID(id); err != nil {
		return nil, fmt.Errorf("take a slot: %w", err)
	}
	r.Owner = cmp.Or(r.Owner, rand.Text())
	holder, waiter, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("take a slot for %s: %w", id, err)
	}
	return &host{id: id, record: r, holderDoc: holder, waiterDoc: waiter}, nil
}

func (l *Lock) semaphoreOnly() []Read { return keys(l.semaphoreKey()) }

// gates is what has to be known before id may take a slot.
func (l *Lock) gates(id string) []Read {
	return keys(l.semaphoreKey(), l.recordKey(id), l.queueKey(id), l.pauseKey(), pauseAllKey)
}

// acquire takes a slot, given a snapshot of reads, which have the gates in them, and with it deletes
// the place that id has in the queue. place says what else the slot depends on. now is the last
// snapshot that it has seen.
func (l *Lock) acquire(ctx context.Context, snap Snapshot, reads []Read, h *host, depends func(Snapshot) ([]Cond, error)) (already bool, now Snapshot, err error) {
	alive := int64(0)
	defer func() {
		if alive != 0 && l.unresolved == noRevision { // else it may be in use
			revoke(ctx, l.store, alive)
		}
	}()
	now, err = l.change(ctx, snap, reads, func(v view) (*change, error) {
		if v.semaphore.Holds(h.id) {
			already = !v.undecided
			return nil, l.cloneOf(h.id, h.record, v.Values[l.recordKey(h.id)])
		}
		entry := v.Values[l.queueKey(h.id)]
		if err := l.cloneOf(h.id, h.record, entry); err != nil && isPlace(entry) {
			return nil, err
		}
		if p := l.pauseIn(v.Snapshot); p != nil {
			return nil, &PausedError{Pause: *p}
		}
		conds, err := depends(v.Snapshot)
		if err != nil {
			return nil, err
		}
		next, err := v.semaphore.Acquire(h.id)
		if err != nil {
			return nil, err
		}
		c := &change{
			next: next,
			conds: append(conds, Cond{Key: l.pauseKey()}, Cond{Key: pauseAllKey},
				Cond{Key: l.recordKey(h.id), ModRevision: v.Values[l.recordKey(h.id)].ModRevision},
				Cond{Key: l.queueKey(h.id), ModRevision: entry.ModRevision}),
			ops: []Op{{Key: l.recordKey(h.id), Value: h.holderDoc}},
		}
		if entry.ModRevision != 0 {
			c.ops = append(c.ops, l.unqueue(h.id, entry)...)
		}
		if h.record.TTL == 0 {
			return c, nil
		}
		if alive == 0 {
			if alive, err = l.store.Grant(ctx, h.record.TTL); err != nil {
				return nil, err
			}
		}
		c.ops = append(c.ops, Op{Key: l.aliveKey(h.id), Lease: alive})
		return c, nil
	})
	if err == nil && !already {
		alive = 0 // in use
	}
	return already, now, err
}

// byHand is for a slot that is taken whoever waits in the queue.
func byHand(Snapshot) ([]Cond, error) { return nil, nil }

// revoke ends a lease that is not needed any more, even though ctx has ended perhaps. If it cannot,
// the lease runs out by itself.
func revoke(ctx context.Context, store Leases, lease int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	_ = store.Revoke(ctx, lease)
}

// pauseIn returns the pause in a snapshot of the gates; nil for none.
func (l *Lock) pauseIn(snap Snapshot) *Pause {
	if v := snap.Values[pauseAllKey]; v.ModRevision != 0 {
		return parsePause(v.Data, true)
	}
	if v := snap.Values[l.pauseKey()]; v.ModRevision != 0 {
		return parsePause(v.Data, false)
	}
	return nil
}

// view is what a decision is made upon.
type view struct {
	Snapshot
	semaphore Semaphore
	// undecided means that a transaction of this Lock, of unknown outcome, may be what made the
	// document as it is.
	undecided bool
}

// change is what becomes of the document, with what else the transaction compares and does. It compares
// all that was looked at: where it fails, only that is known from then on.
type change struct {
	next  Semaphore
	conds []Cond
	ops   []Op
}

// decision says what to change; nothing where it returns nil.
type decision func(view) (*change, error)

func (l *Lock) readAndChange(ctx context.Context, reads []Read, decide decision) error {
	snap, err := l.store.Get(ctx, reads...)
	if err != nil {
		return err
	}
	_, err = l.change(ctx, snap, reads, decide)
	return err
}

// change makes of the document what decide says, given a snapshot of reads, and asks it again
// whenever somebody else was quicker, or may have been. It does not leave the outcome unknown before
// ctx ends. It returns the snapshot that was decided upon last.
func (l *Lock) change(ctx context.Context, snap Snapshot, reads []Read, decide decision) (Snapshot, error) {
	undecided := false
	for conflicts, failures := 0, 0; conflicts < maxConflicts; {
		if l.unresolved != noRevision {
			undecided = true
			if snap.Values[l.semaphoreKey()].ModRevision != l.unresolved {
				l.unresolved = noRevision // it happened, or it never will
			}
		}
		s, revision, err := l.parse(snap)
		if err != nil {
			return snap, err
		}
		next, decided := decide(view{Snapshot: snap, semaphore: s, undecided: undecided})
		if next == nil {
			missing := revision == 0 && decided == nil
			if !missing && revision != l.unresolved {
				return snap, decided
			}
			// It is created; or it is still at the revision that a transaction which may be under
			// way compares, and once it has been written again that one can no longer happen.
			next = &change{next: s}
		}
		if ctx.Err() != nil {
			return snap, ctx.Err() // rather than send what would be unknown then
		}
		// Where the outcome of one is unknown and the document has not moved, the next compares the
		// same revision: one of them can happen, at most.
		ok, now, err := l.store.Commit(ctx,
			append([]Cond{{Key: l.semaphoreKey(), ModRevision: revision}}, next.conds...),
			append(next.ops, Op{Key: l.semaphoreKey(), Value: next.next.Encode()}))
		switch {
		case err == nil && ok:
			l.unresolved = noRevision
			l.looked = Snapshot{}
			return snap, decided
		case err == nil:
			snap = now
			if conflicts > 0 { // after the first, what is there now is as good as any
				sleep(ctx, backoff.Delay(conflicts, time.Millisecond, 200*time.Millisecond))
			}
			conflicts++
		case errors.Is(err, ErrRefused), errors.Is(err, ErrNoLease):
			return snap, err
		default:
			l.unresolved = revision
			now, readErr := l.reread(ctx, reads, &failures)
			if readErr != nil {
				return snap, err
			}
			snap = now
		}
	}
	return snap, fmt.Errorf("gave up on %s after %d changes of others that came first", l.semaphoreKey(), maxConflicts)
}

// reread reads again after a failure, one of several perhaps, as soon as it can be read.
func (l *Lock) reread(ctx context.Context, reads []Read, failures *int) (Snapshot, error) {
	for {
		sleep(ctx, backoff.Delay(*failures, 10*time.Millisecond, time.Second))
		*failures++
		snap, err := l.store.Get(ctx, reads...)
		if err == nil || ctx.Err() != nil {
			return snap, err
		}
	}
}

// parse returns the document in snap and its revision; a new one, at 0, where there is none.
func (l *Lock) parse(snap Snapshot) (Semaphore, int64, error) {
	v := snap.Values[l.semaphoreKey()]
	if v.ModRevision == 0 {
		return newSemaphore(int(l.max.Load())), 0, nil
	}
	s, err := ParseSemaphore(v.Data)
	if err != nil {
		return Semaphore{}, 0, &DocumentError{Key: l.semaphoreKey(), Err: err}
	}
	return s, v.ModRevision, nil
}

// outcome words the error of a call for the caller, and marks it as long as a transaction of
// unknown outcome may be under way.
func (l *Lock) outcome(verb string, err error) error {
	switch {
	case err == nil:
		return nil
	case l.unresolved != noRevision:
		return fmt.Errorf("%s: %w: %w", verb, ErrUnknown, err)
	default:
		return fmt.Errorf("%s: %w", verb, err)
	}
}

// permanent reports whether err is an answer that waiting does not change.
func permanent(err error) bool {
	var document *DocumentError
	var clone *CloneError
	return errors.Is(err, ErrRefused) || errors.As(err, &document) || errors.As(err, &clone)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
