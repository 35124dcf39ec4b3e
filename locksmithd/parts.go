package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/updateengine"
)

// slot is this host's view of the lock. It is connected to etcd only while a
// call runs.
type slot struct {
	lock   *lock.Lock
	store  *etcd.Store
	group  string // "" is the default group
	id     string // of this machine
	bootID string
	root   string
	owner  string // of the place in the queue
	log    *slog.Logger

	fenced bool // nothing that an earlier process here sent to etcd can happen any more

	mu    sync.Mutex
	ttl   time.Duration
	begin context.CancelCauseFunc // restarts a wait that goes on; nil before the first one
}

var _ daemon.Locker = (*slot)(nil)

func newSlot(cfg *config.Config, root, owner string, log *slog.Logger) (*slot, error) {
	id, err := config.MachineID(root)
	if err != nil {
		return nil, err
	}
	bootID, err := host.BootID(root)
	if err != nil {
		return nil, err
	}
	store := etcd.New(cfg.Etcd)
	l, err := lock.New(store, cfg.Group, cfg.Max)
	if err != nil {
		return nil, err
	}
	return &slot{lock: l, store: store, group: cfg.Group, id: id, bootID: bootID, root: root, ttl: cfg.LockTTL, owner: owner, log: log}, nil
}

// identify tells the lock which host this is, as known now: the host may get its name only after the daemon has started.
func (s *slot) identify() (lock.Record, error) {
	self, disk, err := host.Self(s.root)
	if err != nil {
		return lock.Record{}, err
	}
	s.lock.Identify(self, disk)
	return self, nil
}

// set applies the settings that need no other lock. What is held stays as it is, and a wait goes on in its place.
func (s *slot) set(cfg *config.Config) error {
	if err := s.lock.Declare(cfg.Max); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ttl != cfg.LockTTL && s.begin != nil {
		s.begin(lock.ErrKeepPlace)
	}
	s.ttl = cfg.LockTTL
	return nil
}

// current is ctx until set changes something for a wait, and the time-to-live.
func (s *slot) current(ctx context.Context) (context.Context, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, s.begin = context.WithCancelCause(ctx)
	return ctx, s.ttl
}

// LogValue says what to give locksmithctl to free the slot by hand.
func (s *slot) LogValue() slog.Value {
	return slog.GroupValue(slog.String("group", s.group), slog.String("id", s.id))
}

func (s *slot) Inspect(ctx context.Context) (policy.Holding, error) {
	defer s.store.Close()
	if _, err := s.identify(); err != nil {
		return policy.NotHeld, err
	}
	held, record, err := s.lock.Holder(ctx, s.id)
	if err == nil && !s.fenced && !(held && record.BootID != s.bootID) { // a release is a fence as well
		if err = s.lock.Fence(ctx); err == nil {
			s.fenced = true
			held, record, err = s.lock.Holder(ctx, s.id)
		}
	}
	switch {
	case err != nil:
		return policy.NotHeld, unknown(err)
	case !held:
		return policy.NotHeld, nil
	case record.BootID == s.bootID:
		return policy.HeldThisBoot, nil
	case record.BootID == "":
		return policy.HeldUnrecorded, nil
	}
	return policy.HeldSinceBefore, nil
}

func (s *slot) StillHeld(ctx context.Context) (bool, error) {
	defer s.store.Close()
	if _, err := s.identify(); err != nil {
		return false, err
	}
	held, _, err := s.lock.Holder(ctx, s.id)
	return held, unknown(err)
}

func (s *slot) Acquire(ctx context.Context, version string, blocked func(string)) error {
	defer s.store.Close()
	record, err := s.identify()
	if err != nil {
		return err
	}
	if record.Token, err = host.NewToken(s.root); err != nil {
		s.log.Warn("a reboot that renames this host may make it look like another one with its machine id", "error", err)
	}
	record.Since, record.By, record.Version, record.Owner = time.Now().UTC(), "locksmithd", version, s.owner
	held := "" // as last logged
	ctx, stop := keepingPlace(ctx)
	defer stop()
	waiting := func(w lock.WaitStatus, err error) {
		if now := w.Holders(); err == nil && now != held {
			held = now
			s.log.Info("waiting for a slot", "holders", now, "behind", w.Ahead)
		}
		if err != nil {
			s.log.Warn("still waiting for a slot", "error", err)
			blocked(err.Error())
			return
		}
		blocked(w.String())
	}
	for {
		current, ttl := s.current(ctx)
		record.TTL = ttl
		err := s.lock.Acquire(current, s.id, record, waiting)
		if err == nil || ctx.Err() != nil || context.Cause(current) != lock.ErrKeepPlace {
			return unknown(err)
		}
	}
}

