package main

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/coordinator"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/permit"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/internal/state"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// server has what outlives a reload of the configuration.
type server struct {
	loader *config.Loader
	root   string
	boot   host.Boot // unset while the strategy is off
	hangup <-chan os.Signal
	log    *slog.Logger
	level  *slog.LevelVar

	// The lock in use, and the settings that it was made from. While those stay the same the lock
	// must stay, too: it may have a transaction to resolve.
	lock     daemon.Locker
	lockFrom config.Lock
	owner    string // of the place in the queue in etcd; "" until it is known

	// leaving ends, and waits for the end of, what gives back slots of FleetLock servers that the settings do not name.
	// It is for the goroutine of serve.
	leaving func()

	status    status
	onBus     *exported                       // nil until there is a connection to the bus
	config    atomic.Pointer[config.Config]   // in force; nil until there is one
	policy    atomic.Pointer[policy.Config]   // the part of it that the policy needs
	inventory atomic.Pointer[recorder]        // where this host's record belongs; nil for nowhere
	notifier  atomic.Pointer[notify.Notifier] // nil until it is started
}

// location returns the host's time zone as it is now.
func (s *server) location() *time.Location {
	if cfg := s.config.Load(); cfg != nil && cfg.Zone != nil {
		return cfg.Zone.Location()
	}
	return time.Local
}

// json reports whether lines that do not go to the journal are JSON.
func (s *server) json() bool {
	cfg := s.config.Load()
	return cfg != nil && cfg.LogFormat == config.LogJSON
}

// serve runs the daemon until ctx ends or it cannot go on.
func (s *server) serve(ctx context.Context, cfg *config.Config) error {
	s.accept(cfg)
	var err error
	if cfg.Strategy != config.StrategyOff {
		limited, cancel := context.WithTimeout(ctx, bootTimeout)
		s.boot, err = thisBoot(limited, s.root, s.log)
		if cancel(); err != nil {
			return err
		}
	}
	settings, err := s.settings(cfg) // finds whatever is wrong, before anything is changed
	if err != nil {
		return err
	}
	file, err := coordinator.Open(ctx, filepath.Join(s.root, coordinator.DefaultPath), string(cfg.Strategy), s.log)
	if cfg.Strategy == config.StrategyOff {
		if err == nil {
			s.dropMetrics(cfg)
		}
		if err != nil { // another coordinator runs, as it may
			s.log.Warn("the coordinator file is left as it is, and so is what this host may have of FleetLock servers",
				"error", err)
		} else if _, err := permit.NewLeftover(s.root, s.log).GiveBack(ctx, "", permit.BriefLimit); err != nil {
			s.log.Warn(err.Error())
		}
		return s.off(file)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	s.leave(ctx, cfg)
	defer func() { s.leaving() }()
	memory, kept := s.remember()

	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Calls have a connection of their own: anybody can flood the one that gets signals, and logind's
	// answers would wait behind them.
	calls, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return err
	}
	defer calls.Close()
	// The bus may drop one connection and not the other. The daemon ends when it loses the first, so that
	// is closed when the second is lost.
	defer context.AfterFunc(calls.Context(), func() { conn.Close() })()
	engine := updateengine.New(conn, s.log, updateengine.Trust{Groups: cfg.TriggerGroups, Root: s.root})
	events, err := engine.Watch(ctx)
	if err != nil {
		return err
	}
	aliveEvery, err := systemd.WatchdogInterval()
	if err != nil {
		return err
	}

	// What others read has a third, for the same reason. The daemon goes on without that one.
	s.onBus = s.exported()
	exporting, endExport := context.WithCancel(context.WithoutCancel(ctx))
	var exports sync.WaitGroup
	exports.Go(func() { s.onBus.export.Run(exporting) })
	defer exports.Wait()
	defer endExport()
	around := s.around(calls)
	notifier := s.startNotifications(cfg, around.hooks.Units)
	defer notifier.Close() // again does no harm
	sentinels := s.sentinels(ctx, around.hooks.Units)
	sentinels.follow(cfg)
	reload := make(chan daemon.Settings)
	record := s.inventoried(around.history)
	go record.Run(ctx)
	metrics := s.metered(around.history)
	defer runMetrics(metrics)()
	go s.reload(ctx, stop, engine, sentinels, func() { record.Refresh(); metrics.Refresh() }, reload)
	self := machine{systemd.NewLogind(calls), s.root, s.boot}
	err = daemon.Run(ctx, settings, daemon.Parts{
		Updates:    updates(events, sentinels.said, s.log),
		AskSources: s.askSources(engine),
		Host:       self,
		Announce:   func(message string) { s.warn(journal.Announce(s.log, message)) },
		Found:      around.found(kept, sources(cfg)),
		Gate:       around.gate,
		Hooks:      around,
		Begin:      around.begin,
		Ended:      around.ended,
		Keep:       func(k policy.Kept) error { return memory.Write(state.Kept{Kept: k, Owner: s.owner}) },
		Restarting: func(ctx context.Context) (bool, error) { return systemd.Restarting(ctx, calls) },
		Reload:     reload,
		Observers: []daemon.Observer{
			&coordinated{server: s, file: file}, &shown{server: s}, record, metrics, s.onBus,
			&notify.Observer{Boot: s.boot.ID, Add: s.notify, Forget: notifier.Forget},
		},
		Alive:      func() { s.warn(systemd.NotifyWatchdog()) },
		AliveEvery: aliveEvery,
		Log:        s.log,
		Seed:       rand.Uint64(),
	})
	notifier.Close() // before the status line is another's
	s.warn(systemd.NotifyStopping())
	if context.Cause(ctx) == errOff {
		return s.off(file)
	}
	return err
}

