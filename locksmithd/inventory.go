package main

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// inventoried returns what writes the record of this host. settings are those of the policy at the start.
func (s *server) inventoried(past *history.File) *inventory.Writer {
	w := inventory.NewWriter()
	w.Log, w.Policy = s.log, func() policy.Config { return *s.policy.Load() }
	w.Self = func() (inventory.Records, inventory.Host, error) {
		records := s.inventory.Load()
		if records == nil { // a nil pointer in the interface would not be nil
			return nil, inventory.Host{}, nil
		}
		h, err := s.record(s.config.Load(), past)
		return records, h, err
	}
	return w
}

// recorder keeps the record in etcd, to which it is connected only while a call runs. That connection is not the
// lock's, which knows nothing of this.
type recorder struct{ lock config.Lock }

// newRecorder returns where the settings want this host's record, nil for nowhere.
func newRecorder(cfg *config.Config) *recorder {
	if cfg.Strategy != config.StrategyEtcdLock || !cfg.Inventory {
		return nil
	}
	return &recorder{cfg.Lock}
}

// Place implements inventory.Records.
func (r *recorder) Place() string {
	return fmt.Sprintf("%s, group %q", r.lock.Etcd.Endpoints, r.lock.Group)
}

// Put implements inventory.Records.
func (r *recorder) Put(ctx context.Context, h inventory.Host) error {
	return r.use(func(records *inventory.Inventory) error { return records.Put(ctx, h) })
}

// Forget implements inventory.Records.
func (r *recorder) Forget(ctx context.Context, id string) error {
	return r.use(func(records *inventory.Inventory) error { return records.Forget(ctx, id) })
}

func (r *recorder) use(do func(*inventory.Inventory) error) error {
	store := etcd.New(r.lock.Etcd)
	defer store.Close()
	records, err := inventory.New(store, r.lock.Group)
	if err != nil {
		return err
	}
	return do(records)
}

// record returns the record of this host, but for what the daemon does. What cannot be found out, except its id, is left
// out.
func (s *server) record(cfg *config.Config, past *history.File) (inventory.Host, error) {
	id, err := host.MachineID(s.root)
	if err != nil {
		return inventory.Host{}, err
	}
	h := inventory.Host{ID: id, OS: host.OSName(s.root), OSVersion: host.OSVersion(s.root), Locksmith: version}
	if self, _, err := host.Self(s.root, s.boot); err == nil {
		h.Hostname = self.Hostname
	}
	if booted, err := s.boot.BeganAt(s.root, time.Now()); err == nil {
		h.Booted = booted
	}
	if cfg.Window != nil {
		h.Window = &inventory.Window{
			Start: cfg.Value("window-start"), Length: cfg.Value("window-length"), Zone: cfg.Window.Zone(), Blackout: cfg.Value("blackout"),
		}
	}
	h.Hold = held(host.Holds(s.root), time.Now())
	kept, err := past.Read()
	if last := kept.Last; err == nil && last != nil {
		h.Last = &inventory.Reboot{Version: last.Version, At: last.At, Well: last.Verified, Why: last.Result}
		if last.Verified && !last.Taken.IsZero() {
			h.Last.Took = max(0, last.Ended.Sub(last.Taken)) + cfg.ReleaseDelay
		}
	}
	return h, nil
}

// held returns the hold that ends last; nil for none.
func held(holds []policy.Hold, now time.Time) (last *inventory.Hold) {
	for _, h := range holds {
		switch {
		case !h.Until.IsZero() && !h.Until.After(now):
		case last == nil || !last.Until.IsZero() && (h.Until.IsZero() || h.Until.After(last.Until)):
			last = &inventory.Hold{Until: h.Until, Reason: h.Reason}
		}
	}
	return last
}
