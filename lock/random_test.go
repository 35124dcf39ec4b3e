package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/storetest"
)

// TestRandomFaults makes several hosts lock and unlock, with random faults, and checks after every
// answer that it is true, and stays true whatever transactions are still under way.
func TestRandomFaults(t *testing.T) {
	seed := randtest.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0))
		faults := []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest, storetest.HoldRequest, storetest.CutOff, storetest.Refuse}
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":2,"max":2,"holders":null}`)
		type host struct {
			id   string
			lock *lock.Lock
		}
		var hosts []host
		for i := range 4 {
			hosts = append(hosts, host{fmt.Sprint("host", i), newLock(t, s, "")})
		}
		held := map[string]bool{} // what calls of the hosts returned; no entry where that is unknown
		for step := range 20_000 {
			h := hosts[random.IntN(len(hosts))]
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(5000))*time.Millisecond)
			for range random.IntN(3) {
				s.FailCommits(faults[random.IntN(len(faults))])
			}
			switch random.IntN(4) {
			case 0, 1:
				_, err := h.lock.TryAcquire(ctx, h.id, lock.Record{})
				var full *lock.FullError
				switch {
				case err == nil:
					held[h.id] = true
				case errors.As(err, &full):
					held[h.id] = false
				case errors.Is(err, lock.ErrUnknown):
					delete(held, h.id)
				}
			case 2:
				err := h.lock.Release(ctx, h.id)
				var notHeld *lock.NotHeldError
				switch {
				case err == nil, errors.As(err, &notHeld):
					held[h.id] = false
				case errors.Is(err, lock.ErrUnknown):
					delete(held, h.id)
				}
			case 3:
				is, _, err := h.lock.Holder(ctx, h.id)
				if err == nil {
					held[h.id] = is
				}
			}
			cancel()
			s.Break(nil)
			if random.IntN(3) == 0 {
				s.Deliver()
			}
			now := holdersIn(t, s)
			if len(now) > 2 {
				t.Fatalf("step %d: held by %v", step, now)
			}
			for id, answer := range held {
				if slices.Contains(now, id) != answer {
					t.Fatalf("step %d: the answer to %s was %v, held by %v", step, id, answer, now)
				}
			}
		}
	})
}
