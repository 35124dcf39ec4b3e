package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/sentinel"
	"github.com/locksmithd/locksmith/updateengine"
)

// updates translates what update_engine, requesters and the sentinel file say, until the channel of events is closed.
func updates(events <-chan updateengine.Event, states <-chan sentinel.State, log *slog.Logger) <-chan policy.Event {
	out := make(chan policy.Event)
	go func() {
		defer close(out)
		for {
			select {
			case e, open := <-events:
				if !open {
					return
				}
				out <- ofEngine(e, log)
			case s := <-states:
				log.Debug("sentinel", "needed", s.Needed, "reason", s.Reason, "error", s.Err)
				out <- ofSentinel(s)
			}
		}
	}()
	return out
}

func ofEngine(e updateengine.Event, log *slog.Logger) policy.Event {
	log.Debug("update", "source", e.Source, "operation", e.Status.Operation, "version", e.Status.NewVersion)
	switch e.Source {
	case updateengine.Gone:
		return policy.Absent{Source: policy.Engine}
	case updateengine.Requester:
		log.Info("a reboot was asked for or called off by hand", "by", e.By, "operation", e.Status.Operation)
		return update(policy.Requester, e.Status)
	}
	return update(policy.Engine, e.Status)
}

func update(source policy.Source, s updateengine.Status) policy.Update {
	return policy.Update{Source: source, Pending: s.NeedReboot(), Version: s.NewVersion}
}

func ofSentinel(s sentinel.State) policy.Event {
	if s.Err != nil {
		return policy.Absent{Source: policy.Sentinel, Err: s.Err}
	}
	return policy.Update{Source: policy.Sentinel, Pending: s.Needed, Reason: s.Reason}
}

// askSources returns a function that asks the sources whether the reboot is still needed. One that is absent or silent
// withdraws nothing.
func (s *server) askSources(engine *updateengine.Client) func(context.Context) []policy.Update {
	return func(ctx context.Context) (answers []policy.Update) {
		status, err := engine.Status(ctx)
		if err == nil {
			answers = append(answers, update(policy.Engine, status))
		} else {
			s.log.Debug("update_engine does not say whether the update still stands; its last word counts", "error", err)
		}
		// That the file is there says nothing new, and it may not have settled yet.
		if file := s.sentinel(s.config.Load()); file != "" {
			if state := (sentinel.File{Path: file}).Read(); !state.Needed && state.Err == nil {
				answers = append(answers, policy.Update{Source: policy.Sentinel})
			}
		}
		return answers
	}
}

// sentinel returns the path of the sentinel file, "" for none.
func (s *server) sentinel(cfg *config.Config) string {
	if cfg.Sentinel == "" {
		return ""
	}
	return filepath.Join(s.root, cfg.Sentinel)
}

// sentinels follows one sentinel file at a time.
type sentinels struct {
	states chan sentinel.State // of the file
	ctx    context.Context     // ends all
	path   string
	end    func() // ends the following
}

func newSentinels(ctx context.Context) *sentinels {
	return &sentinels{states: make(chan sentinel.State), ctx: ctx, end: func() {}}
}

// follow follows the file at a path from now on, and none for "". What an earlier one has said does not count any more.
func (s *sentinels) follow(path string) {
	if path == s.path {
		return
	}
	s.end()
	s.path = path
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	s.end = func() { cancel(); <-ended }
	send := func(state sentinel.State) {
		select {
		case s.states <- state:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(ended)
		if path == "" {
			send(sentinel.State{})
			return
		}
		states, err := sentinel.File{Path: path, Settle: sentinel.Settle}.Watch(ctx)
		if err != nil {
			send(sentinel.State{Err: err})
			return
		}
		for state := range states {
			send(state)
		}
	}()
}
