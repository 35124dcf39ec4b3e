package main

import (
	"context"
	"errors"
	"fmt"

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
	var yes, again bool
	cmd := &cobra.Command{
		Use:   "airlock [-yes] [-again]",
		Short: "Take over the slots of airlock",
		Long: `airlock reads airlock's keys in etcd, and shows which groups would get how many slots, and
for which hosts slots would be taken. Airlock's group "default" is the group without a
name. With -yes it takes them over, each group in one transaction, so that no other host
takes a slot in between. It does not change airlock's keys.

After an error it may be run again, and then takes over the groups that are left. It leaves
alone a group that was taken over, because its hosts may have given back slots since, which
airlock does not know. With -again it takes over such a group once more, if airlock has run
again in the meantime.

Stop airlock first: as long as it runs it gives out slots of its own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(config.PartEtcd, func(store lock.Store, cfg *config.Config) error {
				groups, err := airlock.Read(cmd.Context(), store)
				if err != nil {
					return fmt.Errorf("import: nothing was changed: %w", err)
				}
				if len(groups) == 0 {
					return fmt.Errorf("import: etcd has no keys of airlock: check -endpoint, which is %s", cfg.Etcd.Endpoints)
				}
				return a.importGroups(cmd.Context(), store, groups, yes, again)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "take them over")
	cmd.Flags().BoolVar(&again, "again", false, "also groups that were taken over before")
	return cmd
}

// takeover is what is to be done for a group of airlock's.
type takeover struct {
	name  string // of airlock's group
	group string // of the lock
	lock  *lock.Lock
	slots lock.Import
	plan  lock.Imported
	done  *lock.ImportedError // not nil if it was done before
}

// importGroups shows what is to be done for all groups, and then, with yes, does it.
func (a *app) importGroups(ctx context.Context, store lock.Store, groups []airlock.Group, yes, again bool) error {
	var all []takeover
	for _, g := range groups {
		t, err := plan(ctx, store, g, again)
		if err != nil {
			return fmt.Errorf("import: nothing was changed: airlock's group %q: %w", safetext.Clean(g.Name), err)
		}
		all = append(all, t)
	}
	table := view.NewTable("AIRLOCK'S GROUP", "GROUP", "TO DO")
	left := 0
	for _, t := range all {
		for _, what := range t.texts() {
			table.Row(safetext.Clean(t.name), safetext.Clean(t.group), what)
		}
		if t.done == nil {
			left++
		}
	}
	if err := a.print(table.String()); err != nil {
		return err
	}
	switch {
	case left == 0:
		a.note("nothing is left to do; if airlock has run again since then, -again takes its slots over once more")
		return nil
	case !yes:
		a.note("nothing was changed: -yes does it")
		return nil
	}
	for _, t := range all {
		if t.done != nil {
			continue
		}
		var done *lock.ImportedError // meanwhile
		switch _, err := t.lock.Import(ctx, t.slots); {
		case err == nil, errors.As(err, &done):
		case errors.Is(err, lock.ErrUnknown) && !again:
			return fmt.Errorf("import: airlock's group %q: %w; run it again, which is safe: what was done is not done twice", safetext.Clean(t.name), err)
		case errors.Is(err, lock.ErrUnknown):
			return fmt.Errorf(`import: airlock's group %q: %w; "locksmithctl import airlock" without -again says whether it was done`, safetext.Clean(t.name), err)
		default:
			return fmt.Errorf("import: airlock's group %q was not taken over: %w; run it again to go on", safetext.Clean(t.name), err)
		}
	}
	return nil
}

func plan(ctx context.Context, store lock.Store, g airlock.Group, again bool) (t takeover, err error) {
	t.name = g.Name
	t.group = config.LockGroup(g.Name)
	t.slots = lock.Import{From: "airlock", Max: g.Slots, Holders: g.Holders, Again: again}
	if t.lock, err = lock.New(store, t.group, g.Slots); err != nil {
		return t, err
	}
	if t.plan, err = t.lock.PlanImport(ctx, t.slots); errors.As(err, &t.done) {
		return t, nil
	}
	return t, err
}

// texts says what is to be done.
func (t takeover) texts() (texts []string) {
	switch {
	case t.done != nil:
		return []string{"nothing: " + t.done.Error()}
	case !t.plan.Exists:
		texts = append(texts, fmt.Sprintf("create the lock, with max %d", t.plan.After.Max))
	case t.plan.Before.Max != t.plan.After.Max:
		texts = append(texts, fmt.Sprintf("set max to %d, from %d", t.plan.After.Max, t.plan.Before.Max))
	}
	for _, id := range t.plan.Taken() {
		texts = append(texts, "take a slot for "+safetext.Clean(id))
	}
	if len(texts) == 0 {
		texts = append(texts, "note that it was taken over: all its slots are held here already")
	}
	return texts
}
