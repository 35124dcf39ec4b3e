package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/systemd"
)

func (a *app) rebootCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reboot",
		Short: "Take a slot of the lock and reboot this host now",
		Long: `reboot takes a slot of the lock for this machine and reboots it now, whatever the
window says. It does not wait: it fails if no slot is free or the lock is paused.
locksmithd gives the slot back after the reboot.

With REBOOT_STRATEGY set to reboot or off no lock is taken and etcd is not used; where
it is not set, the lock is taken.`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.euid != 0 {
				return errors.New("only root may reboot this host: run it with sudo")
			}
			cfg, err := a.settings(config.PartStrategy)
			if err != nil {
				return err
			}
			// Without a strategy in sight the daemon may still have one, from a
			// drop-in: then the lock is the safe side.
			if cfg.StrategySet && cfg.Strategy != config.StrategyEtcdLock {
				conn, err := systemd.ConnectSystemBus(cmd.Context())
				if err != nil {
					return err
				}
				defer conn.Close()
				return systemd.NewLogind(conn).Reboot(cmd.Context(), false)
			}
			return a.withLock(func(s session) error { return a.rebootUnder(cmd.Context(), s) })
		},
	}
}

// rebootUnder takes a slot and reboots. The slot is given back only if it is
// certain that there will be no reboot, and if nobody had taken it before.
func (a *app) rebootUnder(ctx context.Context, s session) error {
	id, err := config.MachineID(a.root)
	if err != nil {
		return err
	}
	record, err := a.record(id)
	if err != nil {
		return err
	}
	record.TTL = s.settings.LockTTL
	// The bus comes first: one that is down must not cost a slot.
	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()

	already, err := s.TryAcquire(ctx, id, record)
	if err != nil {
		return s.explain(err, `this host does not reboot, but may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock" gives it back`)
	}
	logind := systemd.NewLogind(conn)
	err = logind.Reboot(ctx, false)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, systemd.ErrRefused):
		return fmt.Errorf(`%w; this host may go down all the same, so it keeps its slot: if it does not, "locksmithctl unlock" gives it back`, err)
	case already:
		return fmt.Errorf(`%w; this host keeps the slot, which it held before: "locksmithctl unlock" gives it back`, err)
	}
	// From here on an interrupt does not leave the slot behind.
	ctx = context.WithoutCancel(ctx)
	if down, unanswered := logind.PreparingForShutdown(ctx); unanswered == nil && down {
		return fmt.Errorf(`%w; this host is going down already, and keeps the slot for that`, err)
	}
	if release := s.Release(ctx, id); release != nil {
		return fmt.Errorf(`%w; and the slot could not be given back: %w; "locksmithctl unlock" tries again`, err, release)
	}
	return err
}
