package grant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/lock"
)

// Options say what a [Server] works with.
type Options struct {
	Store lock.Store // used by many requests at once
	// Groups returns the groups that are served, by the names that clients give. It is called for each request,
	// concurrently. A Group that has not changed has to be equal, by ==, to the one before.
	Groups func() map[string]Group
	Hold   time.Duration // how long a request for a slot may be held open, up to MaxHold
	Waits  int           // how many requests may be held open at once
	Log    *slog.Logger
	// Changed, if not nil, is called after the number of requests that wait has changed. It must not block.
	Changed func()
	// HandedOver, if not nil, is called with how long it took from a client's request to give its slot back to the moment
	// when the client that was first in the queue had it, whose request was held open all the time. group is as clients
	// call it. It must not block.
	HandedOver func(group string, took time.Duration)
	// Expired, if not nil, is called with a slot that was freed for a client, because its time-to-live was over, and the
	// group of its lock. It must not block.
	Expired func(group string, slot lock.HolderInfo)
}

// Server gives slots to clients. Its methods may be called concurrently.
type Server struct {
	store   lock.Store
	groups  func() map[string]Group
	hold    time.Duration
	most    int
	changed func()
	journal journal

	life context.Context // ends with the server
	stop context.CancelCauseFunc

	handedOver func(string, time.Duration)
	expired    func(string, lock.HolderInfo)

	mu      sync.Mutex
	waits   map[client][]*wait
	waiting int
	freed   map[string]time.Time // when a slot that a client was seen to take was last given back, by group
}

var _ fleetlock.Server = (*Server)(nil)

// New returns a server.
func New(o Options) *Server {
	s := &Server{
		store: newBounded(o.Store), groups: o.Groups, hold: o.Hold, most: o.Waits, changed: o.Changed,
		waits: map[client][]*wait{}, freed: map[string]time.Time{}, handedOver: o.HandedOver, expired: o.Expired,
	}
	if s.changed == nil {
		s.changed = func() {}
	}
	if s.expired == nil {
		s.expired = func(string, lock.HolderInfo) {}
	}
	s.journal.log = o.Log
	s.life, s.stop = context.WithCancelCause(context.Background())
	return s
}

// Stop makes the requests that are held open end at once, and those that follow as well. The clients keep their places
// in the queue.
func (s *Server) Stop() { s.stop(errStopping) }

// Waiting returns the number of requests that are held open.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// request is a request of a client that may use its group.
type request struct {
	client
	group   Group
	address string // without the port
	lock    *lock.Lock
}

// PreReboot implements [fleetlock.Server].
func (s *Server) PreReboot(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	// A steady-state, or a later request, of the client ends this one, also while a password is checked.
	w := s.beginWait(ctx, client{p.Group, p.ID})
	defer s.endWait(w)
	for {
		r, err := s.admit(w.ctx, caller, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err() // nobody reads the answer
		case err != nil && err == w.ctx.Err():
			return ended(context.Cause(w.ctx))
		case err != nil:
			return err
		}
		err = s.take(ctx, w, r)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == errChanged && time.Now().Before(w.until):
			continue
		case err == errChanged:
			err = w.heldLongEnough()
		}
		s.journal.answered(r, err)
		return err
	}
}

// SteadyState implements [fleetlock.Server].
func (s *Server) SteadyState(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) error {
	r, err := s.admit(ctx, caller, p)
	if err != nil {
		return err
	}
	// A request that has not come to the queue yet could take a slot afterwards.
	if err = s.endWaits(ctx, r.client); err == nil {
		s.gives(r.client)
		err = r.lock.Withdraw(ctx, r.id, owner(r.id))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		err = s.refuse(r, err, "the slot may not be free yet: ask for steady-state again")
		s.journal.answered(r, err)
		return err
	}
	s.journal.reached()
	s.journal.steady(r)
	return nil
}

// admit returns the request of a client, if it may use its group.
func (s *Server) admit(ctx context.Context, caller fleetlock.Caller, p fleetlock.Params) (*request, error) {
	r := &request{client: client{p.Group, p.ID}, address: caller.Address}
	if host, _, err := net.SplitHostPort(caller.Address); err == nil {
		r.address = host
	}
	group, served := s.groups()[p.Group]
	if !served {
		return nil, s.reject(r, fleetlock.KindUnknownGroup, fmt.Sprintf("group %s is not served here", p.Group))
	}
	r.group = group
	if group.Users != nil {
		switch ok, err := group.Users.Check(ctx, r.address, caller.User, caller.Password); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, s.reject(r, fleetlock.KindUnavailable, err.Error())
		case !ok && caller.User == "":
			return nil, s.reject(r, fleetlock.KindUnauthorized, fmt.Sprintf("group %s wants a user and a password", p.Group))
		case !ok:
			return nil, s.reject(r, fleetlock.KindUnauthorized, fmt.Sprintf("user and password are not those of a user of group %s", p.Group))
		}
	}
	if err := lock.ValidateID(p.ID); err != nil {
		return nil, s.reject(r, fleetlock.KindBadRequest, err.Error())
	}
	// Each request has a lock of its own: a lock is for one caller at a time. What it would remember of a transaction
	// whose reply is lost is not needed: see lock.Lock.Withdraw.
	l, err := lock.New(s.store, group.Lock, group.Max)
	if err != nil {
		return nil, err
	}
	l.Identify(lock.Record{Remote: true}, nil)
	r.lock = l
	return r, nil
}

