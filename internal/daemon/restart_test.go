package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// The next process asks as well.
func TestNextProcessKeepsTheSlotAfterARebootRequest(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.refuse = fmt.Errorf("%w: no reply", ErrUnknown)
		s.run(locked(k))
		s.tell(need)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)

		again := newSite(t)
		again.parts.Found.Kept, k.s = &s.kept, again
		again.goingDown = func(context.Context) (bool, error) { return false, errDown }
		again.run(locked(k))
		again.tell(idle)
		again.sleep(time.Hour)
		if again.expectState(policy.Settling); k.is() == policy.NotHeld {
			t.Error("the slot was given back although the host may be going down")
		}
		again.set(func() { again.goingDown = func(context.Context) (bool, error) { return false, nil } })
		again.sleep(time.Minute)
		if again.expectState(policy.Idle); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		again.expectEnd(nil)
	})
}

// systemd restarts a daemon that died, within the users' delay.
func TestRestartDuringTheUsersDelayBeginsItAgain(t *testing.T) {
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
		again.local, again.scheduled, again.parts.Found.Kept = people, s.scheduled, &s.kept
		k.s = again
		again.sleep(10 * time.Second)
		again.run(locked(k))
		if again.scheduled.Type != "" {
			t.Error("the reboot of the daemon before still stands")
		}
		again.tell(need)
		again.expectState(policy.Preparing)
		again.expectOrder("cancel", "A acquire 4081.2.0")
		if again.did("A release") {
			t.Error("the slot is not kept")
		}
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

// logind does not answer at the start, and does later.
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

// Nothing is known of the process before this one, and a reboot is scheduled: the slot covers it,
// and it may be somebody else's.
func TestRebootThatMayBeOursKeepsTheSlotAndIsLeftAlone(t *testing.T) {
	for held, kept := range map[policy.Holding]bool{policy.HeldThisBoot: true, policy.HeldUnrecorded: true, policy.HeldSinceBefore: false} {
		t.Run(fmt.Sprint(held), func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", held)
				stands := policy.Shutdown{Type: "reboot", At: s.began.Add(3 * time.Hour)}
				s.parts.Found.Kept, s.scheduled = nil, stands
				s.run(locked(k))
				s.tell(idle)
				s.sleep(2 * time.Hour)
				if s.expectState(policy.Settling); (k.is() != policy.NotHeld) != kept || s.scheduled != stands {
					t.Errorf("held %v, scheduled %+v", k.is(), s.scheduled)
				}
				last := s.reported()[len(s.reported())-1].Status
				if !strings.Contains(last, "a reboot is scheduled for "+clock(stands.At)+", and nobody knows whether locksmithd has scheduled it") || !strings.Contains(last, "shutdown -c cancels it") {
					t.Errorf("the status is %q", last)
				}
				// The next process does not know either, although the file is there by now.
				s.expectEnd(nil)
				again := newSite(t)
				again.parts.Found.Kept, again.scheduled, k.s = &s.kept, stands, again
				again.run(locked(k))
				again.sleep(20 * time.Minute)
				if again.expectState(policy.Settling); (k.is() != policy.NotHeld) != kept {
					t.Errorf("held %v", k.is())
				}
				again.set(func() { again.scheduled = policy.Shutdown{} })
				again.sleep(time.Minute)
				if again.expectState(policy.Idle); k.is() != policy.NotHeld {
					t.Error("the slot is kept without need")
				}
				again.expectEnd(nil)
			})
		})
	}
	// A shutdown that is not a reboot is not ours.
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldThisBoot)
		s.parts.Found.Kept, s.scheduled = nil, policy.Shutdown{Type: "poweroff", At: s.began.Add(3 * time.Hour)}
		s.run(locked(k))
		s.tell(idle)
		if s.expectState(policy.Idle); k.is() != policy.NotHeld || s.scheduled.Type == "" {
			t.Errorf("held %v, scheduled %+v", k.is(), s.scheduled)
		}
		s.expectEnd(nil)
	})
}
