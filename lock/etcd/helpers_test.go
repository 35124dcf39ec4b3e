package etcd_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The keys of the default group.
const (
	root       = "coreos.com/updateengine/rebootlock/"
	defaultKey = root + "semaphore"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// eachEtcd runs a test against every supported version of etcd.
func eachEtcd(t *testing.T, test func(*testing.T, etcdtest.Version)) {
	withEtcds(t, etcdtest.Versions(), test)
}

// oldestAndNewestEtcd is eachEtcd for long tests of what does not depend on the versions between.
func oldestAndNewestEtcd(t *testing.T, test func(*testing.T, etcdtest.Version)) {
	withEtcds(t, etcdtest.OldestAndNewest(), test)
}

func withEtcds(t *testing.T, versions []etcdtest.Version, test func(*testing.T, etcdtest.Version)) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// connect returns a store that is closed with the test.
func connect(t testing.TB, c etcd.Config) *etcd.Store {
	t.Helper()
	if err := validate(c); err != nil {
		t.Fatal(err)
	}
	e := etcd.New(c)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func at(endpoints ...string) etcd.Config { return etcd.Config{Endpoints: strings.Join(endpoints, ",")} }

func newLock(t testing.TB, s lock.Store, group string) *lock.Lock {
	t.Helper()
	l, err := lock.New(s, group, 1)
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

// holders returns who holds a slot of the default group, as seen from the outside.
func holders(t testing.TB, s *etcdtest.Server) []string {
	t.Helper()
	client, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(bounded(t), defaultKey)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatal(resp, err)
	}
	sem, err := lock.ParseSemaphore(resp.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return sem.Holders
}

func wantHolders(t testing.TB, s *etcdtest.Server, want ...string) {
	t.Helper()
	if got := holders(t, s); !slices.Equal(got, want) {
		t.Errorf("held by %v, want %v", got, want)
	}
}

// wait is an Acquire under way.
type wait struct {
	reports chan error                       // nil for a status, else the failure
	status  *atomic.Pointer[lock.WaitStatus] // the last one
	done    chan error
}

// startAcquire makes id wait for the slot.
func startAcquire(ctx context.Context, l *lock.Lock, id string) wait {
	w := wait{reports: make(chan error, 1000), status: new(atomic.Pointer[lock.WaitStatus]), done: make(chan error, 1)}
	go func() {
		w.done <- l.Acquire(ctx, id, lock.Record{}, func(status lock.WaitStatus, err error) {
			w.status.Store(&status)
			w.reports <- err
		})
	}()
	return w
}

// startWaiting returns once the wait has begun, without a failure.
func startWaiting(ctx context.Context, t testing.TB, l *lock.Lock, id string) wait {
	t.Helper()
	w := startAcquire(ctx, l, id)
	select {
	case err := <-w.reports:
		if err != nil {
			t.Fatal(err)
		}
	case err := <-w.done:
		t.Fatalf("acquire did not wait: %v", err)
	}
	return w
}

func (w wait) mustGet(t testing.TB) {
	t.Helper()
	if err := <-w.done; err != nil {
		t.Error(err)
	}
}

func (w wait) mustReportFailure(t testing.TB) {
	t.Helper()
	for {
		select {
		case err := <-w.reports:
			if err != nil {
				return
			}
		case err := <-w.done:
			t.Fatalf("acquire ended: %v", err)
		}
	}
}

func lockFor(ctx context.Context, t testing.TB, l *lock.Lock, id string) {
	t.Helper()
	if already, err := l.TryAcquire(ctx, id, lock.Record{}); err != nil || already {
		t.Fatal(already, err)
	}
}

func leases(ctx context.Context, t testing.TB, s *etcdtest.Server) int {
	t.Helper()
	client, err := s.Client()
	must.Do(t, err)
	resp, err := client.Leases(ctx)
	must.Do(t, err)
	return len(resp.Leases)
}

func mustPause(t *testing.T) func(*lock.Pause, error) {
	return func(_ *lock.Pause, err error) {
		t.Helper()
		must.Do(t, err)
	}
}