// take takes a slot for a client, or says why not. It ends with errChanged if the settings of the group have changed.
// ctx is that of the request.
func (s *Server) take(ctx context.Context, w *wait, r *request) error {
	round, err := s.beginRound(w, r)
	if err != nil {
		return ended(err)
	}
	defer w.again(nil)
	if now, served := s.groups()[r.client.group]; !served || now != r.group {
		return errChanged // since admit has read them: Reload did not know of this round yet
	}
	if !time.Now().Before(w.until) {
		return w.heldLongEnough()
	}
	why, end := r.group.shut(time.Now())
	if why != "" {
		return s.shut(w, r, why)
	}
	held, cancel := context.WithDeadlineCause(round, w.until, errHeld)
	defer cancel()
	if !end.IsZero() {
		held, cancel = context.WithDeadlineCause(held, end, errShut)
		defer cancel()
	}
	err = r.lock.Acquire(held, r.id, s.record(r.group, r.id, r.address), func(now lock.WaitStatus, err error) {
		if h := now.Expired; h != nil {
			s.journal.log.Info("freed an expired slot", "group", r.client.group, "id", h.ID, "host", h.Record.Hostname, "since", h.Record.Since)
			s.expired(r.group.Lock, *h)
			return
		}
		if w.last = &now; err == nil && now.Pause == nil && now.Ahead == "" && !now.Beside && !now.Outside {
			w.firstFrom(time.Now())
		} else {
			w.first = time.Time{}
		}
		if err != nil {
			w.last = nil
			s.journal.unreachable(err)
		} else {
			s.journal.reached()
		}
	})
	switch cause := context.Cause(held); {
	case err == nil:
		s.took(w)
		s.journal.reached()
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case decisive(err):
	case w.ctx.Err() != nil: // a later request of the client decides, whatever has happened to this one
		return ended(context.Cause(w.ctx))
	case cause == errChanged: // if it has taken the slot, the next round finds out
		return errChanged
	case errors.Is(err, lock.ErrUnknown):
	case cause == errShut:
		why, _ := r.group.shut(end)
		return s.shut(w, r, why)
	case errors.Is(err, lock.ErrLostPlace):
		return refused(fleetlock.KindLockHeld, "the place in the queue is gone: the host has asked another server, "+
			"or was passed over because it did not take a free slot, or etcd was out of reach for too long")
	case cause == errHeld && w.last != nil:
		return w.heldLongEnough()
	}
	return s.refuse(r, err, "the host may have a slot: ask again")
}

// heldLongEnough is the answer at the end of the hold.
func (w *wait) heldLongEnough() error {
	switch {
	case w.last == nil:
		return unavailable("the time for which a request is held open was over before there was an answer from etcd: ask again")
	case w.last.Pause != nil:
		return refused(fleetlock.KindPaused, w.last.String())
	}
	return refused(fleetlock.KindLockHeld, w.last.String())
}

// ended is the answer to a request whose wait has ended early, for the cause of its context. It returns other errors as
// they are.
func ended(cause error) error {
	switch cause {
	case errStopping:
		return unavailable("the server stops: ask again")
	case errWithdrawn:
		return refused(fleetlock.KindLockHeld, "the host has asked for steady-state meanwhile")
	case errAskedAgain:
		return refused(fleetlock.KindLockHeld, "asked again by another request")
	}
	return cause
}

// decisive reports whether an error of the lock is an answer, which says more than why the wait has ended.
func decisive(err error) bool {
	var clone *lock.CloneError
	var document *lock.DocumentError
	return errors.As(err, &clone) || errors.As(err, &document) || errors.Is(err, lock.ErrRefused)
}

// shut answers while the window is shut. A host that has a slot already may still reboot.
func (s *Server) shut(w *wait, r *request, why string) error {
	ctx := w.ctx
	held, _, err := r.lock.Holder(ctx, r.id)
	if err == nil && held { // a steady-state whose outcome is unknown could still take the slot away
		if err = r.lock.Fence(ctx); err == nil {
			held, _, err = r.lock.Holder(ctx, r.id)
		}
	}
	if err == nil && !held {
		// Hosts whose windows are open may wait behind it.
		err = r.lock.LeaveQueue(ctx, r.id, owner(r.id))
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return ended(context.Cause(ctx))
	case err != nil:
		return s.refuse(r, err, why)
	case held:
		return nil
	}
	s.journal.reached()
	return refused(fleetlock.KindWindowShut, why)
}

// refuse returns the answer for an error of the lock. unknown is what to say where the outcome is unknown.
func (s *Server) refuse(r *request, err error, unknown string) error {
	var clone *lock.CloneError
	var document *lock.DocumentError
	switch {
	case errors.As(err, &clone):
		value := fmt.Sprintf("the host %s, which asks for itself, has the id %s in group %s: each host needs an id of its own",
			safetext.Clean(clone.Other.Hostname), safetext.Clean(r.id), r.client.group)
		return &fleetlock.Error{Kind: KindIDInUse, Status: 409, Value: value}
	case errors.As(err, &document):
		s.journal.broken(document)
		return refused(fleetlock.KindInternalError, "the lock in etcd cannot be understood; the log of the server says what to do")
	case errors.Is(err, lock.ErrRefused):
		s.journal.unreachable(err)
		return unavailable("etcd refuses what the server asks for; the log of the server says why")
	case errors.Is(err, lock.ErrUnknown):
		s.journal.unreachable(err)
		return unavailable(unknown)
	}
	s.journal.unreachable(err)
	return unavailable("etcd does not answer; the log of the server says more")
}

// KindIDInUse is the kind of the answer to a client whose id is that of a host which asks for itself. Code 409.
const KindIDInUse = "id_in_use"

func refused(kind, value string) error { return &fleetlock.Error{Kind: kind, Value: value} }

func unavailable(value string) error { return refused(fleetlock.KindUnavailable, value) }

// reject returns the answer to a client that may not use the group, and logs it.
func (s *Server) reject(r *request, kind, value string) error {
	s.journal.rejected(r, kind, value)
	return refused(kind, value)
}
