package inventory

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// eachStore runs a test with the store in memory, and with the oldest and the newest etcd.
func eachStore(t *testing.T, test func(*testing.T, lock.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, storetest.NewMemory()) })
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			store := etcd.New(etcd.Config{Endpoints: etcdtest.MustStart(t, v, etcdtest.Options{}).Endpoint()})
			defer store.Close()
			test(t, store)
		})
	}
}

func newInventory(t testing.TB, store lock.Store, group string) *Inventory {
	t.Helper()
	i, err := New(store, group)
	must.Do(t, err)
	return i
}

// put writes a key. The time that etcd gets for a megabyte may be too short for a busy machine, so it is tried again.
func put(t testing.TB, store lock.Store, key, value string) {
	t.Helper()
	must.Eventually(t, time.Minute, "a key to be written", func() bool {
		_, _, err := store.Commit(t.Context(), nil, []lock.Op{{Key: key, Value: []byte(value)}})
		if err != nil {
			t.Logf("write %.80q: %v", key, err)
		}
		return err == nil
	})
}

// ids returns the ids of the records, sorted.
func ids(t testing.TB, i *Inventory) (all []string) {
	t.Helper()
	hosts, _, err := i.Hosts(t.Context())
	must.Do(t, err)
	for _, h := range hosts {
		all = append(all, h.ID)
	}
	slices.Sort(all)
	return all
}

func TestRecordsOfEachGroup(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store lock.Store) {
		web, db := newInventory(t, store, ""), newInventory(t, store, "prod/database")
		none, _, err := web.Hosts(t.Context())
		if err != nil || len(none) != 0 {
			t.Errorf("at first there are %v, %v", none, err)
		}
		h := full()
		h.Hostname = "web-2"
		must.Do(t, web.Put(t.Context(), h))
		h.ID, h.Hostname = "z", "web-1"
		must.Do(t, web.Put(t.Context(), h))
		h.ID = "größe/1 %"
		must.Do(t, db.Put(t.Context(), h))
		h.State = Idle
		must.Do(t, db.Put(t.Context(), h))
		if got := ids(t, web); !slices.Equal(got, []string{"1", "z"}) {
			t.Errorf("the default group has %q", got)
		}
		hosts, revision, err := db.Hosts(t.Context())
		h.Group = "prod/database"
		if err != nil || revision == 0 || !reflect.DeepEqual(hosts, []*Host{&h}) {
			t.Errorf("the other group has %+v, %d, %v", hosts, revision, err)
		}
		must.Do(t, db.Forget(t.Context(), h.ID))
		if err := db.Forget(t.Context(), h.ID); !errors.Is(err, ErrNoHost) {
			t.Errorf("for the second time: %v", err)
		}
		if a, b := ids(t, db), ids(t, web); len(a) != 0 || len(b) != 2 {
			t.Errorf("left are %q and %q", a, b)
		}
	})
}

func TestInvalidIDsAndGroupsAreRefused(t *testing.T) {
	web := newInventory(t, storetest.NewMemory(), "")
	for _, id := range []string{"", "a\nb", strings.Repeat("x", 300)} {
		if err := web.Put(t.Context(), Host{ID: id}); !errors.Is(err, lock.ErrRefused) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := New(storetest.NewMemory(), ".."); err == nil {
		t.Error("the group .. is accepted")
	}
}

func TestFailuresOfTheStoreAreReported(t *testing.T) {
	store := storetest.NewMemory()
	web := newInventory(t, store, "")
	must.Do(t, web.Put(t.Context(), full()))
	store.FailCommits(storetest.Refuse, storetest.LoseReply)
	if err := web.Put(t.Context(), full()); !errors.Is(err, lock.ErrRefused) {
		t.Errorf("a refusal is %v", err)
	}
	if err := web.Forget(t.Context(), "1"); !errors.Is(err, storetest.ErrFault) || errors.Is(err, ErrNoHost) {
		t.Errorf("a lost reply is %v", err)
	}
	store.Break(storetest.ErrFault)
	_, _, read := web.Hosts(t.Context())
	for _, err := range []error{read, web.Put(t.Context(), full()), web.Forget(t.Context(), "1")} {
		if !errors.Is(err, storetest.ErrFault) {
			t.Errorf("without the store it says %v", err)
		}
	}
}

func TestManyRecordsAreReadInPages(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store lock.Store) {
		web := newInventory(t, store, "")
		const many = 2*page + 1
		for n := 0; n < many; n += 100 {
			var ops []lock.Op
			for i := n; i < min(n+100, many); i++ {
				ops = append(ops, lock.Op{Key: web.key(fmt.Sprintf("%05d", i)), Value: fmt.Appendf(nil, `{"hostname":"web-%05d"}`, i)})
			}
			_, _, err := store.Commit(t.Context(), nil, ops)
			must.Do(t, err)
		}
		got := ids(t, web)
		if len(got) != many {
			t.Fatalf("%d records are read, want %d", len(got), many)
		}
		for i, id := range got {
			if id != fmt.Sprintf("%05d", i) {
				t.Fatalf("record %d is %s", i, id)
			}
		}
	})
}

