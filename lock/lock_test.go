package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/storetest"
)

const defaultKey = "coreos.com/updateengine/rebootlock/semaphore"

func newLock(t testing.TB, s lock.Store, group string) *lock.Lock {
	t.Helper()
	l, err := lock.New(s, group, 1)
	must.Do(t, err)
	return l
}

func lockFor(ctx context.Context, t testing.TB, l *lock.Lock, id string) {
	t.Helper()
	if already, err := l.TryAcquire(ctx, id, lock.Record{}); err != nil || already {
		t.Fatal(already, err)
	}
}

// put writes a document past the lock, as an administrator with etcdctl would.
func put(t testing.TB, s lock.Store, key, document string) {
	t.Helper()
	if ok, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: key, Value: []byte(document)}}); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

// read returns a key past the lock.
func read(t testing.TB, s lock.Store, key string) lock.Value {
	t.Helper()
	snap, err := s.Get(context.WithoutCancel(t.Context()), lock.Read{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return snap.Values[key]
}

func holdersIn(t testing.TB, s lock.Store) []string {
	t.Helper()
	sem, err := lock.ParseSemaphore(read(t, s, defaultKey).Data)
	if err != nil {
		t.Fatal(err)
	}
	return sem.Holders
}

func TestKeyOfAGroupIsQueryEscaped(t *testing.T) {
	const root = "coreos.com/updateengine/rebootlock/"
	for group, prefix := range map[string]string{
		"":              root,
		"lb":            root + "groups/lb/",
		"prod/database": root + "groups/prod%2Fdatabase/",
		"a b+c":         root + "groups/a+b%2Bc/",
		"...":           root + "groups/.../",
		"../x":          root + "groups/..%2Fx/",
		"größe":         root + "groups/gr%C3%B6%C3%9Fe/",
	} {
		s := storetest.NewMemory()
		l := newLock(t, s, group)
		if _, err := l.TryAcquire(t.Context(), "../a/b", lock.Record{}); err != nil {
			t.Fatal(err)
		}
		if v := read(t, s, prefix+"semaphore"); v.ModRevision == 0 {
			t.Errorf("group %q has no key %ssemaphore", group, prefix)
		}
		if v := read(t, s, prefix+"holders/..%2Fa%2Fb"); v.ModRevision == 0 {
			t.Errorf("group %q has no record of its holder", group)
		}
	}
}

func TestGroupThatEscapesItsKeyIsRefused(t *testing.T) {
	for _, group := range []string{".", "..", "a\nb", "\x00", "\xff"} {
		if _, err := lock.New(storetest.NewMemory(), group, 1); err == nil || !strings.Contains(err.Error(), strconv.Quote(group)) {
			t.Errorf("group %q got %v", group, err)
		}
	}
}

func TestDocumentThatCannotBeReadIsNeverOverwritten(t *testing.T) {
	ctx := t.Context()
	for _, document := range []string{
		"", "hello", "{}", `{"semaphore":1,"max":1`, `{"semaphore":1,"max":1,"holders":["a"]}`,
		`{"semaphore":0,"max":2,"holders":["a","a"]}`, `{"semaphore":-1,"max":-1,"holders":null}`, "\xff\xfe",
		strings.Repeat("x", 1<<20),
	} {
		s := storetest.NewMemory()
		put(t, s, defaultKey, document)
		before := read(t, s, defaultKey)
		l := newLock(t, s, "")
		_, statusErr := l.Status(ctx)
		_, _, maxErr := l.SetMax(ctx, 2)
		_, tryErr := l.TryAcquire(ctx, "a", lock.Record{})
		acquireErr := l.Acquire(ctx, "a", lock.Record{}, nil)
		releaseErr := l.Release(ctx, "a")
		_, _, holderErr := l.Holder(ctx, "a")
		for i, err := range []error{statusErr, maxErr, tryErr, acquireErr, releaseErr, holderErr} {
			var d *lock.DocumentError
			if !errors.As(err, &d) || d.Key != defaultKey || !strings.Contains(err.Error(), defaultKey) || !strings.Contains(err.Error(), "etcdctl") {
				t.Errorf("%.30q: call %d returned %v", document, i, err)
			} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 500 {
				t.Errorf("%.30q: call %d returned more than a sentence: %v", document, i, err)
			}
		}
		if after := read(t, s, defaultKey); !reflect.DeepEqual(before, after) {
			t.Errorf("%.30q became %.30q", document, after.Data)
		}
	}
}

func TestFailingCallsChangeNothing(t *testing.T) {
	ctx := t.Context()
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	for name, call := range map[string]func() error{
		"set-max -3":      func() error { _, _, err := l.SetMax(ctx, -3); return err },
		"lock of nobody":  func() error { _, err := l.TryAcquire(ctx, "", lock.Record{}); return err },
		"wait for nobody": func() error { return l.Acquire(ctx, "", lock.Record{}, nil) },
		"record of no time": func() error {
			return l.Acquire(ctx, "a", lock.Record{Since: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil)
		},
		"unlock of a stranger": func() error { return l.Release(ctx, "a") },
	} {
		if err := call(); err == nil {
			t.Errorf("%s succeeds", name)
		}
		if v := read(t, s, defaultKey); v.ModRevision != 0 {
			t.Errorf("%s has written %s", name, v.Data)
		}
	}
}

func TestSetMaxReturnsOldAndNew(t *testing.T) {
	s := storetest.NewMemory()
	l := newLock(t, s, "")
	for _, test := range []struct{ before, max int }{{1, 4}, {4, 4}, {4, 0}, {0, 2}} {
		before, after, err := l.SetMax(t.Context(), test.max)
		if err != nil || before.Max != test.before || after.Max != test.max || after.Free != test.max {
			t.Errorf("set-max %d returned %+v, %+v, %v", test.max, before, after, err)
		}
	}
}

func TestSetMaxBelowTheHoldersSaysSo(t *testing.T) {
	s := storetest.NewMemory()
	put(t, s, defaultKey, `{"semaphore":1,"max":3,"holders":["a","b"]}`)
	_, after, err := newLock(t, s, "").SetMax(t.Context(), 1)
	if err != nil || after.Free != -1 || len(after.Holders) != 2 {
		t.Errorf("it is %+v, %v", after, err)
	}
}

func TestRecordNeverBlocks(t *testing.T) {
	ctx := t.Context()
	for name, record := range map[string]string{
		"broken": "{", "of another type": `{"hostname":[1]}`, "a list": `[]`, "huge": strings.Repeat("x", 1<<20), "empty": "", "stale": `{"hostname":"old"}`,
	} {
		s := storetest.NewMemory()
		key := "coreos.com/updateengine/rebootlock/holders/a"
		l := newLock(t, s, "")
		put(t, s, key, record)
		if held, _, err := l.Holder(ctx, "a"); err != nil || held {
			t.Errorf("with a record that is %s, a holds: %v, %v", name, held, err)
		}
		if already, err := l.TryAcquire(ctx, "a", lock.Record{Hostname: "new"}); err != nil || already {
			t.Errorf("with a record that is %s: %v, %v", name, already, err)
		}
		put(t, s, key, record)
		if held, r, err := l.Holder(ctx, "a"); err != nil || !held || r.Hostname == "new" {
			t.Errorf("with a record that is %s, the holder is %v, %+v, %v", name, held, r, err)
		}
		if err := l.Release(ctx, "a"); err != nil {
			t.Errorf("with a record that is %s: %v", name, err)
		}
		if v := read(t, s, key); v.ModRevision != 0 {
			t.Errorf("the record that is %s outlives the release", name)
		}
	}
}

func TestHolderWithoutRecordHoldsAllTheSame(t *testing.T) {
	s := storetest.NewMemory()
	put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
	l := newLock(t, s, "")
	if held, r, err := l.Holder(t.Context(), "a"); err != nil || !held || r != (lock.Record{}) {
		t.Errorf("the holder is %v, %+v, %v", held, r, err)
	}
	if err := l.Release(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

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
		// The reading that follows finds that somebody else was quicker; this is no yes and no no.
		other := between(s, func() { put(t, s, defaultKey, `{"semaphore":1,"max":2,"holders":["b"]}`) })
		if already, err := newLock(t, other, "").TryAcquire(t.Context(), "a", lock.Record{}); err != nil || already {
			t.Fatal(already, err)
		}
		if h := holdersIn(t, s); !slices.Equal(h, []string{"a", "b"}) {
			t.Errorf("held by %v", h)
		}
	})
}

// between returns a store that runs f once, after the first Commit that fails.
func between(s lock.Store, f func()) lock.Store { return &betweenStore{Store: s, f: f} }

type betweenStore struct {
	lock.Store
	f func()
}

func (b *betweenStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := b.Store.Commit(ctx, conds, ops, reads...)
	if err != nil && b.f != nil {
		b.f()
		b.f = nil
	}
	return ok, now, err
}

// cutOff has call lose touch with the store right when it commits: its transaction is on the way, and
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

func TestWriteThatKeepsFailingIsNotHammered(t *testing.T) {
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
	l := newLock(t, &cancelingStore{storetest.NewMemory(), cancel}, "")
	if _, err := l.TryAcquire(ctx, "a", lock.Record{}); !errors.Is(err, context.Canceled) || errors.Is(err, lock.ErrUnknown) {
		t.Errorf("lock returned %v", err)
	}
}

// cancelingStore has the context of the caller end right after a Get.
type cancelingStore struct {
	lock.Store
	cancel func()
}

func (c *cancelingStore) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	defer c.cancel()
	return c.Store.Get(ctx, reads...)
}

// busyStore has somebody else change the document before each of n Commits.
type busyStore struct {
	lock.Store
	n int
}

func (b *busyStore) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	if b.n > 0 {
		b.n--
		if _, _, err := b.Store.Commit(ctx, nil, []lock.Op{{Key: defaultKey, Value: []byte(`{"semaphore":1,"max":1,"holders":null}`)}}); err != nil {
			return false, lock.Snapshot{}, err
		}
	}
	return b.Store.Commit(ctx, conds, ops, reads...)
}

func TestConflictsAreRetriedWithABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l := newLock(t, &busyStore{storetest.NewMemory(), 20}, "")
		if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
			t.Errorf("20 conflicts are too many: %v", err)
		}
		for name, call := range map[string]func(*lock.Lock) error{
			"lock":    func(l *lock.Lock) error { _, err := l.TryAcquire(ctx, "a", lock.Record{}); return err },
			"set-max": func(l *lock.Lock) error { _, _, err := l.SetMax(ctx, 3); return err },
		} {
			s := storetest.NewMemory()
			err := call(newLock(t, &busyStore{s, 1 << 30}, ""))
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
		troubles := 0
		err := newLock(t, &busyStore{s, 100}, "").Acquire(t.Context(), "a", lock.Record{}, func(_ lock.WaitStatus, err error) {
			if err != nil {
				troubles++
			}
		})
		if err != nil || troubles == 0 {
			t.Errorf("acquire returned %v after %d troubles", err, troubles)
		}
	})
}

func TestWaitIsToldOncePerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		a := newLock(t, s, "")
		if _, err := a.TryAcquire(t.Context(), "a", lock.Record{}); err != nil {
			t.Fatal(err)
		}
		var told []string
		done := make(chan error, 1)
		go func() {
			done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, func(w lock.WaitStatus, err error) {
				told = append(told, fmt.Sprint(w.Semaphore.Max, w.Semaphore.Holders, err))
			})
		}()
		synctest.Wait()
		time.Sleep(time.Hour) // in which the semaphore is read again now and then
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["c"]}`)
		synctest.Wait()
		s.Break(storetest.ErrFault)
		synctest.Wait()
		s.Break(nil)
		time.Sleep(time.Minute)
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want := []string{"1 [a] <nil>", "1 [c] <nil>", "1 [c] take a slot for b: injected fault", "1 [c] <nil>"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestWaitingIsWatchingNotPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(ctx, "b", lock.Record{}, nil) }()
		synctest.Wait()
		before := s.Calls()
		time.Sleep(time.Hour)
		if n := s.Calls() - before; n > 24 { // a reading and a watch every five minutes
			t.Errorf("an hour of waiting took %d calls", n)
		}
		// And the free slot is taken at once: no fake time passes.
		start := time.Now()
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		if err := <-done; err != nil || time.Since(start) != 0 {
			t.Errorf("it took %v to have it: %v", time.Since(start), err)
		}
		cancel()
	})
}

func TestWatchThatStaysSilentIsNotBelievedForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		s.Deafen()
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, nil) }()
		synctest.Wait()
		put(t, s, defaultKey, `{"semaphore":1,"max":1,"holders":null}`)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestOutageDoesNotEndAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		s.Break(storetest.ErrFault) // down at first
		done := make(chan error, 1)
		var troubles atomic.Int32
		go func() {
			done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, func(_ lock.WaitStatus, err error) {
				if errors.Is(err, storetest.ErrFault) {
					troubles.Add(1)
				}
			})
		}()
		time.Sleep(time.Hour)
		if n := troubles.Load(); n < 300 || n > 3600 {
			t.Errorf("an hour of outage was %d troubles", n)
		}
		s.FailCommits(storetest.CutOff) // up, and down again when it tries
		s.Break(nil)
		time.Sleep(time.Hour)
		s.Break(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Deliver()
		if h := holdersIn(t, s); !slices.Equal(h, []string{"b"}) {
			t.Errorf("held by %v", h)
		}
	})
}

func TestWaitThatIsCalledOffHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(ctx, "b", lock.Record{}, nil) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, lock.ErrUnknown) {
			t.Errorf("acquire returned %v", err)
		}
	})
}

func TestDocumentThatBreaksDuringAWaitEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, nil) }()
		synctest.Wait()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":`)
		var d *lock.DocumentError
		if err := <-done; !errors.As(err, &d) {
			t.Errorf("acquire returned %v", err)
		}
	})
}

