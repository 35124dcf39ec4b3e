package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"time"
)

const (
	// root is where all keys are, as hosts in the field know it.
	root = "coreos.com/updateengine/rebootlock"

	// callTimeout bounds every call except Acquire, which bounds each of its tries instead.
	callTimeout = 10 * time.Second

	// maxConflicts is how many changes of others a call puts up with before it gives up. Each of
	// them means that somebody else got through, so that only a broken client can use it up.
	maxConflicts = 40

	// rereadAfter is how long Acquire believes a watch that says nothing.
	rereadAfter = 5 * time.Minute

	// noRevision is no revision of a document, not even of one that does not exist (0).
	noRevision = -1
)

// ErrUnknown marks the error of a call whose change may have happened, or may still happen: etcd
// did not say and could not be asked. TryAcquire or Release, called again on the same Lock, find out.
var ErrUnknown = errors.New("outcome unknown, it may have happened or still happen")

// Record says more about a holder, for people and for the holder itself. It has no part in who
// holds a slot.
type Record struct {
	Hostname string    `json:"hostname"`
	BootID   string    `json:"boot_id"`
	Since    time.Time `json:"since"`
	By       string    `json:"by"` // what took the slot, such as the name of the program
	Version  string    `json:"version,omitempty"`
}

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

	// unresolved is the revision of the document that a transaction of unknown outcome compared,
	// or noRevision. As long as the document stays at it, the transaction may still happen.
	unresolved int64
}

// New returns the lock of a group; "" is the default group. It does not use the store yet.
func New(store Store, group string) (*Lock, error) {
	if err := ValidateGroup(group); err != nil {
		return nil, err
	}
	return &Lock{store: store, prefix: prefix(group), unresolved: noRevision}, nil
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
		return root
	}
	return root + "/groups/" + url.QueryEscape(group)
}

func (l *Lock) semaphoreKey() string { return l.prefix + "/semaphore" }

func (l *Lock) recordKey(id string) string { return l.prefix + "/holders/" + url.QueryEscape(id) }

// Status returns the semaphore. It creates the document when there is none.
func (l *Lock) Status(ctx context.Context) (Semaphore, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var current Semaphore
	err := l.readAndChange(ctx, func(s Semaphore, _ bool) (*Semaphore, []Op, error) {
		current = s
		return nil, nil, nil
	})
	return current, l.outcome("read the semaphore", err)
}

// SetMax sets the number of slots, from 0 up, and returns the semaphore before and after. Where
// after.Free is below zero, more hosts hold a slot than there are.
func (l *Lock) SetMax(ctx context.Context, n int) (before, after Semaphore, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	first := true
	err = l.readAndChange(ctx, func(s Semaphore, undecided bool) (*Semaphore, []Op, error) {
		if first || !undecided {
			before = s
		}
		first = false
		var err error
		if after, err = s.SetMax(n); err != nil || s.Max == n {
			return nil, nil, err
		}
		return &after, nil, nil
	})
	if err != nil {
		return Semaphore{}, Semaphore{}, l.outcome("set the number of slots", err)
	}
	return before, after, nil
}

// TryAcquire takes a slot for id and writes its record with it. already is true when id held one
// before; its record is then left alone. The error is a [*FullError] when no slot is free.
func (l *Lock) TryAcquire(ctx context.Context, id string, r Record) (already bool, err error) {
	record, err := encodeRecord(id, r)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, l.semaphoreKey())
	if err == nil {
		already, _, err = l.acquire(ctx, snap, id, record)
	}
	return already, l.outcome("take a slot for "+id, err)
}

