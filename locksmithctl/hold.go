package main

import (
	"errors"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/replacefile"
)

func (a *app) holdCommand() *cobra.Command {
	var (
		length timeFlag
		reason string
	)
	cmd := &cobra.Command{
		Use:   "hold [-for TIME] [-reason TEXT]",
		Short: "Keep this host from rebooting",
		Long: `hold keeps this host from rebooting, until "locksmithctl unhold" or, with -for, until that
time is over. locksmithd does not queue for a slot then, and leaves the queue within
seconds; "systemctl status locksmithd" shows the reason. A reboot that logind was asked for
already goes on. Other hosts are not held: "locksmithctl pause" stops the fleet.

hold writes the file /etc/locksmith/hold, and replaces the one that is there. If /etc is
read-only, it writes /run/locksmith/hold, which holds the host until the end of this boot.
Other tools can write these files as well: the first line is the reason, and a line such as
until=2026-11-29T14:00:00Z says when the hold ends by itself. A file that is empty, or
cannot be read, holds the host too.`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			if a.euid != 0 {
				return errors.New("only root may hold this host: run it with sudo")
			}
			return a.hold(reason, time.Duration(length))
		},
	}
	length.register(cmd, "for", "end the hold by itself after `TIME`, such as 2h")
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` that says why, in the status of the daemon")
	freeText(cmd, "reason")
	return cmd
}

func (a *app) hold(reason string, length time.Duration) error {
	if reason == "" {
		by, err := a.operator()
		if err != nil {
			return err
		}
		reason = "by " + by
	}
	h := policy.Hold{Reason: reason}
	if length > 0 {
		h.Until = a.now().Add(length).Truncate(time.Second)
	}
	path := filepath.Join(a.root, host.HoldFile)
	err := replacefile.Write(path, host.HoldContent(h), 0o644, 0o755)
	if errors.Is(err, syscall.EROFS) {
		path = filepath.Join(a.root, host.BootHoldFile)
		a.note("%v: this host is held until the end of this boot", err)
		err = replacefile.Write(path, host.HoldContent(h), 0o644, 0o755)
	}
	if err != nil {
		return err
	}
	return a.print("Held: " + a.holdText(policy.Hold{File: path, Reason: h.Reason, Until: h.Until}) + "\n")
}

// holdText says what a hold file does.
func (a *app) holdText(h policy.Hold) string {
	return h.Text(func(t time.Time) string { return t.In(a.now().Location()).Format(policy.TimeLayout) })
}
