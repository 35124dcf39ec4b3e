package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/etcdtest"
	"github.com/locksmithd/locksmith/internal/locktest"
	"github.com/locksmithd/locksmith/lock"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// eachEtcd runs a test against every etcd that hosts meet.
func eachEtcd(t *testing.T, test func(*testing.T, etcdtest.Version)) {
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// connect returns a store that is closed with the test.
func connect(t testing.TB, c lock.EtcdConfig) *lock.Etcd {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	e := lock.NewEtcd(c)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func at(endpoints ...string) lock.EtcdConfig { return lock.EtcdConfig{Endpoints: endpoints} }

func newLock(t testing.TB, s lock.Store, group string) *lock.Lock {
	t.Helper()
	l, err := lock.New(s, group)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestEtcdPassesTheContractOfStores(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		locktest.Contract(t, func(t *testing.T) lock.Store { return connect(t, at(s.Endpoint())) })
	})
}
