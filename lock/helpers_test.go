package lock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/storetest"
)

const defaultKey = "coreos.com/updateengine/rebootlock/semaphore"

func newLock(t testing.TB, s lock.Store, group string) *lock.Lock {
	t.Helper()
	l, err := lock.New(s, group, 1)
	must.Do(t, err)
	return l
}

func lockFor(ctx context.Context, t testing.TB, l *lock.Lock, id string) {
	t.Helper()
	if already, err := l.TryAcquire(ctx, id, lock.Record{}); err != nil || already {
		t.Fatal(already, err)
	}
}

// put writes a document past the lock, as an administrator with etcdctl would.
func put(t testing.TB, s lock.Store, key, document string) {
	t.Helper()
	if ok, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: key, Value: []byte(document)}}); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

// read returns the value of a key, past the lock.
func read(t testing.TB, s lock.Store, key string) lock.Value {
	t.Helper()
	snap, err := s.Get(context.WithoutCancel(t.Context()), lock.Read{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return snap.Values[key]
}

func holdersIn(t testing.TB, s lock.Store) []string {
	t.Helper()
	sem, err := lock.ParseSemaphore(read(t, s, defaultKey).Data)
	if err != nil {
		t.Fatal(err)
	}
	return sem.Holders
}

const prefix = "coreos.com/updateengine/rebootlock/"

// hostNames returns names in random order.
func hostNames(t *testing.T, n int) []string {
	t.Helper()
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("host%03d", i))
	}
	rng := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	rng.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

func queueIDs(t *testing.T, s lock.Store) []string {
	t.Helper()
	o, err := newLock(t, s, "").Overview(t.Context())
	must.Do(t, err)
	var ids []string
	for _, w := range o.Queue {
		ids = append(ids, w.ID)
	}
	return ids
}

// keysIn returns the keys that exist below prefix.
func keysIn(t *testing.T, s lock.Store, below string) []string {
	t.Helper()
	snap, err := s.Get(context.WithoutCancel(t.Context()), lock.Read{Key: prefix + below, End: prefix + below + "\xff"})
	must.Do(t, err)
	var found []string
	for key := range snap.Values {
		found = append(found, strings.TrimPrefix(key, prefix))
	}
	slices.Sort(found)
	return found
}

// wantNothingLeft checks that nobody waits, and that no key or lease of a wait is left.
func wantNothingLeft(t *testing.T, s *storetest.Memory) {
	t.Helper()
	synctest.Wait()
	for _, below := range []string{"queue/", "order/"} {
		if k := keysIn(t, s, below); len(k) > 0 {
			t.Errorf("left are %v", k)
		}
	}
	time.Sleep(2 * time.Minute)
	if n := s.Leases(); n != 0 {
		t.Errorf("left are %d leases", n)
	}
}

func isCommit(c *storetest.Call) bool { return c.Method == storetest.Commit }

// mustPause takes what Pause returns.
func mustPause(t *testing.T) func(*lock.Pause, error) {
	return func(_ *lock.Pause, err error) {
		t.Helper()
		must.Do(t, err)
	}
}
