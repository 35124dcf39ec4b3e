package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/coordinator"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/state"
	"github.com/locksmithd/locksmith/systemd"
)

const (
	callOffTimeout = 45 * time.Second // of all tries
	callOffEvery   = time.Second
)

// callOff cancels the reboot that a daemon has left scheduled with logind because it was killed, or because
// logind did not answer. It is for ExecStopPost= of the unit. It does nothing while the host is going down, nor
// to a reboot that may be somebody else's: it may be that of another daemon, which runs and has kept the unit's
// own from starting.
func callOff(ctx context.Context, root string, log *slog.Logger) error {
	if _, err := os.Lstat(filepath.Join(root, state.DefaultPath)); readfile.Absent(err) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callOffTimeout)
	defer cancel()
	boot, err := thisBoot(ctx, root, log)
	memory := state.New(root, boot)
	var kept state.Kept
	if err == nil {
		kept, err = memory.Read()
	}
	switch {
	case errors.Is(err, state.ErrNone):
		return nil
	case err != nil: // a failure would make systemd start locksmithd again and again
		log.Warn("it is not known whether locksmithd has scheduled a reboot with logind; shutdown -c cancels one", "error", err)
		return nil
	case kept.Scheduled.Usec == 0:
		return nil
	}
	at := time.UnixMicro(kept.Scheduled.Usec)
	file, err := coordinator.Lock(ctx, filepath.Join(root, coordinator.DefaultPath), log)
	_, held := errors.AsType[*coordinator.HeldError](err)
	switch {
	case held:
		log.Warn("the reboot that is scheduled with logind is left alone, since it may be that of a locksmithd which runs", "for", at, "error", err)
		return nil
	case err != nil:
		return fmt.Errorf("the reboot that locksmithd scheduled for %v is left alone: %w", at, err)
	}
	defer file.Close()
	var failure error // the last one that says more than that the time is up
	for {
		off, err := tryCallOff(ctx, memory, kept)
		if err == nil {
			if off {
				log.Info("the reboot that was scheduled with logind is called off", "for", at)
			}
			return nil
		}
		if failure == nil || ctx.Err() == nil {
			failure = err
		}
		if backoff.Sleep(ctx, callOffEvery); ctx.Err() != nil {
			return fmt.Errorf("the reboot that locksmithd scheduled for %v may still stand, and a slot is kept for it; shutdown -c cancels it: %w", at, failure)
		}
	}
}

// tryCallOff reports whether it has called off a reboot that stood.
func tryCallOff(ctx context.Context, memory *state.File, kept state.Kept) (bool, error) {
	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	m := machine{Logind: systemd.NewLogind(conn)}
	return daemon.CallOff(ctx, m, kept.Kept, func(k policy.Kept) error {
		return memory.Write(state.Kept{Kept: k, Owner: kept.Owner})
	})
}
