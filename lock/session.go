package lock

import (
	"context"
	"errors"
	"time"
)

// session is a lease that lives for as long as a wait goes on. It is kept alive beside the goroutine that
// waits, but only while that one is waiting for the store, all of whose calls end: a caller that does
// not return from what it was told in outside stops it, and the lease runs out. The zero session is
// none.
type session struct {
	lease int64           // 0: there is none, nor can there be anything that lives with it
	alive context.Context // ends with errLostPlace when the lease has run out
	stop  func()          // keeping it alive
	turn  chan struct{}   // has a token, except while the wait is outside
}

// newSession gets a lease of a length, and keeps it alive until ctx ends or end is called.
func newSession(ctx, grant context.Context, store Leases, length time.Duration) (session, error) {
	lease, err := store.Grant(grant, length)
	if err != nil {
		return session{}, err
	}
	alive, cancel := context.WithCancelCause(ctx)
	s := session{lease: lease, alive: alive, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	done := make(chan struct{})
	s.stop = func() { cancel(nil); <-done }
	go func() {
		defer close(done)
		if keepAlive(alive, store, lease, length/3, s.turn) {
			cancel(errLostPlace)
		}
	}()
	return s, nil
}

// keepAlive keeps the lease, with a sign every so often while there is a token in turn, until ctx ends. It
// returns true if the lease has run out, as it does when this process or its wait stood still for too
// long.
func keepAlive(ctx context.Context, store Leases, lease int64, every time.Duration, turn chan struct{}) (lost bool) {
	for next := every; ; {
		sleep(ctx, next)
		select {
		case <-turn:
			turn <- struct{}{}
		case <-ctx.Done():
			return false
		}
		err := store.KeepAlive(ctx, lease)
		next = every
		switch {
		case errors.Is(err, ErrNoLease):
			return true
		case err != nil:
			next = every / 10
		}
	}
}

// outside runs what may not return. The lease is not kept alive meanwhile.
func (s *session) outside(f func()) {
	if s.turn == nil {
		f()
		return
	}
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	f()
}

// end gives the lease up, and whatever lives with it.
func (s *session) end(ctx context.Context, store Leases) {
	if s.stop != nil {
		s.stop()
	}
	if s.lease != 0 {
		revoke(ctx, store, s.lease)
	}
	*s = session{}
}
