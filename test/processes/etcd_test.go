package processes

import (
	"context"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The daemon stays up, retries, says so in its status, and goes on once etcd is
// there.
func TestEtcdDownAtBootIsWaitedFor(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		g.lock(h.id) // from before
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
			t.Errorf("the slot from before was not given back first: %v", history)
		}
	})
}

// etcd is killed while a host waits for a slot, and comes back.
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

// etcd is killed with the transaction that takes the slot on its way.
func TestEtcdKilledAndRestartedDuringALock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		p := etcdtest.MustRPCProxy(t, s)
		h := startHost(t, g.confAt(p.Endpoint()))
		h.awaitIdle()
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

// A host is cut off from etcd while what it waits for happens, and when it is back
// etcd does not know of that change any more: it has to look, for nobody tells it.
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
				later, err := g.client.Put(soon(t), "unrelated", "") // for a change at the very revision would be told
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

// etcd stands still (SIGSTOP) while a host waits, and goes on.
func TestEtcdPausedAndResumedWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		must.Do(t, s.Pause(soon(t)))
		h.awaitStatus("waiting for a slot", s.Endpoint()) // it has noticed
		must.Do(t, s.Resume(soon(t)))
		g.unlock("other")
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// etcd stands still with the transaction that takes the slot on its way: it may
// happen later, and does.
func TestEtcdPausedAndResumedDuringALock(t *testing.T) {
	t.Parallel()
	forEachOwnEtcd(t, etcdtest.Options{}, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		p := etcdtest.MustRPCProxy(t, s)
		h := startHost(t, g.confAt(p.Endpoint()))
		h.awaitIdle()
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

// etcd is down when a host that has rebooted wants to give its slot back.
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
