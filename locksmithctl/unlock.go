package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/terminal"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) unlockCommand() *cobra.Command {
	var (
		expired, yes bool
		olderThan    timeFlag
	)
	cmd := &cobra.Command{
		Use:   "unlock [ID | -expired | -older-than TIME] [-yes]",
		Short: "Give a slot of the lock back",
		Long: `unlock gives back the slot of the machine with this id, by default this machine. It
fails if that machine holds none. Without an id it also fails if another host with this
machine's id holds the slot; with the id it does not check that.

With -expired it frees the slots whose time-to-live is over. With -older-than it frees
those that have been held for that time or longer, by the clocks of this host and of the
one that took the slot. It shows whose slots they are, and asks first; a slot that has
changed in the meantime stays. Without a terminal to ask on it frees nothing, unless -yes
is given.

A host that is about to reboot, or is down, needs its slot: without it, another one
may go down at the same time.

With REBOOT_STRATEGY=fleet-lock it gives the slot back to the FleetLock server, which does
not say whether there was one. The id is the one that the server knows; see "locksmithctl
status" on the host.

This host may still have a slot from before its settings changed: at another FleetLock
server, in another group or under another id. unlock gives that back as well, and with
REBOOT_STRATEGY=reboot or off only that, if there is any. The id may then be the machine id of this host or its id at
a FleetLock server. With -endpoint, unlock uses only the lock in that etcd.`,
		Args: takesID,
		RunE: func(cmd *cobra.Command, args []string) error {
			several := expired || olderThan != 0
			switch {
			case expired && olderThan != 0:
				return usageError{errors.New("-expired and -older-than exclude each other: write one of them")}
			case several && len(args) > 0:
				return usageError{errors.New("an id, and -expired or -older-than, exclude each other: write one of them")}
			case yes && !several:
				return usageError{errors.New("-yes is for -expired and -older-than: without one of them there is no question")}
			case several:
				return a.withExistingLock(func(s session) error {
					return a.unlockSeveral(cmd.Context(), s, time.Duration(olderThan), yes)
				})
			}
			id, err := a.target(args)
			if err != nil {
				return err
			}
			return a.withLockOrPermit(config.PartEtcd, func(s session) error {
				return a.unlockInEtcd(cmd.Context(), s, id, args)
			}, func(cfg *config.Config) error { return a.unlockPermit(cmd.Context(), cfg, args) })
		},
	}
	cmd.Flags().BoolVar(&expired, "expired", false, "free the slots whose time-to-live is over")
	olderThan.register(cmd, "older-than", "free the slots that have been held for `TIME`, such as 2h, or longer")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// unlockInEtcd gives back the slot of id, which is this host's without args, and what this host may have of FleetLock
// servers. If it has any of those, it asks etcd only under etcd-lock.
func (a *app) unlockInEtcd(ctx context.Context, s session, id string, args []string) error {
	release := func() error {
		if len(args) == 0 {
			if _, _, err := a.identify(ctx, s, id); err != nil {
				return fmt.Errorf(`%w; "locksmithctl unlock %s" does not ask whether that is this host`, err, shellWord(id))
			}
		}
		return explain(s.Release(ctx, id), fmt.Sprintf(`%s may still hold its slot: "locksmithctl status" shows it, and `+
			`"locksmithctl unlock %s" gives it back`, id, shellWord(id)))
	}
	if s.settings.OwnEndpoint {
		return release()
	}
	usesEtcd := s.settings.Value("strategy") == string(config.StrategyEtcdLock)
	var err error
	if usesEtcd { // first, because it answers sooner than a server that is gone
		err = release()
	}
	some, left := a.unlockLeftover(ctx, a.leftover(), strings.Join(args, ""))
	var notHeld *lock.NotHeldError
	switch {
	case !some && !usesEtcd:
		return release()
	case some && errors.As(err, &notHeld): // the host had a slot, and not this one
		return left
	case err != nil && left != nil:
		return fmt.Errorf("%w; and %w", err, left)
	}
	return cmp.Or(err, left)
}

// maxSkew is how far apart the clocks of two hosts may be.
const maxSkew = time.Minute

