package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/host"
)

func (a *app) rebootCommand() *cobra.Command {
	var force bool
	var queue queueFlags
	cmd := &cobra.Command{
		Use:   "reboot [-force] [-wait [-timeout TIME]]",
		Short: "Take a slot of the lock and reboot this host now",
		Long: `reboot takes a slot of the lock for this machine and reboots it now, if its reboot
window is open and nobody is at work on it: no program inhibits a shutdown (see
systemd-inhibit), no shutdown is scheduled, and nobody is logged in except in the session
that runs reboot, also through sudo or run0. Otherwise it fails, and says what is in the
way. It checks that before it takes the slot, and again right before the reboot; if there
is no reboot then, it gives the slot back. After the reboot locksmithd gives it back.

It also fails while the host is held (see "locksmithctl help hold"), has not been up for
LOCKSMITHD_MIN_UPTIME, was rebooted LOCKSMITHD_MAX_ATTEMPTS times for the version that
update_engine announces without coming up with it, while a script in may-reboot.d says no,
and while alerts are firing in Prometheus or Alertmanager.

With the slot it runs what is hooked in before a reboot (see "locksmithctl help hooks"), and
undoes that if there is no reboot, also when it is interrupted. It does not begin that if the
window would shut before LOCKSMITHD_BEFORE_REBOOT_TIMEOUT is over. A start of locksmithd
meanwhile gives the slot back and undoes what has run, and then there is no reboot.

With -force it checks none of that, and reboots also if a hook fails. The lock and its pauses
count even then. If logind does not let anybody override an inhibitor, as since systemd 257,
it asks systemd itself for the reboot.

It fails if no slot is free or the lock is paused. With -wait it waits in the queue for
its turn, as hosts do, and for the end of a pause; when it is interrupted, or after
-timeout, it leaves the queue.

With REBOOT_STRATEGY set to reboot or off it takes no lock, waits for none, and does not
use etcd; if the strategy is not set, it takes the lock. With fleet-lock the slot is one of
the FleetLock server.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := queue.check(); err != nil {
				return err
			}
			if a.euid != 0 {
				return errors.New("only root may reboot this host: run it with sudo")
			}
			return a.reboot(cmd.Context(), force, queue)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "ignore all that holds the reboot back, except the lock")
	queue.register(cmd)
	return cmd
}

func (a *app) reboot(ctx context.Context, force bool, queue queueFlags) error {
	parts := config.PartStrategy | config.PartHooks
	if !force {
		parts |= config.PartWindow | config.PartGates
	}
	cfg, err := a.settings(parts)
	if err != nil {
		return err
	}
	boot, err := a.thisBoot(ctx)
	switch {
	case err != nil && !force:
		return fmt.Errorf("this host does not reboot: %w; -force overrides that, without a slot", err)
	case err != nil: // a slot needs it nevertheless
		a.note("%v", err)
	}
	m := machine{
		root: a.root, boot: boot, now: a.now, force: force, log: a.log, note: a.note, notify: a.tell,
		hooks: a.hooks(boot), limit: cfg.BeforeRebootTimeout, history: history.New(a.root),
		facts: hooks.Facts{Group: cfg.Value("group"), Reason: "locksmithctl reboot"}, mode: cfg.RebootMode,
	}
	if path := cfg.Value("reboot-sentinel"); path != "" {
		m.file.Path = filepath.Join(a.root, path)
	}
	m.facts.MachineID, m.noID = host.MachineID(a.root) // without it the lock fails
	if !force {
		if err := m.configure(cfg); err != nil {
			return err
		}
	}
	// If no strategy is set here, the daemon may have one from elsewhere: the lock is the safe choice.
	if cfg.StrategySet && !cfg.Strategy.Locks() {
		if err := m.open(ctx); err != nil {
			return err
		}
		defer m.conn.Close()
		_, err := m.goDown(ctx)
		return err
	}
	return a.withLockOrPermit(config.PartEtcd|config.PartLock,
		func(s session) error { return a.rebootUnder(ctx, s, m, queue) },
		func(cfg *config.Config) error { return a.rebootWithPermit(ctx, cfg, m, queue) })
}

// rebootUnder takes a slot of the lock in etcd and reboots.
func (a *app) rebootUnder(ctx context.Context, s session, m machine, queue queueFlags) error {
	id, err := host.MachineID(a.root)
	if err != nil {
		return err
	}
	record, err := a.record(ctx, s, id)
	if err != nil {
		return err
	}
	record.TTL = s.settings.LockTTL
	record.Since = a.now().UTC() // to the nanosecond, so that taken recognizes it
	// An obstacle, or a bus that is down, must not cost a slot.
	if err := m.open(ctx); err != nil {
		return err
	}
	defer m.conn.Close()
	if record.Version, err = m.announced(ctx); err != nil {
		return err
	}
	if record.Version != "" {
		record.OSVersion = host.OSVersion(a.root)
	}
	_, err = a.acquire(ctx, s, id, record, queue,
		`this host does not reboot, but may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock" gives it back`)
	if err != nil {
		return err
	}
	m.slot = &heldSlot{session: s, id: id, record: record}
	return m.rebootWithSlot(ctx)
}

// rebootWithSlot reboots with the slot that the machine has. It gives the slot back only if it was taken for this
// reboot, and there will certainly be no reboot.
func (m machine) rebootWithSlot(ctx context.Context) error {
	err := m.ready(ctx)
	if err == nil {
		var keep bool
		if keep, err = m.goDown(ctx); err == nil {
			return nil
		} else if errors.Is(err, errNotUndone) {
			return fmt.Errorf(`%w; the slot is kept for that, and "locksmithctl unlock" gives it back`, err)
		} else if keep {
			return fmt.Errorf(`%w; this host may still go down, so it keeps its slot: if it does not, "locksmithctl unlock" gives it back`, err)
		}
	}
	// From here on an interrupt must not leave the slot behind.
	return m.giveBack(context.WithoutCancel(ctx), err)
}
