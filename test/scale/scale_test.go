package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

func TestEveryHostOfAFleetRebootsInTurn(t *testing.T) {
	binary, err := etcdtest.Binary(etcdtest.Newest)
	realpart.Must(t, err)
	for _, c := range []struct{ hosts, max int }{{1, 1}, {10, 1}, {50, 1}, {50, 3}, {2, 3}} {
		t.Run(fmt.Sprintf("%d hosts, max %d", c.hosts, c.max), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			f, err := measure(ctx, binary, c.hosts, options{max: c.max}, t.Output())
			must.Do(t, err)
			if err := f.wrong(); err != nil {
				t.Error(err)
			}
			if want := min(c.hosts, c.max); f.atOnce != want {
				t.Errorf("%d slots were held at once, want %d", f.atOnce, want)
			}
			if r := f.requests(); r < 3 || r > maxRequests { // at least to look up, take and release
				t.Errorf("a reboot makes %.1f requests, %v; want at most %d", r, f.calls, maxRequests)
			}
			if f.calls["Put"] != 0 {
				t.Errorf("%v puts are counted, but only the floor puts", f.calls["Put"])
			}
			if want := c.hosts - min(c.hosts, c.max); len(f.handovers) != want || len(f.floors) != c.hosts {
				t.Errorf("%d hand-overs and %d floors, want %d and %d", len(f.handovers), len(f.floors), want, c.hosts)
			}
		})
	}
}

// The page, the metrics and the commands answer all the time, and show in the end that everybody is done.
func TestSomebodyLooksAtARollout(t *testing.T) {
	binary, err := etcdtest.Binary(etcdtest.Newest)
	realpart.Must(t, err)
	program := filepath.Join(t.TempDir(), "locksmithctl")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../locksmithctl").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	f, err := measure(ctx, binary, 20, options{max: 2, look: program}, t.Output())
	must.Do(t, err)
	must.Do(t, f.wrong())
	for _, what := range []string{"/", "/api/v1/plan", "/metrics", "locksmithctl hosts", "locksmithctl plan"} {
		if len(f.glances[what]) == 0 {
			t.Errorf("nobody has had %s", what)
		}
	}
	if f.events == 0 || f.resident == 0 {
		t.Errorf("%d events, and the server has %v bytes", f.events, f.resident)
	}
	if shown := table([]figures{f}, false); !strings.Contains(shown, "/metrics, 99 % ms") {
		t.Errorf("the table is\n%s", shown)
	}
}

// transaction returns the events of one transaction.
func transaction(events ...*clientv3.Event) []*clientv3.Event { return events }

func enters(id string, revision int64) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(queue + id), CreateRevision: revision, ModRevision: revision}}
}

func leaves(id string) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(queue + id)}}
}

func held(max int, ids ...string) *clientv3.Event {
	holders := "null"
	if len(ids) > 0 {
		holders = `["` + strings.Join(ids, `","`) + `"]`
	}
	doc := fmt.Sprintf(`{"semaphore":%d,"max":%d,"holders":%s}`, max-len(ids), max, holders)
	return &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(semaphore), Value: []byte(doc)}}
}

