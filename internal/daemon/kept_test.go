package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// Nothing is known of the process before this one, and a reboot stands: the slot covers that,
// and the reboot may be somebody else's.
func TestRebootThatMayBeOursKeepsTheSlotAndIsLeftAlone(t *testing.T) {
	for held, kept := range map[policy.Holding]bool{policy.HeldThisBoot: true, policy.HeldUnrecorded: true, policy.HeldSinceBefore: false} {
		t.Run(fmt.Sprint(held), func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", held)
				stands := policy.Shutdown{Type: "reboot", At: s.began.Add(3 * time.Hour)}
				s.parts.Kept, s.scheduled = nil, stands
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
				// Nor does the next process know, although the file is there by now.
				s.expectEnd(nil)
				again := newSite(t)
				again.parts.Kept, again.scheduled, k.s = &s.kept, stands, again
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
	// What is no reboot is not of ours.
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldThisBoot)
		s.parts.Kept, s.scheduled = nil, policy.Shutdown{Type: "poweroff", At: s.began.Add(3 * time.Hour)}
		s.run(locked(k))
		s.tell(idle)
		if s.expectState(policy.Idle); k.is() != policy.NotHeld || s.scheduled.Type == "" {
			t.Errorf("held %v, scheduled %+v", k.is(), s.scheduled)
		}
		s.expectEnd(nil)
	})
}

// What the next process could not know is not begun.
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

// It is kept before logind is asked.
func TestWhatIsScheduledIsKeptBefore(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		keep := s.parts.Keep
		s.parts.Keep = func(k policy.Kept) error {
			time.Sleep(time.Millisecond) // whoever does not wait for it goes on meanwhile
			return keep(k)
		}
		s.parts.Scheduler = asks{s, func(at time.Time) {
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
		if got, want := s.kept.Scheduled, (policy.KeptSchedule{Type: "reboot", Usec: s.scheduled.At.UnixMicro(), Told: true, Logind: ":1.1"}); got != want {
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

// asks is a Scheduler with something to do before it schedules.
type asks struct {
	*site
	before func(at time.Time)
}

func (a asks) Schedule(ctx context.Context, at time.Time, message string) error {
	a.set(func() { a.before(at) })
	return a.site.Schedule(ctx, at, message)
}

// The place in the queue is left for a process that is started at once, and only for that.
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
