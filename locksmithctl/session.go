package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
)

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

// eachGroup calls use with every group that has a lock, or why it is not known, until use
// returns an error.
func (s session) eachGroup(ctx context.Context, use func(group string, o lock.Overview, err error) error) error {
	groups, err := lock.Groups(ctx, s.store)
	if err != nil {
		return err
	}
	for _, group := range groups {
		l, err := lock.New(s.store, group, s.settings.Max)
		if err != nil {
			return err
		}
		o, err := l.Overview(ctx)
		if err := use(group, o, err); err != nil {
			return err
		}
	}
	return nil
}

// explain adds to an error of the lock what to think of it, and what to do if it
// is unknown what happened.
func (s session) explain(err error, unknown string) error {
	if errors.Is(err, lock.ErrUnknown) {
		return fmt.Errorf("%w; %s", err, unknown)
	}
	return err
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
