package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

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
func TestHolderWithAnInvalidIDStopsNobody(t *testing.T) {
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
