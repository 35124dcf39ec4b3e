package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) resumeCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "resume [-all-groups]",
		Short: "End a pause",
		Long: `resume ends what "locksmithctl pause" began: the first in the queue goes on at once. It
also ends the pauses that hosts have caused by being unwell after a reboot; such a host
causes another one only if it is unwell after another boot. It fails if there is no such
pause.

A pause of all groups and the pause of a single group are ended separately: the former
with -all-groups, the latter without. resume says so if the other one stays.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withExistingLock(func(s session) error { return a.resume(cmd.Context(), s, all) })
		},
	}
	cmd.Flags().BoolVar(&all, "all-groups", false, "end the pause of all groups")
	return cmd
}

func (a *app) resume(ctx context.Context, s session, all bool) error {
	resumed, err := s.pauser(all).Resume(ctx)
	if err != nil {
		return explain(err, `it may still be paused: "locksmithctl status -o wide" shows it`)
	}
	was := resumed.Unwell != nil
	if resumed.Pause != nil {
		was = true
		if err := a.print("Was paused: " + view.Pause(resumed.Pause, a.now()) + "\n"); err != nil {
			return err
		}
	}
	for _, u := range resumed.Unwell {
		if err := a.print("Was paused: " + view.Pause(u.Pause(), a.now()) + "\n"); err != nil {
			return err
		}
	}
	if was {
		defer a.tell(ctx, resumedEvent(s, resumed, all))
	}
	left, err := s.pauses(ctx, all)
	switch {
	case was && err != nil:
		a.note("it is unknown whether another pause is in force: %v", err)
		return nil
	case err != nil:
		return err
	case was:
		for _, text := range left {
			a.note("%s", text)
		}
		return nil
	case len(left) > 0:
		what := "no pause of this group's own is in force"
		if all {
			what = "no pause of all groups is in force"
		}
		return fmt.Errorf("resume: %s, but %s", what, strings.Join(left, "; "))
	}
	return errors.New("resume: nothing is paused")
}

// resumedEvent says what was paused.
func resumedEvent(s session, resumed lock.Resumed, all bool) notify.Event {
	e := notify.Event{Type: notify.Resumed, Group: s.settings.Group, All: all}
	var was []string
	if resumed.Pause != nil {
		was = append(was, resumed.Pause.String())
	}
	for _, u := range resumed.Unwell {
		e.Version = u.Version
		was = append(was, u.Pause().String())
	}
	e.Reason = "it was " + safetext.List(was)
	return e
}

// pauses returns a sentence for each pause that is in force: those of single groups if groups is true, or else that
// of all groups.
func (s session) pauses(ctx context.Context, groups bool) ([]string, error) {
	if !groups {
		o, err := s.Overview(ctx)
		if err != nil || o.Pause == nil || !o.Pause.All {
			return nil, err
		}
		return []string{fmt.Sprintf(`%s; "locksmithctl resume -all-groups" ends that`, o.Pause)}, nil
	}
	var texts []string
	found, err := s.groups.Overviews(ctx)
	for _, g := range found {
		if g.Err != nil {
			return nil, g.Err
		}
		if g.Pause != nil && !g.Pause.All {
			texts = append(texts, fmt.Sprintf(`the group %s is %s; "locksmithctl resume -group=%s" ends that`, view.GroupName(g.Group), g.Pause, shellWord(g.Group)))
		}
		for _, p := range g.VersionPauses() {
			texts = append(texts, fmt.Sprintf(`the group %s is %s; "locksmithctl resume -group=%s" ends that`, view.GroupName(g.Group), p, shellWord(g.Group)))
		}
	}
	return texts, err
}
