package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) pauseCommand() *cobra.Command {
	var (
		length timeFlag
		reason string
		all    bool
	)
	cmd := &cobra.Command{
		Use:   "pause [-for TIME] [-reason TEXT] [-all-groups]",
		Short: "Stop hosts from taking a slot of the lock",
		Long: `pause stops the hosts of the group: from now on nobody takes a slot, until
"locksmithctl resume" or, with -for, until that time is over. Hosts that wait keep their
place. Hosts that hold a slot keep it, and may still reboot; "locksmithctl status -o wide"
shows which these are.

A pause replaces the one that is in force, with its end and its reason. A pause of all
groups, which includes groups that do not exist yet, is separate from those of single
groups: each is ended separately.

Other programs that share the lock may not know about pauses, and then are not stopped;
"locksmithctl set-max 0" stops these as well.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			by, err := a.operator()
			if err != nil {
				return err
			}
			info := lock.PauseInfo{By: by, Reason: reason}
			return a.withExistingLock(func(s session) error { return a.pause(cmd.Context(), s, all, info, time.Duration(length)) })
		},
	}
	length.register(cmd, "for", "end the pause by itself after `TIME`, such as 2h")
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` that says why, for everybody who sees the pause")
	freeText(cmd, "reason")
	cmd.Flags().BoolVar(&all, "all-groups", false, "pause all groups, also those that do not exist yet")
	return cmd
}

// pause pauses the group, or all of them, and says what it replaced and whom it does not stop.
func (a *app) pause(ctx context.Context, s session, all bool, info lock.PauseInfo, length time.Duration) error {
	replaced, err := s.pauser(all).Pause(ctx, info, length)
	if err != nil {
		return explain(err, `it may be paused: "locksmithctl status -o wide" shows it`)
	}
	now := a.now()
	p := &lock.Pause{By: info.By, Reason: info.Reason, Since: now, All: all}
	if length > 0 {
		p.Until = now.Add(length)
	}
	if err := a.print("Paused: " + view.Pause(p, now) + "\n"); err != nil {
		return err
	}
	event := notify.Event{Type: notify.RolloutStopped, By: info.By, Group: s.settings.Group, All: all, Reason: info.Reason}
	if length > 0 {
		event.Reason = strings.TrimSpace(fmt.Sprintf("%s (until %s)", info.Reason, p.Until.Format(policy.TimeLayout)))
	}
	defer a.tell(ctx, event)
	if replaced != nil {
		a.note("this replaced what was in force: %s", replaced)
	}
	if all {
		return nil
	}
	o, err := s.Overview(ctx)
	switch {
	case err != nil:
		a.note("it is unknown who may still reboot: %v", err)
		return nil
	case o.Pause != nil && o.Pause.All:
		a.note("%s", o.Pause)
	}
	if len(o.Holders) > 0 {
		a.note("hosts that hold a slot may still reboot: %s", view.HolderNames(o.Holders))
	}
	return nil
}

// checkReason checks a text for everybody who asks why.
func checkReason(reason string) error {
	if len(reason) > view.MaxReason {
		return usageError{fmt.Errorf("the reason has %d bytes: write at most %d", len(reason), view.MaxReason)}
	}
	if !utf8.ValidString(reason) || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return usageError{fmt.Errorf("the reason, %.50q, has characters that cannot be printed", reason)}
	}
	return nil
}
