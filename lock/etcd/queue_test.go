package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func leases(ctx context.Context, t testing.TB, s *etcdtest.Server) int {
	t.Helper()
	client, err := s.Client()
	must.Do(t, err)
	resp, err := client.Leases(ctx)
	must.Do(t, err)
	return len(resp.Leases)
}

// requests are the calls that a reboot may make, keep-alives of leases aside.
func requests(p *etcdtest.RPCProxy) int {
	n := 0
	for _, method := range []string{etcdtest.Range, etcdtest.Put, etcdtest.DeleteRange, etcdtest.Txn, etcdtest.Watch,
		etcdtest.LeaseGrant, etcdtest.LeaseRevoke, etcdtest.Authenticate} {
		n += p.Calls(method)
	}
	return n
}

func TestRebootCostsTheSameInFleetsOfEverySize(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		for _, test := range []struct {
			ttl   time.Duration
			limit int
		}{{0, 13}, {time.Hour, 14}} {
			var costs []int
			for _, hosts := range []int{3, 10, 100} {
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
				w := wait{told: make(chan error, 1000), done: make(chan error, 1)}
				go func() {
					w.done <- mine.Acquire(ctx, "me", record, func(_ lock.WaitStatus, err error) { w.told <- err })
				}()
				must.Do(t, <-w.told)
				for _, o := range others {
					must.Do(t, last.Release(ctx, lastID))
					o.wait.mustGet(t)
					last, lastID = o.lock, o.id
				}
				must.Do(t, <-w.told) // it is the head now
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
				costs = append(costs, requests(p))
			}
			t.Logf("time-to-live %v: %v requests", test.ttl, costs)
			if costs[0] > test.limit || costs[1] != costs[0] || costs[2] != costs[0] {
				t.Errorf("with 3, 10 and 100 hosts a reboot with a time-to-live of %v takes %v requests, want %d at most", test.ttl, costs, test.limit)
			}
		}
	})
}

func TestQueueOnEtcdIsInOrderAndLeavesNothing(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		const hosts, max = 30, 3
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		admin := newLock(t, connect(t, at(s.Endpoint())), "")
		_, _, err := admin.SetMax(ctx, max)
		must.Do(t, err)
		for i := range max {
			lockFor(ctx, t, admin, fmt.Sprint("holder", i))
		}
		var mu sync.Mutex
		var got, want []string
		var all sync.WaitGroup
		for i := range hosts {
			id, l := fmt.Sprintf("host%d", i), newLock(t, connect(t, at(s.Endpoint())), "")
			want = append(want, id)
			w := startWaiting(ctx, t, l, id)
			all.Go(func() {
				if err := <-w.done; err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, id)
				mu.Unlock()
				if err := l.Release(ctx, id); err != nil {
					t.Error(err)
				}
			})
		}
		client, err := s.Client()
		must.Do(t, err)
		events := client.Watch(ctx, root+"queue/", clientv3.WithPrefix(), clientv3.WithFilterPut())
		for i := range max {
			must.Do(t, admin.Release(ctx, fmt.Sprint("holder", i)))
		}
		all.Wait()
		// The order in which they left the queue is that of their transactions.
		var order []string
		for len(order) < hosts {
			for _, e := range (<-events).Events {
				order = append(order, string(e.Kv.Key[len(root+"queue/"):]))
			}
		}
		if !slices.Equal(order, want) {
			t.Errorf("the order is %v", order)
		}
		if len(got) != hosts {
			t.Errorf("%d hosts had a slot", len(got))
		}
		resp, err := client.Get(ctx, root, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		must.Do(t, err)
		if len(resp.Kvs) != 1 {
			t.Errorf("left are %v", resp.Kvs)
		}
	})
}

