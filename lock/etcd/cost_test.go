package etcd_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestRebootCostsTheSameInFleetsOfEverySize(t *testing.T) {
	oldestAndNewestEtcd(t, func(t *testing.T, v etcdtest.Version) {
		for _, test := range []struct {
			ttl   time.Duration
			limit int
		}{{0, 13}, {time.Hour, 14}} {
			var costs []int
			for _, hosts := range []int{3, 10, 30} {
				ctx := bounded(t)
				s := etcdtest.MustStart(t, v, etcdtest.Options{})
				p := etcdtest.MustRPCProxy(t, s)
				shared := connect(t, at(s.Endpoint()))
				first := newLock(t, shared, "")
				lockFor(ctx, t, first, "first")
				last := first
				lastID := "first"
				// All others but one wait before it.
				type other struct {
					id   string
					lock *lock.Lock
					wait wait
				}
				var others []other
				for i := range hosts - 2 {
					o := other{id: fmt.Sprint("host", i), lock: newLock(t, shared, "")}
					o.wait = startWaiting(ctx, t, o.lock, o.id)
					others = append(others, o)
				}

				// What locksmithd does: it looks whether it holds a slot, waits for one, looks again, and
				// after the reboot it looks and gives it back.
				mine := newLock(t, connect(t, at(p.Endpoint())), "")
				mine.Identify(lock.Record{Hostname: "me", BootID: "1"}, nil)
				record := lock.Record{Hostname: "me", BootID: "1", TTL: test.ttl}
				_, _, err := mine.Holder(ctx, "me")
				must.Do(t, err)
				w := wait{reports: make(chan error, 1000), done: make(chan error, 1)}
				go func() {
					w.done <- mine.Acquire(ctx, "me", record, func(_ lock.WaitStatus, err error) { w.reports <- err })
				}()
				must.Do(t, <-w.reports)
				for _, o := range others {
					must.Do(t, last.Release(ctx, lastID))
					o.wait.mustGet(t)
					last, lastID = o.lock, o.id
				}
				must.Do(t, <-w.reports) // it is the head now
				must.Do(t, last.Release(ctx, lastID))
				w.mustGet(t)
				held, _, err := mine.Holder(ctx, "me")
				if err != nil || !held {
					t.Fatal(held, err)
				}
				again := newLock(t, connect(t, at(p.Endpoint())), "")
				again.Identify(lock.Record{Hostname: "me", BootID: "2"}, nil)
				if held, r, err := again.Holder(ctx, "me"); err != nil || !held || r.BootID != "1" {
					t.Fatal(held, r, err)
				}
				must.Do(t, again.Release(ctx, "me"))
				costs = append(costs, p.Requests())
			}
			t.Logf("time-to-live %v: %v requests", test.ttl, costs)
			if costs[0] > test.limit || costs[1] != costs[0] || costs[2] != costs[0] {
				t.Errorf("with 3, 10 and 30 hosts a reboot with a time-to-live of %v takes %v requests, want %d at most", test.ttl, costs, test.limit)
			}
		}
	})
}

// BenchmarkPlace measures how long it takes etcd to find the one before in a long queue, by the index
// and by the entries, and in proportion to reading one key.
func BenchmarkPlace(b *testing.B) {
	for _, v := range etcdtest.OldestAndNewest() {
		b.Run(v.String(), func(b *testing.B) {
			const hosts = 10_000
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
			defer cancel()
			s := etcdtest.MustStart(b, v, etcdtest.Options{})
			store := connect(b, at(s.Endpoint()))
			var all sync.WaitGroup
			for part := range 16 {
				all.Go(func() {
					for i := part; i < hosts; i += 16 {
						ops := []lock.Op{
							{Key: fmt.Sprintf("queue/%032x", i), Value: []byte(`{"hostname":"host-12345.example.com","boot_id":"3f8dc2d6-7c5a-4b62-a1de-2ab4bb9cf6b5","since":"2026-11-20T07:49:23Z"}`)},
							{Key: fmt.Sprintf("order/%016x/%032x", i, i)},
						}
						if _, _, err := store.Commit(ctx, nil, ops); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			snap, err := store.Get(ctx, lock.Read{Key: "x"})
			must.Do(b, err)
			var one, index, entries []time.Duration
			timed := func(into *[]time.Duration, r lock.Read, want int) {
				start := time.Now()
				snap, err := store.Get(ctx, r)
				*into = append(*into, time.Since(start))
				if err != nil || len(snap.Values) != want {
					b.Fatal(len(snap.Values), err)
				}
			}
			for b.Loop() {
				timed(&one, lock.Read{Key: fmt.Sprintf("queue/%032x", 1)}, 1)
				timed(&index, lock.Read{Key: fmt.Sprintf("order/%016x/\x00", hosts/2), End: "order0", Limit: 8}, 8)
				timed(&entries, lock.Read{Key: "queue/", End: "queue0", KeysOnly: true, CreatedBefore: snap.Revision, Limit: 8}, 8)
			}
			b.ReportMetric(float64(median(one)), "one-key-ns")
			b.ReportMetric(float64(median(index))/float64(median(one)), "x-index")
			b.ReportMetric(float64(median(entries))/float64(median(one)), "x-entries")
		})
	}
}
