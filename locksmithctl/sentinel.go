package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/internal/sentinel"
	"github.com/locksmithd/locksmith/systemd"
)

// maxStatus bounds the text of a failure, in bytes, so that it fits into a status line.
const maxStatus = 300

func (a *app) sentinelCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "sentinel",
		Hidden: true, // it is for our unit
		Short:  "Run the command that says whether this host needs a reboot",
		Long: `sentinel runs the command of LOCKSMITHD_REBOOT_SENTINEL_COMMAND in this process. The unit
locksmith-sentinel.service runs this command, and locksmithd starts that unit.

It succeeds once the command has answered, with a yes or a no, and writes the answer to
/run/locksmith/sentinel.json. Without an answer it fails; the reason is also the unit's
status. Of the command's output, a megabyte is passed on.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// What the command says counts, whether the journal takes what it prints or has gone. The signal is caught
			// and not ignored, since the command would inherit that.
			a.stdout, a.stderr = unchecked(a.stdout), unchecked(a.stderr)
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			err := a.askCommand(cmd.Context())
			text := ""
			if err != nil {
				text = safetext.Cut(err.Error(), maxStatus)
			}
			if err := systemd.NotifyStatus(text); err != nil {
				a.note("tell systemd what is wrong: %v", err)
			}
			return err
		},
	}
}

func (a *app) askCommand(ctx context.Context) error {
	cfg, err := a.settings(config.PartSentinel)
	if err != nil {
		return err
	}
	if cfg.SentinelCommand == "" {
		return errors.New("there is no command: LOCKSMITHD_REBOOT_SENTINEL_COMMAND is not set")
	}
	command := sentinel.Command{Text: cfg.SentinelCommand, Root: a.root, Stdout: a.stdout, Stderr: a.stderr}
	said := command.Run(ctx)
	if said.Err != nil {
		return said.Err
	}
	return command.WriteAnswer(a.root, said)
}
