package lock

import (
	"context"
	"errors"
	"time"
)

// Store is a linearizable key-value store that counts revisions, as etcd does: every transaction
// that changes something gets the next one. Package etcd has the real one, package storetest one in
// memory, and the suite that both pass.
//
// Every method ends soon after ctx does, and then its error is that of ctx. An error for which
// errors.Is(err, [ErrRefused]) or errors.Is(err, [ErrNoLease]) holds is an answer: nothing happened
// and trying the same again is no use. Any other error means trouble on the way, which may pass.
type Store interface {
	// Get reads, all at the same revision. It sees every transaction that was acknowledged before it
	// began.
	Get(ctx context.Context, reads ...Read) (Snapshot, error)

	// Commit does all of ops, in one transaction, if all of conds hold, and otherwise nothing. now is
	// what reads find right after that, at the revision of the transaction if it happened; if it did
	// not, now has the keys of conds as well, though not those of ranges. An error that is no answer
	// means that the outcome is unknown: the transaction has happened, or has not, or may still
	// happen later.
	Commit(ctx context.Context, conds []Cond, ops []Op, reads ...Read) (ok bool, now Snapshot, err error)

	// Wait returns once one of the keys has been changed after the revision given with it. Values
	// then has the keys that are known to have changed, the zero Value for one that was deleted, and
	// Revision is that of the change. Changes that came close together may be reported as one, with
	// the last of them, and others that it was to wait for may have been made as well. Where the store
	// cannot tell what happened since, Values is nil, and the keys have to be read: it does not remember
	// any more, it has not come to that revision, as after it was restored from a backup, or it had to be
	// connected again, and may have been restored.
	Wait(ctx context.Context, watches ...Watch) (Snapshot, error)

	Leases
}

// Leases give keys a limited life: a key that was put with a lease is deleted with it.
type Leases interface {
	// Grant makes a lease that runs out after ttl, which is rounded up to seconds, unless it is kept
	// alive. The store may make it longer than that.
	Grant(ctx context.Context, ttl time.Duration) (lease int64, err error)
	// KeepAlive has the lease run from now on. The error matches ErrNoLease if it has run out.
	KeepAlive(ctx context.Context, lease int64) error
	// Revoke ends the lease. One that has run out is no error.
	Revoke(ctx context.Context, lease int64) error
}

// Read says what to read: Key, or where End is set, the keys from Key on and before End.
type Read struct {
	Key, End string
	// Limit bounds the number of keys, of which the first are read; 0 does not.
	Limit int
	// KeysOnly leaves data and leases of the values away. (etcd 3.7 does not say the lease then.)
	KeysOnly bool
	// CreatedBefore, if not 0, leaves only keys that were created before this revision, and has the
	// newest of them come first for Limit. It makes etcd look at every key of the range.
	CreatedBefore int64
}

// Watch is a key to wait for, or a range like that of a Read, and the revision after which a change
// counts.
type Watch struct {
	Key, End string
	After    int64
}

// Snapshot is what was read at one revision of the store.
type Snapshot struct {
	Revision int64
	// Values has no entry for a key that does not exist. Where several reads found the same key it
	// has what the first of them read.
	Values map[string]Value
}

// Value is what a key holds. The zero Value stands for a key that does not exist.
type Value struct {
	Data []byte
	// ModRevision is the revision of the last change; 0 when the key does not exist.
	ModRevision int64
	// CreateRevision is the revision at which the key came to exist.
	CreateRevision int64
	// Lease is the lease that the key lives with, 0 for none.
	Lease int64
}

// Cond is a condition of a transaction: that Key was last changed at ModRevision, or that it does
// not exist if that is 0. Where End is set ModRevision must be 0: no key of that range exists.
type Cond struct {
	Key, End    string
	ModRevision int64
}

// Op is a change that a transaction makes to Key: it deletes it, or puts Value, to live as long as Lease
// does if that is not 0.
type Op struct {
	Key    string
	Value  []byte
	Lease  int64
	Delete bool
}

var (
	// ErrRefused marks an error that is an answer: the store declined, nothing happened, and nothing
	// will happen later. Without it, or ErrNoLease, an error of [Store.Commit] says nothing about the
	// outcome.
	ErrRefused = errors.New("refused")

	// ErrNoLease marks an error that is an answer, too: the lease has run out or was revoked.
	ErrNoLease = errors.New("the lease has run out")
)
