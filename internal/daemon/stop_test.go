package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// ways bring a loop to each state in which it can be stopped.
var ways = []struct {
	name  string
	held  policy.Holding // at the start
	first func(*slot)    // before the start
	get   func(*site, *slot)
	state policy.State
	holds bool // the slot, once there
	stuck bool // it cannot be given back
}{
	{"starting", policy.HeldSinceBefore, func(k *slot) { k.fail = errDown }, nil, policy.Starting, true, true},
	{"settling", policy.HeldSinceBefore, func(k *slot) { k.keep = errDown }, nil, policy.Settling, true, true},
	{"settled", policy.HeldSinceBefore, nil, nil, policy.Idle, false, false},
	{"idle", policy.NotHeld, nil, nil, policy.Idle, false, false},
	{"locking", policy.NotHeld, func(k *slot) { k.free = make(chan struct{}) }, func(s *site, k *slot) { s.tell(need) }, policy.Locking, false, false},
	{"waiting", policy.NotHeld, nil, func(s *site, k *slot) { k.lostOnce = true; s.tell(need) }, policy.Waiting, true, false},
	{"preparing", policy.NotHeld, nil, func(s *site, k *slot) { s.local = people; s.tell(need) }, policy.Preparing, true, false},
	{"rebooting", policy.NotHeld, nil, func(s *site, k *slot) { s.tell(need) }, policy.Rebooting, true, true},
	{"releasing", policy.NotHeld, nil, func(s *site, k *slot) { k.keep = errDown; s.refuse = errRefused; s.tell(need) }, policy.Releasing, true, true},
}

func TestStopGivesTheSlotBackUnlessTheHostGoesDown(t *testing.T) {
	silent := func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() }
	for _, logind := range []struct {
		name  string
		down  func(context.Context) (bool, error)
		keeps bool
		takes time.Duration // at most
	}{
		{"host stays up", func(context.Context) (bool, error) { return false, nil }, false, 0},
		{"host goes down", func(context.Context) (bool, error) { return true, nil }, true, 0},
		{"logind fails", func(context.Context) (bool, error) { return false, errDown }, true, 0},
		{"logind is silent", silent, true, askTimeout},
	} {
		for i, way := range ways {
			t.Run(logind.name+" while "+way.name, func(t *testing.T) {
				in(t, func(t *testing.T, s *site) {
					k := s.start(i)
					s.goingDown = logind.down
					took, err := s.end()
					if err != nil {
						t.Errorf("Run returned %v", err)
					}
					if took > logind.takes {
						t.Errorf("it took %v to stop, want %v at most", took, logind.takes)
					}
					keeps := way.holds && (logind.keeps || way.stuck)
					if held := k.is() != policy.NotHeld; held != keeps {
						t.Errorf("held %v after the end, want %v", held, keeps)
					}
					s.expectState(policy.Left)
				})
			})
		}
	}
}

// Where no slot can be held, logind is not asked.
func TestStopWithoutASlotAsksNobody(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.goingDown = func(context.Context) (bool, error) { t.Error("logind was asked"); return true, nil }
		s.run(locked(newSlot(s, "A", policy.NotHeld)))
		s.expectEnd(nil)
	})
}

func TestStopTakesFiveSecondsAtMostWhenEtcdHangs(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(k))
		s.tell(need)
		k.set(func() { k.deaf = true })
		s.goingDown = func(context.Context) (bool, error) { time.Sleep(askTimeout / 2); return false, nil }
		if took, err := s.end(); err != nil || took != leaveTimeout {
			t.Errorf("it took %v, Run returned %v", took, err)
		}
		if len(s.find("stopped without knowing whether the slot was given back; it is sorted out at the next start")) != 1 {
			t.Error("the log does not say so")
		}
	})
}

// An effect that ignores its context does not delay the end, and can end after it.
func TestEffectThatEndsAfterTheLoop(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.run(locked(k))
		slow := make(chan struct{})
		s.engine = func() []policy.Update { <-slow; return nil }
		s.tell(need)
		s.expectState(policy.Preparing)
		if took, err := s.end(); err != nil || took != leaveTimeout {
			t.Errorf("it took %v, Run returned %v", took, err)
		}
		close(slow) // and the bubble ends with no goroutine left
	})
}

