package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
)

// witness sees every revision of every key, past all proxies and clients, and checks each.
type witness struct {
	run *run

	mu       sync.Mutex
	revision int64
	moved    chan struct{} // closed and replaced with every revision
	groups   []group
	all      bool     // groups are paused
	log      []string // the events of this window
}

// group has the keys of one group.
type group struct {
	document *document // nil before the first one
	paused   bool
	queue    map[string]entry // the entries with a lease
	index    map[string]int64 // the lease of each key in the index of the queue
	hosts    [maxClients]about
	phases   [maxClients]lock.Phase // in the records
}

// entry is an entry of the queue.
type entry struct {
	created, lease int64
	owner          string
}

func newWitness(r *run, revision int64) *witness {
	w := &witness{run: r, revision: revision, moved: make(chan struct{})}
	for range r.Groups {
		w.groups = append(w.groups, group{queue: map[string]entry{}, index: map[string]int64{}})
	}
	return w
}

func (w *witness) seen() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.revision
}

// watch watches all keys until ctx ends.
func (w *witness) watch(ctx context.Context) {
	for ctx.Err() == nil {
		limited, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for resp := range w.run.cluster.admin.Watch(limited, prefix, clientv3.WithPrefix(), clientv3.WithRev(w.seen()+1)) {
			if resp.CompactRevision != 0 {
				w.run.problem("harness: revisions up to %d are compacted, seen are those up to %d", resp.CompactRevision, w.seen())
				cancel()
				return
			}
			if resp.Err() != nil {
				break
			}
			w.judge(resp.Events)
		}
		cancel()
		pace(ctx, 50*time.Millisecond)
	}
}

// await returns once a revision has been seen.
func (w *witness) await(ctx context.Context, revision int64) error {
	for {
		w.mu.Lock()
		seen, moved := w.revision, w.moved
		w.mu.Unlock()
		if seen >= revision {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("harness: only revisions up to %d of %d were seen", seen, revision)
		}
	}
}

// judge checks events, one revision after another.
func (w *witness) judge(events []*clientv3.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		w.revise(events[:n])
		w.revision = events[0].Kv.ModRevision
		events = events[n:]
	}
	close(w.moved)
	w.moved = make(chan struct{})
}

// revise checks one revision, which is one transaction of one client, or the end of a lease.
func (w *witness) revise(events []*clientv3.Event) {
	before, all := make([]group, len(w.groups)), w.all
	for g := range w.groups {
		before[g] = w.groups[g]
		before[g].queue = maps.Clone(w.groups[g].queue)
	}
	took := map[string]kind{}                // by ids whose record was put
	reports := make([]uint64, len(w.groups)) // of each group, hosts whose record was put by a report
	for _, e := range events {
		g, key := w.run.split(string(e.Kv.Key))
		put := e.Type == clientv3.EventTypePut
		keyKind, id, _ := strings.Cut(key, "/")
		switch {
		case key == "pause-all":
			w.all = put
		case g < 0:
			w.run.problem("revision %d changes %s, which belongs to no group", e.Kv.ModRevision, e.Kv.Key)
		case keyKind == "semaphore":
			w.groups[g].document = w.read(e.Kv, put)
		case keyKind == "pause":
			w.groups[g].paused = put
		case keyKind == "holders":
			switch by, n := w.recorded(g, id, e.Kv, put); by {
			case acquire, queue, preReboot:
				took[id] = by
			case report:
				reports[g] |= 1 << n
			}
		case keyKind == "unwell":
			w.unwell(g, id, e.Kv, put)
		case keyKind == "queue" && put && e.Kv.Lease != 0:
			w.enters(g, id, e.Kv)
		case keyKind == "queue":
			w.run.servers.removed(w.groups[g].queue[id].lease, e.Kv.ModRevision)
			delete(w.groups[g].queue, id)
		case keyKind == "order" && put:
			w.groups[g].index[id] = e.Kv.Lease
		case keyKind == "order":
			delete(w.groups[g].index, id)
		}
	}
	for _, e := range events {
		w.log = append(w.log, fmt.Sprintf("seen at %9.1f ms: revision %d %s %s %s (lease %x)", float64(w.run.history.now())/1e6, e.Kv.ModRevision, e.Type, e.Kv.Key, e.Kv.Value, e.Kv.Lease))
	}
	for g := range w.groups {
		w.orphaned(events[0].Kv.ModRevision, g)
		if w.groups[g].document != before[g].document {
			w.compare(events[0].Kv.ModRevision, g, before[g], all, took)
		}
		if w.groups[g].hosts != before[g].hosts || reports[g] != 0 {
			w.reported(events[0].Kv.ModRevision, g, before[g], reports[g])
		}
	}
}

// enters records an entry of the queue. Only its owner may change it: no process takes over the entry of another.
func (w *witness) enters(g int, id string, kv *mvccpb.KeyValue) {
	var document struct{ Owner string }
	if err := json.Unmarshal(kv.Value, &document); err != nil || document.Owner == "" {
		w.run.problem("revision %d makes %s an entry that no client writes: %s (%v)", kv.ModRevision, kv.Key, kv.Value, err)
	}
	if was, ok := w.groups[g].queue[id]; ok && was.owner != document.Owner {
		w.run.problem("revision %d of group %d: the place of %s, which was that of process %q, is taken over by process %q", kv.ModRevision, g, id, was.owner, document.Owner)
	}
	if was := w.groups[g].queue[id]; was.lease != kv.Lease {
		w.run.servers.removed(was.lease, kv.ModRevision)
	}
	w.run.servers.placed(kv.Lease, kv.ModRevision)
	w.groups[g].queue[id] = entry{kv.CreateRevision, kv.Lease, document.Owner}
}

