package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/realpart"
)

// Each of these stores makes the real lock behave as if it had a bug that the lock's protocol exists to
// avoid. The harness has to find each, or it shows nothing when it finds none.

func TestBugIsFound(t *testing.T) {
	t.Parallel()
	history := func(r *Report) []string { return r.History }
	revisions := func(r *Report) []string { return r.Revisions }
	liveness := func(r *Report) []string { return r.Liveness }
	const normal, short = time.Minute, 5 * time.Second
	for _, test := range []struct {
		name     string
		bug      func(lock.Store) lock.Store
		by       func(*Report) []string
		patience time.Duration
	}{
		{"writing without comparing the revision", func(s lock.Store) lock.Store { return comparesNothing{s} }, history, normal},
		{"trying a write again blindly", func(s lock.Store) lock.Store { return triesAgainBlindly{s} }, history, normal},
		{"taking a time-out for a no", func(s lock.Store) lock.Store { return takesTimeoutForNo{s} }, history, normal},
		{"taking a time-out for a conflict", func(s lock.Store) lock.Store { return takesTimeoutForConflict{s} }, history, normal},
		{"not comparing whether there is a pause", func(s lock.Store) lock.Store { return overlooksPauses{s} }, revisions, normal},
		{"overlooking who was in the queue before", func(s lock.Store) lock.Store { return jumpsTheQueue{s} }, revisions, normal},
		{"leaving the lease of a pause behind", func(s lock.Store) lock.Store { return keepsLeases{s, new(sync.Map)} }, liveness, normal},
		{"not writing what tells a renamed host from another one", func(s lock.Store) lock.Store { return forgetsFacts{s} }, revisions, normal},
		{"watching without hearing", func(s lock.Store) lock.Store { return deaf{s} }, liveness, short},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // in case that something else is found first, which is the bug's doing, too
				c := config(t)
				c.Patience, c.Ops, c.WindowOps, c.Duration = test.patience, 20_000, 1000, time.Minute
				c.Break = func(s lock.Store) lock.Store { return test.bug(shortPlaces{s}) }
				report, err := Run(t.Context(), c)
				realpart.Must(t, err)
				t.Log(report)
				if len(test.by(report)) > 0 {
					return
				}
			}
			t.Error("the harness has not found the bug, or not as it should")
		})
	}
}

func isSemaphore(c lock.Cond) bool { return strings.HasSuffix(c.Key, "/semaphore") }

type comparesNothing struct{ lock.Store }

func (s comparesNothing) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	return s.Store.Commit(ctx, slices.DeleteFunc(slices.Clone(conds), isSemaphore), ops, reads...)
}

// triesAgainBlindly sends what was not answered once more, as if nothing could have changed since.
type triesAgainBlindly struct{ lock.Store }

func (s triesAgainBlindly) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (ok bool, now lock.Snapshot, err error) {
	conds = slices.Clone(conds)
	for {
		ok, now, err = s.Store.Commit(ctx, conds, ops, reads...)
		if !unanswered(err) || ctx.Err() != nil {
			return ok, now, err
		}
		for i, c := range conds {
			if !isSemaphore(c) {
				continue
			}
			snap, err := s.Get(ctx, lock.Read{Key: c.Key})
			if err != nil {
				return false, now, err
			}
			conds[i].ModRevision = snap.Values[c.Key].ModRevision
		}
	}
}

type takesTimeoutForNo struct{ lock.Store }

func (s takesTimeoutForNo) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := s.Store.Commit(ctx, conds, ops, reads...)
	if unanswered(err) {
		err = fmt.Errorf("%w: %w", lock.ErrRefused, err)
	}
	return ok, now, err
}

// takesTimeoutForConflict has the lock decide anew from what is there, as if somebody else had made it
// so.
type takesTimeoutForConflict struct{ lock.Store }

func (s takesTimeoutForConflict) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := s.Store.Commit(ctx, conds, ops, reads...)
	if !unanswered(err) {
		return ok, now, err
	}
	for _, c := range conds {
		reads = append(reads, lock.Read{Key: c.Key, End: c.End})
	}
	snap, readErr := s.Get(ctx, reads...)
	if readErr != nil {
		return false, now, err
	}
	return false, snap, nil
}

type overlooksPauses struct{ lock.Store }

func (s overlooksPauses) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	conds = slices.DeleteFunc(slices.Clone(conds), func(c lock.Cond) bool {
		return len(conds) > 1 && strings.Contains(c.Key, "/pause")
	})
	return s.Store.Commit(ctx, conds, ops, reads...)
}

// jumpsTheQueue finds nobody in the queue, nor in its index.
type jumpsTheQueue struct{ lock.Store }

func (s jumpsTheQueue) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	return s.Store.Get(ctx, withoutQueue(reads)...)
}

func (s jumpsTheQueue) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	return s.Store.Commit(ctx, conds, ops, withoutQueue(reads)...)
}

func withoutQueue(reads []lock.Read) []lock.Read {
	return slices.DeleteFunc(slices.Clone(reads), func(r lock.Read) bool {
		return r.End != "" && (strings.Contains(r.Key, "/order/") || strings.Contains(r.Key, "/queue/"))
	})
}

// keepsLeases does not revoke the lease of a long pause.
type keepsLeases struct {
	lock.Store
	of *sync.Map // leases of long pauses
}

func (s keepsLeases) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	lease, err := s.Store.Grant(ctx, ttl)
	if ttl == long {
		s.of.Store(lease, true)
	}
	return lease, err
}

func (s keepsLeases) Revoke(ctx context.Context, lease int64) error {
	if _, kept := s.of.Load(lease); kept {
		return nil
	}
	return s.Store.Revoke(ctx, lease)
}

// forgetsFacts writes neither hardware nor token.
type forgetsFacts struct{ lock.Store }

func (s forgetsFacts) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ops = slices.Clone(ops)
	for i, op := range ops {
		var r lock.Record
		if strings.Contains(op.Key, "/holders/") && !op.Delete && json.Unmarshal(op.Value, &r) == nil {
			r.Hardware, r.Token = "", ""
			ops[i].Value, _ = json.Marshal(r) // it was read from JSON
		}
	}
	return s.Store.Commit(ctx, conds, ops, reads...)
}

type deaf struct{ lock.Store }

func (deaf) Wait(ctx context.Context, _ ...lock.Watch) (lock.Snapshot, error) {
	<-ctx.Done()
	return lock.Snapshot{}, ctx.Err()
}
