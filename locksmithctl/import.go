package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/airlock"
	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import COMMAND",
		Short: "Take over slots from another program",
		Long:  `import takes over the slots of another program that shares slots among hosts.`,
	}
	cmd.AddCommand(a.importAirlockCommand())
	return cmd
}

func (a *app) importAirlockCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "airlock [-yes]",
		Short: "Take over the slots of airlock",
		Long: `airlock reads airlock's keys in etcd, and shows which groups would get how many slots, and
for which hosts slots would be taken. Airlock's group "default" is the group without a
name. With -yes it does that. It changes nothing of airlock's, and takes a slot that is
held already for what it is, so that it may be run again.

Stop airlock first: as long as it runs it gives out slots of its own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(config.PartEtcd, func(store lock.Store, cfg *config.Config) error {
				groups, err := airlock.Read(cmd.Context(), store)
				if err != nil {
					return err
				}
				if len(groups) == 0 {
					return fmt.Errorf("import: etcd has no keys of airlock: check -endpoint, which is %s", cfg.Etcd.Endpoints)
				}
				return a.importGroups(cmd.Context(), store, groups, yes)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "take them over")
	return cmd
}

// takeover is what is to be done for a group of airlock's.
type takeover struct {
	airlock.Group
	lock  *lock.Lock
	now   lock.Overview
	takes []string // the ids of hosts that hold no slot yet
}

// importGroups shows what is to be done for all groups, and then, with yes, does it.
func (a *app) importGroups(ctx context.Context, store lock.Store, groups []airlock.Group, yes bool) error {
	var all []takeover
	for _, g := range groups {
		t, err := plan(ctx, store, g)
		if err != nil {
			return fmt.Errorf("import: airlock's group %q: %w", safetext.Clean(g.Name), err)
		}
		all = append(all, t)
	}
	table := view.NewTable("AIRLOCK'S GROUP", "GROUP", "TO DO")
	for _, t := range all {
		for _, what := range t.texts() {
			table.Row(safetext.Clean(t.Name), safetext.Clean(lockGroup(t.Name)), what)
		}
	}
	if err := a.print(table.String()); err != nil {
		return err
	}
	if !yes {
		a.note("nothing was changed: -yes does it")
		return nil
	}
	for _, t := range all {
		if err := a.takeOver(ctx, t); err != nil {
			err = explain(err, "it may have been done")
			return fmt.Errorf("import: airlock's group %q: %w; run it again to go on", safetext.Clean(t.Name), err)
		}
	}
	return nil
}

// lockGroup returns the group of the lock that a group of FleetLock stands for.
func lockGroup(name string) string {
	if name == "default" {
		return ""
	}
	return name
}

func plan(ctx context.Context, store lock.Store, g airlock.Group) (t takeover, err error) {
	t.Group = g
	if t.lock, err = lock.New(store, lockGroup(g.Name), g.Slots); err != nil {
		return t, err
	}
	if t.now, err = t.lock.Overview(ctx); err != nil {
		return t, err
	}
	for _, id := range g.Holders {
		if err := lock.ValidateID(id); err != nil {
			return t, err
		}
		if !t.now.Semaphore.Holds(id) {
			t.takes = append(t.takes, id)
		}
	}
	return t, nil
}

// texts says what is to be done.
func (t takeover) texts() (texts []string) {
	switch {
	case !t.now.Exists:
		texts = append(texts, fmt.Sprintf("create the lock, with max %d", t.Slots))
	case t.now.Semaphore.Max != t.Slots:
		texts = append(texts, fmt.Sprintf("set max to %d, from %d", t.Slots, t.now.Semaphore.Max))
	}
	for _, id := range t.takes {
		texts = append(texts, "take a slot for "+safetext.Clean(id))
	}
	if len(texts) == 0 {
		texts = append(texts, "nothing")
	}
	return texts
}

// takeOver does it. Meanwhile there is room for every slot: airlock's holders may be more than its slots.
func (a *app) takeOver(ctx context.Context, t takeover) error {
	if len(t.takes) > 0 {
		if _, _, err := t.lock.SetMax(ctx, max(t.Slots, len(t.now.Holders)+len(t.takes))); err != nil {
			return err
		}
	}
	for _, id := range t.takes {
		record := lock.Record{Since: a.now().UTC().Truncate(time.Second), By: "airlock", Remote: true}
		if _, err := t.lock.TryAcquire(ctx, id, record); err != nil {
			return err
		}
	}
	_, _, err := t.lock.SetMax(ctx, t.Slots)
	return err
}