func TestDocumentThatIsDeletedDuringAWaitIsCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":0,"max":1,"holders":["a"]}`)
		done := make(chan error, 1)
		go func() { done <- newLock(t, s, "").Acquire(t.Context(), "b", lock.Record{}, nil) }()
		synctest.Wait()
		if _, _, err := s.Commit(t.Context(), nil, []lock.Op{{Key: defaultKey, Delete: true}}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRandomFaults has several hosts lock and unlock, with faults at random, and checks after every
// answer that it is true, and stays true whatever is still under way.
func TestRandomFaults(t *testing.T) {
	seed := randtest.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0))
		faults := []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest, storetest.HoldRequest, storetest.CutOff, storetest.Refuse}
		s := storetest.NewMemory()
		put(t, s, defaultKey, `{"semaphore":2,"max":2,"holders":null}`)
		type host struct {
			id   string
			lock *lock.Lock
		}
		var hosts []host
		for i := range 4 {
			hosts = append(hosts, host{fmt.Sprint("host", i), newLock(t, s, "")})
		}
		held := map[string]bool{} // what the hosts were told; no entry where they do not know
		for step := range 20_000 {
			h := hosts[random.IntN(len(hosts))]
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(5000))*time.Millisecond)
			for range random.IntN(3) {
				s.FailCommits(faults[random.IntN(len(faults))])
			}
			switch random.IntN(4) {
			case 0, 1:
				_, err := h.lock.TryAcquire(ctx, h.id, lock.Record{})
				var full *lock.FullError
				switch {
				case err == nil:
					held[h.id] = true
				case errors.As(err, &full):
					held[h.id] = false
				case errors.Is(err, lock.ErrUnknown):
					delete(held, h.id)
				}
			case 2:
				err := h.lock.Release(ctx, h.id)
				var notHeld *lock.NotHeldError
				switch {
				case err == nil, errors.As(err, &notHeld):
					held[h.id] = false
				case errors.Is(err, lock.ErrUnknown):
					delete(held, h.id)
				}
			case 3:
				is, _, err := h.lock.Holder(ctx, h.id)
				if err == nil {
					held[h.id] = is
				}
			}
			cancel()
			s.Break(nil)
			if random.IntN(3) == 0 {
				s.Deliver()
			}
			now := holdersIn(t, s)
			if len(now) > 2 {
				t.Fatalf("step %d: held by %v", step, now)
			}
			for id, told := range held {
				if slices.Contains(now, id) != told {
					t.Fatalf("step %d: %s was told %v, held by %v", step, id, told, now)
				}
			}
		}
	})
}
