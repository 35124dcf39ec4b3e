package lock_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/storetest"
)

// cutOff cuts call off from the store right when it commits: its transaction is on the way, and
// nothing can be read before it gives up.
func cutOff(t *testing.T, s *storetest.Memory, call func(context.Context) error) {
	t.Helper()
	s.FailCommits(storetest.CutOff)
	if err := call(t.Context()); !errors.Is(err, lock.ErrUnknown) || !errors.Is(err, storetest.ErrFault) {
		t.Fatalf("the call returned %v", err)
	}
	s.Break(nil)
}

func TestLockOfUnknownOutcome(t *testing.T) {
	ctx := context.Background()
	for name, test := range map[string]func(*testing.T, *storetest.Memory, *lock.Lock){
		"can no longer happen once released": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			if err := l.Release(ctx, "a"); err != nil {
				t.Error(err)
			}
			s.Deliver()
			if h := holdersIn(t, s); len(h) != 0 {
				t.Errorf("held by %v", h)
			}
			var notHeld *lock.NotHeldError
			if err := l.Release(ctx, "a"); !errors.As(err, &notHeld) {
				t.Errorf("a second release returned %v", err)
			}
		},
		"is released if it has happened": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			s.Deliver()
			if err := l.Release(ctx, "a"); err != nil {
				t.Error(err)
			}
			if h := holdersIn(t, s); len(h) != 0 {
				t.Errorf("held by %v", h)
			}
		},
		"is a lock if it has happened": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			s.Deliver()
			if already, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil || already {
				t.Error(already, err)
			}
		},
		"is made a lock by trying again": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			if err := l.Acquire(ctx, "a", lock.Record{}, nil); err != nil {
				t.Error(err)
			}
			s.Deliver()
			if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
				t.Errorf("held by %v", h)
			}
		},
		"is void when another has taken the slot": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			if _, err := newLock(t, s, "").TryAcquire(ctx, "b", lock.Record{}); err != nil {
				t.Fatal(err)
			}
			var full *lock.FullError
			if _, err := l.TryAcquire(ctx, "a", lock.Record{}); !errors.As(err, &full) || errors.Is(err, lock.ErrUnknown) {
				t.Errorf("trying again returned %v", err)
			}
			s.Deliver()
			if h := holdersIn(t, s); !slices.Equal(h, []string{"b"}) {
				t.Errorf("held by %v", h)
			}
		},
		"is not reported as held or not": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			if held, _, err := l.Holder(ctx, "a"); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("holder is %v, %v", held, err)
			}
			s.Deliver()
			if held, _, err := l.Holder(ctx, "a"); err != nil || !held {
				t.Errorf("holder is %v, %v", held, err)
			}
		},
		"stays unknown while nothing can be read": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			s.Break(storetest.ErrFault)
			if err := l.Release(ctx, "a"); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("release returned %v", err)
			}
			if _, err := l.TryAcquire(ctx, "a", lock.Record{}); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("lock returned %v", err)
			}
		},
		"is released although the reply to that is lost": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			s.FailCommits(storetest.LoseReply)
			if err := l.Release(ctx, "a"); err != nil {
				t.Error(err)
			}
			s.Deliver()
			if h := holdersIn(t, s); len(h) != 0 {
				t.Errorf("held by %v", h)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, existed := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					s := storetest.NewMemory()
					if existed {
						put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
					}
					l := newLock(t, s, "")
					cutOff(t, s, func(ctx context.Context) error {
						_, err := l.TryAcquire(ctx, "a", lock.Record{})
						return err
					})
					test(t, s, l)
				})
			}
		})
	}
}

func TestUnlockOfUnknownOutcome(t *testing.T) {
	ctx := context.Background()
	for name, test := range map[string]func(*testing.T, *storetest.Memory, *lock.Lock){
		"does not undo a lock that is taken as held meanwhile": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
				t.Error(err)
			}
			s.Deliver()
			if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
				t.Errorf("held by %v", h)
			}
		},
		"does not undo a later lock": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			if err := l.Release(ctx, "a"); err != nil {
				t.Error(err)
			}
			if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
				t.Error(err)
			}
			s.Deliver()
			if h := holdersIn(t, s); !slices.Equal(h, []string{"a"}) {
				t.Errorf("held by %v", h)
			}
		},
		"is success if it has happened": func(t *testing.T, s *storetest.Memory, l *lock.Lock) {
			s.Deliver()
			if err := l.Release(ctx, "a"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storetest.NewMemory()
				l := newLock(t, s, "")
				if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
					t.Fatal(err)
				}
				cutOff(t, s, func(ctx context.Context) error { return l.Release(ctx, "a") })
				test(t, s, l)
			})
		})
	}
}
