package storetest

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// Hooked is a store whose calls a test observes, changes or fails.
type Hooked struct {
	Store lock.Store
	// Before runs before each call, and may change what is asked. With an error the call is not made: that is its
	// result.
	Before func(*Call) error
	// After runs after each call that was made, and may change its result.
	After func(*Call)
}

// Method is a method of a store.
type Method int

// The methods of a store.
const (
	Get Method = iota
	Commit
	Wait
	Grant
	KeepAlive
	Revoke
)

// Call is one call: its arguments, as far as the method has them, and its result.
type Call struct {
	Ctx     context.Context
	Method  Method
	Reads   []lock.Read
	Conds   []lock.Cond
	Ops     []lock.Op
	Watches []lock.Watch
	TTL     time.Duration
	Lease   int64 // also the result of a Grant

	OK       bool
	Snapshot lock.Snapshot
	Err      error
}

// Writes accepts a Commit that puts or deletes key.
func Writes(key string) func(*Call) bool {
	return func(c *Call) bool {
		return c.Method == Commit && slices.ContainsFunc(c.Ops, func(op lock.Op) bool { return op.Key == key })
	}
}

// Before returns a store that runs f once, before the first call that match accepts.
func Before(s lock.Store, match func(*Call) bool, f func()) *Hooked {
	f = once(f)
	return &Hooked{Store: s, Before: func(c *Call) error {
		if match(c) {
			f()
		}
		return nil
	}}
}

// After returns a store that runs f once, after the first call that match accepts.
func After(s lock.Store, match func(*Call) bool, f func()) *Hooked {
	f = once(f)
	return &Hooked{Store: s, After: func(c *Call) {
		if match(c) {
			f()
		}
	}}
}

// once is like sync.OnceFunc, but f may make calls that run it again.
func once(f func()) func() {
	var done atomic.Bool
	return func() {
		if done.CompareAndSwap(false, true) {
			f()
		}
	}
}

// call runs the hooks around a call.
func (h *Hooked) call(c *Call, make func()) {
	if h.Before != nil {
		if c.Err = h.Before(c); c.Err != nil {
			return
		}
	}
	make()
	if h.After != nil {
		h.After(c)
	}
}

// Get implements lock.Store.
func (h *Hooked) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	c := &Call{Ctx: ctx, Method: Get, Reads: reads}
	h.call(c, func() { c.Snapshot, c.Err = h.Store.Get(c.Ctx, c.Reads...) })
	return c.Snapshot, c.Err
}

// Commit implements lock.Store.
func (h *Hooked) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	c := &Call{Ctx: ctx, Method: Commit, Conds: conds, Ops: ops, Reads: reads}
	h.call(c, func() { c.OK, c.Snapshot, c.Err = h.Store.Commit(c.Ctx, c.Conds, c.Ops, c.Reads...) })
	return c.OK, c.Snapshot, c.Err
}

// Wait implements lock.Store.
func (h *Hooked) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	c := &Call{Ctx: ctx, Method: Wait, Watches: watches}
	h.call(c, func() { c.Snapshot, c.Err = h.Store.Wait(c.Ctx, c.Watches...) })
	return c.Snapshot, c.Err
}

// Grant implements lock.Store.
func (h *Hooked) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	c := &Call{Ctx: ctx, Method: Grant, TTL: ttl}
	h.call(c, func() { c.Lease, c.Err = h.Store.Grant(c.Ctx, c.TTL) })
	return c.Lease, c.Err
}

// KeepAlive implements lock.Store.
func (h *Hooked) KeepAlive(ctx context.Context, lease int64) error {
	c := &Call{Ctx: ctx, Method: KeepAlive, Lease: lease}
	h.call(c, func() { c.Err = h.Store.KeepAlive(c.Ctx, c.Lease) })
	return c.Err
}

// Revoke implements lock.Store.
func (h *Hooked) Revoke(ctx context.Context, lease int64) error {
	c := &Call{Ctx: ctx, Method: Revoke, Lease: lease}
	h.call(c, func() { c.Err = h.Store.Revoke(c.Ctx, c.Lease) })
	return c.Err
}
