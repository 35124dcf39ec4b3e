package main

import (
	"errors"
	"fmt"

	"github.com/locksmithd/locksmith/internal/config"
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
	store := etcd.New(cfg.Etcd)
	defer store.Close() // the process ends, and with it the connection
	l, err := lock.New(store, cfg.Group, cfg.Max)
	if err != nil {
		return err
	}
	begin := a.now()
	err = use(session{l, lock.NewGroups(store, cfg.Max), cfg})
	a.log.Debug("used the lock", "group", cfg.Group, "took", a.now().Sub(begin), "error", err)
	return err
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

// noteDrift says if the lock has another number of slots than the settings declare. Only the operator knows which of the
// two is right.
func (a *app) noteDrift(s session, o lock.Overview) {
	if s.settings.MaxOrigin != nil && o.Semaphore.Max != s.settings.Max {
		a.note(`the lock has max %d, and not %d as LOCKSMITHD_MAX (%s), which counts only when a lock is created: "locksmithctl set-max %[2]d" sets it`,
			o.Semaphore.Max, s.settings.Max, s.settings.MaxOrigin)
	}
}