func TestHostThatIsCutOffFallsOutOfTheQueue(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience) // a place lives for a minute
		defer cancel()
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		cut := newLock(t, connect(t, at(p.Endpoint())), "")
		c := newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		b := startWaiting(ctx, t, cut, "b")
		w := startWaiting(ctx, t, c, "c")
		must.Do(t, p.BlackHole())
		must.Eventually(t, 2*patience, "the place to be lost", func() bool {
			o, err := a.Overview(ctx)
			must.Do(t, err)
			return len(o.Queue) == 1 && o.Queue[0].ID == "c"
		})
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		must.Do(t, p.Pass())
		must.Eventually(t, patience, "another place", func() bool {
			o, err := a.Overview(ctx)
			must.Do(t, err)
			return len(o.Queue) == 1 && o.Queue[0].ID == "b"
		})
		wantHolders(t, s, "c")
		must.Do(t, c.Release(ctx, "c"))
		b.mustGet(t)
		wantHolders(t, s, "b")
	})
}

func TestPlaceInTheQueueSurvivesARestartOfEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		b := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "b")
		c := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "c")
		s.Kill()
		b.mustReportTrouble(t)
		c.mustReportTrouble(t)
		must.Do(t, s.Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		b.mustGet(t)
		wantHolders(t, s, "b")
		must.Do(t, a.Release(ctx, "b"))
		c.mustGet(t)
	})
}

func TestWaitThatIsCalledOffLeavesNoLease(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		waiting, stop := context.WithCancel(ctx)
		var all []wait
		for i := range 20 {
			all = append(all, startWaiting(waiting, t, newLock(t, connect(t, at(s.Endpoint())), ""), fmt.Sprint("host", i)))
		}
		last := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "last")
		stop()
		for _, w := range all {
			if err := <-w.done; !errors.Is(err, context.Canceled) {
				t.Errorf("it ends with %v", err)
			}
		}
		if n := leases(ctx, t, s); n != 1 {
			t.Errorf("there are %d leases", n)
		}
		must.Do(t, a.Release(ctx, "a"))
		last.mustGet(t)
	})
}

func TestQueueSurvivesCompaction(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		bLock := newLock(t, connect(t, at(s.Endpoint())), "")
		b := startWaiting(ctx, t, bLock, "b")
		c := startWaiting(ctx, t, newLock(t, connect(t, at(p.Endpoint())), ""), "c")
		p.Refuse() // the watch of c ends, and what it would have seen is compacted before it is back
		must.Do(t, a.Release(ctx, "a"))
		b.mustGet(t)
		must.Do(t, bLock.Release(ctx, "b"))
		client, err := s.Client()
		must.Do(t, err)
		resp, err := client.Put(ctx, "other", "x")
		must.Do(t, err)
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		must.Do(t, p.Pass())
		c.mustGet(t)
		wantHolders(t, s, "c")
	})
}

func TestUnknownOutcomesInTheQueue(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		a := newLock(t, connect(t, at(s.Endpoint())), "")
		for name, fault := range map[string]etcdtest.Fault{
			"the reply is lost":   etcdtest.LoseReply,
			"the request is lost": etcdtest.LoseRequest,
			"the request is late": etcdtest.Delay(3500 * time.Millisecond),
			"etcd times out":      etcdtest.Fail(rpctypes.ErrGRPCTimeout),
		} {
			t.Run(name, func(t *testing.T) {
				ctx := bounded(t)
				lockFor(ctx, t, a, "a")
				b := newLock(t, connect(t, at(p.Endpoint())), "")
				p.Next(etcdtest.Writes, fault) // the entry
				p.Next(etcdtest.Writes, fault) // or, after a request that was lost, the index
				done := make(chan error, 1)
				go func() { done <- b.Acquire(ctx, "b", lock.Record{TTL: time.Hour}, nil) }()
				must.Eventually(t, patience, "b in the queue", func() bool {
					o, err := a.Overview(ctx)
					must.Do(t, err)
					return len(o.Queue) == 1
				})
				c := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "c")
				p.Clear()
				p.Next(etcdtest.Writes, fault) // the slot
				must.Do(t, a.Release(ctx, "a"))
				must.Do(t, <-done)
				wantHolders(t, s, "b")
				p.Next(etcdtest.Writes, fault)
				must.Do(t, b.Release(ctx, "b"))
				c.mustGet(t)
				must.Do(t, a.Release(ctx, "c"))
			})
		}
	})
}

