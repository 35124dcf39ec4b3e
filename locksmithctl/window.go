package main

import (
	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/view"
)

func (a *app) windowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "window",
		Short: "Show when the reboot window is open",
		Long: `window shows whether the reboot window is open now, and when it opens the next five
times, in the window's time zone. A window does not open on the days of a blackout; where
only that is set, it is open at all other times.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.settings(config.PartWindow)
			if err != nil {
				return err
			}
			if cfg.Window == nil {
				return a.print("No window is set: reboots may happen at any time.\n")
			}
			return a.print(view.Window(cfg.Window, a.now()))
		},
	}
}
