package grant

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// Why a wait ends without a slot.
var (
	errHeld       = errors.New("the request was held open for as long as it may be")
	errShut       = errors.New("the reboot window has shut")
	errStopping   = errors.New("the server stops")
	errAskedAgain = errors.New("the client has asked again")
	errWithdrawn  = errors.New("the client has asked for steady-state")
	errChanged    = errors.New("the settings of the group have changed")
)

// client is a host, as it calls itself.
type client struct{ group, id string }

// wait is a request for a slot, from its beginning to its answer.
type wait struct {
	client
	until  time.Time       // when its hold ends
	ctx    context.Context // ends with the request, and when another one overtakes it
	cancel context.CancelCauseFunc
	unbind func() bool
	done   chan struct{}

	// last is what the client was last seen to wait for; nil if etcd has not said so yet, or does not answer any more.
	// Only the goroutine of the request uses it.
	last *lock.WaitStatus
	// first is since when the client is first in the queue, with nothing but a slot to wait for; zero if it is not. It is
	// for the same goroutine.
	first time.Time

	// Server.mu guards what follows.
	admitted bool // it may use the lock, and is counted
	settings Group
	again    context.CancelCauseFunc // ends the current round
}

// beginWait notes a request for a slot. Whether the client may use the group is not known yet.
func (s *Server) beginWait(ctx context.Context, c client) *wait {
	w := &wait{client: c, until: time.Now().Add(s.hold), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits[c] = append(s.waits[c], w)
	if s.life.Err() != nil {
		w.cancel(context.Cause(s.life)) // AfterFunc does it later
	}
	w.unbind = context.AfterFunc(s.life, func() { w.cancel(context.Cause(s.life)) })
	return w
}

// beginRound lets a request use the lock, with the settings by which it was admitted, until the context that it returns
// ends. The first round counts the request, and ends the earlier ones of the same client.
func (s *Server) beginRound(w *wait, r *request) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.ctx.Err() != nil {
		return nil, context.Cause(w.ctx)
	}
	if !w.admitted {
		waits := s.waits[w.client]
		if s.waiting >= s.most && !slices.ContainsFunc(waits, func(other *wait) bool { return other.admitted }) {
			return nil, unavailable("as many hosts wait at this server as it takes at once: ask again")
		}
		for _, earlier := range waits[:slices.Index(waits, w)] {
			earlier.cancel(errAskedAgain)
		}
		w.admitted = true
		s.waiting++
		s.changed()
	}
	if r.group.Lock != w.settings.Lock {
		w.last = nil // it was about another lock
	}
	w.settings = r.group
	var round context.Context
	round, w.again = context.WithCancelCause(w.ctx)
	return round, nil
}

// endWait ends a request for a slot.
func (s *Server) endWait(w *wait) {
	w.unbind()
	w.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits[w.client] = slices.DeleteFunc(s.waits[w.client], func(other *wait) bool { return other == w })
	if len(s.waits[w.client]) == 0 {
		delete(s.waits, w.client)
	}
	if w.admitted {
		s.waiting--
		s.changed()
	}
	close(w.done)
}

// endWaits ends the requests of a client for a slot. When it returns, none of them uses the lock any more.
func (s *Server) endWaits(ctx context.Context, c client) error {
	var using []*wait
	s.mu.Lock()
	for _, w := range s.waits[c] {
		w.cancel(errWithdrawn)
		if w.admitted { // another one will not be
			using = append(using, w)
		}
	}
	s.mu.Unlock()
	for _, w := range using {
		select {
		case <-w.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Reload makes the requests that wait begin again where the settings of their group have changed. They keep their
// places. Call it after Options.Groups has begun to return the new settings.
func (s *Server) Reload() {
	groups := s.groups()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, waits := range s.waits {
		for _, w := range waits {
			if now, served := groups[c.group]; w.admitted && (!served || now != w.settings) {
				w.again(errChanged)
			}
		}
	}
}