func TestQueueAndTimeToLiveWorkWithUsers(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite}))
		c := at(s.Endpoint())
		c.Username, c.Password = "locksmith", "secret"
		store := connect(t, c)
		a := newLock(t, store, "")
		if _, err := a.TryAcquire(ctx, "a", lock.Record{TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		bLock := newLock(t, connect(t, c), "")
		b := startWaiting(ctx, t, bLock, "b")
		waiting, stop := context.WithCancel(ctx)
		w := startWaiting(waiting, t, newLock(t, connect(t, c), ""), "c")
		mustPause(t)(a.Pause(ctx, lock.PauseInfo{By: "me"}, time.Hour))
		mustPause(t)(lock.NewGroups(store, 1).Pause(ctx, lock.PauseInfo{By: "me"}, 0))
		groups, err := lock.NewGroups(store, 1).Names(ctx)
		if err != nil || !slices.Equal(groups, []string{""}) {
			t.Errorf("the groups are %q, %v", groups, err)
		}
		client, err := s.Client()
		must.Do(t, err)
		entry, err := client.Get(ctx, root+"queue/b")
		must.Do(t, err)
		must.Do(t, store.KeepAlive(ctx, entry.Kvs[0].Lease))
		_, err = client.Delete(ctx, root+"alive/a") // as when its time is over
		must.Do(t, err)
		stop()
		<-w.done
		_, err = a.Resume(ctx)
		must.Do(t, err)
		_, err = lock.NewGroups(store, 1).Resume(ctx)
		must.Do(t, err)
		b.mustGet(t)
		must.Do(t, bLock.Release(ctx, "b"))
		watching, enough := context.WithCancel(ctx)
		defer enough()
		err = a.WatchOverview(watching, func(o lock.Overview, err error) {
			must.Do(t, err)
			if len(o.Holders)+len(o.Queue) == 0 {
				enough()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// What docs/operations.md says about those who have no permission: before 3.6 they can keep leases alive.
func TestLeasesAreNoSignOfLife(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a := connect(t, at(s.Endpoint()))
		lockFor(ctx, t, newLock(t, a, ""), "a")
		startWaiting(ctx, t, newLock(t, a, ""), "b")
		snap, err := a.Get(ctx, lock.Read{Key: root + "queue/b"})
		must.Do(t, err)
		lease := snap.Values[root+"queue/b"].Lease
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "other", Password: "secret", Prefix: "other/", Permission: readWrite}))
		client, err := s.Client()
		must.Do(t, err)
		status, err := client.Status(ctx, s.Endpoint())
		must.Do(t, err)
		open := strings.HasPrefix(status.Version, "3.4.") || strings.HasPrefix(status.Version, "3.5.")
		for _, user := range []string{"", "other"} {
			c := at(s.Endpoint())
			outsider := connect(t, c)
			if user != "" {
				c.Username, c.Password = user, "secret"
				outsider = connect(t, c)
				_, err := outsider.Get(ctx, lock.Read{Key: "other/x"}) // which has more time for the log-in
				must.Do(t, err)
			}
			answer := func(call func(context.Context, int64) error) error {
				for {
					// On a busy machine there may be none in time.
					if err := call(ctx, lease); err == nil || errors.Is(err, lock.ErrRefused) || ctx.Err() != nil {
						return err
					}
				}
			}
			if err := answer(outsider.KeepAlive); (err == nil) != open || ctx.Err() != nil {
				t.Errorf("etcd %s: user %q keeps a lease alive: %v", status.Version, user, err)
			}
			if err := answer(outsider.Revoke); err == nil || ctx.Err() != nil {
				t.Errorf("etcd %s: user %q revokes a lease: %v", status.Version, user, err)
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

// Etcd takes 128 operations in one transaction.
func TestThereMayBeMoreHoldersThanATransactionHasOperations(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		var holders []string
		for i := range 300 {
			holders = append(holders, fmt.Sprintf("holder%03d", i))
		}
		full := lock.Semaphore{Max: len(holders), Holders: holders}
		client, err := s.Client()
		must.Do(t, err)
		_, err = client.Put(ctx, defaultKey, string(full.Encode()))
		must.Do(t, err)
		for _, i := range []int{0, 150, 299} { // they hold a slot, and wait for none
			_, err := client.Put(ctx, root+"queue/"+holders[i], "{}")
			must.Do(t, err)
		}
		waits := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "me")
		must.Do(t, newLock(t, connect(t, at(s.Endpoint())), "").Release(ctx, holders[150]))
		waits.mustGet(t)
		left, err := client.Get(ctx, root+"queue/", clientv3.WithPrefix())
		must.Do(t, err)
		if len(left.Kvs) > 0 {
			t.Errorf("entries of those who hold a slot are left: %v", left.Kvs)
		}
	})
}

func TestOneLostMessageDoesNotKeepAPlaceThatWasGivenUp(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		lockFor(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "holder")
		waiting, leave := context.WithCancel(ctx)
		w := startWaiting(waiting, t, newLock(t, connect(t, at(p.Endpoint())), ""), "a")
		never := make(chan struct{})
		defer close(never)
		p.Next(etcdtest.Method(etcdtest.LeaseRevoke), etcdtest.Late(never))
		leave()
		if err := <-w.done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		client, err := s.Client()
		must.Do(t, err)
		left, err := client.Get(ctx, root+"queue/", clientv3.WithPrefix())
		must.Do(t, err)
		if len(left.Kvs) > 0 {
			t.Errorf("a has left the queue, and is in it: %v", left.Kvs)
		}
	})
}

