package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/spf13/cobra"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/view"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/systemd"
)

func (a *app) rebootCommand() *cobra.Command {
	var (
		force bool
		queue queueFlags
	)
	cmd := &cobra.Command{
		Use:   "reboot [-force] [-wait [-timeout TIME]]",
		Short: "Take a slot of the lock and reboot this host now",
		Long: `reboot takes a slot of the lock for this machine and reboots it now, if its reboot
window is open and nobody is at work on it: no program inhibits a shutdown (see
systemd-inhibit), no shutdown is scheduled, and nobody is logged in but in the session
that reboot is run in, also through sudo or run0. Otherwise it fails, and says what is in the way. That is looked
at before the slot is taken, and again right before the reboot; a slot that was taken
for a reboot that then does not happen is given back. locksmithd gives it back after
the reboot.

With -force none of that is asked. The lock, and a pause of it, count all the same. Where
logind lets nobody pass an inhibitor, as it does since systemd 257, systemd itself is asked
for the reboot.

It fails if no slot is free or the lock is paused. With -wait it waits in the queue for
its turn, as hosts do, and for the end of a pause; when it is interrupted, or after
-timeout, it leaves the queue.

With REBOOT_STRATEGY set to reboot or off no lock is taken, none is waited for, and etcd
is not used; where it is not set, the lock is taken.`,
		Args: takes(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := queue.check(); err != nil {
				return err
			}
			if a.euid != 0 {
				return errors.New("only root may reboot this host: run it with sudo")
			}
			return a.reboot(cmd.Context(), force, queue)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not mind the window, inhibitors, scheduled shutdowns and users")
	queue.register(cmd)
	return cmd
}

func (a *app) reboot(ctx context.Context, force bool, queue queueFlags) error {
	parts := config.PartStrategy
	if !force {
		parts |= config.PartWindow
	}
	cfg, err := a.settings(parts)
	if err != nil {
		return err
	}
	h := readiness{window: cfg.Window, now: a.now, force: force}
	// Without a strategy in sight the daemon may still have one, from a drop-in:
	// then the lock is the safe side.
	if cfg.StrategySet && cfg.Strategy != config.StrategyEtcdLock {
		if err := h.open(ctx); err != nil {
			return err
		}
		defer h.conn.Close()
		return h.reboot(ctx)
	}
	return a.withLock(func(s session) error { return a.rebootUnder(ctx, s, h, queue) })
}

// rebootUnder takes a slot and reboots. The slot is given back only if it is
// certain that there will be no reboot, and if nobody had taken it before.
func (a *app) rebootUnder(ctx context.Context, s session, h readiness, queue queueFlags) error {
	id, err := host.MachineID(a.root)
	if err != nil {
		return err
	}
	record, err := a.record(s, id)
	if err != nil {
		return err
	}
	record.TTL = s.settings.LockTTL
	record.Since = a.now().UTC() // to the nanosecond, by which giveBack knows it again
	// What is in the way, or a bus that is down, must not cost a slot.
	if err := h.open(ctx); err != nil {
		return err
	}
	defer h.conn.Close()
	if _, err := a.acquire(ctx, s, id, record, queue,
		`this host does not reboot, but may hold a slot: "locksmithctl status" shows it, and "locksmithctl unlock" gives it back`); err != nil {
		return err
	}
	err = h.ready(ctx)
	if err == nil {
		err = h.reboot(ctx)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, systemd.ErrRefused):
			return fmt.Errorf(`%w; this host may go down all the same, so it keeps its slot: if it does not, "locksmithctl unlock" gives it back`, err)
		}
	}
	// From here on an interrupt does not leave the slot behind.
	return a.giveBack(context.WithoutCancel(ctx), s, h, id, record, err)
}

