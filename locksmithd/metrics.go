package main

import (
	"context"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/metricsfile"
)

// metered returns what keeps the file with metrics of this host.
func (s *server) metered(past *history.File) *metricsfile.File {
	f := metricsfile.New()
	f.Log = s.log
	f.Self = func() (string, metricsfile.Facts) {
		cfg := s.config.Load()
		facts := metricsfile.Facts{Version: version, Strategy: string(cfg.Strategy), Group: cfg.Group, OSVersion: host.OSVersion(s.root)}
		if kept, err := past.Read(); err == nil { // otherwise who needs the history says what is wrong
			facts.Past = &kept
		}
		return cfg.MetricsFile, facts
	}
	return f
}

// metricsEndTimeout is how long the daemon waits at its end for a disk that does not answer.
const metricsEndTimeout = 2 * time.Second

// runMetrics keeps the file until end is called, which waits until it is removed, for a bounded time.
func runMetrics(f *metricsfile.File) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(metricsEndTimeout):
			f.Log.Warn("the file of LOCKSMITHD_METRICS_FILE may stay: its disk does not answer")
		}
	}
}

// dropMetrics removes the file that an earlier locksmithd may have left, for one that does nothing.
func (s *server) dropMetrics(cfg *config.Config) {
	if cfg.MetricsFile != "" {
		s.warn(metricsfile.Remove(cfg.MetricsFile))
	}
}
