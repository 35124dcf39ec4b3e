package daemon

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestScheduledRebootIsCalledOffBeforeTheSlotIsGivenBack(t *testing.T) {
	for name, end := range map[string]func(*site){
		"withdrawn": func(s *site) { s.tell(policy.Update{Source: policy.Engine}) },
		"stopped":   func(s *site) { s.expectEnd(nil) },
		"inhibited": func(s *site) {
			s.set(func() { s.local.Inhibitors = backup.Inhibitors })
			s.sleep(policy.LookEvery)
		},
		"moved to another lock": func(s *site) {
			s.set(func() { s.local = policy.Local{} })
			s.reload <- locked(newSlot(s, "B", policy.NotHeld))
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", policy.NotHeld)
				s.warned(k)
				end(s)
				if s.scheduled.Type != "" || k.is() != policy.NotHeld {
					t.Errorf("scheduled %+v, held %v", s.scheduled, k.is())
				}
				s.expectOrder("A still held", "cancel", "A release")
				if name != "stopped" {
					s.expectEnd(nil)
				}
			})
		})
	}
}

// After a call without an answer, what is scheduled is read, and the call repeated if need be.
func TestScheduleOfUnknownOutcome(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.planErr, s.lost = errDown, true // done, and the reply is lost
		s.warned(k)
		if s.did("cancel") {
			t.Error("it is called off although it stands")
		}
		s.tell(policy.Update{Source: policy.Engine}) // the same when it is cancelled
		s.expectState(policy.Idle)
		s.expectEnd(nil)
	})
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local, s.planErr = people, errRefused // not done
		s.run(locked(k))
		s.tell(need)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld {
			t.Error("the slot is kept without anybody being told")
		}
		s.sleep(time.Hour)
		if s.did("reboot") {
			t.Error("rebooted without users' being told")
		}
		s.set(func() { s.planErr = nil })
		s.sleep(25 * time.Minute)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		s.set(func() { s.planErr = errDown }) // it cannot be cancelled
		s.tell(policy.Update{Source: policy.Engine})
		s.sleep(time.Hour)
		if s.expectState(policy.Releasing); k.is() == policy.NotHeld {
			t.Error("the slot is given back although the reboot stands")
		}
		s.set(func() { s.planErr = nil })
		s.sleep(time.Minute)
		if s.expectState(policy.Idle); k.is() != policy.NotHeld || s.scheduled.Type != "" {
			t.Errorf("held %v, scheduled %+v", k.is(), s.scheduled)
		}
		s.expectEnd(nil)
	})
}

func TestNobodyElsesShutdownIsTouched(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		theirs := policy.Shutdown{Type: "poweroff", At: s.began.Add(9 * time.Hour)}
		s.set(func() { s.scheduled = theirs })
		s.tell(policy.Update{Source: policy.Engine})
		if s.expectState(policy.Idle); s.scheduled != theirs || s.did("cancel") {
			t.Errorf("scheduled %+v", s.scheduled)
		}
		s.tell(need)
		s.sleep(2 * time.Hour)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld {
			t.Error("a slot is held beside the shutdown of somebody else")
		}
		s.set(func() { s.scheduled = policy.Shutdown{} })
		s.sleep(policy.LookEvery)
		s.expectState(policy.Preparing)
		s.expectEnd(nil)
	})
	// It comes between the check and the schedule.
	in(t, func(t *testing.T, s *site) {
		theirs := policy.Shutdown{Type: "poweroff", At: s.began.Add(9 * time.Hour)}
		l := &loop{parts: s.parts}
		s.scheduled = theirs
		if err := l.scheduleUnlessOther(t.Context(), task{}, policy.Schedule{At: s.began.Add(time.Hour)}); err == nil || s.scheduled != theirs {
			t.Errorf("%v, scheduled %+v", err, s.scheduled)
		}
		if _, err := l.callOff(t.Context(), task{}, policy.Unschedule{Stands: true, At: s.began.Add(time.Hour)}); err != nil || s.scheduled != theirs {
			t.Errorf("%v, scheduled %+v", err, s.scheduled)
		}
		s.lookErr = errDown
		if err := l.scheduleUnlessOther(t.Context(), task{}, policy.Schedule{At: s.began}); err == nil || s.did("schedule for 0s") {
			t.Errorf("scheduled without looking: %v", err)
		}
	})
}

// logind shows a reboot that is under way as if it were scheduled, with the
// message that users got before.
func TestRebootUnderWayIsNotCalledOff(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldThisBoot)
		s.parts.Found.Kept, s.scheduled = nil, policy.Shutdown{Type: "reboot"}
		s.goingDown = func(context.Context) (bool, error) { return true, nil }
		s.run(locked(k))
		s.tell(idle)
		s.sleep(time.Hour)
		if s.expectState(policy.Settling); s.did("cancel") || k.is() == policy.NotHeld {
			t.Errorf("held %v, calls:\n%s", k.is(), strings.Join(s.called(), "\n"))
		}
		s.expectEnd(nil)
	})
}

// Without a lock the status does not mention a slot.
func TestRebootUnderWayIsNotCalledOffWithoutALock(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.parts.Found.Kept, s.scheduled = nil, policy.Shutdown{Type: "reboot"}
		s.goingDown = func(context.Context) (bool, error) { return true, nil }
		s.run(Settings{Policy: people5m})
		s.tell(idle)
		s.sleep(time.Hour)
		s.expectState(policy.Settling)
		last := s.reported()[len(s.reported())-1].Status
		if s.did("cancel") || !strings.HasSuffix(last, "the last attempt failed: the host is going down already") {
			t.Errorf("the status is %q, calls:\n%s", last, strings.Join(s.called(), "\n"))
		}
		s.expectEnd(nil)
	})
}

