package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
)

// openings is how many are shown.
const openings = 5

func (a *app) windowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "window",
		Short: "Show when the reboot window is open",
		Long: `window shows whether the reboot window is open now, and the next five times that it
opens, in the window's time zone.`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.settings(config.PartWindow)
			if err != nil {
				return err
			}
			if cfg.Window == nil {
				return a.print("No window is set: reboots may happen at any time.\n")
			}
			return a.print(windowText(cfg.Window, a.now()))
		},
	}
}

// layout is how systemd writes times as well.
const layout = "Mon 2006-01-02 15:04:05 MST"

func windowText(w *config.Window, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Window: %s\n", w)
	start, end := w.Next(now)
	if start.After(now) {
		fmt.Fprintf(&b, "Open: no, until %s\n", start.Format(layout))
	} else {
		fmt.Fprintf(&b, "Open: yes, until %s\n", end.Format(layout))
		start, end = w.Next(end)
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OPENS\tSHUTS")
	for range openings {
		fmt.Fprintf(table, "%s\t%s\n", start.Format(layout), end.Format(layout))
		start, end = w.Next(end)
	}
	table.Flush() // a strings.Builder takes everything
	return b.String()
}
