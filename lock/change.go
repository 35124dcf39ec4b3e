package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

const (
	// maxConflicts is how many changes by others a call accepts before it gives up. Each of them means
	// that another client got through, so only a broken client can use it up.
	maxConflicts = 40

	// noRevision is not the revision of any document, not even of a missing one (0).
	noRevision = -1
)

// ErrUnknown marks the error of a call whose change may have happened, or may still happen: etcd
// did not answer and could not be asked. The next call on the same Lock that changes or may change the
// document finds out; for a pause nothing does.
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

// view is what a decision is based on.
type view struct {
	Snapshot
	semaphore Semaphore
	// undecided means that a transaction of this Lock, of unknown outcome, may have written the document.
	undecided bool
}

// change is the next document, with what else the transaction compares and does. The transaction compares all
// that the decision depends on: if it fails, only those keys, and reads, are known afterwards.
type change struct {
	next  Semaphore
	conds []Cond
	ops   []Op
	// reads are done again by the transaction, so that they are known afterwards as well.
	reads []Read
	keep  bool // reads are those of a holder: what they find is kept for a call that follows
}

// decision says what to change; nil for nothing.
type decision func(view) (*change, error)

func (l *Lock) readAndChange(ctx context.Context, reads []Read, decide decision) error {
	snap, err := l.store.Get(ctx, reads...)
	if err != nil {
		return err
	}
	_, err = l.change(ctx, snap, reads, decide)
	return err
}

// changeFound is readAndChange that goes on from what was found last, if decide would change that. Where it is
// outdated, the transaction fails, and shows what there is.
func (l *Lock) changeFound(ctx context.Context, reads []Read, decide decision) error {
	if s, _, err := l.parse(l.found); err == nil && l.unresolved == noRevision {
		if next, _ := decide(view{Snapshot: l.found, semaphore: s}); next != nil {
			_, err := l.change(ctx, l.found, reads, decide)
			return err
		}
	}
	return l.readAndChange(ctx, reads, decide)
}

// change applies decide to the document, given a snapshot of reads, and asks decide again whenever another
// client was quicker, or may have been. It leaves the outcome unknown only when ctx ends. It
// returns the snapshot that was decided upon last.
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
			// The document is missing and is created; or it is still at the revision that a transaction which
			// may be under way compares: once it has been written again, that transaction can no longer happen.
			next = &change{next: s}
		}
		if ctx.Err() != nil {
			return snap, ctx.Err() // sending now would only make the outcome unknown
		}
		// Where the outcome of one is unknown and the document has not moved, the next compares the
		// same revision: one of them can happen, at most.
		ok, now, err := l.store.Commit(ctx,
			append([]Cond{{Key: l.semaphoreKey(), ModRevision: revision}}, next.conds...),
			append(next.ops, Op{Key: l.semaphoreKey(), Value: next.next.Encode()}), next.reads...)
		switch {
		case err == nil && ok:
			l.unresolved = noRevision
			if l.found = (Snapshot{}); next.keep {
				l.found = now
			}
			return snap, decided
		case err == nil:
			snap = now
			if conflicts > 0 { // the reply to the first conflict is as good as any
				backoff.Sleep(ctx, backoff.Delay(conflicts, time.Millisecond, 200*time.Millisecond))
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

// reread reads again after a failure, as often as needed, and counts the failures.
func (l *Lock) reread(ctx context.Context, reads []Read, failures *int) (Snapshot, error) {
	for {
		backoff.Sleep(ctx, backoff.Delay(*failures, 10*time.Millisecond, time.Second))
		*failures++
		snap, err := l.store.Get(ctx, reads...)
		if err == nil || ctx.Err() != nil {
			return snap, err
		}
	}
}

// parse returns the document in snap and its revision; a new one, at revision 0, if it is missing.
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
	if err == nil {
		return nil
	}
	if l.unresolved != noRevision {
		return fmt.Errorf("%s: %w: %w", verb, ErrUnknown, err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// permanent reports whether err is an answer that waiting does not change.
func permanent(err error) bool {
	var document *DocumentError
	var clone *CloneError
	return errors.Is(err, ErrRefused) || errors.As(err, &document) || errors.As(err, &clone)
}
