package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// machine is this host, as logind and systemd know it.
type machine struct {
	*systemd.Logind
	conn *dbus.Conn
}

var (
	_ daemon.Host      = machine{}
	_ daemon.Scheduler = machine{}
)

func (m machine) Local(ctx context.Context) (policy.Local, error) { return host.AtWork(ctx, m.Logind) }

func (m machine) Reboot(ctx context.Context, force bool) error {
	return maybeDone(m.Logind.Reboot(ctx, force))
}

// maybeDone marks the error of a call that was not refused, and may still be carried out.
func maybeDone(err error) error {
	if err != nil && !errors.Is(err, systemd.ErrRefused) {
		return fmt.Errorf("%w: %w", daemon.ErrUnknown, err)
	}
	return err
}

func (m machine) GoingDown(ctx context.Context) (bool, error) { return systemd.GoingDown(ctx, m.conn) }

func (m machine) Scheduled(ctx context.Context) (policy.Shutdown, error) {
	s, err := m.Logind.Scheduled(ctx)
	return policy.Shutdown(s), err
}

func (m machine) Schedule(ctx context.Context, at time.Time, message string) error {
	return maybeDone(m.Logind.Schedule(ctx, at, message))
}

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
