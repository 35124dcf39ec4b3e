package processes

import (
	"context"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The daemon keeps running, retries, reports that in its status, and continues once etcd is up.
func TestEtcdDownAtBootIsWaitedFor(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		g.lock(h.id) // from before the boot
		h.Engine.Set(needReboot)
		s.Kill()
		h.start()
		h.awaitStatus("starting", "asking etcd", "the last attempt failed", s.Endpoint(), "trying again")
		h.await("READY=1", func() bool { return h.noticed("READY=1") > 0 })
		h.wantCoordinator("etcd-lock", "starting")
		h.wantNoReboot()
		must.Do(t, s.Restart(soon(t)))
		h.awaitReboot()
		g.awaitHolders(h.id)
		if history := g.seen(); len(history) != 3 || len(history[1].Holders) != 0 {
			t.Errorf("the slot from before the boot was not released first: %v", history)
		}
	})
}

// etcd is killed while a host waits for a slot, and is started again.
func TestEtcdKilledAndRestartedWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		s.Kill()
		h.awaitStatus("waiting for a slot", s.Endpoint())
		must.Do(t, s.Restart(soon(t)))
		h.awaitStatus("waiting for a slot", "held by other")
		h.wantNoReboot()
		g.unlock("other")
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// etcd is killed while the transaction that takes the slot is under way.
func TestEtcdKilledAndRestartedDuringALock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g, p, h := startBehindProxy(t, s)
		caught := p.Next(etcdtest.Writes, func(_ context.Context, c *etcdtest.Call) error {
			s.Kill()
			return c.Forward()
		})
		h.announce()
		<-caught.Arrived
		h.awaitStatus("waiting for a slot", p.Endpoint())
		must.Do(t, s.Restart(soon(t)))
		h.awaitReboot()
		g.wantHeldThroughout(h.id)
	})
}

// A host is cut off from etcd while the change that it waits for happens. When it is back, etcd has compacted that
// change, so the host has to read instead of relying on events.
func TestEtcdCompactedWhileAWaitingHostIsCutOff(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]bool{"first in the queue": false, "behind another": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				p := etcdtest.MustProxy(t, s)
				g.lock("other")
				var ahead *host
				if behind {
					ahead = enqueue(t, g, g.conf())
				}
				h := enqueue(t, g, g.confAt(p.Endpoint()))
				_, stop := g.keepAlive(g.queueKey(h.id))
				defer stop()
				if !behind {
					h.awaitStatus("first in the queue", "held by other")
				} else {
					h.awaitStatus("in the queue behind " + ahead.id)
				}
				p.Refuse()
				g.unlock("other")
				if behind {
					ahead.awaitReboot()
					ahead.reboot()
				}
				g.awaitHolders()
				later, err := g.client.Put(soon(t), "unrelated", "") // an event at the compacted revision itself would still arrive
				must.Do(t, err)
				_, err = g.client.Compact(soon(t), later.Header.Revision)
				must.Do(t, err)
				must.Do(t, p.Pass())
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// etcd is stopped (SIGSTOP) while a host waits, and continues.
func TestEtcdPausedAndResumedWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		must.Do(t, s.Pause(soon(t)))
		h.awaitStatus("waiting for a slot", s.Endpoint()) // the host has noticed
		must.Do(t, s.Resume(soon(t)))
		g.unlock("other")
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// etcd is stopped while the transaction that takes the slot is under way: the transaction happens later.
func TestEtcdPausedAndResumedDuringALock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g, p, h := startBehindProxy(t, s)
		caught := p.Next(etcdtest.Writes, func(ctx context.Context, c *etcdtest.Call) error {
			if err := s.Pause(ctx); err != nil {
				return err
			}
			return c.Forward()
		})
		h.announce()
		<-caught.Arrived
		h.awaitStatus("waiting for a slot", p.Endpoint())
		h.wantNoReboot()
		must.Do(t, s.Resume(soon(t)))
		<-caught.Forwarded
		h.awaitReboot()
		g.awaitHolders(h.id)
		g.wantHeldThroughout(h.id)
		h.reboot()
		g.awaitHolders()
	})
}

// etcd is down when a host that has rebooted wants to release its slot.
func TestEtcdDownAfterTheRebootDelaysTheRelease(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	g := newGroup(t, s)
	p := etcdtest.MustRPCProxy(t, s)
	h := newHost(t, g.confAt(p.Endpoint()))
	g.lock(h.id)
	caught := p.Next(etcdtest.Writes, func(_ context.Context, c *etcdtest.Call) error {
		s.Kill()
		return c.Forward()
	})
	h.start()
	<-caught.Arrived
	h.awaitStatus("giving back the slot that was held at start", "the last attempt failed", "trying again")
	must.Do(t, s.Restart(soon(t)))
	g.awaitHolders()
	h.awaitIdle()
}
