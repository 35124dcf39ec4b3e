package daemon

import (
	"context"
	"fmt"
	"sync"

	"github.com/locksmithd/locksmith/internal/policy"
)

// slot is a Locker whose lock has one slot.
type slot struct {
	s    *site
	name string

	mu       sync.Mutex
	held     policy.Holding
	purpose  policy.Purpose // that it was taken for
	free     chan struct{}  // closed when Acquire may take the slot
	fail     error          // of every call
	keep     error          // of Release
	lostOnce bool           // the next Acquire takes the slot and fails with ErrUnknown
	deaf     bool           // no call ends before its context
	ended    error          // why Acquire ended before its time
	during   func()         // what happens while StillHeld is asked
}

func newSlot(s *site, name string, held policy.Holding) *slot {
	k := &slot{s: s, name: name, held: held, free: make(chan struct{})}
	close(k.free)
	return k
}

func (k *slot) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *slot) is() policy.Holding {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// begin notes a call and ends it early if it is to.
func (k *slot) begin(ctx context.Context, call string) error {
	k.s.note(k.name + " " + call)
	k.mu.Lock()
	deaf, fail := k.deaf, k.fail
	k.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (k *slot) Inspect(ctx context.Context) (policy.Holding, policy.Purpose, error) {
	err := k.begin(ctx, "inspect")
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held, k.purpose, err
}

func (k *slot) Report(ctx context.Context, r policy.Report) error {
	return k.begin(ctx, "report "+r.Phase)
}

func (k *slot) StillHeld(ctx context.Context) (bool, error) {
	if err := k.begin(ctx, "still held"); err != nil {
		return false, err
	}
	if k.during != nil {
		k.during()
	}
	return k.is() != policy.NotHeld, nil
}

func (k *slot) Acquire(ctx context.Context, purpose policy.Lock, blocked func(string)) error {
	if err := k.begin(ctx, "acquire "+purpose.Version); err != nil {
		return err
	}
	k.mu.Lock()
	free, lost := k.free, k.lostOnce
	k.lostOnce = false
	k.mu.Unlock()
	select {
	case <-free:
	default:
		blocked("held by another")
		select {
		case <-free:
		case <-ctx.Done():
			k.set(func() { k.ended = context.Cause(ctx) })
			return ctx.Err()
		}
	}
	k.set(func() { k.held, k.purpose = policy.HeldThisBoot, policy.Purpose{Version: purpose.Version} })
	if lost {
		return fmt.Errorf("%w: the reply was lost", ErrUnknown)
	}
	return nil
}

func (k *slot) Release(ctx context.Context) error {
	if err := k.begin(ctx, "release"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keep == nil {
		k.held = policy.NotHeld
	}
	return k.keep
}
