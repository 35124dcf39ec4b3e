package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
)

func (a *app) waitCommand() *cobra.Command {
	var timeout timeFlag
	cmd := &cobra.Command{
		Use:   "wait [ID] [-timeout TIME]",
		Short: "Wait until hosts are done with the lock",
		Long: `wait returns once the machine with this id, by default every machine, neither holds a
slot nor waits for one. It changes nothing. It waits as long as it takes, also while
etcd cannot be reached; with -timeout it fails after that time, and says who is left.`,
		Args: takesID,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withExistingLock(func(s session) error { return a.wait(cmd.Context(), s, args, time.Duration(timeout)) })
		},
	}
	timeout.register(cmd, "timeout", timeoutUsage)
	return cmd
}

func (a *app) wait(ctx context.Context, s session, ids []string, timeout time.Duration) error {
	limited, cancel := withTimeout(ctx, timeout)
	defer cancel()
	left, failure := "nothing is known about the lock", ""
	err := s.WatchOverview(limited, func(o lock.Overview, err error) {
		if err != nil {
			if limited.Err() == nil && err.Error() != failure {
				failure = err.Error()
				a.note("%s; still trying", failure)
			}
			return
		}
		failure = ""
		if left = whoIsLeft(o, ids); left == "" {
			cancel()
		}
	})
	switch {
	case left == "":
		return nil
	case limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("wait: not done within %v: %s", timeout, left)
	}
	return err
}

// whoIsLeft says which of these machines, of all if ids is empty, hold a slot or wait for one; "" if none does.
func whoIsLeft(o lock.Overview, ids []string) string {
	others := func(id string) bool { return len(ids) > 0 && !slices.Contains(ids, id) }
	holders := slices.DeleteFunc(slices.Clone(o.Holders), func(h lock.HolderInfo) bool { return others(h.ID) })
	queue := slices.DeleteFunc(slices.Clone(o.Queue), func(w lock.QueueEntry) bool { return others(w.ID) })
	var parts []string
	if len(holders) > 0 {
		parts = append(parts, "a slot is held by "+view.HolderNames(holders))
	}
	if len(queue) > 0 {
		parts = append(parts, "waiting for one: "+view.QueueNames(queue))
	}
	return strings.Join(parts, "; ")
}
