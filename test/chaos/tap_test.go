package chaos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// tap is the store of one process. It counts unanswered transactions, of which several in a call count as one if at
// most one of them can happen; and records the leases of long pauses, which must be gone once the pauses are.
type tap struct {
	lock.Store
	life       context.Context
	kill       context.CancelFunc
	unanswered atomic.Int64
	compared   []int64 // the revisions of the document that unanswered transactions of this call compare
	// Used only by operators, which make one call at a time.
	long    []int64
	resumes resumes
}

func (t *tap) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := t.Store.Commit(ctx, conds, ops, reads...)
	t.resumes.note(ops, ok, err)
	if unanswered(err) && slices.ContainsFunc(ops, counts) && !t.excluded(conds) {
		t.unanswered.Add(1)
	}
	return ok, now, err
}

// excluded reports whether an unanswered transaction of this call compares the same revision of the document.
func (t *tap) excluded(conds []lock.Cond) bool {
	i := slices.IndexFunc(conds, isSemaphore)
	if i < 0 {
		return false
	}
	if slices.Contains(t.compared, conds[i].ModRevision) {
		return true
	}
	t.compared = append(t.compared, conds[i].ModRevision)
	return false
}

// unanswered reports whether a transaction with this error may have happened.
func unanswered(err error) bool {
	return err != nil && !errors.Is(err, lock.ErrRefused) && !errors.Is(err, lock.ErrNoLease)
}

// counts reports whether an operation changes the state of the model.
func counts(op lock.Op) bool {
	return strings.HasSuffix(op.Key, "/semaphore") || strings.Contains(op.Key, "/pause")
}

func (t *tap) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	lease, err := t.Store.Grant(ctx, ttl)
	if err == nil && ttl == long {
		t.long = append(t.long, lease)
	}
	return lease, err
}

// Revoke ends with the process. (The contexts of all other calls do so anyway.)
func (t *tap) Revoke(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	err := t.Store.Revoke(ctx, lease)
	if err != nil && len(t.long) > 0 { // the lease expires by itself
		t.long = slices.DeleteFunc(t.long, func(l int64) bool { return l == lease })
	}
	return err
}
