package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

// says is the record of host a in a state, written some time before noon.
func says(state inventory.State, ago time.Duration) inventory.Host {
	return inventory.Host{ID: "a", Hostname: "web-a", State: state, Since: noon.Add(-ago), Updated: noon.Add(-ago), Why: "by itself"}
}

// holds is the slot of host a, in a phase, taken some time before noon.
func holds(phase lock.Phase, ago time.Duration) []lock.HolderInfo {
	r := lock.Record{Hostname: "web-a", Since: noon.Add(-ago), By: "locksmithd", Phase: phase}
	if phase != "" {
		r.PhaseSince, r.PhaseWhy = noon.Add(-time.Minute), "by the lock"
	}
	return []lock.HolderInfo{{ID: "a", Record: r}}
}

func TestAHostIsWhatTheLockKnows(t *testing.T) {
	queue := []lock.QueueEntry{{ID: "z"}, {ID: "a", Hostname: "web-a", Since: noon.Add(-time.Hour), Version: "2", Reason: "libc6"}}
	unwell := []lock.UnwellHost{{ID: "a", Hostname: "web-a", Since: noon.Add(-time.Hour), Why: "no quorum"}}
	left := []lock.UnwellHost{{ID: "a", Hostname: "web-a", Since: noon.Add(-time.Hour), Why: "no quorum", Left: true}}
	broken := says("", time.Minute)
	broken.Broken = true
	for _, c := range []struct {
		name    string
		record  *inventory.Host // nil for none
		lock    lock.Overview
		state   inventory.State // "" for no host at all
		since   time.Duration   // before noon
		why     string
		noNews  bool
		missing bool
	}{
		{"idle", new(says("idle", 50*24*time.Hour)), lock.Overview{}, "idle", 50 * 24 * time.Hour, "by itself", false, false},
		{"idle for very long", new(says("idle", 61*24*time.Hour)), lock.Overview{}, "idle", 61 * 24 * time.Hour, "by itself", true, false},
		{"waits for days", new(says("waiting", 100*time.Hour)), lock.Overview{}, "waiting", 100 * time.Hour, "by itself", false, false},
		{"unwell for days", new(says("unwell", 100*time.Hour)), lock.Overview{}, "unwell", 100 * time.Hour, "by itself", false, false},
		{"about to ask", new(says("locking", time.Minute)), lock.Overview{}, "locking", time.Minute, "by itself", false, false},
		{"asked long ago", new(says("locking", 31*time.Minute)), lock.Overview{}, "locking", 31 * time.Minute, "by itself", true, false},
		{"began long ago", new(says("starting", 31*time.Minute)), lock.Overview{}, "starting", 31 * time.Minute, "by itself", true, false},
		{"about to ask, by a clock that is ahead", new(says("locking", -29*time.Minute)), lock.Overview{}, "locking", -29 * time.Minute, "by itself", false, false},
		{"asks in the future", new(says("locking", -31*time.Minute)), lock.Overview{}, "locking", -31 * time.Minute, "by itself", true, false},
		{"idle, by a clock that is ahead", new(says("idle", -50*24*time.Hour)), lock.Overview{}, "idle", -50 * 24 * time.Hour, "by itself", false, false},
		{"idle in the far future", new(says("idle", -61*24*time.Hour)), lock.Overview{}, "idle", -61 * 24 * time.Hour, "by itself", true, false},
		{"a state of a later version", new(says("dancing", time.Minute)), lock.Overview{}, "dancing", time.Minute, "by itself", false, false},
		{"unreadable", &broken, lock.Overview{}, "", time.Minute, "by itself", true, false},

		{"in the queue", new(says("locking", 3*time.Hour)), lock.Overview{Queue: queue}, "locking", 3 * time.Hour, "by itself", false, false},
		{"in the queue, before it says so", new(says("waiting", 3*time.Hour)), lock.Overview{Queue: queue}, "locking", time.Hour, "waiting for a slot", false, false},
		{"in the queue, without a record", nil, lock.Overview{Queue: queue}, "locking", time.Hour, "waiting for a slot", false, true},

		{"a phase", new(says("idle", time.Hour)), lock.Overview{Holders: holds(lock.Rebooting, time.Hour)}, "rebooting", time.Minute, "by the lock", false, false},
		{"a phase with another name", new(says("idle", time.Hour)), lock.Overview{Holders: holds(lock.Draining, time.Hour)}, "preparing", time.Minute, "by the lock", false, false},
		{"after its checks", new(says("idle", time.Hour)), lock.Overview{Holders: holds(lock.Delaying, time.Hour)}, "releasing", time.Minute, "by the lock", false, false},
		{"a phase, without a record", nil, lock.Overview{Holders: holds(lock.Checking, time.Hour)}, "checking", time.Minute, "by the lock", false, true},
		{"a slot that it knows", new(says("preparing", time.Minute)), lock.Overview{Holders: holds("", time.Hour)}, "preparing", time.Minute, "by itself", false, false},
		{"a slot, long ago", new(says("rebooting", 2*time.Hour)), lock.Overview{Holders: holds("", 3*time.Hour)}, "rebooting", 2 * time.Hour, "by itself", false, false},
		{"a slot, after its record", new(says("preparing", time.Hour)), lock.Overview{Holders: holds("", time.Minute)}, Holding, time.Minute, "a slot was taken by locksmithd", false, false},
		{"a slot of which it says nothing", new(says("idle", time.Minute)), lock.Overview{Holders: holds("", time.Hour)}, Holding, time.Hour, "a slot was taken by locksmithd", false, false},
		{"a slot, without a record", nil, lock.Overview{Holders: holds("", time.Hour)}, Holding, time.Hour, "a slot was taken by locksmithd", false, true},

		{"unwell", new(says("checking", 2*time.Hour)), lock.Overview{Unwell: unwell}, "unwell", time.Hour, "no quorum", false, false},
		{"unwell, without a record", nil, lock.Overview{Unwell: unwell}, "unwell", time.Hour, "no quorum", false, true},
		{"unwell before", new(says("idle", 2*time.Hour)), lock.Overview{Unwell: left}, "idle", 2 * time.Hour, "by itself", false, false},
		{"unwell before, without a record", nil, lock.Overview{Unwell: left}, "", 0, "", false, false},
	} {
		var records []*inventory.Host
		if c.record != nil {
			records = append(records, c.record)
		}
		g := join(lock.GroupOverview{Overview: c.lock}, records, noon)
		i := slices.IndexFunc(g.Hosts, func(h Host) bool { return h.ID == "a" })
		if i < 0 {
			if c.state != "" {
				t.Errorf("%s: there is no such host", c.name)
			}
			continue
		}
		h := g.Hosts[i]
		if h.State != c.state || !h.Since.Equal(noon.Add(-c.since)) || h.Why != c.why || h.NoNews != c.noNews || h.NoRecord != c.missing || h.Hostname != "web-a" {
			t.Errorf("%s: it is %+v, its record %+v", c.name, h, *h.Host)
		}
		if (h.Slot != nil) != (len(c.lock.Holders) > 0) || (h.Place > 0) != (len(c.lock.Queue) > 0) {
			t.Errorf("%s: its slot is %v, its place %d", c.name, h.Slot, h.Place)
		}
	}
	h := join(lock.GroupOverview{Overview: lock.Overview{Queue: queue}}, nil, noon).Hosts[1]
	if h.Place != 2 || h.WaitsFor != "slot" || h.Need.Version != "2" || !slices.Equal(h.Need.Reasons, []string{"libc6"}) {
		t.Errorf("it waits as %+v, its record %+v", h, *h.Host)
	}
}

