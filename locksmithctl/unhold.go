package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/host"
)

func (a *app) unholdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unhold",
		Short: "Let this host reboot again",
		Long: `unhold removes the files /etc/locksmith/hold and /run/locksmith/hold, whoever wrote them.

It also lets this host try a version again that LOCKSMITHD_MAX_ATTEMPTS reboots did not bring
up: it sets the count in /var/lib/locksmith/history.json to zero. If that file cannot be
understood, unhold renames it, and the count begins again.

It fails if there is nothing to remove and nothing to reset.`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.euid != 0 {
				return errors.New("only root may do that: run it with sudo")
			}
			return a.unhold(cmd.Context())
		},
	}
}

func (a *app) unhold(ctx context.Context) error {
	var done []string
	var failed []error
	for _, h := range host.Holds(a.root) {
		if err := os.Remove(h.File); err != nil {
			failed = append(failed, fmt.Errorf("this host is still held by %s: %w", a.holdText(h), errors.Unwrap(err)))
			continue
		}
		done = append(done, "Was held: "+a.holdText(h)+"\n")
	}
	was, moved, err := history.New(a.root).Reset(ctx)
	switch {
	case err != nil:
		failed = append(failed, err)
	case moved != "":
		done = append(done, fmt.Sprintf("What was known of earlier reboots could not be understood, and is in %s now.\n", moved))
	case was.Failed > 0:
		what := "version " + was.Version
		if was.Version == "" {
			what = "an unknown version"
		}
		done = append(done, fmt.Sprintf("%s that failed for %s: not counted any more\n", count(was.Failed, "reboot"), what))
	}
	if err := a.print(strings.Join(done, "")); err != nil {
		failed = append(failed, err)
	}
	if len(done)+len(failed) == 0 {
		return errors.New("unhold: this host is not held")
	}
	return errors.Join(failed...)
}