// orphaned checks the index: a key that outlives its entry makes other hosts wait for nobody.
func (w *witness) orphaned(revision int64, g int) {
	for key, lease := range w.groups[g].index {
		number, id, _ := strings.Cut(key, "/")
		n, err := strconv.ParseInt(number, 16, 64)
		if e := w.groups[g].queue[id]; err != nil || e.created != math.MaxInt64-n || e.lease != lease {
			w.run.problem("revision %d of group %d: the index of the queue has %s with lease %x, but the entry is %+v", revision, g, key, lease, w.groups[g].queue[id])
			delete(w.groups[g].index, key) // report it once
		}
	}
}

// read returns the document in a key.
func (w *witness) read(kv *mvccpb.KeyValue, put bool) *document {
	if !put {
		w.run.problem("revision %d deletes %s", kv.ModRevision, kv.Key)
		return nil
	}
	s, err := lock.ParseSemaphore(kv.Value)
	if err != nil || !bytes.Equal(bytes.ReplaceAll(kv.Value, []byte("[]"), []byte("null")), s.Encode()) {
		w.run.problem("revision %d makes %s an invalid document: %s (%v)", kv.ModRevision, kv.Key, kv.Value, err)
		return nil
	}
	return w.run.look(s)
}

// compare checks how one revision has changed the document of a group.
func (w *witness) compare(revision int64, g int, before group, all bool, took map[string]kind) {
	now, was := w.groups[g].document, before.document
	if now == nil {
		return
	}
	if was == nil {
		was = &document{max: 1}
	}
	wrong := func(format string, args ...any) {
		w.run.problem("revision %d of group %d, from max %d holders %s to max %d holders %s: %s", revision, g,
			was.max, members(was.holders), now.max, members(now.holders), fmt.Sprintf(format, args...))
	}
	added, removed := now.holders&^was.holders, was.holders&^now.holders
	changes := bits.OnesCount64(added | removed)
	if now.max != was.max {
		changes++
	}
	if changes > 1 {
		wrong("more than one change")
	}
	if added == 0 {
		return
	}
	id := idName(bits.TrailingZeros64(added))
	if bits.OnesCount64(now.holders) > now.max {
		wrong("more holders than slots")
	}
	if took[id] == "" {
		return // by an old client, which knows only the document
	}
	if before.paused || all {
		wrong("a slot was taken during a pause")
	}
	version := w.groups[g].hosts[bits.TrailingZeros64(added)].record.version
	for other, a := range before.hosts {
		if a.unwell.pauses(version) {
			wrong("a slot was taken for version %q, which %s pauses: %+v", versions[version], idName(other), a.unwell)
		}
	}
	place, queued := before.queue[id]
	for other, entry := range before.queue {
		if took[id] != acquire && other != id && (!queued || entry.created < place.created) {
			wrong("%s was in the queue before %s", other, id)
		}
	}
}

// forget clears the log.
func (w *witness) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = nil
}

// waiting describes the queues, with the last status of each host that waits.
func (r *run) waiting() string {
	w := r.witness
	w.mu.Lock()
	defer w.mu.Unlock()
	var s []string
	for g, group := range w.groups {
		if group.document == nil || len(group.queue) == 0 {
			continue
		}
		s = append(s, fmt.Sprintf("group %d has max %d, holders %s, paused %v, hosts%s, and this queue:", g, group.document.max, members(group.document.holders), group.paused || w.all, describeHosts(group.hosts)))
		for _, id := range slices.SortedFunc(maps.Keys(group.queue), func(a, b string) int { return cmp.Compare(group.queue[a].created, group.queue[b].created) }) {
			status := "does not wait"
			for _, h := range r.hosts {
				if h.group == g && h.name() == id && !h.through.Load() && h.waitsFor.Load() != nil {
					status = *h.waitsFor.Load()
				}
			}
			s = append(s, fmt.Sprintf("%s, entered at revision %d: %s", id, group.queue[id].created, status))
		}
	}
	return strings.Join(s, "\n")
}

// agrees returns an error if a group is not in a state.
func (w *witness) agrees(g int, s state) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.groups[g].document
	if d == nil || !s.shows(d) {
		return fmt.Errorf("group %d was shown with max %d holders %s, but its document says %+v", g, s.max, members(s.holders), d)
	}
	if w.groups[g].hosts != s.hosts {
		return fmt.Errorf("group %d was shown with hosts%s, but in etcd it has%s", g, describeHosts(s.hosts), describeHosts(w.groups[g].hosts))
	}
	for id, a := range s.hosts {
		if a.unwell.force() {
			return fmt.Errorf("group %d has %s among its unwell hosts, though all pauses were resumed: %+v", g, idName(id), a.unwell)
		}
	}
	if n := len(w.groups[g].queue); n > 0 {
		return fmt.Errorf("group %d has %d entries in its queue, though no host waits: %v", g, n, w.groups[g].queue)
	}
	return nil
}
