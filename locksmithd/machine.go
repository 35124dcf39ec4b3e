package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/systemd"
)

// machine is this host, as logind and systemd know it.
type machine struct {
	*systemd.Logind
	root string
	boot host.Boot
}

func (m machine) Local(ctx context.Context) (policy.Local, error) {
	return host.AtWork(ctx, m.root, m.Logind)
}

func (m machine) Reboot(ctx context.Context, mode policy.Mode, force bool) (policy.Mode, error) {
	done, err := m.Logind.Reboot(ctx, systemd.Mode(mode), force)
	return policy.Mode(done), maybeDone(err)
}

func (m machine) Modes() policy.Modes { return m.boot.Modes(m.root) }

// maybeDone marks the error of a call that was not refused, and may still be carried out.
func maybeDone(err error) error {
	if err != nil && !errors.Is(err, systemd.ErrRefused) {
		return fmt.Errorf("%w: %w", daemon.ErrUnknown, err)
	}
	return err
}

func (m machine) Scheduled(ctx context.Context) (policy.Shutdown, error) {
	s, err := m.Logind.Scheduled(ctx)
	return policy.Shutdown(s), err
}

func (m machine) Schedule(ctx context.Context, at time.Time, message string) error {
	return maybeDone(m.Logind.Schedule(ctx, at, message))
}
