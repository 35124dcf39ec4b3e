package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestContendersOfAllKindsNeverExceedMax(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		const max, hosts, rounds = 2, 5, 3
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		client, err := s.Client()
		must.Do(t, err)
		first := newLock(t, connect(t, at(s.Endpoint())), "")
		_, _, err = first.SetMax(ctx, max)
		must.Do(t, err)

		// Every revision of the document is looked at from the outside.
		watching, stop := context.WithCancel(ctx)
		events := client.Watch(watching, defaultKey, clientv3.WithRev(1))
		var outside sync.WaitGroup
		var documents atomic.Int64
		outside.Go(func() {
			for resp := range events {
				for _, ev := range resp.Events {
					documents.Add(1)
					sem, err := lock.ParseSemaphore(ev.Kv.Value)
					if err != nil || len(sem.Holders) > max {
						t.Errorf("revision %d is %s: %v", ev.Kv.ModRevision, ev.Kv.Value, err)
					}
				}
			}
		})

		var contenders sync.WaitGroup
		for i := range hosts {
			l, id := newLock(t, connect(t, at(s.Endpoint())), ""), fmt.Sprint("host", i)
			contenders.Go(func() {
				for range rounds {
					if err := l.Acquire(ctx, id, lock.Record{}, nil); err != nil {
						t.Error(err)
						return
					}
					if err := l.Release(ctx, id); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 2 { // clients that know only the document
			id := fmt.Sprint("older", i)
			contenders.Go(func() {
				for round := 0; round < 2*rounds; {
					ok, err := oldClient(ctx, client, id)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						round++
					}
				}
			})
		}
		contenders.Wait()
		wantHolders(t, s)
		resp, err := client.Get(ctx, defaultKey)
		must.Do(t, err)
		if want := int64(1 + 2*rounds*(hosts+2)); resp.Kvs[0].Version != want {
			t.Errorf("there were %d documents, want %d: somebody took what it did for something else", resp.Kvs[0].Version, want)
		}
		must.Eventually(t, patience, "the watch to get every change", func() bool { return documents.Load() == resp.Kvs[0].Version })
		stop()
		outside.Wait()
	})
}

// oldClient makes one try to take the slot of id, or to give it back if it has one.
func oldClient(ctx context.Context, client *clientv3.Client, id string) (bool, error) {
	resp, err := client.Get(ctx, defaultKey)
	if err != nil {
		return false, err
	}
	sem, err := lock.ParseSemaphore(resp.Kvs[0].Value)
	if err != nil {
		return false, err
	}
	var next lock.Semaphore
	if sem.Holds(id) {
		next, err = sem.Release(id)
	} else {
		next, err = sem.Acquire(id)
	}
	var full *lock.FullError
	if errors.As(err, &full) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(defaultKey), "=", resp.Kvs[0].ModRevision)).
		Then(clientv3.OpPut(defaultKey, string(next.Encode()))).Commit()
	if err != nil {
		return false, err
	}
	return txn.Succeeded, nil
}
