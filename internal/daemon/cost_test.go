package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// patience is how long a test with a real etcd waits for what must happen.
const patience = time.Minute

// seen is what the daemon does, as the last snapshot says it. It never blocks.
type seen struct{ changes chan policy.Snapshot }

func (s seen) Observe(now policy.Snapshot, _ string, _ []policy.Move) { s.changes <- now }

// await returns once a snapshot is as expected.
func (s seen) await(t *testing.T, what string, is func(policy.Snapshot) bool) {
	t.Helper()
	for !is(must.Receive(t, patience, what, s.changes)) {
	}
}

// costly is a quiet host with something hooked in before its reboot, and checks after it, the first of which fail.
type costly struct {
	quiet
	hooked bool
	fails  *atomic.Int32 // how many checks
}

func (c costly) Hooked(context.Context) (bool, error) { return c.hooked, nil }

func (c costly) After(context.Context, policy.Facts) error {
	if c.fails.Add(-1) >= 0 {
		return errors.New("not yet")
	}
	return nil
}

// From idle to idle, by way of a reboot, a host in a queue asks etcd this often. Nothing that is not configured costs
// anything.
func TestRebootCostsFewRequests(t *testing.T) {
	for name, c := range map[string]struct {
		hooked bool
		delay  time.Duration // before the slot is released
		ttl    time.Duration
		fails  int // checks
		want   int
	}{
		"nothing configured":                  {false, 0, 0, 0, 12},
		"hooks":                               {true, 0, 0, 0, 15},
		"everything":                          {true, time.Second, time.Hour, 0, 17},
		"everything, and a check fails first": {true, time.Second, time.Hour, 1, 18},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
			p := etcdtest.MustRPCProxy(t, s)
			others := make([]*lock.Lock, 2)
			for i := range others {
				store := etcd.New(etcd.Config{Endpoints: s.Endpoint()})
				t.Cleanup(func() { store.Close() })
				var err error
				others[i], err = lock.New(store, "", 1)
				must.Do(t, err)
			}
			_, err := others[0].TryAcquire(t.Context(), "first", lock.Record{})
			must.Do(t, err)
			second := make(chan error, 10)
			go func() {
				second <- others[1].Acquire(t.Context(), "second", lock.Record{}, func(lock.WaitStatus, error) { second <- nil })
			}()
			must.Do(t, must.Receive(t, patience, "the second host to queue", second))

			var fails atomic.Int32
			fails.Store(int32(c.fails))
			me := newNode(t, 1, etcd.New(etcd.Config{Endpoints: p.Endpoint()}))
			start := func(boot string) (seen, chan policy.Event, costly, func()) {
				held, err := slot.New(me.store, "", me.root, host.Boot{ID: boot}, slog.New(slog.DiscardHandler))
				must.Do(t, err)
				must.Do(t, held.Set(1, c.ttl))
				h := costly{quiet{make(chan struct{})}, c.hooked, &fails}
				o, updates := seen{make(chan policy.Snapshot, 1000)}, make(chan policy.Event, 1)
				parts := h.parts(updates)
				parts.Hooks, parts.Observers = h, []daemon.Observer{o}
				config := policy.Config{Lock: true, BeforeTimeout: time.Minute, HealthTimeout: time.Minute, ReleaseDelay: c.delay}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- daemon.Run(ctx, daemon.Settings{Policy: config, Lock: held}, parts) }()
				return o, updates, h, func() { stop(); must.Do(t, must.Receive(t, patience, "the end", ended)) }
			}
			isIdle := func(s policy.Snapshot) bool { return s.State == policy.Idle }

			o, updates, h, stop := start("first boot")
			o.await(t, "the daemon to be idle", isIdle)
			before := p.Requests()
			updates <- policy.Update{Source: policy.Engine, Pending: true, Version: fixVersion}
			o.await(t, "a place in the queue", func(s policy.Snapshot) bool { return strings.Contains(s.BlockedBy, "behind") })
			must.Do(t, others[0].Release(t.Context(), "first"))
			o.await(t, "the head of the queue", func(s policy.Snapshot) bool { return strings.Contains(s.BlockedBy, "first in the queue") })
			must.Do(t, others[1].Release(t.Context(), "second"))
			must.Receive(t, patience, "the reboot", h.rebooting)
			stop()
			o, _, _, stop = start("second boot")
			o.await(t, "the daemon to be idle again", isIdle)
			cost := p.Requests() - before
			stop()
			t.Logf("%d requests", cost)
			if cost > c.want {
				t.Errorf("a reboot with %s takes %d requests, want %d at most", name, cost, c.want)
			}
		})
	}
}
