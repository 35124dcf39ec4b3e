package processes

import (
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

var lostReplies = map[string]etcdtest.Fault{
	"connection lost": etcdtest.LoseReply,
	"silence":         etcdtest.WithholdReply,
}

// The host already holds the slot, which is success.
func TestLostReplyToACommittedLockIsASuccess(t *testing.T) {
	t.Parallel()
	for name, fault := range lostReplies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g, p, h := startBehindProxy(t, s)
				caught := p.Next(etcdtest.Writes, fault)
				h.announce()
				<-caught.Forwarded
				h.awaitReboot()
				g.wantHeldThroughout(h.id)
				g.wantDocument(`{"semaphore":0,"max":1,"holders":["` + h.id + `"]}`)
				h.reboot()
				g.awaitHolders()
				h.awaitIdle()
				h.wantNoReboot()
			})
		})
	}
}

// The host no longer holds a slot, which is success.
func TestLostReplyToACommittedUnlockIsASuccess(t *testing.T) {
	t.Parallel()
	for name, fault := range lostReplies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				p := etcdtest.MustRPCProxy(t, s)
				h := newHost(t, g.confAt(p.Endpoint()))
				g.lock(h.id)
				caught := p.Next(etcdtest.Writes, fault)
				h.start()
				<-caught.Forwarded
				g.awaitHolders()
				h.awaitIdle()
				g.wantNever("a slot too many", func(s semaphore) bool { return s.Semaphore > 1 })
				// The lock still works.
				h.announce()
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// A daemon is killed while the transaction that takes its slot is under way. If the transaction happened after the
// next daemon has found that it holds nothing, no host would know of the slot.
func TestTransactionOfAKilledDaemonCannotHappenLater(t *testing.T) {
	t.Parallel()
	g, p, h := startBehindProxy(t, sharedEtcd(t, etcdtest.Newest))
	release := make(chan struct{})
	caught := p.Next(etcdtest.Writes, etcdtest.Late(release))
	h.announce()
	<-caught.Arrived
	h.Daemon().Kill()
	h.Engine.Set(idle)
	h.start()
	h.awaitIdle()
	close(release)
	<-caught.Forwarded
	g.wantDocument(`{"semaphore":1,"max":1,"holders":null}`)
	g.wantNever("a holder", func(s semaphore) bool { return len(s.Holders) > 0 })
}

// An etcd without space refuses writes; the host waits until it has space again.
func TestEtcdWithoutSpaceIsWaitedFor(t *testing.T) {
	t.Parallel()
	g, p, h := startBehindProxy(t, sharedEtcd(t, etcdtest.Newest))
	caught := p.Every(etcdtest.Writes, etcdtest.Fail(rpctypes.ErrGRPCNoSpace))
	h.announce()
	<-caught.Arrived
	h.awaitStatus("waiting for a slot", "database space exceeded")
	h.wantNoReboot()
	p.Clear()
	h.awaitReboot()
	g.awaitHolders(h.id)
}

// Every request has a deadline, after which the client tries another endpoint.
func TestSilentFirstEndpointIsPassedOver(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		silent := etcdtest.MustProxy(t, s)
		must.Do(t, silent.BlackHole())
		h := startPending(t, g.confAt(silent.Endpoint()+","+s.Endpoint()))
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// Without another endpoint the daemon reports the problem, and still ends on SIGTERM.
func TestSilentOnlyEndpointDoesNotHangTheDaemon(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	silent := etcdtest.MustProxy(t, sharedEtcd(t, etcdtest.Newest))
	must.Do(t, silent.BlackHole())
	h := startHost(t, g.confAt(silent.Endpoint()))
	h.awaitStatus("starting", "the last attempt failed", silent.Endpoint())
	must.Do(t, silent.Pass())
	h.awaitIdle()
	h.terminate()
}
