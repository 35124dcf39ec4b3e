package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/fleet"
	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/systemd"
)

// hostsFlags are the flags of hosts.
type hostsFlags struct {
	format     view.Format
	all, watch bool
	filter     view.HostFilter
}

func (a *app) hostsCommand() *cobra.Command {
	f := hostsFlags{format: view.Text}
	cmd := &cobra.Command{
		Use:   "hosts [-o FORMAT] [-state STATE] [-os-version VERSION] [-pending VERSION] [-all-groups] [-watch]",
		Short: "Show what every host does, and what it waits for",
		Long: `hosts shows the hosts of the group: the version of the operating system that each host
runs, its state, since when it is in that state, and what it waits for. With -o wide it also
shows the machine ids, the windows, the last reboots and more. With -all-groups it shows the
hosts of all groups. It changes nothing.

Each host with REBOOT_STRATEGY=etcd-lock keeps a record in etcd, unless LOCKSMITHD_INVENTORY
is false there. It writes the record a few seconds after something has changed. The lock
itself says who holds a slot, who waits for one and who is unwell, so hosts without a record
are shown, too. Each time comes from the clock of the host that it is about.

The states:

  starting    locksmithd asks whether the host holds a slot from before
  idle        no reboot is needed
  waiting     a reboot is needed, and something on the host, or its window, holds it back
  locking     it waits for a slot
  preparing   it has a slot, runs hooks and tells its users before the reboot
  rebooting   it is about to go down, or is down
  settling    it is up again, and undoes what was done before the reboot
  checking    it is up again, and it is not known yet whether it is well
  unwell      it is not well after its reboot
  releasing   it is about to give its slot back
  holding     it holds a slot and does not say what for, as after "locksmithctl lock"
  unreadable  its record cannot be understood

"No news" means that the record is out of date: the host has been about to do something for
half an hour, it has written nothing for 60 days, or it has a newer record in another group.
"locksmithctl hosts forget" removes the record of a host that is gone.

-state shows only hosts in a state, -os-version only hosts that run a version, and -pending
only hosts that need a reboot into a version. Each flag takes several values, separated by
commas, and may be given several times. "-state no-news" shows hosts without news.

With -watch it goes on until it is interrupted. On a terminal it shows the hosts as they are
now, those that reboot first. Elsewhere it writes a line for every host that has changed, or
with -o json or yaml a document.

The fields of -o json and -o yaml, to which later versions may add others, in a list of
hosts:

  group        its group, "" for the default one
  id           machine id
  hostname     "" if unknown
  os           name of the operating system; "" if unknown, as the next two
  os_version   its version
  locksmith    version of locksmithd
  booted       when the host has booted (RFC 3339); null if unknown, as all times
  updated      when the record was written
  state        one of the states above
  since        since when
  why          what it does or waits for, in a sentence
  waits_for    what holds a reboot back, in a word, such as window, users or slot; "" if
               nothing does
  need         null if no reboot is needed
    version    the version to be rebooted into; "" if unknown
    since      since when
    reasons    what needs it
  window       null if reboots may happen at any time
    start      the settings, as in locksmith.conf; "" if not set
    length
    zone       time zone; "" if unknown
    blackout
    opens      when it opens; if it was open when the record was written, when it has opened
    shuts      when that opening ends
  last_reboot  null if locksmithd has not rebooted the host yet
    version    the version that it was for; "" if unknown
    at         when it began
    took_seconds
               how long the slot was held for it; null if unknown, or not over
    well       true if the host has come up, and was well
    why        why it was not well; "" if unknown
  slot         null if it holds none
    since      since when
    by         which program took it
    version    for which version; "" if unknown
    phase      what the host does with the slot; "" if unknown
    expired    true if its time-to-live is over
  place        in the queue, 1 for the next one; 0 if it does not wait
  no_news      true if the record is out of date
  no_record    true if the host has no record, and this is what the lock knows
  unreadable   true if the record cannot be understood
  gone         only with -watch: true if the host is no longer among those that are shown

With -watch each document is about one host that has changed, in JSON on a line of its own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range f.filter.States {
				if !slices.Contains(view.HostStates(), s) {
					return usageError{fmt.Errorf("-state has %q, which is not a state: write one of %s", s, strings.Join(view.HostStates(), ", "))}
				}
			}
			return a.withStore(config.PartEtcd, func(store lock.Store, cfg *config.Config) error {
				if f.watch {
					return a.watchHosts(cmd.Context(), store, cfg, f)
				}
				return a.hosts(cmd.Context(), store, cfg, f)
			})
		},
	}
	complete := func(flag string, values []string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.Flags().VarP(&f.format, "output", "o", "format: text, wide, json or yaml")
	complete("output", view.Formats())
	cmd.Flags().StringSliceVar(&f.filter.States, "state", nil, "only hosts in this `STATE`")
	complete("state", view.HostStates())
	cmd.Flags().StringSliceVar(&f.filter.Versions, "os-version", nil, "only hosts that run this `VERSION`")
	freeText(cmd, "os-version")
	cmd.Flags().StringSliceVar(&f.filter.Pending, "pending", nil, "only hosts that need a reboot into this `VERSION`")
	freeText(cmd, "pending")
	cmd.Flags().BoolVar(&f.all, "all-groups", false, "show the hosts of every group")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "go on, and show every change")
	cmd.AddCommand(a.hostsForgetCommand())
	return cmd
}

func (a *app) hosts(ctx context.Context, store lock.Store, cfg *config.Config, flags hostsFlags) error {
	f, err := readFleet(ctx, store, cfg, flags.all, a.now())
	if err != nil {
		return err
	}
	hosts := flags.filter.Hosts(f)
	if err := a.show(flags.format.Hosts(hosts, flags.all, a.now())); err != nil {
		return err
	}
	if !flags.format.ForPrograms() {
		a.noteHosts(hosts, f, cfg, flags)
	}
	return a.noteUnreadable(f)
}

// noteHosts says how many hosts there are, or why there is none.
func (a *app) noteHosts(hosts []*fleet.Host, f fleet.Fleet, cfg *config.Config, flags hostsFlags) {
	of := "in group " + view.GroupName(cfg.Group)
	if flags.all {
		of = "in any group"
	}
	known := 0
	for _, g := range f.Groups {
		known += len(g.Hosts)
	}
	switch {
	case len(hosts) > 0:
		a.note("%s", view.HostSummary(hosts))
	case known > 0:
		a.note("no host %s matches: without a filter %s would be shown", of, count(known, "host"))
	default:
		a.note("no host %s has written a record yet: locksmithd does under REBOOT_STRATEGY=etcd-lock, from version 0.8.0 on, unless LOCKSMITHD_INVENTORY=false", of)
	}
}

// noteUnreadable says which groups have a lock that cannot be understood, and fails if there are any.
func (a *app) noteUnreadable(f fleet.Fleet) error {
	failed := 0
	for _, g := range f.Groups {
		if g.Err != nil {
			failed++
			a.note("%v", g.Err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("hosts: not known who holds a slot or waits: %s", count(failed, "group"))
	}
	return nil
}

// hostsWatcher shows hosts while they are watched.
type hostsWatcher struct {
	display
	watch *view.HostsWatch
}

// watchHosts shows hosts until ctx ends, which is not a failure.
func (a *app) watchHosts(ctx context.Context, store lock.Store, cfg *config.Config, flags hostsFlags) error {
	watch := view.NewHostsWatch(cfg.Group, flags.all, flags.filter)
	w := &hostsWatcher{display{app: a, format: flags.format, picture: watch.Screen}, watch}
	return showWatch(ctx, &w.display, func(ctx context.Context, changed func(fleet.Fleet, error)) error {
		if flags.all {
			return fleet.Watch(ctx, store, cfg.Max, a.now, changed)
		}
		return fleet.WatchGroup(ctx, store, cfg.Group, cfg.Max, a.now, changed)
	}, w.observe)
}

// observe records a fleet, or why there is none, and shows what has changed.
func (w *hostsWatcher) observe(f fleet.Fleet, failure error) error {
	if failure != nil {
		if w.watch.Fail(failure) && w.screen == nil {
			w.note("%v; still trying", failure)
		}
		return w.draw()
	}
	changes := w.watch.Observe(f)
	if w.screen != nil {
		return w.draw()
	}
	now := w.now()
	var b strings.Builder
	for _, c := range changes {
		text := c.Line(now)
		if w.format.ForPrograms() {
			var err error
			if text, err = c.Document(w.format); err != nil {
				return err
			}
		}
		b.WriteString(text)
	}
	return w.print(b.String())
}

func (a *app) hostsForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget ID...",
		Short: "Remove the records of hosts that are gone",
		Long: `forget removes the records of the hosts with these machine ids from the group, so that
"locksmithctl hosts" no longer shows these hosts. A host that still runs writes its record
again when something about it changes.

It does not touch the lock. It refuses to remove the record of a host that holds a slot or
waits for one: first give the slot back, with "locksmithctl unlock ID".`,
		Args: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "") {
				return errors.New("a machine id is empty")
			}
			return takes(1, 10_000, "the machine ids of hosts")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(config.PartEtcd, func(store lock.Store, cfg *config.Config) error {
				return a.forget(cmd.Context(), store, cfg, args)
			})
		},
		ValidArgsFunction: a.completeHost,
	}
}

// forget removes the records of hosts, and fails if there is one that it could not remove.
func (a *app) forget(ctx context.Context, store lock.Store, cfg *config.Config, ids []string) error {
	records, err := inventory.New(store, cfg.Group)
	if err != nil {
		return err
	}
	l, err := lock.New(store, cfg.Group, cfg.Max)
	if err != nil {
		return err
	}
	o, err := l.Overview(ctx)
	if _, document := errors.AsType[*lock.DocumentError](err); err != nil && !document { // nobody decides by the records
		return err
	}
	kept := 0
	for _, id := range ids {
		err := inUse(o, id)
		if err == nil {
			err = records.Forget(ctx, id)
		}
		switch {
		case errors.Is(err, inventory.ErrNoHost):
			err = fmt.Errorf(`group %s has no record of it: "locksmithctl hosts -all-groups -o wide" shows all ids`, view.GroupName(cfg.Group))
		case err != nil && !errors.Is(err, lock.ErrRefused) && ctx.Err() == nil && !errors.As(err, new(*inUseError)):
			err = fmt.Errorf("%w; the record may be removed: run it again", err)
		}
		if err != nil {
			kept++
			a.note("%s: %v", view.HostID(id), err)
		} else if err := a.print("Forgotten: " + view.HostID(id) + "\n"); err != nil {
			return err
		}
	}
	if kept > 0 {
		return fmt.Errorf("hosts forget: %d of %s not forgotten", kept, count(len(ids), "host"))
	}
	return nil
}

// inUseError says why the record of a host stays.
type inUseError struct{ error }

// inUse returns an error if a host holds a slot or waits for one.
func inUse(o lock.Overview, id string) error {
	switch {
	case slices.ContainsFunc(o.Holders, func(h lock.HolderInfo) bool { return h.ID == id }):
		return &inUseError{fmt.Errorf(`it holds a slot: if the host is gone, first give that back with "locksmithctl unlock %s"`, shellWord(id))}
	case slices.ContainsFunc(o.Queue, func(w lock.QueueEntry) bool { return w.ID == id }):
		return &inUseError{errors.New("it waits for a slot; a host that is gone leaves the queue when its lease has run out, in less than a minute")}
	}
	return nil
}

// completeTimeout is how long a shell waits for completions.
const completeTimeout = 2 * time.Second

// completeHost completes the ids of the hosts of the group.
func (a *app) completeHost(cmd *cobra.Command, args []string, _ string) (ids []cobra.Completion, _ cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	a.service = sync.OnceValue(func() *systemd.Service { return a.findService(ctx) })
	// A shell has no place for an error.
	_ = a.withStore(config.PartEtcd, func(store lock.Store, cfg *config.Config) error {
		records, err := inventory.New(store, cfg.Group)
		if err != nil {
			return err
		}
		hosts, _, err := records.Hosts(ctx)
		for _, h := range hosts {
			if !slices.Contains(args, h.ID) {
				ids = append(ids, cobra.CompletionWithDesc(h.ID, h.Hostname))
			}
		}
		return err
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
