package lock

import (
	"context"
	"errors"
	"time"
)

// Store is a linearizable key-value store that counts revisions, as etcd does: every transaction
// that changes something gets the next one. Package etcd has the real store, package storetest one in
// memory, and the suite that both pass.
//
// Every method ends soon after ctx does, with the error of ctx. An error for which
// errors.Is(err, [ErrRefused]) or errors.Is(err, [ErrNoLease]) holds is an answer: nothing happened
// and the same call will fail again. Any other error is a failure on the way, which may pass.
type Store interface {
	// Get does all reads at the same revision. It sees every transaction that was acknowledged before it began.
	Get(ctx context.Context, reads ...Read) (Snapshot, error)

	// Commit does all ops, in one transaction, if all conds hold, and otherwise nothing. now is what reads find
	// right after that, at the revision of the transaction if it happened; if it did not, now has the keys of conds
	// as well, except those of ranges. An error that is not an answer means that the outcome is unknown: the
	// transaction has happened, or has not, or may still happen later.
	Commit(ctx context.Context, conds []Cond, ops []Op, reads ...Read) (ok bool, now Snapshot, err error)

	// Wait returns once one of the keys has been changed after the revision given with it. Values then has the keys
	// that are known to have changed, with the zero Value for a deleted one, and Revision is that of the change.
	// Changes that came close together may be reported as one, as the last of them, and other watched keys may have
	// changed as well. Where the store cannot tell what happened, Values is nil, and the keys have to be read: it
	// has compacted that revision, or has not reached it, as after a restore from a backup, or it had to be
	// connected again, and may have been restored.
	Wait(ctx context.Context, watches ...Watch) (Snapshot, error)

	Leases
}

// Leases give keys a limited life: a key that was put with a lease is deleted with it.
type Leases interface {
	// Grant makes a lease that runs out after ttl, rounded up to seconds, unless it is kept
	// alive. The store may make it longer.
	Grant(ctx context.Context, ttl time.Duration) (lease int64, err error)
	// KeepAlive restarts the ttl of the lease. The error matches ErrNoLease if it has run out.
	KeepAlive(ctx context.Context, lease int64) error
	// Revoke ends the lease. It succeeds if the lease has run out.
	Revoke(ctx context.Context, lease int64) error
}

// Read says what to read: Key, or where End is set, the keys from Key on and before End.
type Read struct {
	Key, End string
	// Limit, if not 0, reads only so many keys, from the first on.
	Limit int
	// KeysOnly omits data and leases of the values. (etcd 3.7 omits the lease with the data.)
	KeysOnly bool
	// AtMost, if not 0, is how much a Get may return in all, in bytes, for a range into which others may write large
	// values. If it is more, the Get fails with [ErrTooLarge]. The smallest AtMost of its reads counts, and it is
	// ignored by Commit.
	AtMost int
	// CreatedBefore, if not 0, reads only keys that were created before this revision, and makes Limit count
	// from the newest of them. It makes etcd look at every key of the range.
	CreatedBefore int64
}

// Watch is a key, or a range like that of a Read, to wait for, and the revision after which a change counts.
type Watch struct {
	Key, End string
	After    int64
}

// Snapshot is what was read at one revision of the store.
type Snapshot struct {
	Revision int64
	// Values has no entry for a key that does not exist. Where several reads found the same key it
	// has what the first of these read.
	Values map[string]Value
}

// Value is what a key holds. The zero Value stands for a key that does not exist.
type Value struct {
	Data           []byte
	ModRevision    int64 // the revision of the last change; 0 when the key does not exist
	CreateRevision int64 // the revision at which the key came to exist
	Lease          int64 // the lease that the key lives with; 0 for none
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
	// ErrRefused marks an error that is an answer: the store refused, nothing happened, and nothing will happen
	// later. Without it, or ErrNoLease, an error of [Store.Commit] says nothing about the outcome.
	ErrRefused = errors.New("refused")

	// ErrTooLarge marks an error that also matches ErrRefused: a Get found more than its reads allow. A smaller Limit
	// may help.
	ErrTooLarge = errors.New("too large to be read at once")

	// ErrNoLease marks an error that is an answer, too: the lease has run out or was revoked.
	ErrNoLease = errors.New("the lease has run out")
)
