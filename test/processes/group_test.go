package processes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// group is one lock, seen from outside: it records every change of the document.
type group struct {
	t        testing.TB
	client   *clientv3.Client
	endpoint string
	name     string
	prefix   string

	mu       sync.Mutex
	history  []semaphore // the zero semaphore stands for an unreadable document
	revision int64       // of the last state
	changed  chan struct{}
}

// watchGroup watches the lock of a group from its first change; "" is the default group.
func watchGroup(t testing.TB, s *etcdtest.Server, name string) *group {
	t.Helper()
	client, err := s.Client()
	must.Do(t, err)
	g := &group{
		t: t, client: client, endpoint: s.Endpoint(), name: name,
		prefix:  "coreos.com/updateengine/rebootlock",
		changed: make(chan struct{}),
	}
	if name != "" {
		g.prefix += "/groups/" + url.QueryEscape(name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	watch := client.Watch(ctx, g.key(), clientv3.WithRev(1))
	go func() {
		defer close(done)
		for response := range watch {
			for _, e := range response.Events {
				g.saw(e.Kv.Value, e.Kv.ModRevision)
			}
		}
	}()
	return g
}

// newGroup watches a lock that only this test uses.
func newGroup(t testing.TB, s *etcdtest.Server) *group {
	t.Helper()
	return watchGroup(t, s, groupName())
}

func (g *group) key() string { return g.prefix + "/semaphore" }

func (g *group) saw(document []byte, revision int64) {
	var s semaphore
	if json.Unmarshal(document, &s) != nil {
		s = semaphore{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history, g.revision = append(g.history, s), revision
	close(g.changed)
	g.changed = make(chan struct{})
}

// conf returns an update.conf that uses the lock.
func (g *group) conf(more ...string) string { return g.confAt(g.endpoint, more...) }

// confAt returns an update.conf that uses the lock through an endpoint. Through a proxy it is for the lock alone, so that
// faults and counts are about that.
func (g *group) confAt(endpoint string, more ...string) string {
	conf := "GROUP=stable\nREBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_ENDPOINT=" + endpoint + "\n"
	if endpoint != g.endpoint {
		conf += "LOCKSMITHD_INVENTORY=false\n"
	}
	if g.name != "" {
		conf += fmt.Sprintf("LOCKSMITHD_GROUP=%q\n", g.name)
	}
	for _, line := range more {
		conf += line + "\n"
	}
	return conf
}

// seen returns every state of the document so far.
func (g *group) seen() []semaphore {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	response, err := g.client.Get(ctx, g.key())
	must.Do(g.t, err)
	if len(response.Kvs) > 0 {
		g.until("all changes of the document", func() bool { return g.revision >= response.Kvs[0].ModRevision })
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.history)
}

// await waits until the newest state of the document meets a condition.
func (g *group) await(what string, holds func(semaphore) bool) {
	g.t.Helper()
	g.until(what, func() bool { return len(g.history) > 0 && holds(g.history[len(g.history)-1]) })
}

// until waits for a condition on the recorded states.
func (g *group) until(what string, holds func() bool) {
	g.t.Helper()
	done := false
	defer func() {
		if !done {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.t.Logf("the document was %v", g.history)
		}
	}()
	must.Await(g.t, patience, what, func() (<-chan struct{}, bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.changed, holds()
	})
	done = true
}

func (g *group) awaitHolders(ids ...string) {
	g.t.Helper()
	slices.Sort(ids)
	g.await(fmt.Sprintf("the holders %v", ids), func(s semaphore) bool { return slices.Equal(s.Holders, ids) })
}

// wantHeldThroughout fails if id has lost its slot since it first held one.
func (g *group) wantHeldThroughout(id string) {
	g.t.Helper()
	history := g.seen()
	first := slices.IndexFunc(history, func(s semaphore) bool { return slices.Contains(s.Holders, id) })
	if first < 0 {
		g.t.Fatalf("%s never held a slot", id)
	}
	for _, s := range history[first:] {
		if !slices.Contains(s.Holders, id) {
			g.t.Fatalf("%s lost its slot in between: %v", id, history)
		}
	}
}

// wantNever fails if any state of the document meets a condition.
func (g *group) wantNever(what string, holds func(semaphore) bool) {
	g.t.Helper()
	if history := g.seen(); slices.ContainsFunc(history, holds) {
		g.t.Errorf("%s: %v", what, history)
	}
}

// put writes a document, valid or not.
func (g *group) put(document string) {
	g.t.Helper()
	g.putKey(g.key(), document)
}

// putKey writes a key.
func (g *group) putKey(key, value string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	_, err := g.client.Put(ctx, key, value)
	must.Do(g.t, err)
}

// get returns a key's value, "" when it is missing.
func (g *group) get(key string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	response, err := g.client.Get(ctx, key)
	must.Do(g.t, err)
	if len(response.Kvs) == 0 {
		return ""
	}
	return string(response.Kvs[0].Value)
}

// wantDocument checks the document byte by byte.
func (g *group) wantDocument(want string) {
	g.t.Helper()
	if got := g.get(g.key()); got != want {
		g.t.Errorf("the document is %s, want %s", got, want)
	}
}

// wantRecord checks the record of a host under a key, written at since or later. With by "" the key is that of its
// queue entry.
func (g *group) wantRecord(key string, h *host, since time.Time, by string) {
	g.t.Helper()
	hostname, err := os.Hostname()
	must.Do(g.t, err)
	want := map[string]string{"hostname": hostname, "boot_id": h.bootID(), "version": needReboot.NewVersion}
	if by != "" {
		want["by"] = by
	}
	value := g.get(key)
	var got map[string]string
	if err := json.Unmarshal([]byte(value), &got); err != nil {
		g.t.Fatalf("%s is %q: %v", key, value, err)
	}
	at, err := time.Parse(time.RFC3339, got["since"])
	if err != nil || at.Before(since) || at.After(time.Now()) {
		g.t.Errorf("%s is %s, want its since between %v and now", key, value, since)
	}
	delete(got, "since")
	random := []string{"token"}
	if by == "" {
		random = append(random, "owner")
	}
	for _, name := range random {
		if len(got[name]) < 26 { // 128 bits in base32
			g.t.Errorf("%s is %s, want a random %s", key, value, name)
		}
		delete(got, name)
	}
	if !maps.Equal(got, want) {
		g.t.Errorf("%s is %s, want since, %s and %v", key, value, strings.Join(random, ", "), want)
	}
}

// keys returns the keys of the lock of the group, without the records that hosts keep of themselves.
func (g *group) keys() []string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	response, err := g.client.Get(ctx, g.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must.Do(g.t, err)
	var keys []string
	for _, kv := range response.Kvs {
		if key := string(kv.Key); !strings.HasPrefix(key, g.prefix+"/fleet/") {
			keys = append(keys, key)
		}
	}
	return keys
}

// record writes the record of a holder on this machine, with a boot id.
func (g *group) record(id, bootID string) {
	g.t.Helper()
	hostname, err := os.Hostname()
	must.Do(g.t, err)
	g.recordOf(id, hostname, bootID)
}

// recordOf writes the record of a holder on any machine, for the version that tests announce.
func (g *group) recordOf(id, hostname, bootID string) {
	g.t.Helper()
	g.putKey(g.prefix+"/holders/"+id, fmt.Sprintf(`{"hostname":%q,"boot_id":%q,"since":"2024-05-06T07:08:09Z","by":"locksmithd","version":%q}`, hostname, bootID, needReboot.NewVersion))
}