// unlockSeveral frees the slots that have been held for age or longer, or, if age is 0, the expired ones.
func (a *app) unlockSeveral(ctx context.Context, s session, age time.Duration, yes bool) error {
	o, err := s.Overview(ctx)
	if err != nil {
		return err
	}
	now := a.now()
	none := noneExpired(o.Holders)
	chosen := func(h lock.HolderInfo) bool { return h.Expired }
	if age > 0 {
		none = fmt.Sprintf("no slot has been held for %v or longer", age)
		// A time in the future says nothing: the clock of this host or of the other one is wrong.
		aged := func(h lock.HolderInfo) bool {
			return !h.Record.Since.IsZero() && !h.Record.Since.After(now.Add(maxSkew))
		}
		chosen = func(h lock.HolderInfo) bool { return aged(h) && now.Sub(h.Record.Since) >= age }
		ageless := slices.DeleteFunc(slices.Clone(o.Holders), aged)
		if len(ageless) > 0 {
			a.note(`it is unknown since when these slots have been held, so they stay: %s; "locksmithctl unlock ID" frees them`, view.HolderNames(ageless))
		}
	}
	victims := slices.DeleteFunc(o.Holders, func(h lock.HolderInfo) bool { return !chosen(h) })
	if len(victims) == 0 {
		a.note("%s", none)
		return nil
	}
	if err := a.print(view.Holders(victims, now)); err != nil {
		return err
	}
	if !yes {
		which := "this slot"
		if n := len(victims); n > 1 {
			which = fmt.Sprintf("these %d slots", n)
		}
		if err := a.confirm(ctx, "free "+which+"? [y/N] "); err != nil {
			return err
		}
	}
	kept := 0
	var freed []notify.Event
	defer func() { a.tell(ctx, freed...) }()
	for _, h := range victims {
		err := s.ReleaseRecord(ctx, h)
		var changed *lock.ChangedError
		var notHeld *lock.NotHeldError
		switch {
		case errors.As(err, &changed), errors.As(err, &notHeld):
			kept++
			a.note("%v", err)
		case err != nil:
			return explain(err, `some may be free now: "locksmithctl status" shows it`)
		case age == 0:
			freed = append(freed, slotExpired(s.settings.Group, h, ""))
		}
	}
	if kept > 0 {
		return fmt.Errorf("unlock: %d of %s not freed", kept, count(len(victims), "slot"))
	}
	return nil
}

// slotExpired says that this command has freed the expired slot of a host of a group, for by; "" for whoever runs it.
func slotExpired(group string, h lock.HolderInfo, by string) notify.Event {
	return notify.Event{
		Type: notify.SlotExpired, Group: group, Holder: cmp.Or(h.Record.Hostname, h.ID), Version: h.Record.Version, By: by,
	}
}

// noneExpired says why none of these slots has expired.
func noneExpired(holders []lock.HolderInfo) string {
	lasting := slices.DeleteFunc(slices.Clone(holders), func(h lock.HolderInfo) bool { return h.Record.TTL != 0 })
	switch {
	case len(holders) == 0:
		return "no slot is held"
	case len(lasting) == 0:
		return "no slot has expired yet"
	case len(lasting) == len(holders):
		return fmt.Sprintf(`no slot can expire, because none has a time-to-live (LOCKSMITHD_LOCK_TTL was not set where it was taken): %s; "locksmithctl unlock -older-than 2h" frees those that have been held for that time`, view.HolderNames(lasting))
	}
	return fmt.Sprintf(`no slot has expired yet, and those without a time-to-live (LOCKSMITHD_LOCK_TTL) cannot: %s; "locksmithctl unlock -older-than 2h" frees those that have been held for that time`, view.HolderNames(lasting))
}

// confirm asks on the terminal, and fails unless the answer is yes.
func (a *app) confirm(ctx context.Context, question string) error {
	asks, ok := file(a.stderr)
	if !ok || a.stdin == nil || !terminal.Is(a.stdin) || !terminal.Is(asks) {
		return errors.New("unlock: nothing was changed: there is no terminal to ask on; -yes frees them without asking")
	}
	fmt.Fprint(asks, question)
	answered := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.stdin).ReadString('\n') // no answer is no
		answered <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(asks)
		return fmt.Errorf("unlock: nothing was changed: %w", ctx.Err())
	case answer := <-answered:
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return nil
		}
		return errors.New("unlock: nothing was changed")
	}
}