func TestHistoryShowsEachViolation(t *testing.T) {
	for _, c := range []struct {
		name    string
		hosts   int
		max     int
		history [][]*clientv3.Event
		want    string // of the error; "" for none
	}{
		{"in turn", 3, 1, [][]*clientv3.Event{
			transaction(held(1, "a")), transaction(enters("b", 2)), transaction(enters("c", 3)), transaction(held(1)),
			transaction(held(1, "b"), leaves("b")), transaction(held(1)), transaction(leaves("c"), held(1, "c")), transaction(held(1)),
		}, ""},
		{"overtaken in the queue", 3, 1, [][]*clientv3.Event{
			transaction(held(1, "a")), transaction(enters("b", 2)), transaction(enters("c", 3)), transaction(held(1)),
			transaction(held(1, "c"), leaves("c")), transaction(held(1)), transaction(held(1, "b"), leaves("b")), transaction(held(1)),
		}, "a host was overtaken by 1 others"},
		{"overtaken by two that never queued", 3, 1, [][]*clientv3.Event{
			transaction(enters("a", 1)), transaction(held(1, "b")), transaction(held(1)), transaction(held(1, "c")), transaction(held(1)),
			transaction(held(1, "a"), leaves("a")), transaction(held(1)),
		}, "a host was overtaken by 2 others"},
		{"fell out of the queue and came back", 2, 1, [][]*clientv3.Event{
			transaction(enters("a", 1)), transaction(enters("b", 2)), transaction(leaves("a")), transaction(enters("a", 4)),
			transaction(held(1, "b"), leaves("b")), transaction(held(1)), transaction(held(1, "a"), leaves("a")), transaction(held(1)),
		}, "1 places in the queue were lost"},
		{"more than max", 2, 1, [][]*clientv3.Event{transaction(held(1, "a")), transaction(held(1, "a", "b")), transaction(held(1))},
			"2 hosts held a slot at once, where max is 1"},
		{"one too few", 2, 1, [][]*clientv3.Event{transaction(held(1, "a")), transaction(held(1))}, "1 slots were taken"},
		{"one still holds", 1, 1, [][]*clientv3.Event{transaction(held(1, "a"))}, "left behind in etcd: a holds a slot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := history{places: map[string]int{}}
			for _, events := range c.history {
				must.Do(t, h.add(events))
			}
			got := ""
			if err := h.verdict().wrong(c.hosts, c.max); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("the verdict is %q, want %q", got, c.want)
			}
		})
	}
}

func TestFiguresThatMissTheirTargetAreMarked(t *testing.T) {
	fast, slow := []time.Duration{time.Millisecond}, []time.Duration{2 * time.Millisecond}
	good := figures{hosts: 10, max: 1, calls: map[string]float64{"Txn": 100, "Watch": 30}, handovers: fast, floors: fast}
	change := func(f figures, how func(*figures)) figures { how(&f); return f }
	for _, c := range []struct {
		name string
		f    figures
		want string // the line with the only mark; "" for none
	}{
		{"good", good, ""},
		{"many requests", change(good, func(f *figures) { f.calls = map[string]float64{"Txn": 181} }), "etcd requests a reboot"},
		{"more requests than fewer hosts", change(good, func(f *figures) { f.hosts = 9 }), "etcd requests a reboot"},
		{"slow", change(good, func(f *figures) { f.handovers = slow }), "hand-over / floor, medians"},
		{"slow with more slots", change(good, func(f *figures) { f.handovers, f.max = slow, 2 }), ""},
		{"overtaken", change(good, func(f *figures) { f.overtaken = 1 }), "worst place overtaken"},
		{"too many at once", change(good, func(f *figures) { f.atOnce = 2 }), "most slots held at once"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, markdown := range []bool{false, true} {
				var marked []string
				for line := range strings.Lines(table([]figures{good, c.f}, markdown)) {
					if strings.Contains(line, "(missed)") {
						marked = append(marked, line)
					}
				}
				if c.want == "" && len(marked) == 0 {
					continue
				}
				if c.want == "" || len(marked) != 1 || !strings.HasPrefix(strings.TrimPrefix(marked[0], "| "), c.want) {
					t.Errorf("marked is %q, want %q", marked, c.want)
				}
			}
		})
	}
}

func TestWrongUsageNamesTheRightOne(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-hosts", "10,many"}, `-hosts has "many"; it must be whole numbers from 1 up, with commas between`},
		{[]string{"-hosts", ""}, `-hosts has ""; it must be whole numbers from 1 up, with commas between`},
		{[]string{"-hosts", "0"}, `-hosts has "0"; it must be whole numbers from 1 up, with commas between`},
		{[]string{"-max", "0"}, "-max is 0; it must be 1 or more"},
		{[]string{"-down", "-1s"}, "-idle is 20s and -down is -1s; both must be 0 or more"},
		{[]string{"10"}, `unexpected argument "10": only flags are taken`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var stdout, stderr strings.Builder
			if status := run(c.args, &stdout, &stderr); status != 2 || stderr.String() != "scale: "+c.want+"\n" || stdout.Len() > 0 {
				t.Errorf("status %d, %q, %q; want 2 and %q", status, stderr.String(), stdout.String(), c.want)
			}
		})
	}
}
