package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Show every setting and where it comes from",
		Long: `config shows the settings as locksmithctl sees them, and where each comes from: a file
with the line, the environment, a flag, or the default. It fails, and says why, if one
of them is wrong; settings for etcd are checked under every strategy.

locksmithd reads the same files. Its flags and environment, LOCKSMITHD_ENDPOINT for
example set by a drop-in of its unit, are its own and not shown here.`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.settings(0)
			for _, w := range cfg.Warnings {
				a.note("warning: %s", w)
			}
			if len(cfg.Settings) == 0 {
				return err
			}
			var b strings.Builder
			table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
			for _, s := range cfg.Settings {
				fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, cmp.Or(printable(s.Value), "(none)"), printable(s.Origin.String()))
			}
			table.Flush() // a strings.Builder takes everything
			if err := a.print(b.String()); err != nil {
				return err
			}
			return err
		},
	}
}
