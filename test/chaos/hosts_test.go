package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/storetest"
)

// host is a machine that reboots now and then.
type host struct {
	lockClient
	holding bool        // as far as the host knows
	unwell  bool        // it has said last that it is
	through atomic.Bool // has had its turn at the end of the window
}

func (h *host) start(ctx context.Context) {
	h.lockClient.start(ctx)
	disk := slices.Clone(h.tokens)
	h.lock.Identify(h.record(holder), disk)
	h.holding, h.unwell = false, false
}

// learn updates what the host knows about holding a slot.
func (h *host) learn(out output, held bool) {
	switch out.result {
	case done, already:
		h.holding = held
	case notHeld, full, paused, waits:
		h.holding = false
	}
}

// act makes one call, or crashes.
func (h *host) act(ctx context.Context) {
	if h.rng.IntN(60) == 0 {
		h.crash(ctx)
		return
	}
	h.call()
}

func (h *host) call() {
	if h.rng.IntN(50) == 0 {
		h.cloned()
	}
	switch n := h.rng.IntN(100); {
	case n < 6:
		h.status()
	case n < 12:
		h.overview()
	case n < 18:
		out := h.holder()
		h.learn(out, out.held)
	case n < 23: // whether it holds a slot or not
		h.learn(h.release(h.id), false)
	case n < 28:
		h.learn(h.tryAcquire(), true)
	case h.holding:
		h.hold()
	case n < 29:
		h.learn(h.tell(h.anything()), true)
	case n < 60:
		h.chooses()
		if h.rng.IntN(3) == 0 {
			h.second()
		}
		h.learn(h.queue(time.Duration(20+h.rng.IntN(2500))*time.Millisecond), true)
	default:
		h.chooses()
		h.learn(h.tryAcquire(), true)
	}
}

// cloned starts another host with the id of this one, whose disk is an earlier copy. It must neither find nor
// release a slot.
func (h *host) cloned() {
	l, err := lock.New(h.tap, groupName(h.group), 1)
	if err != nil {
		panic(err) // the name is valid
	}
	r := lock.Record{Hostname: "clone.example.com", BootID: "boot of a clone", Token: "token of a clone"}
	if h.id%3 != 0 {
		r.Hardware = "hardware of a clone"
	}
	l.Identify(r, []string{"an older token"})
	ctx, cancel := context.WithTimeout(h.tap.life, callTimeout)
	defer cancel()
	if held, found, err := l.Holder(ctx, h.name()); held || err == nil && found != (lock.Record{}) {
		h.run.problem("a clone of %s in group %d takes the slot for its own: %+v, %v", h.name(), h.group, found, err)
	}
	if err := l.Release(ctx, h.name()); err == nil {
		h.run.problem("a clone of %s in group %d released its slot", h.name(), h.group)
	}
}

// second starts another process of this host, such as locksmithctl lock -wait, which waits beside the process in
// the queue, and gives up.
func (h *host) second() {
	store := etcd.New(etcd.Config{Endpoints: strings.Join(h.endpoints, ",")})
	l, err := lock.New(onlyWaits(h.run.Break(store)), groupName(h.group), 1)
	if err != nil {
		panic(err) // the name is valid
	}
	r := h.record(queue)
	r.Owner = "" // another owner than the first process
	limit := time.Duration(100+h.rng.IntN(2000)) * time.Millisecond
	h.run.seconds.Go(func() {
		defer store.Close()
		ctx, cancel := context.WithTimeout(h.run.ctx, limit)
		defer cancel()
		_ = l.Acquire(ctx, h.name(), r, nil) // it cannot get a slot
	})
}

// onlyWaits neither takes a slot nor enters the queue. It could take over an entry that exists.
func onlyWaits(s lock.Store) lock.Store {
	enters := func(c lock.Cond) bool { return strings.Contains(c.Key, "/queue/") && c.ModRevision == 0 }
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		if slices.ContainsFunc(c.Ops, counts) || slices.ContainsFunc(c.Conds, enters) {
			return lock.ErrRefused
		}
		return nil
	})
}

// crash kills the process somewhere in a call, and starts another one in another boot.
func (h *host) crash(ctx context.Context) {
	timer := time.AfterFunc(time.Duration(h.rng.IntN(15000))*time.Microsecond, h.die)
	h.call()
	if timer.Stop() {
		h.die()
	}
	pace(ctx, time.Duration(h.rng.IntN(300))*time.Millisecond)
	h.start(h.run.ctx)
	h.boots()
}

// drain waits for the host's turn, and releases the slot.
func (h *host) drain(ctx context.Context) error {
	defer context.AfterFunc(ctx, h.die)()
	if !until(ctx, func() output { return h.queue(time.Hour) }, done) {
		return fmt.Errorf("%s in group %d never got its turn", h.name(), h.group)
	}
	if !until(ctx, h.releaseWell, done, notHeld) {
		return fmt.Errorf("%s in group %d cannot release its slot", h.name(), h.group)
	}
	return nil
}
