package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// did reports whether a call was made, whenever.
func (s *site) did(call string) bool {
	return slices.ContainsFunc(s.called(), func(c string) bool { return strings.HasSuffix(c, " "+call) })
}

// expectOrder checks that calls were made in this order, the last of each counted.
func (s *site) expectOrder(calls ...string) {
	s.t.Helper()
	at := -1
	for _, want := range calls {
		i := -1
		for n, c := range s.called() {
			if strings.HasSuffix(c, " "+want) {
				i = n
			}
		}
		if i < at || i < 0 {
			s.t.Errorf("%q comes at %d, after %d:\n%s", want, i, at, strings.Join(s.called(), "\n"))
		}
		at = i
	}
}

// warned runs a loop and brings it to where users have been told.
func (s *site) warned(k *slot) {
	s.t.Helper()
	s.local = people
	s.run(locked(k))
	s.tell(need)
	s.expectState(policy.Preparing)
	if s.scheduled.Type == "" {
		s.t.Fatal("nothing is scheduled")
	}
}

// left has a process before the loop leave a reboot that it has scheduled.
func (s *site) left(at time.Time) {
	s.scheduled = policy.Shutdown{Type: "reboot", At: at}
	s.parts.Kept = &policy.Kept{Scheduled: policy.KeptSchedule{Type: "reboot", Usec: at.UnixMicro(), Told: true, Logind: s.logind}}
}

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

// What logind did not confirm is read again, and done again.
func TestScheduleOfUnknownOutcome(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.planErr, s.lost = errDown, true // done, and nobody hears of it
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

func TestCancelledRebootReleasesTheSlotAndIsTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		s.sleep(time.Minute)
		s.set(func() { s.scheduled = policy.Shutdown{} }) // shutdown -c
		s.sleep(policy.LookEvery)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		if l := s.find("users are told of the reboot"); len(l) != 1 || l[0]["message"] != s.message {
			t.Errorf("the log has %v", l)
		}
		if l := s.find("held back"); len(l) != 1 || !strings.Contains(l[0]["by"], "a user, who cancelled it") {
			t.Errorf("the log has %v", l)
		}
		s.sleep(time.Hour - time.Second)
		s.expectState(policy.Waiting)
		s.sleep(time.Second)
		s.expectState(policy.Preparing)
		s.sleep(5 * time.Minute)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

func TestHoldUpsAreLoggedOnceEach(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.local = backup
		s.run(Settings{Policy: people5m})
		s.tell(need)
		s.sleep(6 * time.Hour)
		s.set(func() { s.local, s.lookErr = policy.Local{}, errDown })
		s.sleep(6 * time.Hour)
		if l := s.find("held back"); len(l) != 2 || !strings.Contains(l[0]["by"], "unattended backup") || !strings.Contains(l[1]["by"], "logind, which does not say") {
			t.Errorf("the log has %v", l)
		}
		for _, l := range s.logged() {
			if l["level"] != "INFO" {
				t.Errorf("line %v", l)
			}
		}
		s.expectEnd(nil)
	})
}

// systemd starts a daemon that died again, within the users' delay.
func TestRestartDuringTheUsersDelayBeginsAnew(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		close(s.updates) // the bus goes away, and the daemon with it
		if err := <-s.ended; err != ErrBusGone {
			t.Fatal(err)
		}
		if s.scheduled.Type == "" || k.is() == policy.NotHeld {
			t.Error("without a bus nothing can be called off")
		}
		again := newSite(t)
		again.local, again.scheduled, again.parts.Kept = people, s.scheduled, &s.kept
		k.s = again
		again.sleep(10 * time.Second)
		again.run(locked(k))
		if again.scheduled.Type != "" {
			t.Error("the reboot of the daemon before still stands")
		}
		again.tell(need)
		again.expectState(policy.Preparing)
		again.expectOrder("cancel", "A acquire 4081.2.0")
		again.expectEnd(nil)
	})
}

func TestRestartOfTheDaemonDuringTheUsersDelayInAShutWindow(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldThisBoot)
		s.left(s.began.Add(time.Minute))
		settings := locked(k)
		settings.Policy.Window = &spans{}
		s.run(settings)
		s.expectState(policy.Idle)
		s.expectOrder("cancel", "A inspect", "A release")
		s.expectEnd(nil)
	})
}

