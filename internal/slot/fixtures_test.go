package slot_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	hosts "github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// host is a simulated host, as its files show it.
type host struct {
	t    testing.TB
	root string
}

// newHost returns a host in its first boot.
func newHost(t testing.TB, machineID, name string) host {
	h := host{t, t.TempDir()}
	h.write("/etc/machine-id", machineID)
	h.rename(name)
	h.boot("boot 1 of " + name)
	return h
}

func (h host) write(path, content string) {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(content+"\n"), 0o600))
}

func (h host) rename(name string) { h.write("/proc/sys/kernel/hostname", name) }

func (h host) boot(id string) { h.write("/proc/sys/kernel/random/boot_id", id) }

func (h host) thisBoot() hosts.Boot {
	h.t.Helper()
	boot, err := hosts.ThisBoot(h.t.Context(), h.root)
	must.Do(h.t, err)
	return boot
}

// start returns the slot of a new process on the host.
func (h host) start(store slot.Store) *slot.Slot { return h.startIn("", store) }

func (h host) startIn(group string, store slot.Store) *slot.Slot {
	h.t.Helper()
	s, err := slot.New(store, group, h.root, h.thisBoot(), slog.New(slog.DiscardHandler))
	must.Do(h.t, err)
	s.Owner = "the token of a process"
	return s
}

// fleet is the lock as an operator sees it.
type fleet struct {
	t testing.TB
	*lock.Lock
}

func newFleet(t testing.TB, store lock.Store) fleet {
	l, err := lock.New(store, "", 1)
	must.Do(t, err)
	return fleet{t, l}
}

func (f fleet) record(id string) lock.Record {
	f.t.Helper()
	held, record, err := f.Holder(f.t.Context(), id)
	if !held || err != nil {
		f.t.Fatalf("%s holds a slot: %v, %v", id, held, err)
	}
	return record
}

func (f fleet) expectHolders(want ...string) {
	f.t.Helper()
	s, err := f.Status(f.t.Context())
	if must.Do(f.t, err); !slices.Equal(s.Holders, want) {
		f.t.Errorf("the slots are held by %q, want %q", s.Holders, want)
	}
}

func (f fleet) expectQueue(want ...string) {
	f.t.Helper()
	o, err := f.Overview(f.t.Context())
	must.Do(f.t, err)
	var ids []string
	for _, w := range o.Queue {
		ids = append(ids, w.ID)
	}
	if !slices.Equal(ids, want) {
		f.t.Errorf("in the queue are %q, want %q", ids, want)
	}
}

func quiet(string) {}

func expectInspect(t testing.TB, s *slot.Slot, want policy.Holding) {
	t.Helper()
	if got, _, err := s.Inspect(t.Context()); got != want || err != nil {
		t.Errorf("Inspect says %v, %v, want %v", got, err, want)
	}
}

func expectStillHeld(t testing.TB, s *slot.Slot, want bool) {
	t.Helper()
	if got, err := s.StillHeld(t.Context()); got != want || err != nil {
		t.Errorf("StillHeld says %v, %v, want %v", got, err, want)
	}
}

// waiting is an Acquire in progress.
type waiting struct {
	stop  context.CancelCauseFunc
	says  chan string // what it waits for
	ended chan error
}

func wait(t testing.TB, s *slot.Slot) waiting {
	ctx, cancel := context.WithCancelCause(t.Context())
	w := waiting{cancel, make(chan string, 100), make(chan error, 1)}
	go func() {
		w.ended <- s.Acquire(ctx, policy.Lock{Version: "1.2.3", NewOS: true}, func(by string) { w.says <- by })
	}()
	return w
}

// eachStore runs a test with the store in memory, and with a real etcd.
func eachStore(t *testing.T, test func(*testing.T, slot.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, storetest.NewMemory()) })
	t.Run("etcd", func(t *testing.T) {
		s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
		test(t, newEtcd(t, s.Endpoint()))
	})
}

func newEtcd(t *testing.T, endpoint string) *etcd.Store {
	store := etcd.New(etcd.Config{Endpoints: endpoint})
	t.Cleanup(func() { store.Close() })
	return store
}
