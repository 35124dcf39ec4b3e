package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) lockCommand() *cobra.Command {
	var queue queueFlags
	cmd := &cobra.Command{
		Use:   "lock [ID] [-wait [-timeout TIME]]",
		Short: "Take a slot of the lock",
		Long: `lock takes a slot for the machine with this id, by default this machine. It fails if
none is free or the lock is paused, and ignores the queue. If the machine holds a
slot already, that is a success as well.

With -wait it waits in the queue for its turn, as hosts do, and for the end of a pause,
until it has the slot. When it is interrupted, or after -timeout, it leaves the queue.
If another process is in the queue for the same machine, such as its locksmithd, it
waits beside that process, and does not take its place.

locksmithd releases the slot of its own machine when it starts, no matter who took it.
Until then, or until "locksmithctl unlock", one host less can reboot: a slot that is
taken by hand has no time-to-live.

With REBOOT_STRATEGY=fleet-lock it takes the slot from the FleetLock server, and only for
this machine. Without -wait it asks once. A server may let that request wait for a free
slot, ours for 50 s if nothing else is set; an interrupt ends it.`,
		Args: takesID,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := queue.check(); err != nil {
				return err
			}
			id, err := a.target(args)
			if err != nil {
				return err
			}
			if err := lock.ValidateID(id); err != nil {
				return usageError{err}
			}
			return a.withLockOrPermit(config.PartEtcd|config.PartLock, func(s session) error {
				record, err := a.record(cmd.Context(), s, id)
				if err != nil {
					return err
				}
				already, err := a.acquire(cmd.Context(), s, id, record, queue,
					fmt.Sprintf(`%s may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock %s" gives it back`, id, shellWord(id)))
				if err == nil && already {
					a.note("%s holds a slot already", id)
				}
				return err
			}, func(cfg *config.Config) error { return a.lockPermit(cmd.Context(), cfg, args, queue) })
		},
	}
	queue.register(cmd)
	return cmd
}
