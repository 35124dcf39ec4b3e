package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

func (a *app) sendNeedRebootCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "send-need-reboot",
		Short: "Tell locksmithd to reboot this host as after an update",
		Long: `send-need-reboot announces on the system bus that this host needs a reboot, as
update_engine does after an update. locksmithd then reboots it under the strategy and
in the window that are set. It takes two seconds, in which locksmithd asks the bus
who sent this. It believes root, and users in one of the groups of
LOCKSMITHD_TRIGGER_GROUPS. For anybody else nothing is sent, and the exit status is 1.

LOCKSMITHD_TRIGGER_GROUPS is the only setting that it reads; for root it reads none.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := systemd.ConnectSystemBus(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := a.mayAnnounce(cmd.Context(), conn); err != nil {
				return err
			}
			err = updateengine.EmitNeedReboot(cmd.Context(), conn)
			switch {
			case errors.Is(err, updateengine.ErrBusGone):
				a.note("%v", err)
				return nil
			case cmd.Context().Err() != nil && goingDown(cmd.Context(), systemd.NewLogind(conn)):
				a.note("interrupted by the shutdown of this host, which has begun")
				return nil
			}
			return err
		},
	}
}

// mayAnnounce returns an error if it is certain that locksmithd would not believe this process.
func (a *app) mayAnnounce(ctx context.Context, conn *dbus.Conn) error {
	if a.euid == 0 {
		return nil
	}
	believed, user := false, ""
	cfg, err := a.settings(config.PartTrigger)
	if err == nil {
		believed, user, err = updateengine.Trust{Groups: cfg.TriggerGroups, Root: a.root}.Believes(ctx, conn)
	}
	switch {
	case err != nil:
		a.note("warning: it is unknown whether locksmithd believes this user: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	case !believed:
		groups := cfg.Settings[slices.IndexFunc(cfg.Settings, func(s config.Setting) bool { return s.Name == "trigger-groups" })]
		return fmt.Errorf("nothing was sent, because locksmithd would not believe %s: only root may announce a reboot, and users in a group of LOCKSMITHD_TRIGGER_GROUPS, which is %q (%s)", user, groups.Value, groups.Origin)
	}
	return nil
}