// Whoever may write below fleet/ can write anything there.
func TestHostileRecordsHarmNothing(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store lock.Store) {
		web := newInventory(t, store, "")
		folder := lock.Folder("") + "/fleet/"
		must.Do(t, web.Put(t.Context(), full()))
		must.Do(t, web.Put(t.Context(), Host{ID: "a/b", State: Idle}))
		hostile := []string{"a/b", "%zz", "%2f", "a b", "\x1b[2J", "%1b", "\xff\xfe", strings.Repeat("x", 2000), "//", "../semaphore"}
		for _, name := range hostile {
			put(t, store, folder+name, `{"hostname":"\u001b[2J","state":"\u0007<script>"}`)
		}
		put(t, store, folder, "a key without a name")
		put(t, store, lock.Folder("")+"/fleet0", "not in the folder")
		for n := range 40 {
			put(t, store, fmt.Sprintf("%sbig-%d", folder, n), `{"hostname":"`+strings.Repeat("x", 1<<20)+`"}`)
		}
		var reads, largest int
		counting := &storetest.Hooked{Store: store, After: func(c *storetest.Call) {
			size := 0
			for _, v := range c.Snapshot.Values {
				size += len(v.Data)
			}
			reads, largest = reads+1, max(largest, size)
		}}
		hosts, _, err := newInventory(t, counting, "").Hosts(t.Context())
		must.Do(t, err)
		if largest > pageBytes || reads > 40 {
			t.Errorf("%d reads, of which the largest has %d bytes", reads, largest)
		}
		found, broken, size := map[string]bool{}, 0, 0
		for _, h := range hosts {
			size += len(h.ID) + len(h.Hostname)
			if strings.ContainsFunc(h.ID+h.Hostname+string(h.State), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("not safe: %+v", h)
			}
			if found[h.ID] {
				t.Errorf("two hosts are called %q", h.ID)
			}
			if found[h.ID] = true; h.Broken {
				broken++
			}
		}
		if len(hosts) != 2+len(hostile)+40 || broken != len(hostile)+40 || size > 10_000 || !found["1"] || !found["a/b"] {
			t.Errorf("%d hosts are read, %d broken, with %d bytes", len(hosts), broken, size)
		}

		// Each can be removed by the id that is shown, but for one that is too long to be shown.
		for _, h := range hosts {
			if err := web.Forget(t.Context(), h.ID); err != nil && !strings.HasSuffix(h.ID, "...") {
				t.Errorf("%q: %v", h.ID, err)
			}
		}
		if left := ids(t, web); len(left) != 1 {
			t.Errorf("left are %.80q", left)
		}
		snap, err := store.Get(t.Context(), lock.Read{Key: folder}, lock.Read{Key: lock.Folder("") + "/fleet0"})
		if err != nil || len(snap.Values) != 2 {
			t.Errorf("beside the folder there is %v, %v", snap, err)
		}
	})
}

func TestForgettingAKeyThatNoHostWritesLeavesHosts(t *testing.T) {
	store := storetest.NewMemory()
	web := newInventory(t, store, "")
	must.Do(t, web.Put(t.Context(), Host{ID: "a/b"}))
	if err := web.Forget(t.Context(), "a%2Fb"); !errors.Is(err, ErrNoHost) { // the key of a/b, which is another id
		t.Errorf("it says %v", err)
	}
	put(t, store, lock.Folder("")+"/fleet/a/b", "{}")
	must.Do(t, web.Forget(t.Context(), "a%2Fb"))
	if got := ids(t, web); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("left are %q", got)
	}
	put(t, store, lock.Folder("")+"/fleet/a/b", "{}")
	must.Do(t, web.Forget(t.Context(), "a/b"))
	if got := ids(t, web); !slices.Equal(got, []string{"a%2Fb"}) {
		t.Errorf("after the host was forgotten, left are %q", got)
	}
}

func TestMoreRecordsThanAnyFleetHasAreRefused(t *testing.T) {
	store := &endless{Store: storetest.NewMemory()}
	web := newInventory(t, store, "")
	if _, _, err := web.Hosts(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 100000 records below coreos.com/updateengine/rebootlock/fleet/") {
		t.Errorf("it says %v", err)
	}
	if store.read > maxHosts+page {
		t.Errorf("%d records were read", store.read)
	}
}

// endless is a store in which every range has as many keys as are asked for.
type endless struct {
	lock.Store
	read int
}

func (e *endless) Get(_ context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	snap := lock.Snapshot{Revision: 1, Values: map[string]lock.Value{}}
	for range reads[0].Limit {
		e.read++
		snap.Values[fmt.Sprintf("%s/fleet/%09d", lock.Root, e.read)] = lock.Value{Data: []byte("{}")}
	}
	return snap, nil
}

func BenchmarkHosts(b *testing.B) {
	store := etcd.New(etcd.Config{Endpoints: etcdtest.MustStart(b, etcdtest.Newest, etcdtest.Options{}).Endpoint()})
	defer store.Close()
	web := newInventory(b, store, "")
	fill(b, web, 10_000)
	var took time.Duration
	cpu := cpuTime(b)
	for b.Loop() {
		began := time.Now()
		hosts, _, err := web.Hosts(b.Context())
		must.Do(b, err)
		if took += time.Since(began); len(hosts) != 10_000 {
			b.Fatalf("%d hosts", len(hosts))
		}
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/10000hosts")
	b.ReportMetric(float64((cpuTime(b)-cpu).Milliseconds())/float64(b.N), "CPU-ms/10000hosts")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is how long this process has used a processor.
func cpuTime(t testing.TB) time.Duration {
	var used syscall.Rusage
	must.Do(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// fill writes so many records.
func fill(t testing.TB, i *Inventory, hosts int) {
	for n := range hosts {
		h := full()
		h.ID, h.Hostname = fmt.Sprintf("%032x", n), fmt.Sprintf("node-%05d.fleet.example.com", n)
		must.Do(t, i.Put(t.Context(), h))
	}
}
