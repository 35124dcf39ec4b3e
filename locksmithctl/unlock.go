package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unlock [ID]",
		Short: "Give a slot of the lock back",
		Long: `unlock gives back the slot of the machine with this id, by default this machine. It
fails if that machine holds none.

A host that is about to reboot, or is down, needs its slot: without it, another one
may go down at the same time.`,
		Args: takes(0, 1, "at most one argument, a machine id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.target(args)
			if err != nil {
				return err
			}
			if id == "" {
				return usageError{errors.New("the id of the holder is empty")}
			}
			return a.withLock(func(s session) error {
				return s.explain(s.Release(cmd.Context(), id), fmt.Sprintf(`%s may hold its slot still: "locksmithctl status" shows it, and "locksmithctl unlock %[1]s" gives it back`, id))
			})
		},
	}
}
