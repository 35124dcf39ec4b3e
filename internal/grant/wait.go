package grant

import (
	"context"
	"errors"
	"slices"
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

// wait is a request for a slot.
type wait struct {
	client
	settings Group
	ctx      context.Context
	cancel   context.CancelCauseFunc
	unbind   func() bool
	done     chan struct{}
}

// beginWait notes a request for a slot, and ends the earlier ones of the same client.
func (s *Server) beginWait(ctx context.Context, r *request) (*wait, error) {
	c := r.client
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.life.Err() != nil:
		return nil, unavailable("the server stops: ask again")
	case s.waiting >= s.most && len(s.waits[c]) == 0:
		return nil, unavailable("as many hosts wait at this server as it takes at once: ask again")
	}
	for _, earlier := range s.waits[c] {
		earlier.cancel(errAskedAgain)
	}
	w := &wait{client: c, settings: r.group, done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.unbind = context.AfterFunc(s.life, func() { w.cancel(context.Cause(s.life)) })
	s.waits[c] = append(s.waits[c], w)
	s.waiting++
	s.changed()
	return w, nil
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
	s.waiting--
	s.changed()
	close(w.done)
}

// endWaits ends the requests of a client for a slot, and returns when they have ended.
func (s *Server) endWaits(ctx context.Context, c client) error {
	s.mu.Lock()
	waits := slices.Clone(s.waits[c])
	s.mu.Unlock()
	for _, w := range waits {
		w.cancel(errWithdrawn)
	}
	for _, w := range waits {
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
			if now, served := groups[c.group]; !served || now != w.settings {
				w.cancel(errChanged)
			}
		}
	}
}
