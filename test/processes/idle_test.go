package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// The daemon is connected to etcd only while it needs etcd.
func TestIdleDaemonHasNoConnectionToEtcd(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	g := newGroup(t, s)
	p := etcdtest.MustProxy(t, s)
	h := newHost(t, g.confAt(p.Endpoint()))
	g.lock(h.id)
	h.start()
	h.awaitIdle()
	g.awaitHolders()
	disconnected(t, p)
	if p.Accepted() == 0 {
		t.Fatal("the daemon was never connected")
	}
	h.terminate()
	h.start() // with no slot to release
	h.awaitIdle()
	disconnected(t, p)
	// Events that do not concern etcd cause no connection.
	for range 3 {
		must.Do(t, h.Engine.Announce(idle))
	}
	h.reload(g.confAt(p.Endpoint(), updateconf.ShutWindow()))
	h.awaitLog("the new configuration is in force")
	h.awaitIdle()
	disconnected(t, p)
	at := p.Accepted()
	h.announce()
	h.awaitStatus("for the reboot window")
	must.Do(t, h.Engine.Announce(idle))
	h.awaitIdle()
	if now := p.Accepted(); now != at {
		t.Errorf("the daemon made %d connections while it waited for the window", now-at)
	}
	// The daemon is connected exactly while it waits for a slot.
	g.lock("other")
	h.reload(g.confAt(p.Endpoint()))
	h.announce()
	h.awaitStatus("waiting for a slot", "held by other")
	if p.Connections() == 0 {
		t.Error("the daemon waits without a connection")
	}
	must.Do(t, h.Engine.Announce(idle))
	h.awaitIdle()
	disconnected(t, p)
}

// disconnected waits until the proxy has seen the end of every connection, which comes soon after its cause.
func disconnected(t *testing.T, p *etcdtest.Proxy) {
	t.Helper()
	must.Eventually(t, patience, "no connection to etcd", func() bool { return p.Connections() == 0 })
}
