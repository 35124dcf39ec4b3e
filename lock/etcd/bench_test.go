package etcd_test

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// BenchmarkHandover measures how long after the begin of a release by one client a waiting client has
// the slot, and how that compares with the least that the same etcd needs for it: one put, its watch
// event, one put. Both are measured in turns, so that a busy machine slows both; the metric
// "x-floor" is the ratio of the medians.
func BenchmarkHandover(b *testing.B) {
	for _, v := range etcdtest.OldestAndNewest() {
		b.Run(v.String(), func(b *testing.B) {
			ctx := bounded(b)
			s := etcdtest.MustStart(b, v, etcdtest.Options{})
			floor := newFloor(ctx, b, s.Endpoint())
			pair := newPair(ctx, b, s.Endpoint())
			var ours, least []time.Duration
			for b.Loop() {
				awaitWatchers(ctx, b, s.Endpoint(), 1) // that of floor
				least = append(least, floor.handover(ctx, b))
				ours = append(ours, pair.handover(ctx, b, func() { awaitWatchers(ctx, b, s.Endpoint(), 1+headWatches) }))
			}
			b.ReportMetric(float64(median(least)), "floor-ns")
			b.ReportMetric(float64(median(ours)), "handover-ns")
			b.ReportMetric(float64(median(ours))/float64(median(least)), "x-floor")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// floor is two bare clients: one puts, the other waits for that and puts.
type floor struct {
	puts, waits *clientv3.Client
	events      clientv3.WatchChan
}

func newFloor(ctx context.Context, b *testing.B, endpoint string) *floor {
	f := &floor{puts: bare(b, endpoint), waits: bare(b, endpoint)}
	f.events = f.waits.Watch(ctx, "floor/a", clientv3.WithCreatedNotify())
	<-f.events
	return f
}

func bare(b *testing.B, endpoint string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	must.Do(b, err)
	b.Cleanup(func() { c.Close() })
	return c
}

func (f *floor) handover(ctx context.Context, b *testing.B) time.Duration {
	done := make(chan error, 1)
	go func() {
		<-f.events
		_, err := f.waits.Put(ctx, "floor/b", "x")
		done <- err
	}()
	start := time.Now()
	if _, err := f.puts.Put(ctx, "floor/a", "x"); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// pair is two hosts, one of which holds the only slot.
type pair struct {
	ids   [2]string
	locks [2]*lock.Lock
}

func newPair(ctx context.Context, b *testing.B, endpoint string) *pair {
	p := &pair{ids: [2]string{"a", "b"}}
	for i := range p.locks {
		p.locks[i] = newLock(b, connect(b, at(endpoint)), "")
	}
	if _, err := p.locks[0].TryAcquire(ctx, p.ids[0], lock.Record{}); err != nil {
		b.Fatal(err)
	}
	return p
}

// handover passes the slot on, once the other host waits, and swaps the roles.
func (p *pair) handover(ctx context.Context, b *testing.B, awaitWaiting func()) time.Duration {
	got := make(chan error, 1)
	var end time.Time
	go func() {
		err := p.locks[1].Acquire(ctx, p.ids[1], lock.Record{}, nil)
		end = time.Now()
		got <- err
	}()
	awaitWaiting()
	// The daemon looks it up before it gives a slot back.
	if _, _, err := p.locks[0].Holder(ctx, p.ids[0]); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := p.locks[0].Release(ctx, p.ids[0]); err != nil {
		b.Fatal(err)
	}
	if err := <-got; err != nil {
		b.Fatal(err)
	}
	p.ids[0], p.ids[1] = p.ids[1], p.ids[0]
	p.locks[0], p.locks[1] = p.locks[1], p.locks[0]
	return end.Sub(start)
}

// headWatches is how many keys and ranges the head of the queue watches: the semaphore, its own entry, the two pauses
// and the unwell hosts.
const headWatches = 5

// watchers is how many watches etcd counts.
func watchers(ctx context.Context, t testing.TB, endpoint string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metrics", nil)
	must.Do(t, err)
	resp, err := http.DefaultClient.Do(req)
	must.Do(t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "etcd_debugging_mvcc_watcher_total "); ok {
			n, err := strconv.Atoi(value)
			must.Do(t, err)
			return n
		}
	}
	t.Fatalf("etcd at %s does not count its watches", endpoint)
	return 0
}

func awaitWatchers(ctx context.Context, t testing.TB, endpoint string, n int) {
	t.Helper()
	for watchers(ctx, t, endpoint) != n {
	}
}