func TestHostsAreInTheOrderOfTheirNames(t *testing.T) {
	records := []*inventory.Host{{ID: "1", Hostname: "c"}, {ID: "3", Hostname: "a"}, {ID: "2", Hostname: "a"}}
	for _, c := range []struct {
		holders []lock.HolderInfo
		want    []string
	}{
		{nil, []string{"2", "3", "1"}},
		{[]lock.HolderInfo{{ID: "x", Record: lock.Record{Hostname: "b"}}, {ID: "w"}}, []string{"w", "2", "3", "x", "1"}},
	} {
		var got []string
		for _, h := range join(lock.GroupOverview{Overview: lock.Overview{Holders: c.holders}}, records, noon).Hosts {
			got = append(got, h.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("the order is %q, want %q", got, c.want)
		}
	}
}

// write puts a record into a group.
func write(t *testing.T, store lock.Store, group string, h inventory.Host) {
	t.Helper()
	i, err := inventory.New(store, group)
	must.Do(t, err)
	must.Do(t, i.Put(t.Context(), h))
}

func TestFleetIsAllGroups(t *testing.T) {
	store := storetest.NewMemory()
	write(t, store, "lb", says("idle", 2*time.Hour)) // the host has moved
	write(t, store, "", says("idle", time.Hour))
	l, err := lock.New(store, "db", 1)
	must.Do(t, err)
	_, err = l.TryAcquire(t.Context(), "x", lock.Record{Hostname: "web-x"})
	must.Do(t, err)
	write(t, store, "bad", inventory.Host{ID: "b", Updated: noon})
	_, _, err = store.Commit(t.Context(), nil, []lock.Op{{Key: lock.Folder("bad") + "/semaphore", Value: []byte("{")}})
	must.Do(t, err)

	f, err := Read(t.Context(), store, 3, noon)
	must.Do(t, err)
	var got []string
	for _, g := range f.Groups {
		for _, h := range g.Hosts {
			text := g.Group + "/" + h.ID
			if h.NoNews {
				text += " no news"
			}
			got = append(got, text)
		}
		if (g.Err != nil) != (g.Group == "bad") {
			t.Errorf("group %q: %v", g.Group, g.Err)
		}
	}
	if want := []string{"/a", "bad/b", "db/x", "lb/a no news"}; !slices.Equal(got, want) || !f.At.Equal(noon) {
		t.Errorf("the fleet is %q, want %q", got, want)
	}
	if m := f.Groups[0].Semaphore.Max; m != 3 {
		t.Errorf("a group without a lock has max %d", m)
	}

	one, err := ReadGroup(t.Context(), store, "bad", 1, noon)
	if err != nil || len(one.Groups) != 1 || one.Groups[0].Err == nil || len(one.Groups[0].Hosts) != 1 {
		t.Errorf("one group is %+v, %v", one, err)
	}
	one, err = ReadGroup(t.Context(), store, "none", 1, noon)
	if err != nil || len(one.Groups) != 1 || len(one.Groups[0].Hosts) != 0 {
		t.Errorf("an empty group is %+v, %v", one, err)
	}
	if _, err := ReadGroup(t.Context(), store, "..", 1, noon); err == nil {
		t.Error("the group .. is accepted")
	}
	store.Break(storetest.ErrFault)
	_, err = Read(t.Context(), store, 1, noon)
	_, err2 := ReadGroup(t.Context(), store, "", 1, noon)
	if !errors.Is(err, storetest.ErrFault) || !errors.Is(err2, storetest.ErrFault) {
		t.Errorf("without the store: %v, %v", err, err2)
	}
}

func TestWatchSeesRecordsAndTheLock(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	store := storetest.NewMemory()
	seen := make(chan string)
	ended := make(chan error, 1)
	go func() {
		ended <- WatchGroup(ctx, store, "lb", 1, func() time.Time { return noon }, func(f Fleet, err error) {
			text := ""
			for _, h := range slices.Concat(hostsOf(f)...) {
				text += h.ID + " " + string(h.State) + ","
			}
			if err != nil {
				text = err.Error()
			}
			select {
			case seen <- text:
			case <-ctx.Done():
			}
		})
	}()
	next := func(what string) string { return must.Receive(t, time.Minute, what, seen) }
	if got := next("the first"); got != "" {
		t.Errorf("at first it is %q", got)
	}
	write(t, store, "lb", says("idle", 0))
	if got := next("a record"); got != "a idle," {
		t.Errorf("with a record it is %q", got)
	}
	l, err := lock.New(store, "lb", 1)
	must.Do(t, err)
	_, err = l.TryAcquire(t.Context(), "a", lock.Record{})
	must.Do(t, err)
	if got := next("a slot"); got != "a holding," {
		t.Errorf("with a slot it is %q", got)
	}
	store.Break(storetest.ErrFault)
	if got := next("a failure"); !strings.Contains(got, storetest.ErrFault.Error()) {
		t.Errorf("without the store it says %q", got)
	}
	store.Break(nil)
	for got := ""; got != "a holding,"; {
		if got = next("the fleet again"); got != "a holding," && !strings.Contains(got, storetest.ErrFault.Error()) {
			t.Fatalf("then it says %q", got)
		}
	}
	stop()
	if err := must.Receive(t, time.Minute, "the end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

func hostsOf(f Fleet) (all [][]Host) {
	for _, g := range f.Groups {
		all = append(all, g.Hosts)
	}
	return all
}
