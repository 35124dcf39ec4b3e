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

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/coordinator"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/slot"
	"github.com/locksmithd/locksmith/internal/state"
	"github.com/locksmithd/locksmith/internal/zone"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// errOff is why the daemon stops when a new configuration says so.
var errOff = errors.New("reboot strategy is off")

// server is what outlives a change of the configuration.
type server struct {
	loader *config.Loader
	root   string
	hangup <-chan os.Signal
	log    *slog.Logger
	level  *slog.LevelVar
	notify systemd.Notifier

	// The slot in use, and the settings that it was made from. It must
	// live on while those stay the same: it may have a transaction to resolve.
	slot     *slot.Slot
	slotFrom config.Lock
	owner    string // of a place in the queue; "" until it is known

	status status
	zone   atomic.Pointer[zone.Zone] // of the host; nil until there is a configuration
}

// location returns the host's time zone as it is now.
func (s *server) location() *time.Location {
	if z := s.zone.Load(); z != nil {
		return z.Location()
	}
	return time.Local
}

// status is what the line of systemctl status is made of: what the daemon does, and, until
// the next reload, that the last one was refused.
type status struct {
	sync.Mutex
	doing, refused string
}

// show changes the status line, and sends it.
func (s *server) show(change func(*status)) {
	s.status.Lock()
	defer s.status.Unlock()
	change(&s.status)
	line := s.status.doing
	if s.status.refused != "" {
		line += "; the new configuration is refused, the old one stays in force: " + s.status.refused
	}
	s.warn(s.notify.Status(line))
}

// serve runs the daemon until ctx ends or it cannot go on.
func (s *server) serve(ctx context.Context, cfg *config.Config) error {
	s.accept(cfg)
	settings, err := s.settings(cfg) // all that may be wrong, before anything is changed
	if err != nil {
		return err
	}
	file, err := coordinator.Open(ctx, filepath.Join(s.root, coordinator.DefaultPath), string(cfg.Strategy), s.log)
	if cfg.Strategy == config.StrategyOff {
		if err != nil { // somebody else is the coordinator, and rightly so
			s.log.Warn("the coordinator file is left as it is", "error", err)
		}
		return s.off(file)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	memory := s.memory()
	kept := s.remembered(memory)

	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Of its own: anybody may flood the other one with signals, and logind's answers would
	// wait behind them.
	calls, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return err
	}
	defer calls.Close()
	// The bus may drop one and not the other. The loss of the first one ends the daemon, so
	// that of this one ends that.
	defer context.AfterFunc(calls.Context(), func() { conn.Close() })()
	engine := updateengine.New(conn, s.log, s.trust(cfg))
	events, err := engine.Watch(ctx)
	if err != nil {
		return err
	}
	aliveEvery, err := systemd.WatchdogInterval()
	if err != nil {
		return err
	}

	reload := make(chan daemon.Settings)
	go s.reload(ctx, stop, engine, reload)
	self := machine{systemd.NewLogind(calls), calls}
	err = daemon.Run(ctx, settings, daemon.Parts{
		Updates:    updates(events, s.log),
		AskEngine:  askEngine(engine, s.log),
		Host:       self,
		Scheduler:  self,
		Announce:   func(message string) { s.warn(announce(os.Stderr, os.Environ(), message)) },
		Kept:       kept,
		Keep:       func(k policy.Kept) error { return memory.Write(state.Kept{Kept: k, Owner: s.owner}) },
		Restarting: func(ctx context.Context) (bool, error) { return systemd.Restarting(ctx, calls) },
		Reload:     reload,
		Observers:  []daemon.Observer{coordinated{s, file}, &shown{server: s}},
		Alive:      func() { s.warn(s.notify.Ping()) },
		AliveEvery: aliveEvery,
		Log:        s.log,
		Seed:       rand.Uint64(),
	})
	s.warn(s.notify.Stopping())
	if context.Cause(ctx) == errOff {
		return s.off(file)
	}
	return err
}

// memory is the file in which the daemon keeps what the next one has to know of this boot.
func (s *server) memory() *state.File {
	id, err := host.BootID(s.root)
	if err != nil {
		s.log.Warn("the next locksmithd on this host will not know what this one has begun", "error", err)
	}
	return state.New(s.root, id)
}

// remembered returns what the daemon before this one has kept; nil when that is not known. A place in the queue
// that it has left becomes this one's.
func (s *server) remembered(memory *state.File) *policy.Kept {
	kept, err := memory.Read()
	s.owner = cmp.Or(kept.Owner, s.owner, crand.Text())
	if s.slot != nil {
		s.slot.Owner = s.owner
	}
	switch {
	case err == nil:
		return &kept.Kept
	case !errors.Is(err, state.ErrNone):
		s.log.Warn("it is not known what an earlier locksmithd of this boot has begun: a reboot that is scheduled may be its own, and keeps its slot", "error", err)
	}
	return nil
}

