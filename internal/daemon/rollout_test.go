package daemon_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/storetest"
)

// The versions of a rollout: what all hosts run at first, one that never becomes well, and the one that mends it.
const (
	oldVersion = "4152.2.0"
	badVersion = "4230.2.0"
	fixVersion = "4230.2.1"
)

// errSick is what the checks say of a host with the bad version.
var errSick = errors.New("50-web has failed: 503 Service Unavailable")

// rollout is a fleet whose hosts take updates, each with the real daemon's loop, slot and history.
type rollout struct {
	t      *testing.T
	rng    *rand.Rand
	store  watched
	memory *storetest.Memory
	config policy.Config
	lock   *lock.Lock // an administrator's
	hosts  []*updating
	lives  sync.WaitGroup

	mu     sync.Mutex
	writes []written
}

// watched is a store whose transactions are observed.
type watched struct{ *storetest.Hooked }

func (watched) Close() error { return nil }

// written is what a transaction has changed, as far as it is about slots and unwell hosts.
type written struct {
	revision int64
	taken    *lock.Record                // of the slot that it took
	unwell   map[string]*lock.UnwellHost // by id; nil for an entry that it deleted
}

func newRollout(t *testing.T, hosts, max int, failure policy.HealthFailure) *rollout {
	return startRollout(t, randtest.Seed(t), hosts, max, failure, nil)
}

// startRollout starts the hosts after each was set up.
func startRollout(t *testing.T, seed uint64, hosts, max int, failure policy.HealthFailure, setUp func(*updating, int)) *rollout {
	r := &rollout{t: t, rng: rand.New(rand.NewPCG(seed, 0)), memory: storetest.NewMemory()}
	r.config = policy.Config{Lock: true, BeforeTimeout: 10 * time.Minute, HealthTimeout: time.Minute, HealthFailure: failure}
	r.store = watched{&storetest.Hooked{Store: r.memory, After: r.observe}}
	var err error
	r.lock, err = lock.New(r.memory, "", max)
	must.Do(t, err)
	ctx, stop := context.WithCancel(t.Context())
	for n := range hosts {
		h := &updating{node: newNode(t, n, r.store), rollout: r, name: fmt.Sprint("host", n), max: max, runs: oldVersion, changed: make(chan struct{})}
		h.config, h.down = r.config, func(rng *rand.Rand) time.Duration { return time.Minute + time.Duration(rng.Int64N(int64(time.Minute))) }
		if setUp != nil {
			setUp(h, n)
		}
		r.hosts = append(r.hosts, h)
		r.lives.Go(func() { h.live(ctx, rand.New(rand.NewPCG(seed, uint64(n+1)))) })
	}
	t.Cleanup(func() { stop(); r.lives.Wait() })
	return r
}

// observe records a transaction.
func (r *rollout) observe(c *storetest.Call) {
	if c.Method != storetest.Commit || !c.OK {
		return
	}
	w := written{revision: c.Snapshot.Revision, unwell: map[string]*lock.UnwellHost{}}
	for _, op := range c.Ops {
		folder, id := path.Split(op.Key)
		switch path.Base(folder) {
		case "unwell":
			w.unwell[id] = nil
			if !op.Delete {
				w.unwell[id] = &lock.UnwellHost{}
				must.Do(r.t, json.Unmarshal(op.Value, w.unwell[id]))
			}
		case "holders":
			var record lock.Record
			if !op.Delete {
				must.Do(r.t, json.Unmarshal(op.Value, &record))
			}
			if !op.Delete && record.Phase == "" { // a report would have one
				w.taken = &record
			}
		}
	}
	if w.taken == nil && len(w.unwell) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, w)
}

// takes checks that no slot was taken for a version that was paused, and returns how many were.
func (r *rollout) takes() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.writes, func(a, b written) int { return cmp.Compare(a.revision, b.revision) })
	unwell := map[string]lock.UnwellHost{}
	for _, w := range r.writes {
		if w.taken != nil {
			n++
			for _, u := range unwell {
				if u.Pauses(w.taken.Version) {
					r.t.Errorf("revision %d: %s took a slot for version %s, which %s pauses", w.revision, w.taken.Hostname, w.taken.Version, u.Hostname)
				}
			}
		}
		for id, u := range w.unwell {
			delete(unwell, id)
			if u != nil {
				unwell[id] = *u
			}
		}
	}
	return n
}

// announce has every host learn of a version, at random within a time.
func (r *rollout) announce(version string, within time.Duration) {
	for _, h := range r.hosts {
		time.AfterFunc(time.Duration(r.rng.Int64N(int64(within))), func() { h.learn(version) })
	}
}

// await lets time pass until a condition holds.
func (r *rollout) await(within time.Duration, what string, holds func() bool) {
	r.t.Helper()
	for began := time.Now(); !holds(); time.Sleep(time.Minute) {
		if time.Since(began) > within {
			r.t.Fatalf("timed out waiting for %s:\n%s", what, r)
		}
	}
}

// String says what some hosts do that do anything.
func (r *rollout) String() string {
	var lines []string
	for _, h := range r.hosts {
		if s, line, booted := h.shown(); s.State != policy.Idle && len(lines) < 12 {
			lines = append(lines, fmt.Sprintf("%s booted %v; %v: %s", h.name, booted, s.State, line))
		}
	}
	return strings.Join(lines, "\n")
}

