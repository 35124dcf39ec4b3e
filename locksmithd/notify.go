package main

import (
	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/internal/policy"
)

// startNotifications begins with what an earlier daemon could not deliver. The caller closes the notifier.
func (s *server) startNotifications(cfg *config.Config, units notify.Units) *notify.Notifier {
	scripts := notify.Scripts{Root: s.root, Units: units, Log: s.log}
	n := notify.New(notify.Options{
		Root: s.root, HasScripts: scripts.Any, RunScripts: scripts.Run, ForgetScripts: scripts.Forget, Log: s.log,
		Changed: func() { s.show(func(*status) {}) },
	})
	s.notifier.Store(n)
	n.Configure(cfg.Notify)
	return n
}

// notify delivers an event of this host.
func (s *server) notify(e notify.Event) {
	n, cfg := s.notifier.Load(), s.config.Load()
	if n == nil {
		return
	}
	if cfg.Strategy.Locks() {
		e.Group = cfg.Group
	}
	var err error
	if e.Host, err = host.Name(s.root); err != nil {
		s.log.Warn("a notification does not say which host it is from", "error", err)
	}
	n.Add(e)
}

// slotFreed tells that this host has freed the expired slot of another one.
func (s *server) slotFreed(holder, version string) {
	s.notify(notify.Event{Type: notify.SlotExpired, Holder: holder, Version: version})
}

// undelivered says what was not delivered, for the status line.
func (s *server) undelivered() string {
	if n := s.notifier.Load(); n != nil {
		return n.Undelivered(policy.Config{Zone: s.location}.Clock)
	}
	return ""
}
