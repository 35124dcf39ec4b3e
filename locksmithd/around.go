package main

import (
	"context"
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/gates"
	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
)

// around is what happens around a reboot: the gates that need I/O, the hooks, the checks after the boot, and what is
// recorded of it. It uses the settings that are in force.
type around struct {
	*server
	hooks   *hooks.Hooks
	history *history.File
}

// around returns what is around a reboot. calls is a connection to the system bus.
func (s *server) around(calls *dbus.Conn) around {
	units := systemd.Units{Connect: systemd.ConnectSystemBus, Calls: calls}
	return around{s, &hooks.Hooks{Root: s.root, Boot: s.boot.ID, Units: units, Log: s.log}, history.New(s.root)}
}

// found returns what the process finds besides what the one before it has kept.
func (a around) found(kept *policy.Kept, sources []policy.Source) policy.Found {
	f := policy.Found{Kept: kept, Sources: sources, Drained: a.hooks.Drained(), OSVersion: host.OSVersion(a.root), SoftSince: a.boot.SoftSince()}
	last, err := a.history.Pending(a.boot.ID)
	if err != nil {
		a.log.Warn("it is not known what the last reboot was for", "error", err)
	}
	if last != nil {
		if last.How != "" {
			a.log.Info("locksmithd has rebooted this host: "+last.How, "at", last.At)
		}
		f.Reboot = &policy.Purpose{
			Version: last.Version, OSVersion: last.OSVersion, Unbooted: last.OSVersion != "" && a.boot.SameKernel(last.BootID),
		}
	}
	return f
}

// gate is asked before a reboot.
func (a around) gate(ctx context.Context, need policy.Need) *policy.Obstacle {
	cfg := a.config.Load()
	facts := a.facts(policy.Facts{Reason: "a reboot is needed: " + strings.Join(need.Reasons, ", ")})
	g := gates.Gates{Root: a.root, MaxAttempts: cfg.MaxAttempts, Hooks: a.hooks, Facts: facts, Alerts: gates.Alerts(cfg.Alerts)}
	return g.Ask(ctx, need)
}

func (a around) Hooked(ctx context.Context) (bool, error) {
	return a.hooks.Hooked(ctx, hooks.BeforeReboot)
}

func (a around) Before(ctx context.Context, f policy.Facts) error {
	return a.run(ctx, hooks.BeforeReboot, f)
}

func (a around) Undo(ctx context.Context, f policy.Facts) error {
	return a.run(ctx, hooks.RebootCancelled, f)
}

func (a around) After(ctx context.Context, f policy.Facts) error {
	if a.config.Load().BootComplete {
		if err := a.hooks.Units.Start(ctx, hooks.BootComplete); err != nil && !errors.Is(err, systemd.ErrNoUnit) {
			return err
		}
	}
	return a.run(ctx, hooks.AfterReboot, f)
}

func (a around) run(ctx context.Context, p hooks.Phase, f policy.Facts) error {
	return a.hooks.Run(ctx, p, a.facts(f))
}

// facts returns what hooks are told.
func (a around) facts(f policy.Facts) hooks.Facts {
	id, err := host.MachineID(a.root)
	if err != nil {
		a.log.Warn("hooks are not told the machine id", "error", err)
	}
	return hooks.Facts{Group: a.config.Load().Group, Version: f.Version, Reason: f.Reason, MachineID: id}
}

// begin records that the host is about to reboot.
func (a around) begin(ctx context.Context, r policy.Reboot) error {
	running := ""
	if r.NewOS {
		running = host.OSVersion(a.root)
	}
	return a.history.Begin(ctx, history.Reboot{BootID: a.boot.ID, Version: r.Version, OSVersion: running, How: r.How.Text, Taken: r.Taken})
}

// ended records what the last reboot came to.
func (a around) ended(ctx context.Context, failure error) error {
	result := ""
	if failure != nil {
		result = failure.Error()
	}
	return a.history.Ended(ctx, a.boot.ID, result)
}
