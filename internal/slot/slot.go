// Package slot is this host's slot of the lock, as the daemon asks for it.
//
// It guarantees that each call tells the lock the name which this host has now, because a host may get its name only
// after the daemon has started; that the store is connected only while a call runs; and that what an earlier process
// on this host has sent to the store cannot happen any more once Inspect has found no slot, or one of this boot, or
// once Release has given a slot back.
package slot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/daemon"
	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
)

// A Store is a lock.Store with a connection. After Close the next call connects again.
type Store interface {
	lock.Store
	Close() error
}

// Slot is a daemon.Locker. Only Set may be called beside another call.
type Slot struct {
	// Owner is a token for the place in the queue, see lock.Record. It is set before the first Acquire.
	Owner string
	// Freed, if set, is called when this host has freed the expired slot of another one: with the name of the host, or
	// else its id, and the version that the slot was for. It must not block. It is set before the first Acquire.
	Freed func(holder, version string)

	lock   *lock.Lock
	store  Store
	group  string
	root   string // of this host's files
	id     string // of this machine
	boot   host.Boot
	log    *slog.Logger
	fenced bool // nothing that an earlier process on this host has sent to the store can happen any more

	mu      sync.Mutex
	ttl     time.Duration
	restart context.CancelCauseFunc // restarts the current wait, with the new ttl; nil before the first wait
}

// New returns the slot in the lock of a group, "" for the default group, of the host whose files are below root, in a
// boot. Until Set, a lock that it creates has one slot, and what it takes has no time-to-live. It does not use the
// store yet.
func New(store Store, group, root string, boot host.Boot, log *slog.Logger) (*Slot, error) {
	id, err := host.MachineID(root)
	if err != nil {
		return nil, err
	}
	l, err := lock.New(store, group, 1)
	if err != nil {
		return nil, err
	}
	return &Slot{lock: l, store: store, group: group, root: root, id: id, boot: boot, log: log}, nil
}

// Set sets the number of slots that a lock gets when it is created, and the time-to-live of what is taken from now
// on, see lock.Record. A slot that is held stays as it is, and a wait goes on in its place.
func (s *Slot) Set(max int, ttl time.Duration) error {
	if err := s.lock.Declare(max); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ttl != ttl && s.restart != nil {
		s.restart(lock.ErrKeepPlace)
	}
	s.ttl = ttl
	return nil
}

// LogValue says what to give locksmithctl to free the slot by hand.
func (s *Slot) LogValue() slog.Value {
	return slog.GroupValue(slog.String("group", s.group), slog.String("id", s.id))
}

// identify tells the lock which host this is now.
func (s *Slot) identify() (lock.Record, error) {
	self, disk, err := host.Self(s.root, s.boot)
	if err != nil {
		return lock.Record{}, err
	}
	s.lock.Identify(self, disk)
	return self, nil
}

// holder reports whether this host holds the slot, and its record.
func (s *Slot) holder(ctx context.Context) (bool, lock.Record, error) {
	if _, err := s.identify(); err != nil {
		return false, lock.Record{}, err
	}
	return s.lock.Holder(ctx, s.id)
}

func (s *Slot) Inspect(ctx context.Context) (policy.Holding, policy.Purpose, error) {
	defer s.store.Close()
	held, record, err := s.holder(ctx)
	// A slot that is not of this boot is released next, which is a fence as well.
	if err == nil && !s.fenced && (!held || record.BootID == s.boot.ID) {
		if err := s.lock.Fence(ctx); err != nil {
			return policy.NotHeld, policy.Purpose{}, err
		}
		s.fenced = true
		held, record, err = s.holder(ctx)
	}
	purpose := policy.Purpose{Version: record.Version, OSVersion: record.OSVersion, Taken: record.Since}
	switch {
	case err != nil || !held:
		return policy.NotHeld, policy.Purpose{}, err
	case record.BootID == s.boot.ID:
		return policy.HeldThisBoot, purpose, nil
	case record.BootID == "":
		return policy.HeldUnrecorded, purpose, nil
	}
	purpose.Unbooted = record.OSVersion != "" && s.boot.SameKernel(record.BootID)
	return policy.HeldSinceBefore, purpose, nil
}