// off says that this daemon does nothing, and ends as systemd expects of a
// service that started well. file may be nil.
func (s *server) off(file *coordinator.File) error {
	s.log.Info("the reboot strategy is off: nothing to do")
	if file != nil {
		defer file.Close()
		if err := file.Set(string(config.StrategyOff), coordinator.Disabled); err != nil {
			return err
		}
	}
	s.warn(s.notify.Ready())
	s.warn(s.notify.Status("off: this host is not rebooted, REBOOT_STRATEGY is off"))
	return nil
}

// accept applies the settings that need no restart.
func (s *server) accept(cfg *config.Config) {
	s.level.Set(slog.LevelInfo)
	if cfg.Debug {
		s.level.Set(slog.LevelDebug)
	}
	s.zone.Store(cfg.Zone)
	for _, w := range cfg.Warnings {
		s.log.Warn(w)
	}
}

// spread is how long after their window has opened hosts without a lock begin to reboot. Short, for a window is
// an operator's word; and yet such hosts are not all told to go down in the same millisecond.
const spread = time.Minute

func (s *server) settings(cfg *config.Config) (daemon.Settings, error) {
	d := daemon.Settings{Policy: policy.Config{Zone: s.location, LoginDelay: cfg.LoginDelay, LoginRetry: cfg.LoginRetry, MaxPostpone: cfg.MaxPostpone}}
	if cfg.Window != nil { // a nil pointer in the interface would not be nil
		d.Policy.Window = cfg.Window
	}
	if cfg.Strategy != config.StrategyEtcdLock {
		d.Policy.Spread = spread
		return d, nil
	}
	own := s.slot
	if own == nil || cfg.Lock != s.slotFrom {
		var err error
		if own, err = slot.New(etcd.New(cfg.Etcd), cfg.Group, s.root, s.log); err != nil {
			return d, err
		}
		own.Owner = s.owner
	}
	if err := own.Set(cfg.Max, cfg.LockTTL); err != nil {
		return d, err
	}
	s.slot, s.slotFrom = own, cfg.Lock
	d.Policy.Lock, d.Lock = true, s.slot
	return d, nil
}

func (s *server) trust(cfg *config.Config) updateengine.Trust {
	return updateengine.Trust{Groups: cfg.TriggerGroups, Root: s.root}
}

// reload reads the configuration again at every SIGHUP, until ctx ends. One
// that is wrong is refused as a whole.
func (s *server) reload(ctx context.Context, stop context.CancelCauseFunc, engine *updateengine.Client, to chan<- daemon.Settings) {
	for {
		select {
		case <-s.hangup:
		case <-ctx.Done():
			return
		}
		s.warn(s.notify.Reloading())
		cfg, err := s.loader.Load()
		var settings daemon.Settings
		if err == nil && cfg.Strategy != config.StrategyOff {
			settings, err = s.settings(cfg)
		}
		switch {
		case err != nil:
			s.log.Error("the new configuration is refused, the old one stays in force", "error", err)
			s.show(func(status *status) { status.refused = err.Error() })
		case cfg.Strategy == config.StrategyOff:
			stop(errOff)
			return
		default:
			s.accept(cfg)
			s.show(func(status *status) { status.refused = "" })
			engine.SetTrust(s.trust(cfg))
			select {
			case to <- settings:
				s.log.Info("the new configuration is in force", "strategy", cfg.Strategy)
			case <-ctx.Done():
				return
			}
		}
		s.warn(s.notify.Ready())
	}
}

// coordinated keeps the coordinator file.
type coordinated struct {
	*server
	file *coordinator.File
}

func (c coordinated) Observe(s policy.Snapshot, _ []policy.Move) {
	strategy := config.StrategyReboot
	if s.Lock {
		strategy = config.StrategyEtcdLock
	}
	c.warn(c.file.Set(string(strategy), coordinatorState(s.State)))
}

// shown tells the service manager what the daemon does.
type shown struct {
	*server
	ready bool // it knows that the daemon has started
}

func (o *shown) Observe(s policy.Snapshot, _ []policy.Move) {
	line := s.Line(policy.Config{Zone: o.location}.Clock)
	o.show(func(status *status) { status.doing = line })
	if !o.ready {
		o.ready = true
		o.warn(o.notify.Ready())
	}
}

func coordinatorState(state policy.State) coordinator.State {
	switch state {
	case policy.Starting, policy.Settling:
		return coordinator.Starting
	case policy.Idle, policy.Left:
		return coordinator.Running
	case policy.Rebooting:
		return coordinator.Rebooting
	}
	return coordinator.RebootPlanned
}

// warn logs the failure of something that the daemon can do without.
func (s *server) warn(err error) {
	if err != nil {
		s.log.Warn("going on without this", "error", err)
	}
}
