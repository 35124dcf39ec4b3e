package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/storetest"
)

// realSlot is a host's view of a real lock.
type realSlot struct {
	*lock.Lock
	id, boot string
}

func (r realSlot) Inspect(ctx context.Context) (policy.Holding, error) {
	held, record, err := r.Holder(ctx, r.id)
	switch {
	case err != nil || !held:
		return policy.NotHeld, err
	case record.BootID == r.boot:
		return policy.HeldThisBoot, nil
	}
	return policy.HeldSinceBefore, nil
}

func (r realSlot) StillHeld(ctx context.Context) (bool, error) {
	held, _, err := r.Holder(ctx, r.id)
	return held, err
}

func (r realSlot) Acquire(ctx context.Context, version string, blocked func(string)) error {
	err := r.Lock.Acquire(ctx, r.id, lock.Record{BootID: r.boot, Version: version}, func(w lock.WaitStatus, err error) {
		blocked(fmt.Sprint(w.Semaphore.Holders, w.Ahead, err))
	})
	if errors.Is(err, lock.ErrUnknown) {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

func (r realSlot) Release(ctx context.Context) error {
	var notHeld *lock.NotHeldError
	if err := r.Lock.Release(ctx, r.id); err != nil && !errors.As(err, &notHeld) {
		return err
	}
	return nil
}

// Hosts that are told of an update at once go down one after another, each as
// soon as the one before is up again.
func TestFleetRebootsOneAtATime(t *testing.T) {
	const hosts, downtime = 5, 90 * time.Second
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		var mu sync.Mutex
		down, most := 0, 0
		begin := time.Now()
		var fleet sync.WaitGroup
		for n := range hosts {
			fleet.Go(func() {
				for boot := range 2 {
					s := newSite(t)
					l, err := lock.New(store, "", 1)
					if err != nil {
						t.Error(err)
						return
					}
					ctx, stop := context.WithCancel(t.Context())
					go func() {
						s.ended <- Run(ctx, Settings{Policy: policy.Config{Lock: true}, Lock: realSlot{l, fmt.Sprintf("host%d", n), fmt.Sprint("boot", boot)}}, s.parts)
					}()
					if boot == 1 { // it comes up with the slot held, gives it back, and is done
						for s.state() != policy.Idle {
							time.Sleep(time.Millisecond)
						}
						stop()
						<-s.ended
						return
					}
					s.updates <- need
					for s.state() != policy.Rebooting {
						time.Sleep(time.Second)
					}
					mu.Lock()
					down++
					most = max(most, down)
					mu.Unlock()
					stop()
					<-s.ended
					time.Sleep(downtime)
					mu.Lock()
					down--
					mu.Unlock()
				}
			})
		}
		fleet.Wait()
		if most != 1 {
			t.Errorf("%d hosts were down at once", most)
		}
		if took := time.Since(begin); took > hosts*(downtime+5*time.Second) {
			t.Errorf("%d hosts took %v", hosts, took)
		}
		l, err := lock.New(store, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := l.Status(t.Context()); err != nil || len(s.Holders) != 0 {
			t.Errorf("at the end: %+v, %v", s, err)
		}
	})
}
