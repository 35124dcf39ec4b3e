package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// machine is this host, as logind and systemd know it.
type machine struct {
	logind *systemd.Logind
	conn   *dbus.Conn
}

var (
	_ daemon.Host      = machine{}
	_ daemon.Scheduler = machine{}
)

// Local returns an error only where logind does not even say what is scheduled: then it would
// take no reboot, either. What users can keep it from saying is bounded as users are.
func (h machine) Local(ctx context.Context) (local policy.Local, err error) {
	sessions, err := h.logind.Sessions(ctx)
	if err != nil {
		local.Unclear, local.Users = err, []string{"somebody"}
	}
	for _, s := range sessions {
		if !slices.Contains(local.Users, s.User) {
			local.Users = append(local.Users, s.User)
		}
	}
	inhibitors, err := h.logind.Inhibitors(ctx)
	switch {
	case err != nil && local.Unclear != nil:
		local.Unclear = fmt.Errorf("%w; %w", local.Unclear, err)
	case err != nil:
		local.Unclear = err
	}
	for _, i := range inhibitors {
		local.Inhibitors = append(local.Inhibitors, policy.Inhibitor{Who: i.Who, Why: i.Why, User: i.User, PID: i.PID})
	}
	local.Shutdown, err = h.Scheduled(ctx)
	return local, err
}

func (h machine) Reboot(ctx context.Context, force bool) error {
	return maybeDone(h.logind.Reboot(ctx, force))
}

// maybeDone marks the error of a call that was not refused, and may be carried out.
func maybeDone(err error) error {
	if err != nil && !errors.Is(err, systemd.ErrRefused) {
		return fmt.Errorf("%w: %w", daemon.ErrUnknown, err)
	}
	return err
}

func (h machine) GoingDown(ctx context.Context) (bool, error) { return systemd.GoingDown(ctx, h.conn) }

func (h machine) Scheduled(ctx context.Context) (policy.Shutdown, error) {
	s, err := h.logind.Scheduled(ctx)
	return policy.Shutdown{Type: s.Type, At: s.At, Message: s.Message}, err
}

func (h machine) Instance(ctx context.Context) (string, error) { return h.logind.Instance(ctx) }

func (h machine) Schedule(ctx context.Context, at time.Time, message string) error {
	return maybeDone(h.logind.Schedule(ctx, at, message))
}

func (h machine) Cancel(ctx context.Context) error { return h.logind.Cancel(ctx) }

// updates translates what update_engine and requesters say, until the channel
// closes.
func updates(events <-chan updateengine.Event, log *slog.Logger) <-chan policy.Event {
	out := make(chan policy.Event)
	go func() {
		defer close(out)
		for e := range events {
			log.Debug("update", "source", e.Source, "operation", e.Status.Operation, "version", e.Status.NewVersion)
			switch e.Source {
			case updateengine.Gone:
				out <- policy.Absent{Source: policy.Engine}
			case updateengine.Requester:
				log.Info("a reboot was asked for or called off by hand", "by", e.By, "operation", e.Status.Operation)
				out <- update(policy.Requester, e.Status)
			default:
				out <- update(policy.Engine, e.Status)
			}
		}
	}()
	return out
}

func update(source policy.Source, s updateengine.Status) policy.Update {
	return policy.Update{Source: source, Pending: s.NeedReboot(), Version: s.NewVersion}
}

// askEngine asks update_engine once more. That it is absent or silent takes
// nothing back.
func askEngine(client *updateengine.Client, log *slog.Logger) func(context.Context) *policy.Update {
	return func(ctx context.Context) *policy.Update {
		status, err := client.Status(ctx)
		if err != nil {
			log.Debug("update_engine does not say whether the update still stands; its last word counts", "error", err)
			return nil
		}
		u := update(policy.Engine, status)
		return &u
	}
}
