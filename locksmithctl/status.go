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
	var all, watch, host bool
	format := view.Text
	cmd := &cobra.Command{
		Use:   "status [-o FORMAT] [-all-groups | -host] [-watch]",
		Short: "Show who holds the lock and who waits, or why this host has not rebooted",
		Long: `status shows how many slots the lock has and how many are free, and the machine ids
of those who hold one. With -o wide it also shows whether the lock is paused, the names
of the holders, since when and for which version they hold a slot, what they do with it,
which hosts are unwell after their reboot, and the queue in its order. The lock is created
if it does not exist.

With -all-groups it shows every group that has a lock. With -watch it goes on until it is
interrupted: on a terminal it shows the lock as it is now, how fast hosts reboot and when
the last one will be done; elsewhere it writes a line for every change, or with -o json or
yaml a document.

With -host it asks locksmithd on this host, over the system bus, and shows what the host does,
what comes next, and what each gate says. A gate is a condition of a reboot. It says "yes" or
"no"; "unknown" if it was asked and gave no clear answer, which counts as no; or "not asked"
if it is asked later, or its last answer is too old to count. With -o wide it shows all that
is known. It needs neither root nor etcd, and fails if locksmithd does not run.

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
document for each change, in JSON each on a line of its own.

The fields with -host, where a time is null and a text "" if it is unknown or does not apply:

  state         starting, settling, idle, waiting, locking, preparing, rebooting, releasing
                or left
  since         since when
  why           the reason for this state
  status        the line that "systemctl status locksmithd" shows
  strategy      REBOOT_STRATEGY that is in force
  group         the group of hosts, "" for the default one
  need          null unless a reboot is needed
    since       since when
    version     for which version
    sources     who says so
    reasons     why, in their words
  gates         every gate, in the order in which they count
    name        update, window, begin, retry, undo, health, uptime, hold, shutdown, inhibitors,
                packages, users, cancelled, attempts, may-reboot, alerts, room or slot
    answer      yes, no, not asked or unknown
    why         for people
  next          what comes next
    what        for people
    at          when
  slot          of the lock
    needed      true if a reboot needs one
    held        true if this host holds one, or may do so
    blocked_by  what it waits for
  window        the reboot window, while a reboot is waited for
    opens       when it opens
    shut_by     what makes it open so late, such as a blackout
    shuts       when it shuts, while a slot is waited for
    begins      when the random delay of this host ends
  held_back     null unless something on this host holds the reboot back
    gate        which gate
    by          what it says
    until       when people can no longer hold the reboot back
  reboot        the reboot that comes
    users       who is logged in, and delays it
    warned_at   when they were told
    at          when the host reboots at the latest
    final       true if they cannot cancel it
    mode        what kind of reboot it is and why, "" for a full one
    give_up_at  when it is tried again if the host is still up
    drain_until  until when what runs before it has time
  health        null unless the host is checked after its reboot
    state       checking, well or unwell
    version     for which it rebooted
    since       since when it is checked
    until       when it counts as unwell, or gives its slot back
    error       what is wrong
  troubles      why sources do not say whether a reboot is needed
  last_error    an error that did not stop the attempt
  last_reboot_failed  why the host is not well, though the checks are over
  retries       what failed and is tried again
    at          when; null for now
    error       why it failed
  undo          what has to be undone before anything else
    name        what it is
    doing       what is done to undo it
    settles     until when logind may carry out a call that it has not answered
    retry_at    when it is tried again
    error       why it could not be undone
    advice      what to do
  config_refused  why the last reload was refused`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case all && host:
				return usageError{errors.New("-host is for this host: leave -all-groups out")}
			case host && watch:
				return a.watchHost(cmd.Context(), format)
			case host:
				return a.statusOfHost(cmd.Context(), format)
			}
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
	cmd.Flags().BoolVar(&host, "host", false, "show this host: what locksmithd does, every gate, and what comes next")
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