// Acquire takes a slot for id like TryAcquire, and waits for one as long as ctx lets it. It waits by
// watching, and through failures of the store, which do not end the wait; only a store that refuses
// or a document that cannot be understood does.
//
// waiting, if not nil, is called in the goroutine of the caller: when the wait begins and whenever
// another semaphore is seen during it, with a nil error; and after each failure of the store, with
// the error and the semaphore as last seen, which is the zero Semaphore as long as there was none.
func (l *Lock) Acquire(ctx context.Context, id string, r Record, waiting func(Semaphore, error)) error {
	record, err := encodeRecord(id, r)
	if err != nil {
		return err
	}
	if waiting == nil {
		waiting = func(Semaphore, error) {}
	}
	var last Semaphore
	told := false // of last, and of no failure since
	snap, err := l.store.Get(ctx, l.semaphoreKey())
	for failures := 0; ; {
		if err == nil {
			snap, err = l.acquireWithin(ctx, snap, id, record)
		}
		var full *FullError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &full):
			failures = 0
			if !told || !reflect.DeepEqual(last, full.Semaphore) {
				last, told = full.Semaphore, true
				waiting(last, nil)
			}
			snap, err = l.wait(ctx, snap.Revision)
		case ctx.Err() != nil || permanent(err):
			return l.outcome("take a slot for "+id, err)
		default:
			waiting(last, l.outcome("take a slot for "+id, err))
			told = false
			pause(ctx, backoff(failures, 250*time.Millisecond, 10*time.Second))
			failures++
			snap, err = l.store.Get(ctx, l.semaphoreKey())
		}
	}
}

// Release gives the slot of id back and deletes its record. The error is a [*NotHeldError] when it
// held none, unless an earlier call had left that open: then nothing held is what was wanted, and
// Release has made sure that it stays so.
func (l *Lock) Release(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := l.readAndChange(ctx, func(s Semaphore, undecided bool) (*Semaphore, []Op, error) {
		if undecided && !s.Holds(id) {
			return nil, nil, nil
		}
		next, err := s.Release(id)
		if err != nil {
			return nil, nil, err
		}
		return &next, []Op{{Key: l.recordKey(id), Delete: true}}, nil
	})
	return l.outcome("release the slot of "+id, err)
}

// Holder reports whether id holds a slot, and its record; r is the zero Record when there is none
// that can be read. It only reads.
func (l *Lock) Holder(ctx context.Context, id string) (held bool, r Record, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snap, err := l.store.Get(ctx, l.semaphoreKey(), l.recordKey(id))
	if err != nil {
		return false, Record{}, l.outcome("look up the slot of "+id, err)
	}
	s, revision, err := l.parse(snap)
	if err != nil {
		return false, Record{}, l.outcome("look up the slot of "+id, err)
	}
	if revision == l.unresolved {
		return false, Record{}, l.outcome("look up the slot of "+id, errors.New("an earlier change may still happen"))
	}
	if !s.Holds(id) {
		return false, Record{}, nil
	}
	if json.Unmarshal(snap.Values[l.recordKey(id)].Data, &r) != nil {
		r = Record{}
	}
	return true, r, nil
}

// encodeRecord returns what to write beside the document, or what is wrong with id or r.
func encodeRecord(id string, r Record) ([]byte, error) {
	if err := validateID(id); err != nil {
		return nil, fmt.Errorf("take a slot: %w", err)
	}
	record, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("take a slot for %s: encode record: %w", id, err)
	}
	return record, nil
}

// acquireWithin is acquire, bounded like the other calls.
func (l *Lock) acquireWithin(ctx context.Context, snap Snapshot, id string, record []byte) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, now, err := l.acquire(ctx, snap, id, record)
	return now, err
}

// acquire takes a slot, given a snapshot of the semaphore. now is the last that it has seen.
func (l *Lock) acquire(ctx context.Context, snap Snapshot, id string, record []byte) (already bool, now Snapshot, err error) {
	now, err = l.change(ctx, snap, func(s Semaphore, undecided bool) (*Semaphore, []Op, error) {
		if s.Holds(id) {
			already = !undecided
			return nil, nil, nil
		}
		next, err := s.Acquire(id)
		if err != nil {
			return nil, nil, err
		}
		return &next, []Op{{Key: l.recordKey(id), Value: record}}, nil
	})
	return already, now, err
}