// Such an id in a key would make a request that is larger than etcd takes.
func TestHolderWhoseIDIsNoneStopsNobody(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		client, err := s.Client()
		must.Do(t, err)
		document := lock.Semaphore{Max: 2, Holders: []string{"a", strings.Repeat("\u00e9", 400_000)}}
		_, err = client.Put(ctx, defaultKey, string(document.Encode()))
		must.Do(t, err)
		waits := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), ""), "b")
		must.Do(t, newLock(t, connect(t, at(s.Endpoint())), "").Release(ctx, "a"))
		waits.mustGet(t)
	})
}

// Etcd is restored from a backup, and its revisions are given out a second time: who waits in the middle of the queue
// must not go on from one of the first time.
func TestQueueGoesOnAfterEtcdWasRestoredFromABackup(t *testing.T) {
	for name, writes := range map[string]int{"it has yet to reach the revision": 0, "it is past the revision again": 100} {
		t.Run(name, func(t *testing.T) {
			eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
				ctx := bounded(t)
				s := etcdtest.MustStart(t, v, etcdtest.Options{})
				p := etcdtest.MustProxy(t, s)
				write := func(times int) {
					client, err := s.Client()
					must.Do(t, err)
					for i := range times {
						_, err := client.Put(ctx, "other", fmt.Sprint(i))
						must.Do(t, err)
					}
				}
				a := newLock(t, connect(t, at(s.Endpoint())), "")
				lockFor(ctx, t, a, "a")
				waits := map[string]wait{}
				for _, id := range []string{"b", "c", "d"} {
					waits[id] = startWaiting(ctx, t, newLock(t, connect(t, at(p.Endpoint())), ""), id)
				}
				must.Do(t, s.Stop(ctx))
				must.Do(t, s.Save())
				must.Do(t, s.Restart(ctx))
				write(10)
				looked := func() { // at a revision that is lost later
					for _, w := range waits {
						for told := false; !told; {
							select {
							case err := <-w.told:
								told = err == nil
							case <-ctx.Done():
								t.Fatal("somebody is not told of a pause")
							}
						}
					}
				}
				mustPause(t)(a.Pause(ctx, lock.PauseInfo{}, 0))
				looked()
				_, err := a.Resume(ctx)
				must.Do(t, err)
				looked()
				must.Do(t, p.BlackHole()) // a moment, as short as one attempt
				s.Kill()
				must.Do(t, s.Restore())
				must.Do(t, s.Restart(ctx))
				write(writes)
				must.Do(t, p.Pass())
				must.Do(t, newLock(t, connect(t, at(s.Endpoint())), "").Release(ctx, "a"))
				for _, id := range []string{"b", "c", "d"} {
					waits[id].mustGet(t)
					must.Do(t, newLock(t, connect(t, at(s.Endpoint())), "").Release(ctx, id))
				}
			})
		})
	}
}

func mustPause(t *testing.T) func(*lock.Pause, error) {
	return func(_ *lock.Pause, err error) {
		t.Helper()
		must.Do(t, err)
	}
}
