package grant

import (
	"context"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// atOnce is how many calls of the store may be under way at once, not counting those that wait for a change. A thousand
// hosts that ask in the same second, as after a restart of the server, would make etcd answer all of them too late, and
// then all would ask again.
const atOnce = 32

// bounded is a store that lets calls wait for their turn.
type bounded struct {
	lock.Store // for Wait
	turns      chan struct{}
}

func newBounded(s lock.Store) *bounded { return &bounded{s, make(chan struct{}, atOnce)} }

// begin waits for a turn, which end ends.
func (b *bounded) begin(ctx context.Context) error {
	select {
	case b.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *bounded) end() { <-b.turns }

// Get implements lock.Store.
func (b *bounded) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	if err := b.begin(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	defer b.end()
	return b.Store.Get(ctx, reads...)
}

// Commit implements lock.Store.
func (b *bounded) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	if err := b.begin(ctx); err != nil {
		return false, lock.Snapshot{}, err
	}
	defer b.end()
	return b.Store.Commit(ctx, conds, ops, reads...)
}

// Grant implements lock.Store.
func (b *bounded) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	if err := b.begin(ctx); err != nil {
		return 0, err
	}
	defer b.end()
	return b.Store.Grant(ctx, ttl)
}

// KeepAlive implements lock.Store.
func (b *bounded) KeepAlive(ctx context.Context, lease int64) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	return b.Store.KeepAlive(ctx, lease)
}

// Revoke implements lock.Store.
func (b *bounded) Revoke(ctx context.Context, lease int64) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	return b.Store.Revoke(ctx, lease)
}