// wait returns the semaphore once it has changed after the revision, or what it is after a while.
func (l *Lock) wait(ctx context.Context, after int64) (Snapshot, error) {
	limited, cancel := context.WithTimeout(ctx, rereadAfter)
	defer cancel()
	snap, err := l.store.Wait(limited, l.semaphoreKey(), after)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return l.store.Get(ctx, l.semaphoreKey())
	}
	return snap, err
}

// decision says what becomes of the document: next, with ops in the same transaction, or no change
// where next is nil. undecided means that a transaction of this Lock, of unknown outcome, may be
// what made the document as it is.
type decision func(s Semaphore, undecided bool) (next *Semaphore, ops []Op, err error)

func (l *Lock) readAndChange(ctx context.Context, decide decision) error {
	snap, err := l.store.Get(ctx, l.semaphoreKey())
	if err != nil {
		return err
	}
	_, err = l.change(ctx, snap, decide)
	return err
}

// change makes of the document what decide says, and asks it again whenever somebody else was
// quicker, or may have been. It does not leave the outcome unknown before ctx ends. It returns the
// snapshot that was decided upon last.
func (l *Lock) change(ctx context.Context, snap Snapshot, decide decision) (Snapshot, error) {
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
		next, ops, decided := decide(s, undecided)
		if next == nil {
			missing := revision == 0 && decided == nil
			if !missing && revision != l.unresolved {
				return snap, decided
			}
			// It is created; or it is still at the revision that a transaction which may be under
			// way compares, and once it has been written again that one can no longer happen.
			next = &s
		}
		if ctx.Err() != nil {
			return snap, ctx.Err() // rather than send what would be unknown then
		}
		// Where the outcome of one is unknown and the document has not moved, the next compares the
		// same revision: one of them can happen, at most.
		ok, now, err := l.store.Commit(ctx, []Cond{{Key: l.semaphoreKey(), ModRevision: revision}},
			append(ops, Op{Key: l.semaphoreKey(), Value: next.Encode()}))
		switch {
		case err == nil && ok:
			l.unresolved = noRevision
			return snap, decided
		case err == nil:
			if snap = now; conflicts > 0 { // after the first, what is there now is as good as any
				pause(ctx, backoff(conflicts, time.Millisecond, 200*time.Millisecond))
			}
			conflicts++
		case errors.Is(err, ErrRefused):
			return snap, err
		default:
			l.unresolved = revision
			now, readErr := l.reread(ctx, &failures)
			if readErr != nil {
				return snap, err
			}
			snap = now
		}
	}
	return snap, fmt.Errorf("gave up on %s after %d changes of others that came first", l.semaphoreKey(), maxConflicts)
}

// reread reads the semaphore after a failure, one of several perhaps, as soon as it can be read.
func (l *Lock) reread(ctx context.Context, failures *int) (Snapshot, error) {
	for {
		pause(ctx, backoff(*failures, 10*time.Millisecond, time.Second))
		*failures++
		snap, err := l.store.Get(ctx, l.semaphoreKey())
		if err == nil || ctx.Err() != nil {
			return snap, err
		}
	}
}

// parse returns the document in snap and its revision; a new one, at 0, where there is none.
func (l *Lock) parse(snap Snapshot) (Semaphore, int64, error) {
	v := snap.Values[l.semaphoreKey()]
	if v.ModRevision == 0 {
		return newSemaphore(), 0, nil
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
	return errors.Is(err, ErrRefused) || errors.As(err, &document)
}

// backoff is how long to wait after n failures: twice as long after each, up to limit, less up to a
// half of it at random so that hosts that failed together do not come back together.
func backoff(n int, first, limit time.Duration) time.Duration {
	d := min(first<<min(n, 16), limit)
	return d - rand.N(d/2+1)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