func TestStopDuringAReloadStops(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(a))
		s.tell(need)
		a.set(func() { a.deaf = true })
		s.reload <- locked(newSlot(s, "B", policy.NotHeld))
		synctest.Wait()
		if took, err := s.end(); err != nil || took != leaveTimeout {
			t.Errorf("it took %v, Run returned %v", took, err)
		}
		if slices.ContainsFunc(s.called(), func(c string) bool { return strings.Contains(c, " B ") }) {
			t.Errorf("the new configuration was used:\n%s", strings.Join(s.called(), "\n"))
		}
	})
}

func TestStopDuringAReloadThatEndsInTime(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a := newSlot(s, "A", policy.NotHeld)
		s.run(locked(a))
		slow := make(chan struct{})
		s.engine = func() []policy.Update { <-slow; return nil }
		s.tell(need)
		s.reload <- locked(newSlot(s, "B", policy.NotHeld))
		synctest.Wait()
		s.stop()
		s.sleep(time.Second)
		close(slow)
		if err := <-s.ended; err != nil || a.is() != policy.NotHeld {
			t.Errorf("Run returned %v, holding %v", err, a.is())
		}
		if slices.ContainsFunc(s.called(), func(c string) bool { return strings.Contains(c, " B ") }) {
			t.Errorf("the new configuration was used:\n%s", strings.Join(s.called(), "\n"))
		}
	})
}

func TestLostBusEndsTheLoopOnce(t *testing.T) {
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := s.start(i)
				s.goingDown = func(context.Context) (bool, error) { t.Error("logind was asked without a bus"); return false, nil }
				calls, reports := len(s.called()), len(s.reported())
				close(s.updates)
				if err := <-s.ended; err != ErrBusGone {
					t.Errorf("Run returned %v", err)
				}
				if held := k.is() != policy.NotHeld; held != way.holds {
					t.Errorf("held %v after the end, want %v: it is not known whether the host goes down", held, way.holds)
				}
				if len(s.called()) != calls || len(s.reported()) != reports+1 {
					t.Errorf("%d calls and %d reports after the bus was lost", len(s.called())-calls, len(s.reported())-reports)
				}
			})
		})
	}
}

// The watch of the bus ends when the loop is to stop: the bus is not lost then.
func TestUpdatesThatEndWithTheContextAreNotALostBus(t *testing.T) {
	for range 50 { // the loop sees either first
		in(t, func(t *testing.T, s *site) {
			k := newSlot(s, "A", policy.NotHeld)
			s.local = people
			s.run(locked(k))
			s.tell(need)
			s.stop()
			close(s.updates)
			if err := <-s.ended; err != nil {
				t.Errorf("Run returned %v", err)
			}
			if k.is() != policy.NotHeld {
				t.Error("the slot is kept")
			}
		})
	}
}

func TestStopDuringTheUsersDelayWhenTheHostGoesDown(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.local = people
		s.goingDown = func(context.Context) (bool, error) { return true, nil }
		s.run(Settings{Policy: people5m}) // without a lock, too
		s.tell(need)
		s.expectState(policy.Preparing)
		s.expectEnd(nil)
		if s.did("cancel") {
			t.Error("it calls off what is under way")
		}
	})
}

// The place in the queue is left to a process that is started at once, and to no other.
func TestPlaceInTheQueueIsKeptForARestart(t *testing.T) {
	for _, restarting := range []bool{true, false} {
		in(t, func(t *testing.T, s *site) {
			k := newSlot(s, "A", policy.NotHeld)
			k.free = make(chan struct{})
			s.restarting = restarting
			s.run(locked(k))
			s.tell(need)
			s.expectState(policy.Locking)
			s.expectEnd(nil)
			if kept := errors.Is(k.ended, ErrKeepPlace); kept != restarting {
				t.Errorf("restarting %v, the wait ended with %v", restarting, k.ended)
			}
		})
	}
}
