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

// updates translates what update_engine, requesters and sentinels say, until the channel of events is closed.
func updates(events <-chan updateengine.Event, sentinels <-chan said, log *slog.Logger) <-chan policy.Event {
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
			case s := <-sentinels:
				log.Debug(s.Name, "needed", s.Needed, "reason", s.Reason, "error", s.Err)
				out <- s.event()
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

// said is what a sentinel says.
type said struct {
	policy.Source
	sentinel.State
}

func (s said) event() policy.Event {
	if s.Err != nil {
		return policy.Absent{Source: s.Source, Err: s.Err}
	}
	return s.update()
}

func (s said) update() policy.Update {
	return policy.Update{Source: s.Source, Pending: s.Needed, Reason: s.Reason, Kernel: s.Kernel, Soft: s.Soft, Trouble: s.Done}
}

// askSources returns a function that asks the sources whether the reboot is still needed. One that is absent or silent
// withdraws nothing. The sentinel command is not asked, because it may take minutes.
func (s *server) askSources(engine *updateengine.Client) func(context.Context) []policy.Update {
	return func(ctx context.Context) (answers []policy.Update) {
		status, err := engine.Status(ctx)
		if err == nil {
			answers = append(answers, update(policy.Engine, status))
		} else {
			s.log.Debug("update_engine does not say whether the update still stands; its last word counts", "error", err)
		}
		// That the file is there says nothing new, and it may not have settled yet.
		if file := s.sentinel(s.config.Load()); file.Path != "" {
			if state := file.Read(); !state.Needed && state.Err == nil {
				answers = append(answers, said{policy.Sentinel, state}.update())
			}
		}
		return answers
	}
}

// sentinel returns the sentinel file, with an empty path for none.
func (s *server) sentinel(cfg *config.Config) sentinel.File {
	if cfg.Sentinel == "" {
		return sentinel.File{}
	}
	return sentinel.File{
		Path: filepath.Join(s.root, cfg.Sentinel), Settle: sentinel.Settle, Since: s.boot.Since, Soft: cfg.RebootMode == policy.SoftReboot,
	}
}

// sources returns what will say whether a reboot is needed, besides update_engine.
func sources(cfg *config.Config) (all []policy.Source) {
	if cfg.Sentinel != "" {
		all = append(all, policy.Sentinel)
	}
	if cfg.SentinelCommand != "" {
		all = append(all, policy.SentinelCommand)
	}
	return all
}

// sentinels follows the sentinels of the settings: a file and a command.
type sentinels struct {
	*server
	units         sentinel.Units
	ctx           context.Context // ends all
	said          chan said
	file, command followed
}

// followed is one of them.
type followed struct {
	source policy.Source
	name   string        // "" for none
	how    any           // what else of the settings matters
	cancel func()        // ends the following; nil before the first
	ended  chan struct{} // closed then
}

func (s *server) sentinels(ctx context.Context, units sentinel.Units) *sentinels {
	return &sentinels{
		server: s, units: units, ctx: ctx, said: make(chan said),
		file: followed{source: policy.Sentinel}, command: followed{source: policy.SentinelCommand},
	}
}

// follow follows what a configuration names from now on. What another file or command has said does not count any more.
func (s *sentinels) follow(cfg *config.Config) {
	file := s.sentinel(cfg)
	s.replace(&s.file, file.Path, file.Soft, file.Watch)
	asker := sentinel.Asker{Command: cfg.SentinelCommand, Period: cfg.SentinelPeriod, Root: s.root, Units: s.units, Log: s.log}
	s.replace(&s.command, asker.Command, asker.Period, func(ctx context.Context) (<-chan sentinel.State, error) {
		return asker.Watch(ctx), nil
	})
}

// replace ends what is followed and follows something else, unless it is the same. A command whose period alone has
// changed is asked at once; until it answers, what it said last counts.
func (s *sentinels) replace(f *followed, name string, how any, watch func(context.Context) (<-chan sentinel.State, error)) {
	if name == f.name && (name == "" || how == f.how) {
		return
	}
	forget, before := f.name != "" && f.name != name, f.ended
	if before != nil {
		f.cancel()
	}
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	f.name, f.how, f.cancel, f.ended = name, how, cancel, ended
	source := f.source
	send := func(ctx context.Context, state sentinel.State) {
		select {
		case s.said <- said{source, state}:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(ended)
		defer cancel()
		if before != nil { // systemd may take seconds to stop a command
			<-before
		}
		if forget {
			send(s.ctx, sentinel.State{})
		}
		if name == "" {
			return
		}
		states, err := watch(ctx)
		if err != nil {
			send(ctx, sentinel.State{Err: err})
			return
		}
		for state := range states {
			send(ctx, state)
		}
	}()
}
