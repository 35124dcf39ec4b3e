package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *app) setMaxCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set-max N",
		Short: "Set how many hosts may hold the lock at once",
		Long: `set-max sets the number of slots, and so how many hosts may reboot at once. With 0
nobody gets a slot. Hosts that hold one keep it.`,
		Args: takes(1, 1, "one argument, the number of slots"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[0], 10, 31) // takes no sign
			if err != nil {
				return usageError{fmt.Errorf("%q is not a number of slots: write a whole number from 0, with which nobody reboots, to 2147483647", args[0])}
			}
			return a.withLock(func(s session) error {
				before, after, err := s.SetMax(cmd.Context(), int(n))
				if err != nil {
					return explain(err, `the number may have been set: "locksmithctl status" shows it`)
				}
				if err := a.print(fmt.Sprintf("Old: %d\nNew: %d\n", before.Max, after.Max)); err != nil {
					return err
				}
				if after.Free < 0 {
					a.note("slots held: %d, more than %d: nobody else gets one until enough of them have been given back", len(after.Holders), after.Max)
				}
				return nil
			})
		},
	}
}
