package main

import (
	"context"
	"log/slog"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/updateengine"
)

// updates translates what update_engine and requesters say, until the channel of events is closed.
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

// askEngine returns a function that asks update_engine whether the update still stands. An update_engine that
// is absent or silent withdraws nothing.
func askEngine(client *updateengine.Client, log *slog.Logger) func(context.Context) *policy.Update {
	return func(ctx context.Context) *policy.Update {
		status, err := client.Status(ctx)
		if err != nil {
			log.Debug("update_engine does not say whether the update still stands; its last word counts", "error", err)
			return nil
		}
		return new(update(policy.Engine, status))
	}
}