// logind says nothing at the start, and then everything.
func TestStartWithoutLogind(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldThisBoot)
		s.left(s.began.Add(time.Hour))
		s.lookErr = errDown
		s.run(locked(k))
		s.tell(need)
		s.sleep(30 * time.Minute)
		if s.expectState(policy.Settling); k.is() == policy.NotHeld {
			t.Error("the slot of a reboot that may stand is given back")
		}
		s.set(func() { s.lookErr = nil })
		s.sleep(time.Minute)
		s.expectState(policy.Rebooting)
		s.expectOrder("cancel", "A release", "A acquire 4081.2.0", "reboot")
		s.expectEnd(nil)
	})
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

func TestReloadDuringTheUsersDelayKeepsIt(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		settings := locked(k)
		settings.Policy.LoginDelay = time.Hour
		s.reload <- settings
		s.sleep(5 * time.Minute)
		s.expectState(policy.Rebooting)
		if s.did("cancel") {
			t.Error("what users were told is taken back")
		}
		s.expectEnd(nil)
	})
}

func TestLookThatHangsEndsAndCosts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		hangs := &hangingHost{site: s}
		s.parts.Host = hangs
		k := newSlot(s, "A", policy.NotHeld)
		s.run(locked(k))
		s.tell(need)
		s.sleep(policy.LookLimit - time.Nanosecond)
		s.expectState(policy.Waiting)
		s.sleep(time.Second)
		s.expectState(policy.Waiting)
		last := s.reported()[len(s.reported())-1].Status
		if !strings.Contains(last, "held back by logind, which does not say who is at work on this host: context deadline exceeded") {
			t.Errorf("the status is %q", last)
		}
		s.expectEnd(nil)
	})
}

// hangingHost never says who is at work.
type hangingHost struct{ *site }

func (h *hangingHost) Local(ctx context.Context) (policy.Local, error) {
	<-ctx.Done()
	return policy.Local{}, ctx.Err()
}

// logind shows a reboot that is under way as if it were scheduled, with the
// message that users got before.
func TestRebootUnderWayIsNotCalledOff(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldThisBoot)
		s.parts.Kept, s.scheduled = nil, policy.Shutdown{Type: "reboot"}
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

// Where there is no lock nothing is said about a slot.
func TestRebootUnderWayIsNotCalledOffWithoutALock(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.parts.Kept, s.scheduled = nil, policy.Shutdown{Type: "reboot"}
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

// logind says that it has cancelled the reboot, and it stands.
func TestRebootThatStandsAfterItWasCancelledKeepsTheSlot(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.parts.Scheduler = stubborn{s}
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

// stubborn is a Scheduler that never cancels anything.
type stubborn struct{ *site }

func (stubborn) Cancel(context.Context) error { return nil }

func TestInhibitorsAreSkippedPastTheDeadline(t *testing.T) {
	for name, local := range map[string]policy.Local{"an inhibitor": backup, "nobody knows": {Unclear: errNonsense}} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				settings := locked(newSlot(s, "A", policy.NotHeld))
				settings.Policy.MaxPostpone = time.Hour
				s.local = local
				s.run(settings)
				s.tell(need)
				s.sleep(time.Hour - time.Second)
				s.expectState(policy.Waiting)
				s.sleep(time.Second)
				s.expectState(policy.Rebooting)
				if last := s.called()[len(s.called())-1]; last != "1h0m0s reboot by force" {
					t.Errorf("the last call is %q", last)
				}
				s.expectEnd(nil)
			})
		})
	}
}

// Where nothing is scheduled, because of an inhibitor or for any other reason, users are told once they cannot
// cancel the reboot any more, and have their time.
func TestUsersAreToldWithoutLogindOnlyPastTheDeadline(t *testing.T) {
	for name, set := range map[string]func(*site){
		"logind refuses":              func(s *site) { s.planErr = errRefused },
		"logind has not said whether": func(s *site) { s.parts.Scheduler = mute{s} },
		"it cannot be kept":           func(s *site) { s.keepErr = errDown },
	} {
		for postpone, want := range map[time.Duration]bool{time.Hour: true, 0: false} {
			t.Run(fmt.Sprint(name, ", postponed for ", postpone), func(t *testing.T) {
				in(t, func(t *testing.T, s *site) {
					settings := locked(newSlot(s, "A", policy.NotHeld))
					settings.Policy.MaxPostpone = postpone
					s.local = people
					if want {
						s.local.Inhibitors = backup.Inhibitors
					}
					set(s)
					s.run(settings)
					s.tell(need)
					s.sleep(time.Hour)
					if s.did("announce") != want || want && !strings.HasPrefix(s.message, "System reboot in 1 minute!") {
						t.Errorf("users are told %q; calls:\n%s", s.message, strings.Join(s.called(), "\n"))
					}
					s.sleep(policy.FinalDelay - time.Second)
					if s.did("reboot") {
						t.Error("rebooted before the end of their delay")
					}
					s.sleep(time.Second)
					if s.did("reboot by force") != want {
						t.Errorf("calls:\n%s", strings.Join(s.called(), "\n"))
					}
					s.set(func() { s.planErr = nil })
					s.expectEnd(nil)
				})
			})
		}
	}
}