// giveBack gives a slot back after a reboot was refused, and returns why it was.
func (a *app) giveBack(ctx context.Context, s session, h readiness, id string, taken lock.Record, refused error) error {
	if down, err := systemd.GoingDown(ctx, h.conn); err == nil && down {
		return fmt.Errorf(`%w; this host is going down already, and keeps the slot for that`, refused)
	}
	held, record, err := s.Holder(ctx, id)
	if err == nil && held && !(record.By == taken.By && record.Since.Equal(taken.Since)) {
		return fmt.Errorf(`%w; this host keeps the slot, which it held before: "locksmithctl unlock" gives it back`, refused)
	}
	if err == nil && held {
		err = s.Release(ctx, id)
	}
	if err != nil {
		return fmt.Errorf(`%w; and the slot could not be given back: %w; "locksmithctl unlock" tries again`, refused, err)
	}
	return refused
}

// readiness is what decides on this host whether it may reboot.
type readiness struct {
	window *config.Window // nil for none
	now    func() time.Time
	force  bool // nothing is asked

	conn   *dbus.Conn
	logind *systemd.Logind
}

// open connects to the bus, and fails unless the host is ready. The caller closes
// the connection.
func (h *readiness) open(ctx context.Context) (err error) {
	if h.conn, err = systemd.ConnectSystemBus(ctx); err != nil {
		return err
	}
	h.logind = systemd.NewLogind(h.conn)
	if err = h.ready(ctx); err != nil {
		h.conn.Close()
	}
	return err
}

// reboot asks logind to reboot. That it is interrupted by the reboot itself is a success.
func (h readiness) reboot(ctx context.Context) error {
	err := h.logind.Reboot(ctx, h.force)
	if err != nil && !errors.Is(err, systemd.ErrRefused) && goingDown(ctx, h.conn) {
		return nil
	}
	return err
}

// ready returns an error that says what is in the way of a reboot.
func (h readiness) ready(ctx context.Context) error {
	if h.force {
		return nil
	}
	obstacles, err := h.obstacles(ctx)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("this host does not reboot: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("this host does not reboot, since somebody may be at work on it: %w; -force overrides that", err)
	case len(obstacles) > 0:
		return fmt.Errorf("this host does not reboot: %s; -force overrides that", strings.Join(obstacles, "; "))
	}
	return nil
}

func (h readiness) obstacles(ctx context.Context) (obstacles []string, err error) {
	if h.window != nil {
		now := h.now()
		if opens, _ := h.window.Next(now); opens.After(now) {
			obstacles = append(obstacles, "the reboot window is shut until "+opens.Format(view.TimeLayout))
		}
	}
	shutdown, err := h.logind.Scheduled(ctx)
	if err != nil {
		return nil, err
	}
	if shutdown.Type != "" {
		obstacles = append(obstacles, shutdownText(shutdown))
	}
	inhibitors, err := h.logind.Inhibitors(ctx)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, i := range inhibitors {
		text := fmt.Sprintf("%s (%s)", i.Who, i.Why)
		if i.PID != 0 { // else logind does not list it
			text += fmt.Sprintf(", process %d of %s", i.PID, i.User)
		}
		texts = append(texts, text)
	}
	if len(texts) > 0 {
		obstacles = append(obstacles, "inhibited by "+view.List(texts))
	}
	sessions, err := h.logind.OtherSessions(ctx)
	if err != nil {
		return nil, err
	}
	texts = nil
	for _, s := range sessions {
		texts = append(texts, sessionText(s))
	}
	if len(texts) > 0 {
		obstacles = append(obstacles, "logged in: "+view.List(texts))
	}
	return obstacles, nil
}

func shutdownText(s systemd.Shutdown) string {
	text := "a " + s.Type + " has begun"
	if !s.At.IsZero() {
		text = "a " + s.Type + " is scheduled for " + s.At.Format(view.TimeLayout)
	}
	if s.Message != "" {
		text += " (" + s.Message + ")"
	}
	return text
}

func sessionText(s systemd.Session) string {
	if s.TTY == "" {
		return s.User
	}
	return s.User + " on " + s.TTY
}
