package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) statusCommand() *cobra.Command {
	var all, watch bool
	format := view.Text
	cmd := &cobra.Command{
		Use:   "status [-o FORMAT] [-all-groups | -watch]",
		Short: "Show who holds the lock, and who waits",
		Long: `status shows how many slots the lock has and how many are free, and the machine ids
of those who hold one. With -o wide it also shows whether the lock is paused, the names
of the holders, since when and for which version they hold a slot, what they do with it,
which hosts are unwell after their reboot, and the queue in its order. The lock is created
if it does not exist.

With -all-groups it shows every group that has a lock. With -watch it goes on until it is
interrupted: on a terminal it shows the lock as it is now, how fast hosts reboot and when
the last one will be done; elsewhere it writes a line for every change, or with -o json or yaml a
document.

A holder is expired if it asked for a time-to-live (LOCKSMITHD_LOCK_TTL), and that is over:
the next in the queue, or "locksmithctl unlock -expired", takes its slot away. A record that
cannot be understood is shown as unreadable; it blocks nobody.

With REBOOT_STRATEGY=fleet-lock it shows, as text only, what this host knows of its slot; a
FleetLock server cannot be asked.

The fields of -o json and -o yaml, to which later versions may add others:

  group         the group of hosts, "" for the default one
  available     number of free slots, below 0 after set-max below the number of holders
  max           number of slots
  paused        null unless the lock is paused
    by          who paused
    reason      why, "" if nothing was said
    since       since when, by that host's clock (RFC 3339); null if unknown
    until       when it ends by itself; null if it does not
    all_groups  true if it is for all groups
    unreadable  true if it cannot be understood; it is in force nevertheless
  holders       who holds a slot, in the order of their ids; [] for nobody
    id          machine id
    hostname    "" if unknown, as for a slot that was taken for another machine
    boot_id     the boot in which the slot was taken; "" if unknown
    since       when the slot was taken, by that host's clock; null if unknown
    by          which program took it; "" if unknown
    version     the version to be rebooted into; "" if unknown
    reason      why the host reboots, such as its packages; left out if only the version says so
    expired     true if the time-to-live is over
    unreadable  true if there is a record that cannot be understood
    os_version  what ran when the slot was taken, to be compared after the reboot; left out if unknown
    phase       what the holder has reported: draining, rebooting, checking, unwell or
                delaying; left out, with the next two, if it has not
    phase_since  since when, by that host's clock
    phase_why   why
  queue         who waits for a slot, the next one first; [] for nobody
    id          machine id
    hostname    "" if unknown
    since       since when it waits, by that host's clock; null if unknown
    version     the version to be rebooted into; "" if unknown
    reason      as above
    place       1 for the next one
  unwell        hosts that pause the version that they rebooted for; left out for none
    id          machine id
    hostname    "" if unknown
    boot_id     the boot in which it is unwell
    version     the version that is paused; "" for every one
    since       since when, by that host's clock; null if unknown
    why         what is wrong with it
    resumed     true if "locksmithctl resume" has ended that pause
    left        true if the host reboots for another version since
    unreadable  true if it cannot be understood; it pauses every version nevertheless
  progress      how the reboots proceed, only with -watch
    since       when the watch began
    reboots     number of slots given back since then
    per_hour    number of reboots in an hour, from the last 20; null before the first
    end         when nobody will wait or hold a slot any more; null if that cannot be estimated

With -all-groups there is a list of these, one for each group. With -watch there is a
document for each change, in JSON each on a line of its own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all && watch {
				return usageError{errors.New("-watch is for one group: leave -all-groups out, or run one for each group")}
			}
			switch {
			case all:
				return a.withLock(func(s session) error { return a.statusOfAll(cmd.Context(), s, format) })
			case watch:
				return a.withLock(func(s session) error { return a.watchStatus(cmd.Context(), s, format) })
			}
			inEtcd := func(s session) error { return a.status(cmd.Context(), s, format) }
			if format.ForPrograms() {
				return a.withLock(inEtcd)
			}
			return a.withLockOrPermit(config.PartEtcd|config.PartLock, inEtcd, a.statusPermit)
		},
	}
	cmd.Flags().VarP(&format, "output", "o", "format: text, wide, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(view.Formats(), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&all, "all-groups", false, "show every group")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on, and show every change")
	return cmd
}

func (a *app) status(ctx context.Context, s session, format view.Format) error {
	o, err := s.Overview(ctx)
	if err == nil && !o.Exists {
		o.Semaphore, err = s.Status(ctx) // creates it
	}
	if err != nil {
		return explain(err, "the lock may have been created")
	}
	if err := a.show(format.Status(lock.GroupOverview{Group: s.settings.Group, Overview: o}, a.now())); err != nil {
		return err
	}
	if format == view.Text && o.Pause != nil {
		a.note("%s", o.Pause)
	}
	if format == view.Text {
		for _, p := range o.VersionPauses() {
			a.note("%s", p)
		}
	}
	a.noteDrift(s, o)
	if format == view.Text && !s.settings.OwnEndpoint {
		a.noteAllLeftover()
	}
	return nil
}

// statusOfAll shows every group whose lock can be understood, and fails if there are others.
func (a *app) statusOfAll(ctx context.Context, s session, format view.Format) error {
	var all []lock.GroupOverview
	failed := 0
	groups, err := s.groups.Overviews(ctx)
	for _, g := range groups {
		if g.Err != nil {
			failed++
			a.note("%v", g.Err)
		} else {
			all = append(all, g)
		}
	}
	if err != nil {
		return err
	}
	if err := a.show(format.StatusOfAll(all, a.now())); err != nil {
		return err
	}
	switch {
	case failed > 0:
		return fmt.Errorf("status: not shown: %s", count(failed, "group"))
	case len(all) == 0:
		a.note("no group has a lock yet")
	}
	return nil
}
