package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/inventory"
	foreseen "github.com/locksmithd/locksmith/internal/plan"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) planCommand() *cobra.Command {
	var allGroups, all bool
	format := view.Text
	cmd := &cobra.Command{
		Use:   "plan [-all] [-o FORMAT] [-all-groups]",
		Short: "Say when the rollout will be done, and in which order",
		Long: `plan says when the last host of the group that needs a reboot will have rebooted, in which
order hosts reboot, and when each takes its slot and gives it back. It also says which hosts
will not reboot, because their window never opens or is too short, or because they are held,
unwell or without news. It reads the lock and the records of the hosts, and changes nothing.

It simulates the rest of the rollout: the queue in its order, the windows of the hosts, holds
and pauses until their end, and the number of slots. It assumes that a host has its slot for
as long as at its last reboot, or if that is not known, for the mean of its group. If a pause
has no end, the plan is made as if it were resumed now. The plan cannot know of new updates,
who will log in, or in which order hosts come whose windows open at the same time.

Hosts that need no reboot are not in the plan. Some of them may run another version than the
one that others reboot for, because they have not heard of it yet. The plan shows how many;
with -all they are in the plan as if they needed a reboot now.

The fields of -o json and -o yaml, to which later versions may add others:

  group         the group of hosts, "" for the default one
  at            when the plan was made
  end           when the last host will have given back its slot; null if none will reboot
  summary       the sentences that the text has before its table
  max           number of slots
  lost          slots that hosts keep for which no end can be foreseen
  version       the version that most hosts reboot for; "" if unknown
  behind        hosts that need no reboot yet, and run another version than the others reboot for
  no_news       hosts without news of which it is unknown whether they need a reboot
  paused        as of "locksmithctl status"; without an end, the plan is as if it were resumed now
  duration      how long hosts have a slot, in seconds; 0 if unknown
    typical_seconds  the mean, which is used for hosts whose last reboot is not known
    median_seconds
    short_seconds    one reboot in ten took less
    long_seconds     one reboot in ten took more
    from        number of reboots that are known; with 0, typical_seconds is a guess
  hosts         first those that will reboot, in their order; [] for none
    id          machine id
    hostname    "" if unknown
    version     the version to be rebooted into; "" if unknown
    outcome     reboots, never (unless somebody does something) or unforeseen
    order       1 for the first one; null if it does not reboot, or nobody can say when
    begins      when it takes its slot, or has taken it; null without an order
    ends        when it gives it back; null without an order
    holds       true if it holds a slot now
    own_duration  true if its own last reboot says how long it takes
    as_if       true if it needs no reboot yet, with -all; left out otherwise
    cause       why it does not reboot, in a word; left out if it does: hold, unwell, no-news,
                unreadable, attempts, version-paused, no-slot, window-shut, window-short, stuck,
                by-hand, expired, window-unclear, far, or what it waits for, such as users
    note        the cause and other remarks, for people

With -all-groups there is a list of these, one for each group.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(config.PartEtcd, func(store lock.Store, cfg *config.Config) error {
				return a.plan(cmd.Context(), store, cfg, format, all, allGroups)
			})
		},
	}
	cmd.Flags().VarP(&format, "output", "o", "format: text, wide, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(view.Formats(), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&all, "all", false, "count hosts with another version as if they needed a reboot now")
	cmd.Flags().BoolVar(&allGroups, "all-groups", false, "show the plan of every group")
	return cmd
}

// plan shows the plan of the group, or of every group whose lock can be understood, and fails if there are others.
func (a *app) plan(ctx context.Context, store lock.Store, cfg *config.Config, format view.Format, all, allGroups bool) error {
	now := a.now()
	f, err := readFleet(ctx, store, cfg, allGroups, now)
	if err != nil {
		return err
	}
	var plans []foreseen.Plan
	failed := 0
	for _, g := range f.Groups {
		if g.Err != nil {
			failed++
			a.note("%v", g.Err)
			continue
		}
		plans = append(plans, foreseen.Of(g, now, foreseen.Options{Window: windowOf, All: all}))
	}
	zone := now.Location()
	switch {
	case !allGroups && failed > 0:
	case allGroups:
		err = a.show(format.Plans(plans, zone))
	default:
		err = a.show(format.Plan(plans[0], zone))
	}
	switch {
	case err != nil:
		return err
	case failed > 0:
		return fmt.Errorf("plan: not shown: %s", count(failed, "group"))
	case len(plans) == 0:
		a.note("no group has a lock or a host yet")
	}
	return nil
}

// windowOf is the window of a host, as its record has it.
func windowOf(w inventory.Window) (foreseen.Window, error) {
	return config.NewWindow(w.Start, w.Length, w.Zone, w.Blackout)
}
