package lock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestPauseIsReportedToEverybodyInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		admin := newLock(t, s, "")
		enter(t, s, "a", lock.Record{})
		hosts := []*waitingHost{enter(t, s, "b", lock.Record{}), enter(t, s, "c", lock.Record{}), enter(t, s, "d", lock.Record{})}
		check := func(paused bool) {
			t.Helper()
			for _, h := range hosts {
				if w := h.last(); (w.Pause != nil) != paused {
					t.Errorf("paused: %v, and %s waits: %v", paused, h.id, w)
				}
			}
		}
		check(false)
		mustPause(t)(admin.Pause(t.Context(), lock.PauseInfo{}, 0))
		check(true)
		_, err := admin.Resume(t.Context())
		must.Do(t, err)
		check(false)
		mustPause(t)(lock.NewGroups(s, 1).Pause(t.Context(), lock.PauseInfo{}, time.Hour))
		check(true)
		time.Sleep(time.Hour)
		check(false)
		if q := queueIDs(t, s); !slices.Equal(q, []string{"b", "c", "d"}) {
			t.Errorf("the queue is %v", q)
		}
	})
}

func TestPauseStopsAndResumeGoesOn(t *testing.T) {
	info := lock.PauseInfo{By: "ops\x1b[31m", Reason: "disk is on fire"}
	for name, test := range map[string]struct {
		pause  func(context.Context, *storetest.Memory, *lock.Lock) error
		resume func(context.Context, *storetest.Memory, *lock.Lock) error
		says   string
	}{
		"of the group": {
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				_, err := l.Pause(ctx, info, 0)
				return err
			},
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				was, err := l.Resume(ctx)
				if was.Pause == nil || was.Pause.Reason != info.Reason {
					return fmt.Errorf("resume returned %v, %w", was, err)
				}
				return err
			}, `paused by ops\x1b[31m`,
		},
		"of all groups": {
			func(ctx context.Context, s *storetest.Memory, _ *lock.Lock) error {
				_, err := lock.NewGroups(s, 1).Pause(ctx, info, 0)
				return err
			},
			func(ctx context.Context, s *storetest.Memory, _ *lock.Lock) error {
				was, err := lock.NewGroups(s, 1).Resume(ctx)
				if was.Pause == nil || !was.Pause.All {
					return fmt.Errorf("resume returned %v, %w", was, err)
				}
				return err
			}, `all groups are paused by ops\x1b[31m`,
		},
		"for a while": {
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				_, err := l.Pause(ctx, info, time.Hour)
				return err
			},
			func(context.Context, *storetest.Memory, *lock.Lock) error { time.Sleep(time.Hour); return nil }, "until 2000-",
		},
		"by a key that nobody understands": {
			func(_ context.Context, s *storetest.Memory, _ *lock.Lock) error {
				put(t, s, prefix+"pause", "\x1b]0;gotcha")
				return nil
			},
			func(ctx context.Context, _ *storetest.Memory, l *lock.Lock) error {
				_, err := l.Resume(ctx)
				return err
			}, "cannot be understood",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				s := storetest.NewMemory()
				admin := newLock(t, s, "")
				a := enter(t, s, "a", lock.Record{})
				b := enter(t, s, "b", lock.Record{})
				must.Do(t, test.pause(ctx, s, admin))
				a.mustRelease(t) // a holder can release its slot
				if b.got(t) {
					t.Fatal("b has a slot during the pause")
				}
				c := enter(t, s, "c", lock.Record{})
				if _, err := admin.TryAcquire(ctx, "d", lock.Record{}); !isPaused(err) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\x1b") {
					t.Errorf("lock by hand says %v", err)
				}
				for _, h := range []*waitingHost{b, c} {
					if p := h.last().Pause; p == nil || !strings.Contains(h.last().String(), test.says) {
						t.Errorf("%s waits for %+v", h.id, h.last())
					}
				}
				o, err := admin.Overview(ctx)
				must.Do(t, err)
				if o.Pause == nil || !strings.Contains(o.Pause.String(), test.says) {
					t.Errorf("the overview has %+v", o.Pause)
				}
				must.Do(t, test.resume(ctx, s, admin))
				if !b.got(t) {
					t.Error("b has no slot after the pause")
				}
				b.mustRelease(t)
				if !c.got(t) {
					t.Error("c has no slot after the pause")
				}
				c.mustRelease(t)
				if was, err := admin.Resume(ctx); was.Pause != nil || err != nil {
					t.Errorf("a second resume returned %v, %v", was, err)
				}
			})
		})
	}
}

