package policy

import (
	"strings"
	"testing"
	"time"
)

// A reboot that we scheduled never outlives the slot.
func TestSlotIsGivenBackOnlyOnceTheRebootIsCalledOff(t *testing.T) {
	for name, script := range map[string][]any{
		"withdrawn":      {idle},
		"window shut":    {shuts, LookEvery},
		"inhibitor":      {LookEvery, blockaded},
		"etcd is silent": {LookEvery, unchecked},
		"stopped":        {stop},
		"refused":        {LookEvery, clear, refused},
		"still up":       {LookEvery, clear, accepted, RebootGrace},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(script...)
			doing := "calling off the reboot"
			if name == "still up" {
				doing = "asking logind and systemd whether the reboot that logind was asked for is under way"
			}
			for n := range 30 {
				r.expect(Releasing, unschedules, false)
				if r.do(standing); r.last.State == Left {
					if n > 0 || name != "stopped" || r.m.slot.mayHold != true || r.count(unlocks) > 0 {
						t.Errorf("left at try %d: %v", n+1, r.started)
					}
					return
				}
				if s := r.m.Status(r.now); !strings.Contains(s, doing) || !strings.Contains(s, "trying again") || !strings.Contains(s, "access denied") {
					t.Errorf("the status is %q", s)
				}
				for r.last.Start == nil {
					r.do(r.last.Nap)
				}
			}
			r.do(calledOff)
			r.expect(Releasing, unlocks, false)
		})
	}
}

// Another message changes nothing else: the slot is given back only once the reboot is called off.
func TestRebootThatWeScheduledIsOursWhateverItsMessage(t *testing.T) {
	r := newRig(t, true).do(toPreparing...).do(crowded, warned)
	r.do(Local{Users: twoUsers.Users, Shutdown: Shutdown{Type: "reboot", At: r.order.at}})
	r.do(LookEvery, Checked{Held: true, Local: &Local{Users: twoUsers.Users, Shutdown: Shutdown{Type: "reboot", At: r.order.at}}})
	r.expect(Preparing, nothing, false)
	r.do(Update{Source: Engine})
	r.expect(Releasing, unschedules, false)
}

// A reboot that was called off, and is seen again, is called off again.
func TestRebootOfOursThatTurnsUpAgainIsCalledOff(t *testing.T) {
	for name, where := range map[string][]any{
		"waiting": {LookEvery, unchecked, calledOff, given, replaces}, // a moment after a failure
		"locking": {LookEvery, unchecked, calledOff, given, 20 * second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...)
			ours := r.scheduled
			r.do(where...).do(scheduledIs(ours), 20*second)
			if name == "locking" {
				r.expect(Locking, nothing, true)
				r.do(lockEnded)
			}
			r.expect(Releasing, unschedules, false)
			if !r.order.at.Equal(ours.At) {
				t.Errorf("calls off %v, want %v", r.order.at, ours.At)
			}
		})
	}
}

// logind uses the wall clock: after a step, the time that it was given is wrong.
func TestClockStepCallsOffWhatIsScheduled(t *testing.T) {
	for _, c := range []struct {
		step time.Duration
		off  bool
	}{
		{MaxDrift, false}, {-MaxDrift, false}, {MaxDrift + second, true}, {-MaxDrift - second, true}, {time.Minute, true}, {-365 * 24 * time.Hour, true},
	} {
		t.Run(c.step.String(), func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(LookEvery, crowded, stepped(c.step), LookEvery, crowded)
			if !c.off {
				r.expect(Preparing, nothing, false)
				r.await(Rebooting, 5*time.Minute)
				return
			}
			r.expect(Releasing, unschedules, false)
			if want := "the clock was stepped by " + c.step.String(); !strings.Contains(r.m.why, want) {
				t.Errorf("why is %q", r.m.why)
			}
			r.do(calledOff, given, 5*second, got, crowded)
			r.expect(Preparing, schedules, false)
			if want := r.now.Add(r.ahead + 5*time.Minute + Backstop); !r.order.at.Equal(want) {
				t.Errorf("scheduled for %v, want %v", r.order.at, want)
			}
			r.do(warned)
			r.await(Rebooting, 5*time.Minute)
		})
	}
}

// Past the deadline the users' delay goes on although logind has not answered, and may still schedule the reboot.
func TestUnansweredScheduleMayStandUntilItIsSettled(t *testing.T) {
	r := bounded(t).do(backup, need, 24*time.Hour, got, crowded, Scheduled{Err: errDown, Unknown: true}, LookEvery, crowded, idle)
	r.expect(Releasing, nothing, false)
	if s := r.m.Status(r.now); !strings.Contains(s, "logind has not answered a call, and may carry it out until "+clock(r.now.Add(callGrace-LookEvery))) {
		t.Errorf("the status is %q", s)
	}
	r.do(callGrace-LookEvery).expect(Releasing, unschedules, false)
}
