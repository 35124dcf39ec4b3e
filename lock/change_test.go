package lock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestLostReplyToACommittedLockIsSuccess(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			l := newLock(t, s, "")
			s.FailCommits(fault)
			already, err := l.TryAcquire(t.Context(), "a", lock.Record{Hostname: "h"})
			if err != nil || already {
				t.Fatalf("fault %d: %v, %v", fault, already, err)
			}
			held, r, err := l.Holder(t.Context(), "a")
			if err != nil || !held || r.Hostname != "h" {
				t.Errorf("fault %d: the holder is %v, %+v, %v", fault, held, r, err)
			}
		})
	}
}

func TestLostReplyToACommittedUnlockIsSuccess(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			l := newLock(t, s, "")
			if _, err := l.TryAcquire(t.Context(), "a", lock.Record{}); err != nil {
				t.Fatal(err)
			}
			s.FailCommits(fault)
			if err := l.Release(t.Context(), "a"); err != nil {
				t.Fatalf("fault %d: %v", fault, err)
			}
			if h := holdersIn(t, s); len(h) != 0 {
				t.Errorf("fault %d: held by %v", fault, h)
			}
		})
	}
}

func TestLostReplyToSetMaxIsSuccess(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			s.FailCommits(fault)
			before, after, err := newLock(t, s, "").SetMax(t.Context(), 4)
			if err != nil || before.Max != 1 || after.Max != 4 {
				t.Fatalf("fault %d: %+v, %+v, %v", fault, before, after, err)
			}
			if data := string(read(t, s, defaultKey).Data); data != `{"semaphore":4,"max":4,"holders":null}` {
				t.Errorf("fault %d: the document is %s", fault, data)
			}
		})
	}
}

func TestLostReplyWhileOthersChangeTheDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":2,"max":2,"holders":null}`)
		s.FailCommits(storetest.LoseRequest)
		// The read that follows finds that another host was quicker; that does not tell what became of this write.
		failed := func(c *storetest.Call) bool { return c.Method == storetest.Commit && c.Err != nil }
		other := storetest.After(s, failed, func() { put(t, s, defaultKey, `{"semaphore":1,"max":2,"holders":["b"]}`) })
		if already, err := newLock(t, other, "").TryAcquire(t.Context(), "a", lock.Record{}); err != nil || already {
			t.Fatal(already, err)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"a", "b"}) {
			t.Errorf("held by %v", h)
		}
	})
}

func TestUnknownOutcomeIsTriedUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		s.FailCommits(storetest.CutOff)
		time.AfterFunc(8*time.Second, func() { s.Break(nil) })
		if already, err := l.TryAcquire(t.Context(), "a", lock.Record{}); err != nil || already {
			t.Error(already, err)
		}
	})
}

func TestFailingWriteIsRepeatedWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		s.FailCommits(slices.Repeat([]storetest.Fault{storetest.LoseRequest}, 1000)...)
		if _, err := l.TryAcquire(t.Context(), "a", lock.Record{}); !errors.Is(err, lock.ErrUnknown) || !errors.Is(err, storetest.ErrFault) {
			t.Errorf("lock returned %v", err)
		}
		if s.Calls() > 100 {
			t.Errorf("it took %d calls", s.Calls())
		}
	})
}

func TestRefusalIsAnAnswer(t *testing.T) {
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	for name, call := range map[string]func() error{
		"lock":    func() error { _, err := l.TryAcquire(t.Context(), "a", lock.Record{}); return err },
		"acquire": func() error { return l.Acquire(t.Context(), "a", lock.Record{}, nil) },
		"set-max": func() error { _, _, err := l.SetMax(t.Context(), 3); return err },
		"status":  func() error { _, err := l.Status(t.Context()); return err },
	} {
		s.FailCommits(storetest.Refuse)
		before := s.Calls()
		err := call()
		if !errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrUnknown) {
			t.Errorf("%s returned %v", name, err)
		}
		if n := s.Calls() - before; n != 2 {
			t.Errorf("%s took %d calls, not a reading and a try", name, n)
		}
	}
}

func TestRefusalDoesNotSettleWhatWasUnknownBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		s.FailCommits(storetest.HoldRequest, storetest.Refuse)
		if _, err := l.TryAcquire(t.Context(), "a", lock.Record{}); !errors.Is(err, lock.ErrUnknown) {
			t.Errorf("lock returned %v", err)
		}
	})
}

func TestCallThatEndsBeforeItSendsLeavesNothingUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	read := func(c *storetest.Call) bool { return c.Method == storetest.Get }
	l := newLock(t, storetest.After(storetest.NewMemory(), read, cancel), "")
	if _, err := l.TryAcquire(ctx, "a", lock.Record{}); !errors.Is(err, context.Canceled) || errors.Is(err, lock.ErrUnknown) {
		t.Errorf("lock returned %v", err)
	}
}

// busy returns a store in which somebody else changes the document before each of n Commits.
func busy(t *testing.T, s lock.Store, n int) lock.Store {
	return &storetest.Hooked{Store: s, Before: func(c *storetest.Call) error {
		if c.Method == storetest.Commit && n > 0 {
			n--
			put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		}
		return nil
	}}
}

func TestConflictsAreRetriedWithABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l := newLock(t, busy(t, storetest.NewMemory(), 20), "")
		if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
			t.Errorf("20 conflicts are too many: %v", err)
		}
		for name, call := range map[string]func(*lock.Lock) error{
			"lock":    func(l *lock.Lock) error { _, err := l.TryAcquire(ctx, "a", lock.Record{}); return err },
			"set-max": func(l *lock.Lock) error { _, _, err := l.SetMax(ctx, 3); return err },
		} {
			s := storetest.NewMemory()
			err := call(newLock(t, busy(t, s, 1<<30), ""))
			if err == nil || errors.Is(err, lock.ErrUnknown) || !strings.Contains(err.Error(), "changes of others") {
				t.Errorf("%s returned %v", name, err)
			}
			if s.Calls() > 200 {
				t.Errorf("%s took %d calls", name, s.Calls())
			}
		}
	})
}

func TestConflictsDoNotEndAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		failures := 0
		err := newLock(t, busy(t, s, 100), "").Acquire(t.Context(), "a", lock.Record{}, func(_ lock.WaitStatus, err error) {
			if err != nil {
				failures++
			}
		})
		if err != nil || failures == 0 {
			t.Errorf("acquire returned %v after %d failures", err, failures)
		}
	})
}

func TestAnswersAreNotCalledUnknown(t *testing.T) {
	s := storetest.NewMemory()
	put(t, s, defaultKey, "rubbish")
	var document *lock.DocumentError
	if err := newLock(t, s, "").Fence(t.Context()); !errors.As(err, &document) || errors.Is(err, lock.ErrUnknown) {
		t.Errorf("fence of a document that cannot be understood: %v", err)
	}
	s = storetest.NewMemory()
	s.FailCommits(storetest.Refuse)
	if err := newLock(t, s, "").Fence(t.Context()); !errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrUnknown) {
		t.Errorf("fence that was refused: %v", err)
	}
}
