package processes

import (
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

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

// sentinelFile is a setting of a daemon that follows a file, which does not exist.
const sentinelFile = "LOCKSMITHD_REBOOT_SENTINEL=/run/reboot-required"

// startIdle starts a host that has released a slot of a group, and idles since.
func startIdle(t testing.TB, g *group, conf ...string) *host {
	t.Helper()
	h := newHost(t, g.conf(conf...))
	g.lock(h.id)
	h.start()
	h.awaitIdle()
	g.awaitHolders()
	return h
}

// Polling, such as a look at a file every second, would wake it. Package sentinel tests that it does not look every
// minute either.
func TestIdleDaemonDoesNotWakeUp(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string][]string{
		"without a sentinel":   nil,
		"with a sentinel file": {sentinelFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startIdle(t, g, conf...)
			wakeups := func() int { return threadWakeups(t, h.Daemon().PID()) }
			// After a start, the Go runtime gives back memory for a while.
			must.Eventually(t, patience, "the daemon to sleep until a lease of three seconds runs out", func() bool {
				before := wakeups()
				g.awaitExpiry(3)
				return wakeups() == before
			})
			before := wakeups()
			must.Do(t, h.Engine.Announce(idle))
			must.Eventually(t, patience, "a signal to wake the daemon", func() bool { return wakeups() > before })
		})
	}
}

// awaitExpiry takes a lease of some seconds and waits until etcd deletes its key.
func (g *group) awaitExpiry(seconds int64) {
	g.t.Helper()
	ctx := soon(g.t)
	lease, err := g.client.Grant(ctx, seconds)
	must.Do(g.t, err)
	key := g.prefix + "/test-expiry"
	put, err := g.client.Put(ctx, key, "", clientv3.WithLease(lease.ID))
	must.Do(g.t, err)
	for response := range g.client.Watch(ctx, key, clientv3.WithRev(put.Header.Revision+1)) {
		must.Do(g.t, response.Err())
		return
	}
	g.t.Fatal("the lease does not run out")
}

// What packages set up before main stays in memory for as long as the daemon runs. Go says how much that is.
func TestOwnPackagesSetUpLittle(t *testing.T) {
	t.Parallel()
	const most = 20 << 10 // bytes
	cmd := exec.CommandContext(t.Context(), locksmithd(), "--version")
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	trace, err := cmd.CombinedOutput()
	must.Do(t, err)
	sum, packages := 0, regexp.MustCompile(`init github\.com/locksmithd/locksmith/.*, (\d+) bytes, `).FindAllSubmatch(trace, -1)
	for _, p := range packages {
		n, err := strconv.Atoi(string(p[1]))
		must.Do(t, err)
		sum += n
	}
	if len(packages) == 0 || sum > most {
		t.Errorf("%d packages of this module set up %d bytes, want some, and at most %d\n%s", len(packages), sum, most, trace)
	}
}
