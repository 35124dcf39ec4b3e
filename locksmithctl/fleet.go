package main

import (
	"context"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/lock"
)

// readFleet reads the hosts of one group, or of all.
func readFleet(ctx context.Context, store lock.Store, cfg *config.Config, all bool, now time.Time) (fleet.Fleet, error) {
	if all {
		return fleet.Read(ctx, store, cfg.Max, now)
	}
	return fleet.ReadGroup(ctx, store, cfg.Group, cfg.Max, now)
}
