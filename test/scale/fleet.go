package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// arriving is how many hosts enter the queue at the same time.
const arriving = 100

// fleet is the hosts of one rollout.
type fleet struct {
	endpoint   string
	hosts, max int
	downtime   time.Duration
	floor      *floor
	progress   io.Writer

	filled chan struct{} // closed once every host has a slot or waits
	start  chan struct{} // closed by the caller to let reboots begin

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with every change of what follows
	waits    int           // hosts that wait, have waited, or did not need to
	ready    string        // the host that waits at the head, or ""
	acquired []time.Time
	released []time.Time // at the beginning of the call
	failures int
}

func newFleet(endpoint string, hosts, max int, downtime time.Duration, fl *floor, progress io.Writer) *fleet {
	return &fleet{
		endpoint: endpoint, hosts: hosts, max: max, downtime: downtime, floor: fl, progress: progress,
		filled: make(chan struct{}), start: make(chan struct{}), changed: make(chan struct{}),
	}
}

// roll makes every host reboot once. The first failure that a host does not recover from ends it.
func (f *fleet) roll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(f.stall(ctx)) }()
	places := make(chan struct{}, arriving)
	var hosts sync.WaitGroup
	for i := range f.hosts {
		places <- struct{}{}
		hosts.Go(func() {
			waits := sync.OnceFunc(func() { <-places; f.note(f.nowWaits) })
			if err := f.reboot(ctx, i, waits); err != nil {
				cancel(err)
			}
		})
	}
	hosts.Wait()
	return context.Cause(ctx)
}

