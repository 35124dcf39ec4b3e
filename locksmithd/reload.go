package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// errOff is why the daemon stops when a new configuration says so.
var errOff = errors.New("reboot strategy is off")

// accept applies the settings that need no restart.
func (s *server) accept(cfg *config.Config) {
	s.level.Set(slog.LevelInfo)
	if cfg.Debug {
		s.level.Set(slog.LevelDebug)
	}
	s.config.Store(cfg)
	if n := s.notifier.Load(); n != nil {
		n.Configure(cfg.Notify)
	}
	for _, w := range cfg.Warnings {
		s.log.Warn(w)
	}
}

// reload reads the configuration again at every SIGHUP, until ctx ends. A configuration
// with an error is refused as a whole. refresh makes the observers that use the configuration look at it again.
func (s *server) reload(ctx context.Context, stop context.CancelCauseFunc, engine *updateengine.Client, sentinels *sentinels, refresh func(), to chan<- daemon.Settings) {
	for {
		select {
		case <-s.hangup:
		case <-ctx.Done():
			return
		}
		s.warn(systemd.NotifyReloading())
		cfg, err := s.loader.Load()
		var settings daemon.Settings
		if err == nil && cfg.Strategy != config.StrategyOff {
			settings, err = s.settings(cfg)
			settings.Begin = func() { s.leave(ctx, cfg) }
		}
		switch {
		case err != nil:
			s.log.Error("the new configuration is refused, the old one stays in force", "error", err,
				journal.Facts{ID: journal.ConfigRefused, Reason: err.Error()}.Attr())
			s.show(func(status *status) { status.refused = err.Error() })
		case cfg.Strategy == config.StrategyOff:
			s.config.Store(cfg)
			stop(errOff)
			return
		default:
			s.accept(cfg)
			s.show(func(status *status) { status.refused = "" })
			engine.SetTrust(updateengine.Trust{Groups: cfg.TriggerGroups, Root: s.root})
			sentinels.follow(cfg)
			refresh()
			select {
			case to <- settings:
				s.log.Info("the new configuration is in force", "strategy", cfg.Strategy)
			case <-ctx.Done():
				return
			}
		}
		s.warn(systemd.NotifyReady())
	}
}
