package lock

import (
	"context"
	"errors"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// session is a lease that lives for as long as a wait. It is kept alive beside the goroutine that waits, but
// only while that goroutine waits for the store, whose calls all end: a callback that does not return
// stops it (see outside), and the lease runs out. The zero session has no lease.
type session struct {
	lease     int64
	store     Leases
	alive     context.Context // ends with the wait, and with ErrLostPlace as its cause when the lease has run out
	stop      func()          // stops keeping the lease alive
	turn      chan struct{}   // holds a token, except while the wait is outside
	keepLease bool            // the lease outlives the session, and runs out by itself
}

// startSession gets a lease of a length, before the context grant ends, and keeps it alive until ctx ends or
// the session does.
func startSession(ctx, grant context.Context, store Leases, length time.Duration) (session, error) {
	lease, err := store.Grant(grant, length)
	if err != nil {
		return session{}, err
	}
	alive, cancel := context.WithCancelCause(ctx)
	s := session{lease: lease, store: store, alive: alive, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	done := make(chan struct{})
	s.stop = func() { cancel(nil); <-done }
	go func() {
		defer close(done)
		if keepAlive(alive, store, lease, length/3, s.turn) {
			cancel(ErrLostPlace)
		}
	}()
	return s, nil
}

// keepAlive renews the lease at an interval, while there is a token in turn, until ctx ends. It returns
// true if the lease has run out, as it does when this process or its wait stood still for too long.
func keepAlive(ctx context.Context, store Leases, lease int64, interval time.Duration, turn chan struct{}) (lost bool) {
	for next := interval; ; {
		backoff.Sleep(ctx, next)
		select {
		case <-turn:
			turn <- struct{}{}
		case <-ctx.Done():
			return false
		}
		err := store.KeepAlive(ctx, lease)
		next = interval
		switch {
		case errors.Is(err, ErrNoLease):
			return true
		case err != nil:
			next = interval / 10
		}
	}
}

// outside runs f, which may not return. The lease is not kept alive meanwhile.
func (s *session) outside(f func()) {
	if s.turn == nil {
		f()
		return
	}
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	f()
}

// end gives up the lease, and with it its keys, unless it is to outlive the session.
func (s *session) end(ctx context.Context) {
	if s.stop == nil {
		return
	}
	s.stop()
	if !s.keepLease {
		revoke(ctx, s.store, s.lease)
	}
}
