package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/systemd"
)

// settingsError says what is wrong with the settings, a line for each.
type settingsError struct{ error }

// settings loads the settings and checks those of the given parts, 0 for all.
// With an error the Config may only be shown, not used.
func (a *app) settings(check config.Part) (*config.Config, error) {
	cfg, err := config.Load(config.Options{
		Program: config.CLI,
		Root:    a.root,
		Flags:   a.flags,
		Environ: a.environ,
		Check:   check,
		Warn:    func(w string) { a.note("warning: %s", w) },
		Service: a.service(),
	})
	for _, n := range cfg.Notes {
		if !slices.Contains(a.noted, n) {
			a.noted = append(a.noted, n)
			a.note("%s", n)
		}
	}
	if err != nil {
		return cfg, settingsError{err}
	}
	if cfg.Debug {
		a.log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		for _, s := range cfg.Settings {
			a.log.Debug("setting", "name", s.Name, "value", s.Value, "from", s.Origin)
		}
		for _, w := range cfg.Warnings {
			a.log.Debug(w)
		}
	}
	return cfg, nil
}

const (
	daemonUnit = "locksmithd.service"
	// unitTimeout is how long systemd has to answer how it starts locksmithd.
	unitTimeout = time.Second
)

// findService returns how systemd starts locksmithd on this host. It asks systemd, or reads the files of the unit below
// another root and where systemd does not answer. It returns nil if there is no such unit, as on an operator's own
// machine, and, with a warning, if the files cannot be read.
func (a *app) findService(ctx context.Context) *systemd.Service {
	if a.root == "" {
		if service, err := loadedService(ctx); err == nil {
			return service
		}
	}
	service, err := systemd.ReadService(a.root, daemonUnit)
	if err != nil {
		a.note("warning: settings of locksmithd may not be known here: %v", err)
	}
	return service
}

func loadedService(ctx context.Context) (*systemd.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	conn, err := systemd.ConnectSystemBus(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return systemd.LoadedService(ctx, conn, daemonUnit)
}