// mute is a Scheduler that does not say what is scheduled.
type mute struct{ *site }

func (mute) Scheduled(context.Context) (policy.Shutdown, error) { return policy.Shutdown{}, errDown }

func TestUsersAreNotToldOfARebootThatIsOffAlready(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		settings := locked(newSlot(s, "A", policy.NotHeld))
		settings.Policy.MaxPostpone = time.Hour
		s.local = policy.Local{Users: people.Users, Inhibitors: backup.Inhibitors}
		s.parts.Scheduler = hanging{s}
		s.run(settings)
		s.tell(need)
		s.sleep(time.Hour)
		s.expectState(policy.Preparing)
		s.tell(idle)
		if s.expectState(policy.Idle); s.did("announce") {
			t.Errorf("users are told %q", s.message)
		}
		s.expectEnd(nil)
	})
}

// hanging is a Scheduler that takes no call to schedule anything.
type hanging struct{ *site }

func (hanging) Schedule(ctx context.Context, _ time.Time, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// The lock may take its time to answer. What comes meanwhile counts.
func TestWhoComesDuringTheLastCheckHoldsTheRebootBack(t *testing.T) {
	theirs := policy.Shutdown{Type: "poweroff", At: time.Now().Add(1000 * time.Hour)}
	for name, c := range map[string]struct {
		before policy.Local
		during func(*site)
		by     string
	}{
		"cancelled": {people, func(s *site) { s.scheduled = policy.Shutdown{} }, "a user, who cancelled it"},
		"replaced":  {people, func(s *site) { s.scheduled = theirs }, "a user, who cancelled it"},
		"shut down": {policy.Local{}, func(s *site) { s.scheduled = theirs }, "a poweroff that is scheduled"},
		"inhibited": {policy.Local{}, func(s *site) { s.local = backup }, "unattended backup"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", policy.NotHeld)
				k.during = func() {
					if s.state() != policy.Preparing || c.before.Users != nil && time.Since(s.began) < 5*time.Minute {
						return
					}
					time.Sleep(10 * time.Second)
					s.set(func() { c.during(s) })
				}
				s.local = c.before
				s.run(locked(k))
				s.tell(need)
				s.sleep(5*time.Minute + 30*time.Second - time.Nanosecond)
				if s.did("reboot") || k.is() != policy.NotHeld {
					t.Errorf("held %v, calls:\n%s", k.is(), strings.Join(s.called(), "\n"))
				}
				s.expectState(policy.Waiting)
				if last := s.reported()[len(s.reported())-1].Status; !strings.Contains(last, "held back by ") || !strings.Contains(last, c.by) {
					t.Errorf("the status is %q", last)
				}
				s.expectEnd(nil)
			})
		})
	}
}

// A lock that does not answer in the last check must not have logind reboot the
// host: there is time enough to call that off.
func TestLastCheckThatHangsEndsBeforeLogindReboots(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		due := s.scheduled.At
		s.sleep(5*time.Minute - time.Nanosecond)
		k.set(func() { k.deaf = true })
		s.sleep(time.Until(due) - policy.MaxDrift) // a clock that is off has logind reboot early
		if s.scheduled.Type != "" {
			t.Errorf("%v before logind reboots, our reboot is still scheduled; calls:\n%s", policy.MaxDrift, strings.Join(s.called(), "\n"))
		}
		if s.did("reboot") {
			t.Error("rebooted without the lock's word")
		}
		k.set(func() { k.deaf = false })
		s.expectEnd(nil)
	})
}

// The users cancel, and etcd is down: the check fails, and the cancel counts.
func TestCancelIsHeardWhenTheLockIsSilent(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		k.set(func() { k.fail = errDown })
		s.set(func() { s.scheduled = policy.Shutdown{} })
		s.sleep(policy.LookEvery)
		k.set(func() { k.fail = nil })
		s.sleep(55 * time.Minute)
		s.expectState(policy.Waiting)
		if k.is() != policy.NotHeld || !s.did("A release") {
			t.Error("the slot is kept")
		}
		s.expectEnd(nil)
	})
}

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

// That logind was asked to cancel it is known even if it fails to.
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
