package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/lock"
)

func (a *app) lockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lock [ID]",
		Short: "Take a slot of the lock",
		Long: `lock takes a slot for the machine with this id, by default this machine. It fails if
none is free. If the machine holds a slot already, that is success as well.

locksmithd releases the slot of its own machine when it starts, whoever took it.
Until then, or "locksmithctl unlock", one host less can reboot.`,
		Args: takes(0, 1, "at most one argument, a machine id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.target(args)
			if err != nil {
				return err
			}
			if _, err := (lock.Semaphore{Free: 1, Max: 1}).Acquire(id); err != nil {
				return usageError{err}
			}
			record, err := a.record(id)
			if err != nil {
				return err
			}
			return a.withLock(func(s session) error {
				already, err := s.TryAcquire(cmd.Context(), id, record)
				if err != nil {
					return s.explain(err, fmt.Sprintf(`%s may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock %[1]s" gives it back`, id))
				}
				if already {
					a.note("%s holds a slot already", id)
				}
				return nil
			})
		},
	}
}
