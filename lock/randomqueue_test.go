package lock_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/storetest"
)

// TestRandomQueue makes hosts wait, leave, hang, pause and resume, with random faults, with second processes that
// wait beside them and leave, with hosts that are stuck in a report, with somebody who keeps leases
// alive, and with the store restored from a backup. It checks that nobody who stayed is overtaken, that
// max is kept, and that in the end everyone gets a turn and nothing is left, though one host is dead and
// another one stuck, and in every other round all leases live on.
func TestRandomQueue(t *testing.T) {
	seed := randtest.Seed(t)
	for round := range 50 {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, uint64(round)))
			faults := []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest, storetest.HoldRequest}
			s := storetest.NewMemory()
			slots := 1 + random.IntN(3)
			put(t, s, defaultKey, fmt.Sprintf(`{"semaphore":%d,"max":%[1]d,"holders":null}`, slots))
			admin := newLock(t, s, "")
			hosts := map[string]*waitingHost{}
			stores := map[string]*frozenStore{}
			backup := s.Backup()
			for step := range 400 {
				id := fmt.Sprintf("host%02d", random.IntN(30))
				h := hosts[id]
				if random.IntN(4) == 0 {
					s.FailCommits(faults[random.IntN(len(faults))])
				}
				switch n := random.IntN(26); {
				case n < 8 && h == nil:
					stores[id] = newFrozenStore(s)
					var ttl time.Duration
					if random.IntN(4) == 0 {
						ttl = time.Hour
					}
					hosts[id] = enter(t, stores[id], id, lock.Record{Hostname: id, BootID: "1", TTL: ttl, Owner: id})
				case n < 12 && h != nil:
					h.leave()
					select {
					case <-h.done:
					case <-time.After(time.Minute):
						t.Fatalf("step %d: %s does not leave", step, id)
					}
					var notHeld *lock.NotHeldError
					if err := h.lock.Release(t.Context(), id); err != nil && !errors.As(err, &notHeld) {
						t.Fatalf("step %d: %v", step, err)
					}
					delete(hosts, id)
				case n == 12 && h != nil:
					stores[id].freeze()
					time.Sleep(time.Duration(random.IntN(120)) * time.Second)
					stores[id].thaw()
				case n == 13:
					_, _ = admin.Pause(t.Context(), lock.PauseInfo{}, time.Duration(random.IntN(3))*time.Minute)
				case n == 14:
					_, _ = admin.Resume(t.Context())
				case n == 15:
					s.Compact()
				case n == 16:
					s.Deliver()
				case n == 17: // an outage, which cuts a transaction off or does not
					s.Heal()
					if s.FailCommits(storetest.CutOff); random.IntN(2) == 0 {
						s.Break(storetest.ErrFault)
					}
					time.Sleep(time.Duration(random.IntN(150)) * time.Second)
					s.Heal()
					s.Break(nil)
				case n == 18 && h != nil: // such as locksmithctl lock -wait
					s.Heal()
					queue := queueIDs(t, s)
					second := enter(t, s, id, lock.Record{Hostname: id, BootID: "1"})
					second.leave()
					<-second.done
					synctest.Wait()
					if now := queueIDs(t, s); slices.Contains(queue, id) && !slices.Equal(now, queue) {
						t.Fatalf("step %d: a second process of %s has left, the queue was %v and is %v", step, id, queue, now)
					}
				case n == 19 && h != nil:
					h.stuck.freeze()
					time.Sleep(time.Duration(random.IntN(120)) * time.Second)
					h.stuck.thaw()
				case n == 20:
					stop := keepLeases(s)
					time.Sleep(time.Duration(random.IntN(120)) * time.Second)
					stop()
				case n == 21:
					backup = s.Backup()
				case n == 22 && step > 100 && random.IntN(5) == 0:
					s.Heal()
					s.Restore(backup) // an operator who restores a backup makes sure that nobody holds a slot
					put(t, s, defaultKey, fmt.Sprintf(`{"semaphore":%d,"max":%[1]d,"holders":null}`, slots))
					_, err := admin.Resume(t.Context())
					must.Do(t, err)
					time.Sleep(90 * time.Second) // until the places of hosts that have left since run out
					synctest.Wait()
					if held, queue := holdersIn(t, s), queueIDs(t, s); len(held) < slots && len(queue) > 0 {
						t.Fatalf("step %d: held by %v of %d, and %v wait", step, held, slots, queue)
					}
				default:
					time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
				}
				synctest.Wait()
				if now := holdersIn(t, s); len(now) > slots {
					t.Fatalf("step %d: held by %v", step, now)
				}
			}
			s.Heal()
			s.Deliver()
			for _, err := admin.Resume(t.Context()); err != nil; _, err = admin.Resume(t.Context()) {
			}
			stop, found := func() {}, 2*time.Minute // until absent hosts have fallen out
			if round%2 == 0 {
				stop, found = keepLeases(s), 3*time.Hour
			}
			time.Sleep(5 * time.Minute) // the faults are over, except these
			absent := map[string]*waitingHost{}
			for _, id := range slices.Sorted(maps.Keys(hosts)) {
				if h := hosts[id]; len(absent) < 2 && !h.got(t) {
					if len(absent) == 0 {
						stores[id].freeze()
					} else {
						h.stuck.freeze()
					}
					absent[id] = h
					delete(hosts, id)
				}
			}
			turns := func(hosts map[string]*waitingHost) {
				for waited := time.Duration(0); len(hosts) > 0; {
					synctest.Wait()
					queue := queueIDs(t, s)
					var turn *waitingHost
					for _, h := range hosts {
						if h.got(t) {
							turn = h
						}
					}
					for id, h := range absent {
						if turn == nil && h.got(t) { // it was to be stuck, but nothing was reported to it
							delete(absent, id)
							turn = h
						}
					}
					if turn == nil && waited < found {
						waited += time.Minute
						time.Sleep(time.Minute)
						continue
					}
					waited = 0
					if turn == nil {
						t.Fatalf("round %d: nobody of %v has a turn, and %v are absent; held by %v", round, queue, slices.Collect(maps.Keys(absent)), holdersIn(t, s))
					}
					var notHeld *lock.NotHeldError // it may have been taken away: its time is up
					if err := turn.lock.Release(t.Context(), turn.id); err != nil && !errors.As(err, &notHeld) {
						t.Fatal(err)
					}
					synctest.Wait()
					delete(hosts, turn.id)
					present := func(queue []string) []string {
						return slices.DeleteFunc(queue, func(id string) bool { return hosts[id] == nil })
					}
					queue = present(queue)
					if next := present(queueIDs(t, s)); len(queue) > 0 && !slices.Equal(next, queue) && !slices.Equal(next, queue[1:]) {
						t.Fatalf("round %d: %s had a turn, the queue was %v and is %v, held by %v of %d", round, turn.id, queue, next, holdersIn(t, s), slots)
					}
				}
			}
			turns(hosts)
			stop()
			for id, h := range absent { // they come back, and queue again
				stores[id].thaw()
				h.stuck.thaw()
			}
			time.Sleep(5 * time.Minute)
			back := absent
			absent = nil
			turns(back)
			time.Sleep(time.Hour) // the longest time-to-live
			wantNothingLeft(t, s)
		})
		if t.Failed() {
			break
		}
	}
}