// logind says that it has cancelled the reboot, which is still scheduled.
func TestRebootThatStandsAfterItWasCancelledKeepsTheSlot(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.parts.Host = stubborn{s}
		s.warned(k)
		s.tell(idle)
		s.sleep(time.Hour)
		if s.expectState(policy.Releasing); k.is() == policy.NotHeld {
			t.Error("the slot is given back")
		}
		last := s.reported()[len(s.reported())-1].Status
		if !strings.Contains(last, "logind has not cancelled the reboot that was scheduled") {
			t.Errorf("the status is %q", last)
		}
		s.expectEnd(nil)
		if k.is() == policy.NotHeld {
			t.Error("the slot is given back at the end")
		}
	})
}

// stubborn is a Host that never cancels anything.
type stubborn struct{ *site }

func (stubborn) Cancel(context.Context) error { return nil }

// While logind is asked whether the host goes down, somebody schedules something else.
func TestWhatOthersScheduleMeanwhileIsNotCancelled(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		ours := s.began.Add(time.Hour)
		theirs := policy.Shutdown{Type: "poweroff", At: s.began.Add(9 * time.Hour)}
		l := &loop{parts: s.parts}
		s.scheduled = policy.Shutdown{Type: "reboot", At: ours}
		s.goingDown = func(context.Context) (bool, error) {
			s.set(func() { s.scheduled = theirs })
			return false, nil
		}
		if found, err := l.callOff(t.Context(), task{}, policy.Unschedule{Stands: true, At: ours}); found || err != nil || s.scheduled != theirs {
			t.Errorf("%v, %v, scheduled %+v", found, err, s.scheduled)
		}
	})
}

// The result says that logind was asked to cancel the reboot even if it failed to.
func TestUnscheduleTellsWhetherItFoundOurReboot(t *testing.T) {
	for name, c := range map[string]struct {
		set   func(*site)
		found bool
		fails bool
	}{
		"it stands":          {func(s *site) {}, true, false},
		"it is gone":         {func(s *site) { s.scheduled = policy.Shutdown{} }, false, false},
		"it is of others":    {func(s *site) { s.scheduled.At = s.began }, false, false},
		"logind is silent":   {func(s *site) { s.lookErr = errDown }, false, true},
		"the reply is lost":  {func(s *site) { s.planErr, s.lost = errDown, true }, true, false},
		"it is not done":     {func(s *site) { s.planErr = errDown }, true, true},
		"the host goes down": {func(s *site) { s.goingDown = func(context.Context) (bool, error) { return true, nil } }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				s.scheduled = policy.Shutdown{Type: "reboot", At: s.began.Add(time.Hour)}
				l := &loop{parts: s.parts}
				c.set(s)
				if found, err := l.callOff(t.Context(), task{}, policy.Unschedule{Stands: true, At: s.began.Add(time.Hour)}); found != c.found || (err != nil) != c.fails {
					t.Errorf("found %v, %v", found, err)
				}
			})
		})
	}
}

// No reboot is scheduled that the next process could not know.
func TestNothingIsScheduledThatCannotBeKept(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local, s.keepErr = people, errDown
		s.run(locked(k))
		s.tell(need)
		s.sleep(time.Hour)
		if s.scheduled.Type != "" || k.is() != policy.NotHeld || s.did("reboot") {
			t.Errorf("scheduled %+v, held %v", s.scheduled, k.is())
		}
		if l := s.find("a restart of the daemon would forget what is going on, and users cannot be told of a reboot"); len(l) != 1 || l[0]["error"] != errDown.Error() {
			t.Errorf("the log has %v", l)
		}
		s.set(func() { s.keepErr = nil })
		s.sleep(20 * time.Minute)
		if s.scheduled.Type == "" && !s.did("reboot") {
			t.Error("nothing is scheduled once it can be kept")
		}
		s.expectEnd(nil)
	})
}

// The schedule is kept before logind is asked for it.
func TestWhatIsScheduledIsKeptBefore(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		keep := s.parts.Keep
		s.parts.Keep = func(k policy.Kept) error {
			time.Sleep(time.Millisecond) // a loop that does not wait for it goes on meanwhile
			return keep(k)
		}
		s.parts.Host = asks{s, func(at time.Time) {
			if got := s.kept.Scheduled; got != (policy.KeptSchedule{Type: "reboot", Usec: at.UnixMicro()}) {
				t.Errorf("kept is %+v", got)
			}
		}}
		s.local = people
		s.run(locked(k))
		s.sleep(time.Second)
		s.tell(need)
		s.sleep(time.Second)
		s.expectState(policy.Preparing)
		if got, want := s.kept.Scheduled, (policy.KeptSchedule{Type: "reboot", Usec: s.scheduled.At.UnixMicro(), Announced: true, Logind: ":1.1"}); got != want {
			t.Errorf("kept is %+v, want %+v", got, want)
		}
		s.tell(idle)
		s.sleep(time.Second)
		s.expectState(policy.Idle)
		if got := s.kept; got != (policy.Kept{}) {
			t.Errorf("kept is %+v", got)
		}
		s.expectEnd(nil)
	})
}

// asks is a Host that runs a function before it schedules.
type asks struct {
	*site
	before func(at time.Time)
}

func (a asks) Schedule(ctx context.Context, at time.Time, message string) error {
	a.set(func() { a.before(at) })
	return a.site.Schedule(ctx, at, message)
}