// booted returns the hosts that ever booted a version.
func (r *rollout) booted(version string) (hosts []*updating) {
	for _, h := range r.hosts {
		if _, _, booted := h.shown(); slices.Contains(booted, version) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// finished reports whether every host runs a version, and has nothing to do.
func (r *rollout) finished(version string) bool {
	return !slices.ContainsFunc(r.hosts, func(h *updating) bool {
		s, _, booted := h.shown()
		return s.State != policy.Idle || len(booted) == 0 || booted[len(booted)-1] != version
	})
}

func (r *rollout) overview() lock.Overview {
	r.t.Helper()
	o, err := r.lock.Overview(r.t.Context())
	must.Do(r.t, err)
	return o
}

// updating is a host that takes the updates that it learns of.
type updating struct {
	node
	rollout *rollout
	name    string
	max     int
	runs    string // the version of this boot
	config  policy.Config
	holds   bool                                  // a hold file does
	down    func(*rand.Rand) time.Duration        // how long a boot takes
	records func(context.Context) daemon.Observer // writes what the host does, until the context ends; nil: nobody does

	mu       sync.Mutex
	offered  string        // what update_engine has installed; "" for nothing
	changed  chan struct{} // closed and replaced when offered changes
	booted   []string      // the versions since the beginning
	snapshot policy.Snapshot
	line     string // the status line
}

// learn has update_engine announce a version.
func (h *updating) learn(version string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offered = version
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *updating) Observe(s policy.Snapshot, line string, _ []policy.Move) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.snapshot, h.line = s, line
}

func (h *updating) shown() (s policy.Snapshot, line string, booted []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.snapshot, h.line, slices.Clone(h.booted)
}

// live boots the host again and again, each time into the version that it has installed.
func (h *updating) live(ctx context.Context, rng *rand.Rand) {
	for boot := 1; ctx.Err() == nil; boot++ {
		h.write("proc/sys/kernel/random/boot_id", fmt.Sprint(h.name, " boot ", boot))
		h.write("etc/os-release", "VERSION_ID="+h.runs)
		if boot > 1 {
			h.mu.Lock()
			h.booted = append(h.booted, h.runs)
			h.mu.Unlock()
		}
		h.runs = h.boot(ctx, rng)
		select {
		case <-time.After(h.down(rng)):
		case <-ctx.Done():
		}
	}
}

// boot runs a daemon until it reboots, and returns the version that comes then.
func (h *updating) boot(ctx context.Context, rng *rand.Rand) (next string) {
	record := history.New(h.root)
	this, err := host.ThisBoot(ctx, h.root)
	must.Do(h.t, err)
	boot := this.ID
	held, err := slot.New(h.store, "", h.root, this, slog.New(slog.DiscardHandler))
	must.Do(h.t, err)
	must.Do(h.t, held.Set(h.max, 0))
	held.Owner = boot
	checked := healthy{quiet{make(chan struct{})}, h.runs, h.holds}
	updates := make(chan policy.Event)
	parts := checked.parts(updates)
	parts.Host, parts.Hooks, parts.Observers, parts.Seed = checked, checked, []daemon.Observer{h}, rng.Uint64()
	parts.Found.OSVersion = host.OSVersion(h.root)
	last, err := record.Pending(boot)
	must.Do(h.t, err)
	if last != nil {
		parts.Found.Reboot = &policy.Purpose{Version: last.Version, OSVersion: last.OSVersion}
	}
	parts.Begin = func(ctx context.Context, r policy.Reboot) error {
		next = r.Version
		begun := history.Reboot{BootID: boot, Version: r.Version, Taken: r.Taken}
		if r.NewOS {
			begun.OSVersion = h.runs
		}
		return record.Begin(ctx, begun)
	}
	parts.Ended = func(ctx context.Context, failure error) error {
		if failure != nil {
			return record.Ended(ctx, boot, failure.Error())
		}
		return record.Ended(ctx, boot, "")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if h.records != nil {
		parts.Observers = append(parts.Observers, h.records(ctx))
	}
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Settings{Policy: h.config, Lock: held}, parts)
	}()
	h.announces(ctx, updates, checked.rebooting)
	stop()
	must.Do(h.t, <-ended)
	return next
}

// announces says what update_engine does, until the host reboots.
func (h *updating) announces(ctx context.Context, updates chan<- policy.Event, rebooting <-chan struct{}) {
	for {
		h.mu.Lock()
		update, changed := policy.Update{Source: policy.Engine}, h.changed
		if h.offered != "" && h.offered != h.runs {
			update.Pending, update.Version = true, h.offered
		}
		h.mu.Unlock()
		select {
		case updates <- update:
		case <-rebooting:
			return
		case <-ctx.Done():
			return
		}
		select {
		case <-changed:
		case <-rebooting:
			return
		case <-ctx.Done():
			return
		}
	}
}

// healthy is a quiet host whose checks succeed unless it runs the bad version.
type healthy struct {
	quiet
	runs  string
	holds bool
}

func (h healthy) Local(context.Context) (l policy.Local, err error) {
	if h.holds {
		l.Holds = []policy.Hold{{File: host.HoldFile}}
	}
	return l, nil
}

func (h healthy) After(context.Context, policy.Facts) error {
	if h.runs == badVersion {
		return errSick
	}
	return nil
}
