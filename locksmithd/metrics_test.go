package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/metricsfile"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
)

// A file system that does not answer any more keeps neither the daemon nor the shutdown that waits for its end.
func TestMetricsDoNotKeepTheDaemonFromEnding(t *testing.T) {
	f := metricsfile.New()
	f.Log = slog.New(slog.DiscardHandler)
	asked, answer := make(chan struct{}), make(chan struct{})
	defer close(answer)
	f.Self = func() (string, metricsfile.Facts) {
		close(asked)
		<-answer
		return "", metricsfile.Facts{}
	}
	end := runMetrics(f)
	f.Observe(policy.Snapshot{}, "", nil)
	must.Receive(t, time.Minute, "the file to be written", asked)
	ended := make(chan struct{})
	go func() { defer close(ended); end() }()
	must.Receive(t, time.Minute, "the daemon to end", ended)
}