const (
	bootTimeout = 30 * time.Second // of all questions which boot this is: systemd waits three times as long for a start
	bootEvery   = time.Second
)

// thisBoot is host.ThisBoot, and asks again until ctx ends: systemd may be busy while it boots, reloads or is replaced.
func thisBoot(ctx context.Context, root string, log *slog.Logger) (host.Boot, error) {
	for {
		boot, err := host.ThisBoot(ctx, root)
		if !errors.Is(err, host.ErrSystemd) {
			return boot, err
		}
		if backoff.Sleep(ctx, bootEvery); ctx.Err() != nil {
			return boot, err
		}
		log.Warn("asking again", "error", err)
	}
}

// remember returns the file in which the daemon keeps what the next one in this boot has to know, and what the
// previous one has kept there, nil when that is not known. A place in the queue that it has left becomes this daemon's.
func (s *server) remember() (memory *state.File, kept *policy.Kept) {
	memory = state.New(s.root, s.boot)
	content, err := memory.Read()
	s.owner = cmp.Or(content.Owner, s.owner, crand.Text())
	if own, ok := s.lock.(*slot.Slot); ok {
		own.Owner = s.owner
	}
	switch {
	case err == nil:
		kept = &content.Kept
	case !errors.Is(err, state.ErrNone):
		s.log.Warn("it is not known what an earlier locksmithd of this boot has begun: a reboot that is scheduled may be its own, and keeps its slot", "error", err)
	}
	return memory, kept
}

// off reports that this daemon does nothing, and returns as systemd expects of a
// service that has started well. file may be nil.
func (s *server) off(file *coordinator.File) error {
	s.log.Info("the reboot strategy is off: nothing to do")
	if file != nil {
		defer file.Close()
		if err := file.Set(string(config.StrategyOff), coordinator.Disabled); err != nil {
			return err
		}
	}
	s.warn(systemd.NotifyReady())
	why := "REBOOT_STRATEGY is off"
	if !s.config.Load().StrategySet {
		why += ", as installed; set it in /etc/locksmith/locksmith.conf, and restart locksmithd"
	}
	s.warn(systemd.NotifyStatus("off: this host is not rebooted, " + why))
	return nil
}

// spread is how long after their window has opened hosts without a lock begin to reboot. It keeps them from going
// down in the same millisecond, and is short because the window is the operator's.
const spread = time.Minute

var healthFailures = map[config.HealthFailure]policy.HealthFailure{
	config.HealthPause: policy.PauseVersion, config.HealthHold: policy.HoldSlot, config.HealthRelease: policy.ReleaseSlot,
}

// settings returns the daemon's settings for a configuration.
func (s *server) settings(cfg *config.Config) (daemon.Settings, error) {
	d := daemon.Settings{Policy: policy.Config{
		Zone: s.location, LoginDelay: cfg.LoginDelay, LoginRetry: cfg.LoginRetry, MaxPostpone: cfg.MaxPostpone,
		Jitter: cfg.RebootJitter, BeforeTimeout: cfg.BeforeRebootTimeout, HealthTimeout: cfg.HealthTimeout,
		HealthFailure: healthFailures[cfg.HealthFailure], ReleaseDelay: cfg.ReleaseDelay, Mode: cfg.RebootMode,
	}}
	if cfg.MinUptime > 0 {
		booted, err := s.boot.BeganAt(s.root, time.Now())
		if err != nil {
			return d, err
		}
		d.Policy.Earliest = booted.Add(cfg.MinUptime)
	}
	if cfg.Window != nil { // a nil pointer in the interface would not be nil
		d.Policy.Window = cfg.Window
	}
	if !cfg.Strategy.Locks() {
		d.Policy.Spread = spread
		s.policy.Store(&d.Policy)
		s.inventory.Store(newRecorder(cfg))
		return d, nil
	}
	own := s.lock
	if own == nil || cfg.Lock != s.lockFrom {
		var err error
		if own, err = s.newLock(cfg); err != nil {
			return d, err
		}
	}
	if inEtcd, ok := own.(*slot.Slot); ok {
		if err := inEtcd.Set(cfg.Max, cfg.LockTTL); err != nil {
			return d, err
		}
	}
	s.lock, s.lockFrom = own, cfg.Lock
	d.Policy.Lock, d.Lock, d.Group = true, own, cfg.Group
	s.policy.Store(&d.Policy)
	s.inventory.Store(newRecorder(cfg))
	return d, nil
}

// leave gives back, beside the daemon, what this host may have of FleetLock servers, unless the strategy is to ask one:
// see permit.Slot.Release. What it did for the configuration before ends first.
func (s *server) leave(ctx context.Context, cfg *config.Config) {
	s.leaving()
	s.leaving = func() {}
	if cfg.Strategy == config.StrategyFleetLock {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); permit.NewLeftover(s.root, s.log).Try(ctx) }()
	s.leaving = func() { cancel(); <-ended }
}

// newLock returns the lock of a configuration, as this host sees it.
func (s *server) newLock(cfg *config.Config) (daemon.Locker, error) {
	if cfg.Strategy == config.StrategyFleetLock {
		c := permit.Config{Server: cfg.FleetLock.Server, Group: cfg.Group, MachineID: cfg.FleetLock.MachineID}
		return permit.New(c, s.root, s.boot, s.log)
	}
	own, err := slot.New(etcd.New(cfg.Etcd), cfg.Group, s.root, s.boot, s.log)
	if err != nil {
		return nil, err
	}
	own.Owner, own.Freed = s.owner, s.slotFreed
	return own, nil
}

// warn logs an error of something that the daemon can do without.
func (s *server) warn(err error) {
	if err != nil {
		s.log.Warn("going on without this", "error", err)
	}
}
