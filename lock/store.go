package lock

import (
	"context"
	"errors"
)

// Store is a linearizable key-value store that counts revisions, as etcd does: every transaction
// that changes something gets the next one. [Etcd] is the real one; package locktest has one in
// memory, and the suite that both pass.
//
// Every method ends soon after ctx does, and then its error is that of ctx. An error for which
// errors.Is(err, [ErrRefused]) holds means that the store understood and declined: nothing happened
// and trying again is no use. Any other error means trouble on the way, which may pass.
type Store interface {
	// Get reads the keys, all at the same revision. It sees every transaction that was
	// acknowledged before it began.
	Get(ctx context.Context, keys ...string) (Snapshot, error)

	// Commit does all of ops, in one transaction, if all of conds hold, and otherwise nothing; now
	// then has the keys of conds as they are. An error other than ErrRefused means that the outcome
	// is unknown: the transaction has happened, or has not, or may still happen later.
	Commit(ctx context.Context, conds []Cond, ops []Op) (ok bool, now Snapshot, err error)

	// Wait returns the key once it has been changed after the revision given. Changes that came
	// close together may be reported as one, with the last of them.
	Wait(ctx context.Context, key string, after int64) (Snapshot, error)
}

// Snapshot is what some keys held at one revision of the store.
type Snapshot struct {
	Revision int64
	// Values has no entry for a key that does not exist.
	Values map[string]Value
}

// Value is what a key holds. The zero Value stands for a key that does not exist.
type Value struct {
	Data []byte
	// ModRevision is the revision of the last change; 0 when the key does not exist.
	ModRevision int64
}

// Cond is a condition of a transaction: that Key was last changed at ModRevision, or that it does
// not exist if that is 0.
type Cond struct {
	Key         string
	ModRevision int64
}

// Op is a change that a transaction makes to Key: it deletes it, or puts Value.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// ErrRefused marks an error that is an answer: the store declined, nothing happened, and nothing
// will happen later. Without it an error of [Store.Commit] says nothing about the outcome.
var ErrRefused = errors.New("refused")
