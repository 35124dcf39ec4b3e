package slot_test

import (
	"testing"

	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
)

// eachStore runs a test with the store in memory, and with a real etcd.
func eachStore(t *testing.T, test func(*testing.T, slot.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, newMemory()) })
	t.Run("etcd", func(t *testing.T) {
		s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
		test(t, newEtcd(t, s.Endpoint()))
	})
}

func newEtcd(t *testing.T, endpoint string) *etcd.Store {
	store := etcd.New(etcd.Config{Endpoints: endpoint})
	t.Cleanup(func() { store.Close() })
	return store
}