func (s *Slot) StillHeld(ctx context.Context) (bool, error) {
	defer s.store.Close()
	held, _, err := s.holder(ctx)
	return held, err
}

func (s *Slot) Acquire(ctx context.Context, purpose policy.Lock, blocked func(string)) error {
	defer s.store.Close()
	record, err := s.record(purpose.Version, purpose.Reason, purpose.NewOS)
	if err != nil {
		return err
	}
	record.Since, record.Owner = time.Now().UTC(), s.Owner
	logged, paused := "", "" // holders, and the pause of the version
	waiting := func(w lock.WaitStatus, err error) {
		if err != nil {
			s.log.Warn("still waiting for a slot", "error", err)
			blocked(err.Error())
			return
		}
		if h := w.Expired; h != nil {
			s.log.Info("freed an expired slot", "id", h.ID, "host", h.Record.Hostname, "since", h.Record.Since, "version", h.Record.Version)
			if s.Freed != nil {
				s.Freed(cmp.Or(h.Record.Hostname, h.ID), h.Record.Version)
			}
			return
		}
		was := paused
		if paused = ""; w.Outside && w.Pause != nil {
			paused = w.Pause.String()
		}
		switch holders := w.Holders(); {
		case paused != was && paused != "":
			s.log.Warn("waiting outside the queue", "version", purpose.Version, "because", paused)
		case paused == "" && (holders != logged || was != ""):
			logged = holders
			s.log.Info("waiting for a slot", "holders", holders, "behind", w.Ahead)
		}
		blocked(w.String())
	}
	for {
		wait, ttl, stop := s.wait(ctx)
		record.TTL = ttl
		err := s.lock.Acquire(wait, s.id, record, waiting)
		changed := ctx.Err() == nil && context.Cause(wait) == lock.ErrKeepPlace
		switch stop(); {
		case errors.Is(err, lock.ErrUnknown):
			return fmt.Errorf("%w: %w", daemon.ErrUnknown, err)
		case err == nil || !changed:
			return err
		}
	}
}

// wait returns the time-to-live, and a context that ends with ctx or when the time-to-live changes. The daemon's
// ErrKeepPlace becomes the lock's.
func (s *Slot) wait(ctx context.Context) (wait context.Context, ttl time.Duration, stop func()) {
	wait, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	ignore := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, daemon.ErrKeepPlace) {
			cause = lock.ErrKeepPlace
		}
		cancel(cause)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restart = cancel
	return wait, s.ttl, func() { ignore(); cancel(nil) }
}

func (s *Slot) Release(ctx context.Context) error {
	defer s.store.Close()
	if _, err := s.identify(); err != nil {
		return err
	}
	err := s.lock.ReleaseWell(ctx, s.id)
	if err == nil {
		s.fenced = true
	}
	if _, notHeld := errors.AsType[*lock.NotHeldError](err); notHeld {
		return nil
	}
	return err
}

// record returns the record of a slot for a reboot of this host for a version, which newOS says is one of the operating
// system.
func (s *Slot) record(version, reason string, newOS bool) (lock.Record, error) {
	record, err := s.identify()
	if err != nil {
		return lock.Record{}, err
	}
	if record.Token, err = host.NewToken(s.root, s.boot); err != nil {
		s.log.Warn("a reboot that renames this host may make it look like another one with its machine id", "error", err)
	}
	record.By, record.Version, record.Reason = "locksmithd", version, reason
	if newOS {
		record.OSVersion = host.OSVersion(s.root)
	}
	return record, nil
}

// Report tells the fleet what this host does with its slot.
func (s *Slot) Report(ctx context.Context, r policy.Report) error {
	defer s.store.Close()
	report := lock.Report{Phase: lock.Phase(r.Phase), Why: r.Why, Pause: r.Pause}
	if !r.Again {
		if _, err := s.identify(); err != nil {
			return err
		}
		return s.lock.Report(ctx, s.id, report)
	}
	record, err := s.record(r.Version, r.Reason, r.NewOS)
	if err != nil {
		return err
	}
	s.mu.Lock()
	record.TTL = s.ttl
	s.mu.Unlock()
	report.Again = &record
	return s.lock.Report(ctx, s.id, report)
}