func isPaused(err error) bool {
	var paused *lock.PausedError
	return errors.As(err, &paused)
}

func TestPauseOfAGroupLeavesOthersAlone(t *testing.T) {
	s := storetest.NewMemory()
	mustPause(t)(newLock(t, s, "lb").Pause(t.Context(), lock.PauseInfo{}, 0))
	if _, err := newLock(t, s, "").TryAcquire(t.Context(), "a", lock.Record{}); err != nil {
		t.Error(err)
	}
	if _, err := newLock(t, s, "lb").TryAcquire(t.Context(), "a", lock.Record{}); !isPaused(err) {
		t.Error(err)
	}
}

func TestPauseThatMakesNoSenseIsRefused(t *testing.T) {
	s := storetest.NewMemory()
	for _, d := range []time.Duration{-time.Hour, -1, 1, time.Second - 1} {
		if _, err := newLock(t, s, "").Pause(t.Context(), lock.PauseInfo{}, d); err == nil || !strings.Contains(err.Error(), d.String()) {
			t.Errorf("a pause for %v: %v", d, err)
		}
	}
	if k := keysIn(t, s, ""); len(k) > 0 {
		t.Errorf("there is %v", k)
	}
}

func TestPauseOfUnknownOutcome(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.LoseReply, storetest.LoseRequest, storetest.DelayRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := storetest.NewMemory()
			l := newLock(t, s, "")
			s.FailCommits(fault)
			mustPause(t)(l.Pause(t.Context(), lock.PauseInfo{By: "me"}, time.Hour))
			if o, err := l.Overview(t.Context()); err != nil || o.Pause == nil || o.Pause.By != "me" {
				t.Errorf("fault %d: %+v, %v", fault, o.Pause, err)
			}
			s.FailCommits(fault)
			if was, err := l.Resume(t.Context()); err != nil || was.Pause == nil || was.Pause.By != "me" {
				t.Errorf("fault %d: resume returned %+v, %v", fault, was, err)
			}
			s.FailCommits(storetest.CutOff)
			if _, err := l.Pause(t.Context(), lock.PauseInfo{By: "me"}, 0); !errors.Is(err, lock.ErrUnknown) {
				t.Errorf("fault %d: cut off, pause returned %v", fault, err)
			}
		})
	}
}

func TestPauseStaysUnknownWhenARefusalFollowsAnUnansweredTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		s.FailCommits(storetest.HoldRequest, storetest.Refuse)
		if _, err := newLock(t, s, "").Pause(t.Context(), lock.PauseInfo{}, 0); !errors.Is(err, lock.ErrUnknown) || !errors.Is(err, lock.ErrRefused) {
			t.Errorf("pause returned %v", err)
		}
	})
}

func TestPauseThatEndsLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		l := newLock(t, s, "")
		mustPause(t)(l.Pause(t.Context(), lock.PauseInfo{By: "me"}, 24*time.Hour))
		was, err := l.Pause(t.Context(), lock.PauseInfo{By: "you"}, 48*time.Hour)
		if err != nil || was == nil || was.By != "me" || s.Leases() != 1 {
			t.Errorf("replaced was %v, %v; there are %d leases", was, err, s.Leases())
		}
		if _, err := l.Resume(t.Context()); err != nil || s.Leases() != 0 {
			t.Errorf("resume: %v; there are %d leases", err, s.Leases())
		}
	})
}
