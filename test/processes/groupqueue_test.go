package processes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// queueKey returns the key of a host's queue entry.
func (g *group) queueKey(id string) string { return g.prefix + "/queue/" + id }

// awaitKey waits until a key exists, or until it does not.
func (g *group) awaitKey(key string, exists bool) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	response, err := g.client.Get(ctx, key)
	must.Do(g.t, err)
	if len(response.Kvs) > 0 == exists {
		return
	}
	for watched := range g.client.Watch(ctx, key, clientv3.WithRev(response.Header.Revision+1)) {
		must.Do(g.t, watched.Err())
		for _, e := range watched.Events {
			if e.Type == clientv3.EventTypePut == exists {
				return
			}
		}
	}
	g.t.Fatalf("timed out waiting for %s: exists=%t", key, exists)
}

// enqueue starts a host that needs a reboot, and waits until it is in the queue.
func enqueue(t testing.TB, g *group, conf string) *host {
	t.Helper()
	h := startPending(t, conf)
	g.awaitKey(g.queueKey(h.id), true)
	h.awaitStatus("waiting for a slot")
	return h
}

// enqueueBehindOther gives the slot to "other", and makes n hosts queue for it one after another.
func enqueueBehindOther(t testing.TB, g *group, n int) []*host {
	t.Helper()
	if !g.lock("other") {
		t.Fatal("no slot is free")
	}
	var fleet []*host
	for i := range n {
		h := enqueue(t, g, g.conf())
		if i == 0 {
			h.awaitStatus("first in the queue", "held by other")
		} else {
			h.awaitStatus("in the queue behind " + fleet[i-1].id)
		}
		fleet = append(fleet, h)
	}
	return fleet
}

// queueBehindProxy starts two hosts that wait for the slot of "other": head, which reaches the lock through a proxy,
// and second behind it.
func queueBehindProxy(t testing.TB, s *etcdtest.Server) (g *group, p *etcdtest.RPCProxy, head, second *host) {
	t.Helper()
	g, p = newGroup(t, s), etcdtest.MustRPCProxy(t, s)
	head = startWaiting(t, g, g.confAt(p.Endpoint()))
	head.awaitStatus("first in the queue")
	second = enqueue(t, g, g.conf())
	second.awaitStatus("in the queue behind " + head.id)
	return g, p, head, second
}

// keepAlive keeps a key's lease alive until stop is called, however long the test takes.
func (g *group) keepAlive(key string) (lease clientv3.LeaseID, stop func()) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	response, err := g.client.Get(ctx, key)
	must.Do(g.t, err)
	if len(response.Kvs) == 0 || response.Kvs[0].Lease == 0 {
		g.t.Fatalf("no lease keeps %s", key)
	}
	lease = clientv3.LeaseID(response.Kvs[0].Lease)
	kept, err := g.client.KeepAlive(ctx, lease)
	must.Do(g.t, err)
	go func() {
		for range kept {
		}
	}()
	return lease, cancel
}

// wantEmpty waits until no host holds a slot, and checks that only the document is left.
func (g *group) wantEmpty() {
	g.t.Helper()
	g.awaitHolders()
	if keys := g.keys(); !slices.Equal(keys, []string{g.key()}) {
		g.t.Errorf("left behind: %v", keys)
	}
}

func severalHolders(s semaphore) bool { return len(s.Holders) > 1 }

// wantOrder checks that the one slot has been held in this order, once by each.
func (g *group) wantOrder(want ...string) {
	g.t.Helper()
	g.wantNever("two holders of one slot", severalHolders)
	var order []string
	last := ""
	for _, s := range g.seen() {
		holder := ""
		if len(s.Holders) > 0 {
			holder = s.Holders[0]
		}
		if holder != last && holder != "" {
			order = append(order, holder)
		}
		last = holder
	}
	if !slices.Equal(order, want) {
		g.t.Errorf("they got the slot in the order %v, want %v", order, want)
	}
}

// queued returns the ids in the queue, in order.
func (g *group) queued() []string {
	g.t.Helper()
	response, err := g.client.Get(soon(g.t), g.queueKey(""), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	must.Do(g.t, err)
	var ids []string
	for _, kv := range response.Kvs {
		ids = append(ids, strings.TrimPrefix(string(kv.Key), g.queueKey("")))
	}
	return ids
}

// awaitQueue waits until n hosts are in the queue.
func (g *group) awaitQueue(n int) {
	g.t.Helper()
	must.Eventually(g.t, patience, fmt.Sprintf("a queue of %d", n), func() bool { return len(g.queued()) == n })
}