// keepingPlace translates the cause that ends a context into the lock's.
func keepingPlace(ctx context.Context) (context.Context, func()) {
	translated, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, daemon.ErrKeepPlace) {
			cause = lock.ErrKeepPlace
		}
		cancel(cause)
	})
	return translated, func() { stop(); cancel(nil) }
}

func (s *slot) Release(ctx context.Context) error {
	defer s.store.Close()
	if _, err := s.identify(); err != nil {
		return err
	}
	err := s.lock.Release(ctx, s.id)
	s.fenced = s.fenced || err == nil
	var notHeld *lock.NotHeldError
	if errors.As(err, &notHeld) {
		return nil
	}
	return unknown(err)
}

// unknown translates the lock's word for it.
func unknown(err error) error {
	if errors.Is(err, lock.ErrUnknown) {
		return fmt.Errorf("%w: %w", daemon.ErrUnknown, err)
	}
	return err
}

// machine is this host, as logind and systemd know it.
type machine struct {
	logind *systemd.Logind
	conn   *dbus.Conn
}

var (
	_ daemon.Host      = machine{}
	_ daemon.Scheduler = machine{}
)

// Local returns an error only where logind does not even say what is scheduled: then it would
// take no reboot, either. What users can keep it from saying is bounded as users are.
func (h machine) Local(ctx context.Context) (local policy.Local, err error) {
	sessions, err := h.logind.Sessions(ctx)
	if err != nil {
		local.Unclear, local.Users = err, []string{"somebody"}
	}
	for _, s := range sessions {
		if !slices.Contains(local.Users, s.User) {
			local.Users = append(local.Users, s.User)
		}
	}
	inhibitors, err := h.logind.Inhibitors(ctx)
	switch {
	case err != nil && local.Unclear != nil:
		local.Unclear = fmt.Errorf("%w; %w", local.Unclear, err)
	case err != nil:
		local.Unclear = err
	}
	for _, i := range inhibitors {
		local.Inhibitors = append(local.Inhibitors, policy.Inhibitor{Who: i.Who, Why: i.Why, User: i.User, PID: i.PID})
	}
	local.Shutdown, err = h.Scheduled(ctx)
	return local, err
}

func (h machine) Reboot(ctx context.Context, force bool) error {
	return maybeDone(h.logind.Reboot(ctx, force))
}

// maybeDone marks the error of a call that was not refused, and may be carried out.
func maybeDone(err error) error {
	if err != nil && !errors.Is(err, systemd.ErrRefused) {
		return fmt.Errorf("%w: %w", daemon.ErrUnknown, err)
	}
	return err
}

func (h machine) GoingDown(ctx context.Context) (bool, error) { return systemd.GoingDown(ctx, h.conn) }

func (h machine) Scheduled(ctx context.Context) (policy.Shutdown, error) {
	s, err := h.logind.Scheduled(ctx)
	return policy.Shutdown{Type: s.Type, At: s.At, Message: s.Message}, err
}

func (h machine) Instance(ctx context.Context) (string, error) { return h.logind.Instance(ctx) }

func (h machine) Schedule(ctx context.Context, at time.Time, message string) error {
	return maybeDone(h.logind.Schedule(ctx, at, message))
}

func (h machine) Cancel(ctx context.Context) error { return h.logind.Cancel(ctx) }

// updates translates what update_engine and requesters say, until the channel
// closes.
func updates(events <-chan updateengine.Event, log *slog.Logger) <-chan policy.Update {
	out := make(chan policy.Update)
	go func() {
		defer close(out)
		for e := range events {
			log.Debug("update", "source", e.Source, "operation", e.Status.Operation, "version", e.Status.NewVersion)
			if e.Source == updateengine.Requester {
				log.Info("a reboot was asked for or called off by hand", "by", e.By, "operation", e.Status.Operation)
			}
			out <- update(e.Source, e.Status)
		}
	}()
	return out
}

func update(source updateengine.Source, s updateengine.Status) policy.Update {
	u := policy.Update{Pending: s.NeedReboot(), Version: s.NewVersion}
	switch source {
	case updateengine.Engine:
		u.Source = policy.Engine
	case updateengine.Requester:
		u.Source = policy.Requester
	case updateengine.Gone:
		u.Source = policy.Gone
	}
	return u
}

// askEngine asks update_engine once more. That it is absent or silent takes
// nothing back.
func askEngine(client *updateengine.Client, log *slog.Logger) func(context.Context) *policy.Update {
	return func(ctx context.Context) *policy.Update {
		status, err := client.Status(ctx)
		if err != nil {
			log.Debug("update_engine does not say whether the update still stands; its last word counts", "error", err)
			return nil
		}
		u := update(updateengine.Engine, status)
		return &u
	}
}
