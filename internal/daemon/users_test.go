package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestLoginDelayIsExactlyFiveMinutes(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.local = people
		s.run(Settings{Policy: people5m})
		s.tell(need)
		s.sleep(5*time.Minute - time.Nanosecond)
		s.expectState(policy.Preparing)
		s.sleep(time.Nanosecond)
		s.expectState(policy.Rebooting)
		want := []string{"0s local", "0s local", "0s schedule for 5m30s"}
		for at := policy.LookEvery; at <= 5*time.Minute; at += policy.LookEvery {
			want = append(want, at.String()+" local")
		}
		s.expectCalls(append(want, "5m0s reboot")...)
		if !strings.HasPrefix(s.message, "System reboot in 5 minutes!") {
			t.Errorf("users are told %q", s.message)
		}
		s.expectEnd(nil)
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

func TestInhibitorsAreSkippedPastTheDeadline(t *testing.T) {
	for name, local := range map[string]policy.Local{"an inhibitor": backup, "logind is unclear": {Unclear: errNonsense}} {
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

// Where logind schedules nothing, because of an inhibitor or for any other reason, users are told once they
// cannot cancel the reboot any more, and have their delay.
func TestUsersAreToldWithoutLogindOnlyPastTheDeadline(t *testing.T) {
	for name, set := range map[string]func(*site){
		"logind refuses":      func(s *site) { s.planErr = errRefused },
		"logind does not say": func(s *site) { s.parts.Host = mute{s} },
		"it cannot be kept":   func(s *site) { s.keepErr = errDown },
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

// mute is a Host that does not say what is scheduled.
type mute struct{ *site }

func (mute) Scheduled(context.Context) (policy.Shutdown, error) { return policy.Shutdown{}, errDown }

func TestUsersAreNotToldOfARebootThatIsOffAlready(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		settings := locked(newSlot(s, "A", policy.NotHeld))
		settings.Policy.MaxPostpone = time.Hour
		s.local = policy.Local{Users: people.Users, Inhibitors: backup.Inhibitors}
		s.parts.Host = hanging{s}
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

// hanging is a Host that takes no call to schedule anything.
type hanging struct{ *site }

func (hanging) Schedule(ctx context.Context, _ time.Time, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// The lock may take long to answer. Whatever happens meanwhile counts.
func TestObstacleThatAppearsDuringTheLastCheckHoldsTheRebootBack(t *testing.T) {
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

// When the lock does not answer the last check, there is time to call off the scheduled reboot.
func TestLastCheckThatHangsEndsBeforeLogindReboots(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.warned(k)
		due := s.scheduled.At
		s.sleep(5*time.Minute - time.Nanosecond)
		k.set(func() { k.deaf = true })
		s.sleep(time.Until(due) - policy.MaxDrift) // a wrong clock makes logind reboot early
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

// The users cancel while etcd is down: the check fails, and the cancel counts.
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
