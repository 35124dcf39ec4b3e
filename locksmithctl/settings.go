package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
)

// settingsError says what is wrong with the settings, a line for each.
type settingsError struct{ error }

// settings finds the settings and checks those of the given parts, 0 for all.
// With an error the Config is good for being shown only.
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
	// unitTimeout is how long systemd may take to say how it starts locksmithd.
	unitTimeout = time.Second
)

// findService finds how systemd starts locksmithd on this host: from systemd, or, below another root or
// where it does not answer, from the files of the unit. It returns nil where there is no such
// unit, as on an operator's own machine, and also where its files cannot be read, of which
// it warns.
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

// session is the use of one group's lock.
type session struct {
	*lock.Lock
	store    lock.Store
	settings *config.Config
}

// withLock calls use with the lock of the group, which may create the lock, and take
// slots. The connection to etcd is made when it is needed, and lasts no longer than the
// call.
func (a *app) withLock(use func(session) error) error {
	return a.withLockOf(config.PartEtcd|config.PartLock, use)
}

// withLockAsItIs is for what neither creates a lock nor takes a slot: it does not fail
// because of settings for that.
func (a *app) withLockAsItIs(use func(session) error) error {
	return a.withLockOf(config.PartEtcd, use)
}

func (a *app) withLockOf(parts config.Part, use func(session) error) error {
	cfg, err := a.settings(parts)
	if err != nil {
		return err
	}
	store := etcd.New(cfg.Etcd)
	defer store.Close() // the process ends, and with it the connection
	l, err := lock.New(store, cfg.Group, cfg.Max)
	if err != nil {
		return err
	}
	begin := a.now()
	err = use(session{l, store, cfg})
	a.log.Debug("used the lock", "group", cfg.Group, "took", a.now().Sub(begin), "error", err)
	return err
}

// declaredMax returns the setting for the number of slots, and false if none is set.
func declaredMax(cfg *config.Config) (config.Setting, bool) {
	s := setting(cfg, "max")
	return s, s.Origin.Kind != "" && s.Origin.Kind != config.FromDefault
}

// setting returns the setting of that name.
func setting(cfg *config.Config, name string) config.Setting {
	for _, s := range cfg.Settings {
		if s.Name == name {
			return s
		}
	}
	return config.Setting{Name: name}
}

// drift says that the number of slots is not the declared one; "" if it is, or none
// is declared. Which of them is meant only the operator knows.
func (s session) drift(o lock.Overview) string {
	setting, ok := declaredMax(s.settings)
	if !ok || o.Semaphore.Max == s.settings.Max {
		return ""
	}
	return fmt.Sprintf(`the lock has max %d, and not %d as LOCKSMITHD_MAX (%s), which counts only when a lock is created: "locksmithctl set-max %[2]d" sets it`,
		o.Semaphore.Max, s.settings.Max, setting.Origin)
}

// explain adds to an error of the lock what to think of it, and what to do if it
// is unknown what happened.
func (s session) explain(err error, unknown string) error {
	if errors.Is(err, lock.ErrUnknown) {
		return fmt.Errorf("%w; %s", err, unknown)
	}
	return err
}

// target is the holder that a command is about: the one it was given, or else
// this machine.
func (a *app) target(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], named(args[0])
	}
	return config.MachineID(a.root)
}

// named refuses the empty id, as of a variable of a script that is not set.
func named(id string) error {
	if id == "" {
		return usageError{errors.New("the machine id is empty")}
	}
	return nil
}

// identify tells the lock which host this is, if id is this machine's, and returns a record for id that
// says so. Of other hosts nothing is known here: they would take this one for a clone.
func (a *app) identify(s session, id string) (r lock.Record, this bool, err error) {
	if self, err := config.MachineID(a.root); err != nil || self != id {
		return lock.Record{}, false, nil
	}
	r, disk, err := host.Self(a.root)
	if err != nil {
		return lock.Record{}, false, err
	}
	s.Identify(r, disk)
	return r, true, nil
}

// record says who takes a slot for id, and when. There is no time-to-live, because an operator may well
// keep a slot for longer.
func (a *app) record(s session, id string) (lock.Record, error) {
	r, this, err := a.identify(s, id)
	if err != nil {
		return r, err
	}
	r.Since, r.By = a.now().UTC().Truncate(time.Second), "locksmithctl"
	if this && a.euid == 0 { // nobody else can write it
		if r.Token, err = host.NewToken(a.root); err != nil {
			a.note("a reboot that renames this host may make it look like another one with its machine id: %v", err)
		}
	}
	return r, nil
}
