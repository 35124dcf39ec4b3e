package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
)

// The daemon never overwrites a document that it cannot read. It reports the problem, and continues when the
// document is repaired.
func TestUnreadableSemaphoreIsNeverOverwrittenAndWaitedFor(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"not JSON":          "semaphore: 1",
		"empty":             "",
		"contradicts":       `{"semaphore":5,"max":1,"holders":[]}`,
		"a holder twice":    `{"semaphore":0,"max":2,"holders":["a","a"]}`,
		"of another type":   `{"semaphore":"1","max":"1","holders":null}`,
		"too many brackets": `{"semaphore":1,"max":1,"holders":null}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
				g := newGroup(t, s)
				g.put(document)
				h := startPending(t, g.conf())
				h.awaitStatus("starting", "cannot use the semaphore at etcd key "+g.key())
				h.wantNoReboot()
				g.wantDocument(document)
				g.put(`{"semaphore":1,"max":1,"holders":[]}`)
				h.awaitReboot()
				g.awaitHolders(h.id)
			})
		})
	}
}

// The same if the document breaks while a host waits for a slot.
func TestSemaphoreThatBreaksWhileWaitingIsNotOverwritten(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startWaiting(t, g, g.conf())
		g.put("broken")
		h.awaitStatus("trying again", "cannot use the semaphore at etcd key "+g.key())
		g.wantDocument("broken")
		h.wantNoReboot()
		g.put(`{"semaphore":1,"max":1,"holders":[]}`)
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// Another client that knows only section 5 of docs/compatibility.md may change the document at any time. The
// waiting host watches instead of polling.
func TestClientThatKnowsOnlyTheDocumentSharesTheLock(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			s := sharedEtcd(t, v)
			g := newGroup(t, s)
			p := etcdtest.MustRPCProxy(t, s)
			h := startWaiting(t, g, g.confAt(p.Endpoint()))
			calls := p.Calls(etcdtest.Txn) + p.Calls(etcdtest.Range)
			// A change of max makes the host look again, without a request.
			g.setMax(0)
			h.awaitStatus("waiting for a slot", "max is 0")
			g.setMax(1)
			h.awaitStatus("waiting for a slot", "held by other")
			if now := p.Calls(etcdtest.Txn) + p.Calls(etcdtest.Range); now != calls {
				t.Errorf("the host made %d requests while it waited", now-calls)
			}
			g.unlock("other")
			h.awaitReboot()
			if g.lock("other") {
				t.Fatal("the other client took the same slot")
			}
			h.reboot()
			g.awaitHolders()
			if !g.lock("other") {
				t.Fatal("the slot is not free")
			}
		})
	}
}
