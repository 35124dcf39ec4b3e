package main

import (
	"sync"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/coordinator"
	"github.com/locksmithd/locksmith/internal/hostbus"
	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
)

// coordinated writes the coordinator file.
type coordinated struct {
	*server
	file    *coordinator.File
	locking config.Strategy // the last one in force that takes slots
}

func (c *coordinated) Observe(s policy.Snapshot, _ string, _ []policy.Move) {
	if now := c.config.Load().Strategy; now.Locks() {
		c.locking = now
	}
	strategy := config.StrategyReboot
	if s.Lock { // also while a slot is given back, before a new strategy without one
		strategy = c.locking
	}
	c.warn(c.file.Set(string(strategy), coordinatorState(s.State)))
}

// shown tells the service manager what the daemon does, and that it has started.
type shown struct {
	*server
	ready sync.Once // the service manager knows that the daemon has started
}

func (o *shown) Observe(_ policy.Snapshot, line string, _ []policy.Move) {
	o.show(func(status *status) { status.doing = line })
	o.ready.Do(func() { o.warn(systemd.NotifyReady()) })
}

// exported has the state as properties on the bus.
type exported struct {
	*server
	export *systemd.Export

	mu      sync.Mutex
	state   hostfacts.Host
	refused string // see status
}

func (s *server) exported() *exported {
	first := hostfacts.Of(policy.Snapshot{}, "starting")
	return &exported{server: s, state: first, export: systemd.NewExport(hostbus.Object, hostbus.Properties(first), s.log)}
}

func (o *exported) Observe(s policy.Snapshot, line string, _ []policy.Move) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = hostfacts.Of(s, line)
	o.set()
}

// refuse says why the last reload was refused; "" if it was not.
func (o *exported) refuse(why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused != why {
		o.refused = why
		o.set()
	}
}

func (o *exported) set() {
	cfg := o.config.Load()
	o.state.Strategy, o.state.Group, o.state.ConfigRefused = string(cfg.Strategy), hostfacts.Text(cfg.Group), hostfacts.Text(o.refused)
	o.export.Set(hostbus.Properties(o.state))
}

func coordinatorState(state policy.State) coordinator.State {
	switch state {
	case policy.Starting, policy.Settling:
		return coordinator.Starting
	case policy.Idle, policy.Left:
		return coordinator.Running
	case policy.Rebooting:
		return coordinator.Rebooting
	}
	return coordinator.RebootPlanned
}

// status is what the status line of systemctl is made of: what the daemon does, and why the last reload was refused,
// if it was.
type status struct {
	sync.Mutex
	doing, refused string
}

// show sends the status line after a change.
func (s *server) show(change func(*status)) {
	s.status.Lock()
	defer s.status.Unlock()
	change(&s.status)
	line := s.status.doing
	if s.status.refused != "" {
		line += "; the new configuration is refused, the old one stays in force: " + s.status.refused
	}
	s.warn(systemd.NotifyStatus(line + s.undelivered()))
	if s.onBus != nil {
		s.onBus.refuse(s.status.refused)
	}
}
