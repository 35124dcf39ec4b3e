package etcd_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The slots of another program are taken over at once, and once, whatever comes of the reply.
func TestImportIntoEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		for name, fault := range map[string]etcdtest.Fault{
			"the reply is lost":     etcdtest.LoseReply,
			"the request is lost":   etcdtest.LoseRequest,
			"etcd loses its leader": etcdtest.Fail(rpctypes.ErrGRPCLeaderChanged),
		} {
			t.Run(name, func(t *testing.T) {
				ctx := bounded(t)
				l := newLock(t, connect(t, at(p.Endpoint())), name)
				lockFor(ctx, t, l, "ours")
				waits := startWaiting(ctx, t, newLock(t, connect(t, at(s.Endpoint())), name), "waits")
				slots := lock.Import{From: "airlock", Max: 150}
				for n := range 149 { // more than etcd puts in one transaction
					slots.Holders = append(slots.Holders, fmt.Sprintf("host%03d", n))
				}
				p.Next(etcdtest.Writes, fault)
				result, err := l.Import(ctx, slots)
				if must.Do(t, err); !slices.Equal(result.Taken(), slots.Holders) {
					t.Errorf("it has taken %q", result.Taken())
				}
				must.Do(t, l.Release(ctx, "host000"))
				waits.mustGet(t)
				var before *lock.ImportedError
				if _, err := l.Import(ctx, slots); !errors.As(err, &before) {
					t.Errorf("the second import ends with %v", err)
				}
				o, err := l.Overview(ctx)
				if must.Do(t, err); o.Semaphore.Free != 0 || o.Semaphore.Holds("host000") || !o.Semaphore.Holds("waits") {
					t.Errorf("the lock is %+v", o.Semaphore)
				}
			})
		}
	})
}