// stall returns an error once nothing has happened for too long, or ctx ends.
func (f *fleet) stall(ctx context.Context) error {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(stalled):
			return fmt.Errorf("nothing has happened for %v", stalled)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reboot does what a host does for one reboot. It calls waits once the host waits for its turn. Like the daemon,
// it connects for each step and closes the connection afterwards.
func (f *fleet) reboot(ctx context.Context, i int, waits func()) error {
	defer waits()
	h, err := f.boot(i, 0)
	if err != nil {
		return err
	}
	defer h.store.Close()
	if err := h.confirm(ctx, false); err != nil {
		return err
	}
	h.store.Close()
	// The most that a host writes for a reboot without trouble: it waits for its window, waits in the queue, and is done.
	// Only a state that lasts for some seconds is written.
	for _, state := range []inventory.State{inventory.Waiting, inventory.Locking} {
		if err := h.tell(ctx, state); err != nil {
			return err
		}
	}
	if err := h.acquire(ctx, waits); err != nil {
		return err
	}
	waits() // in case that Acquire did not, as for the first host
	h.store.Close()
	if err := h.confirm(ctx, true); err != nil {
		return err
	}
	h.store.Close()
	if err := f.down(ctx); err != nil {
		return err
	}
	if h, err = f.boot(i, 1); err != nil {
		return err
	}
	defer h.store.Close()
	// Unlike the daemon, the host stays connected here, because the connection of a host that has just booted is
	// not part of the hand-over.
	if err := h.confirm(ctx, true); err != nil {
		return err
	}
	if err := h.release(ctx); err != nil {
		return err
	}
	return h.tell(ctx, inventory.Idle)
}

// tell writes the host's record into the inventory, with a connection of its own, as the daemon does.
func (h *host) tell(ctx context.Context, state inventory.State) error {
	store := etcd.New(etcd.Config{Endpoints: h.fleet.endpoint})
	defer store.Close()
	records, err := inventory.New(store, "")
	if err != nil {
		return err
	}
	now := time.Now()
	return records.Put(ctx, inventory.Host{
		ID: h.id, Hostname: h.record.Hostname, OS: "Flatcar Container Linux by Kinvolk", OSVersion: h.record.OSVersion, Locksmith: "0.8.0",
		Booted: now, Updated: now, State: state, Since: now, Why: "waiting since Mon 2026-11-30 21:45:22 UTC for a slot",
		Need: &inventory.Need{Version: h.record.Version, Since: now, Reasons: []string{"update_engine"}},
	})
}

// down is the reboot itself. It lasts at least until another host is ready for its turn, and ends with a
// measurement of the floor.
func (f *fleet) down(ctx context.Context) error {
	select {
	case <-f.start:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := f.await(ctx, f.othersReady); err != nil {
		return err
	}
	select {
	case <-time.After(f.downtime):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return f.floor.measure(ctx)
}

// othersReady reports whether the next host waits at the head of the queue, or no host is left.
func (f *fleet) othersReady() bool { return f.ready != "" || len(f.acquired) == f.hosts }

// handedOver reports whether no slot is free, or no host is left to take one.
func (f *fleet) handedOver() bool {
	return len(f.acquired) >= min(len(f.released)+f.max, f.hosts)
}

// await waits until a condition holds.
func (f *fleet) await(ctx context.Context, so func() bool) error {
	for {
		f.mu.Lock()
		done, changed := so(), f.changed
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// note makes a change and reports it.
func (f *fleet) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// nowWaits counts a host that waits, or does not need to.
func (f *fleet) nowWaits() {
	if f.waits++; f.waits == f.hosts {
		close(f.filled)
	}
}

// handovers matches each release with the acquisition that it made possible. The first acquisitions, one for each
// slot, need no release.
func (f *fleet) handovers() []time.Duration {
	slices.SortFunc(f.released, time.Time.Compare)
	var took []time.Duration
	for i, acquired := range f.acquired[min(f.max, f.hosts):] {
		took = append(took, acquired.Sub(f.released[i]))
	}
	return took
}

// host is one host of the fleet, from one boot to the next.
type host struct {
	fleet  *fleet
	id     string
	record lock.Record
	store  *etcd.Store
	lock   *lock.Lock
}

// boot starts the daemon of a host after a number of reboots.
func (f *fleet) boot(i, reboots int) (*host, error) {
	store := etcd.New(etcd.Config{Endpoints: f.endpoint})
	l, err := lock.New(store, "", f.max)
	if err != nil {
		return nil, err
	}
	r := lock.Record{
		Hostname:  fmt.Sprintf("node-%05d.fleet.example.com", i+1),
		BootID:    fmt.Sprintf("%08x-0000-4000-8000-%012x", reboots, i+1),
		Hardware:  fmt.Sprintf("%016x", i+1),
		Token:     fmt.Sprintf("%016x%016x", i+1, reboots),
		By:        "locksmithd",
		Version:   "4230.2.1",
		OSVersion: "4230.2.0",
	}
	l.Identify(r, nil)
	return &host{fleet: f, id: fmt.Sprintf("%032x", i+1), record: r, store: store, lock: l}, nil
}

// confirm checks whether the host holds a slot.
func (h *host) confirm(ctx context.Context, must bool) error {
	held, _, err := h.lock.Holder(ctx, h.id)
	if err == nil && held != must {
		err = fmt.Errorf("%s holds a slot: %v, want %v", h.id, held, must)
	}
	return err
}

func (h *host) acquire(ctx context.Context, waits func()) error {
	h.record.Since = time.Now().UTC()
	err := h.lock.Acquire(ctx, h.id, h.record, func(w lock.WaitStatus, err error) {
		if err != nil {
			h.fleet.note(func() { h.fleet.failures++ })
			fmt.Fprintf(h.fleet.progress, "%s: %v\n", h.id, err)
			return
		}
		if waits(); w.Ahead == "" {
			h.fleet.note(func() { h.fleet.ready = h.id })
		}
	})
	if err != nil {
		return err
	}
	at := time.Now()
	h.fleet.note(func() {
		h.fleet.acquired = append(h.fleet.acquired, at)
		if h.fleet.ready == h.id {
			h.fleet.ready = ""
		}
	})
	return nil
}

func (h *host) release(ctx context.Context) error {
	at := time.Now()
	if err := h.lock.ReleaseWell(ctx, h.id); err != nil {
		return err
	}
	h.fleet.note(func() { h.fleet.released = append(h.fleet.released, at) })
	// In a fleet the host has its own processors, so its next steps would delay no other host.
	return h.fleet.await(ctx, h.fleet.handedOver)
}
