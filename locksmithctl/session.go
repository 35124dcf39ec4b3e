package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
)

// session is the use of one group's lock, with the settings for it.
type session struct {
	*lock.Lock
	groups   lock.Groups
	settings *config.Config
}

// withLock calls use, which may create the lock and take slots, with the lock of the group. The connection to etcd is
// made when it is needed, and ends with the call.
func (a *app) withLock(use func(session) error) error {
	return a.withLockOf(config.PartEtcd|config.PartLock, use)
}

// withExistingLock is like withLock, for a use that neither creates a lock nor takes a slot: it does not fail because
// of settings for that.
func (a *app) withExistingLock(use func(session) error) error {
	return a.withLockOf(config.PartEtcd, use)
}

func (a *app) withLockOf(parts config.Part, use func(session) error) error {
	cfg, err := a.settings(parts)
	if err != nil {
		return err
	}
	return a.useLock(cfg, use)
}

// withLockOrPermit calls useLock with the lock in etcd, or usePermit where this host takes its slots from a FleetLock
// server.
func (a *app) withLockOrPermit(parts config.Part, useLock func(session) error, usePermit func(*config.Config) error) error {
	cfg, err := a.settings(parts)
	switch {
	case err != nil:
		return err
	case cfg.FleetLock.Server.URL == "":
		return a.useLock(cfg, useLock)
	}
	return usePermit(cfg)
}

func (a *app) useLock(cfg *config.Config, use func(session) error) error {
	return useStore(cfg, func(store lock.Store) error {
		l, err := lock.New(store, cfg.Group, cfg.Max)
		if err != nil {
			return err
		}
		begin := a.now()
		err = use(session{l, lock.NewGroups(store, cfg.Max), cfg})
		a.log.Debug("used the lock", "group", cfg.Group, "took", a.now().Sub(begin), "error", err)
		return err
	})
}

// withStore calls use with etcd, and the settings, of which these parts are checked.
func (a *app) withStore(parts config.Part, use func(lock.Store, *config.Config) error) error {
	cfg, err := a.settings(parts)
	if err != nil {
		return err
	}
	return useStore(cfg, func(store lock.Store) error { return use(store, cfg) })
}

// useStore calls use with etcd. It fails where this host takes its slots from a FleetLock server.
func useStore(cfg *config.Config, use func(lock.Store) error) error {
	if cfg.FleetLock.Server.URL != "" {
		return notOffered(cfg)
	}
	store := etcd.New(cfg.Etcd)
	defer store.Close() // the process ends, and with it the connection
	return use(store)
}

// pauser pauses all groups, or only this one.
func (s session) pauser(all bool) lock.Pauser {
	if all {
		return s.groups.Pauser
	}
	return s.Pauser
}

// explain adds to an error of the lock what to do if the outcome is unknown.
func explain(err error, unknown string) error {
	if errors.Is(err, lock.ErrUnknown) {
		return fmt.Errorf("%w; %s", err, unknown)
	}
	return err
}

// noteDrift says if the lock has another number of slots than the settings declare. Only the operator knows which of
// the two is right.
func (a *app) noteDrift(s session, o lock.Overview) {
	if s.settings.MaxOrigin != nil && o.Semaphore.Max != s.settings.Max {
		a.note(`the lock has max %d, and not %d as LOCKSMITHD_MAX (%s), which counts only when a lock is created: "locksmithctl set-max %[2]d" sets it`,
			o.Semaphore.Max, s.settings.Max, s.settings.MaxOrigin)
	}
}

// target returns the machine id that a command is about: its argument, or else that of this machine.
func (a *app) target(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	return host.MachineID(a.root)
}

// identify tells the lock which host this is, and returns a record that says so, and its boot, if id is this machine's.
// For other ids it does nothing, and this is nil: this host knows nothing about theirs, and they would take it for a
// clone.
func (a *app) identify(ctx context.Context, s session, id string) (r lock.Record, this *host.Boot, err error) {
	if self, err := host.MachineID(a.root); err != nil || self != id {
		return lock.Record{}, nil, nil
	}
	boot, err := a.thisBoot(ctx)
	if err != nil {
		return lock.Record{}, nil, err
	}
	r, disk, err := host.Self(a.root, boot)
	if err != nil {
		return lock.Record{}, nil, err
	}
	s.Identify(r, disk)
	return r, &boot, nil
}

// record returns a record of who takes a slot for id, and when. It has no time-to-live, because an operator may keep
// a slot for as long as they like.
func (a *app) record(ctx context.Context, s session, id string) (lock.Record, error) {
	r, this, err := a.identify(ctx, s, id)
	if err != nil {
		return r, err
	}
	r.Since, r.By = a.now().UTC().Truncate(time.Second), "locksmithctl"
	if this != nil && a.euid == 0 { // only root can write the token
		if r.Token, err = host.NewToken(a.root, *this); err != nil {
			a.note("a reboot that renames this host may make it look like another one with its machine id: %v", err)
		}
	}
	return r, nil
}

// operator returns who runs this program, as others see it: user@host.
func (a *app) operator() (string, error) {
	name := a.getenv("SUDO_USER")
	if name == "" {
		name = fmt.Sprintf("uid %d", a.euid)
		if u, err := user.LookupId(fmt.Sprint(a.euid)); err == nil {
			name = u.Username
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	return name + "@" + hostname, nil
}
