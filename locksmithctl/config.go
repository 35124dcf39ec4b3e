package main

import (
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/view"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Show every setting and where it comes from",
		Long: `config shows the settings as locksmithctl sees them, and where each comes from: a line of
a file, a drop-in of locksmithd's unit, the environment, a flag, or the default. A second
table shows what can say that a reboot is needed. config fails, and says why, if a setting
is wrong; settings for etcd are checked under every strategy but fleet-lock. Under etcd-lock,
if LOCKSMITHD_MAX is set, it also says whether the lock has another number of slots. Warnings
name, among others, other programs that reboot this host, and a sentinel file that nothing
creates.

Without flags and without variables of locksmithctl's own, these are the settings of
locksmithd on this host, once it has been restarted after a change of its unit. A password
in the unit is not read.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.settings(0)
			for _, w := range cfg.Warnings {
				a.note("warning: %s", w)
			}
			if len(cfg.Settings) == 0 {
				return err
			}
			if service := a.service(); service != nil && service.Masked {
				a.note("%s is masked: locksmithd does not run on this host, and only locksmithctl uses these settings", daemonUnit)
			}
			table := view.NewTable("SETTING", "VALUE", "FROM")
			for _, s := range cfg.Settings {
				table.Row(s.Name, cmp.Or(safetext.Clean(s.Value), "(none)"), safetext.Clean(s.Origin.String()))
			}
			text := table.String()
			if err == nil {
				triggers := view.NewTable("TRIGGER", "WHEN IT COUNTS")
				for _, t := range cfg.Triggers() {
					triggers.Row(safetext.Clean(t.Name), safetext.Clean(t.From))
				}
				text += "\n" + triggers.String()
			}
			if printing := a.print(text); printing != nil {
				return printing
			}
			if cfg.MaxOrigin != nil && err == nil && cfg.Strategy == config.StrategyEtcdLock {
				a.compareMax(cmd.Context())
			}
			return err
		},
	}
}

// driftTimeout limits the look at the lock's number of slots.
const driftTimeout = 3 * time.Second

// compareMax says if the lock has another number of slots than is declared, or why that is not known. Neither is a
// failure of a command about settings.
func (a *app) compareMax(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	err := a.withLock(func(s session) error {
		o, err := s.Overview(ctx)
		if err == nil {
			a.noteDrift(s, o)
		}
		return err
	})
	if err != nil {
		a.note("it is unknown whether the lock has the number of slots of LOCKSMITHD_MAX: %v", err)
	}
}
