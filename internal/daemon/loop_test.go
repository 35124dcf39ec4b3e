package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

func TestRebootWithTheLock(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.run(locked(k))
		s.sleep(time.Hour)
		s.tell(need)
		s.expectCalls("0s A inspect", "1h0m0s local", "1h0m0s A acquire 4081.2.0", "1h0m0s local", "1h0m0s A still held", "1h0m0s local", "1h0m0s reboot")
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
		if k.is() == policy.NotHeld {
			t.Error("the slot does not cover the reboot")
		}
	})
}

func TestRebootWithoutALock(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.run(Settings{})
		s.tell(need)
		s.expectCalls("0s local", "0s local", "0s reboot")
		s.expectEnd(nil)
	})
}

func TestWindowIsMetWithinASecondOfItsOpening(t *testing.T) {
	for _, wait := range []time.Duration{10 * time.Second, 7 * time.Hour, 6*24*time.Hour + 333*time.Millisecond} {
		in(t, func(t *testing.T, s *site) {
			k := newSlot(s, "A", policy.NotHeld)
			opening := s.began.Add(wait)
			s.run(Settings{Policy: policy.Config{Lock: true, Window: &spans{{opening, opening.Add(time.Hour)}}}, Lock: k})
			s.tell(need)
			s.sleep(wait - time.Nanosecond)
			s.expectState(policy.Waiting)
			s.sleep(time.Second)
			s.expectState(policy.Rebooting)
			s.expectCalls("0s A inspect", wait.String()+" local", wait.String()+" A acquire 4081.2.0", wait.String()+" local", wait.String()+" A still held", wait.String()+" local", wait.String()+" reboot")
			s.expectEnd(nil)
		})
	}
}

func TestSlotIsGivenBackWhenTheWindowShuts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(k))
		s.tell(need)
		if s.expectState(policy.Preparing); k.is() == policy.NotHeld || s.scheduled.Type == "" {
			t.Error("the slot is not held, or nothing scheduled")
		}
		settings := locked(k)
		settings.Policy.Window = &spans{{s.began, s.began.Add(150 * time.Second)}}
		s.reload <- settings
		s.sleep(policy.LookEvery)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld || s.scheduled.Type != "" {
			t.Error("the slot is held for a delay that the window ends")
		}
		s.expectEnd(nil)
	})
}

func TestRefusedRebootIsTriedAgainWithinBounds(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.refuse = errRefused
		s.run(locked(k))
		s.tell(need)
		s.sleep(24 * time.Hour)
		if k.is() != policy.NotHeld {
			t.Error("the slot is kept between the tries")
		}
		var reboots []time.Duration
		for _, call := range s.called() {
			at, what, _ := strings.Cut(call, " ")
			if what == "reboot" {
				d, err := time.ParseDuration(at)
				if err != nil {
					t.Fatal(err)
				}
				reboots = append(reboots, d)
			}
		}
		if len(reboots) < 24*4 || len(reboots) > 24*8+10 {
			t.Errorf("%d reboots were asked for in a day", len(reboots))
		}
		for n := 1; n < len(reboots); n++ {
			full := min(15*time.Minute, 5*time.Second<<min(n-1, 10))
			if d := reboots[n] - reboots[n-1]; d < full/2 || d > full {
				t.Errorf("reboot %d comes %v after the one before, want %v to %v", n+1, d, full/2, full)
			}
		}
		if n := len(s.find("reboot failed")); n != len(reboots) {
			t.Errorf("%d refusals, %d errors in the log", len(reboots), n)
		}
		s.expectEnd(nil)
	})
}

// A slot is not given back while the host is going down, whatever the reason:
// logind refuses a reboot while another one is under way, the daemon is started
// again between the request and the end of the host, or delays last for longer
// than it waits.
func TestSlotIsKeptWhileTheHostGoesDown(t *testing.T) {
	down := func(context.Context) (bool, error) { return true, nil }
	for name, test := range map[string]struct {
		held  policy.Holding // at start
		reach func(s *site)
		state policy.State
	}{
		"found at start":        {policy.HeldThisBoot, func(s *site) { s.tell(policy.Update{Source: policy.Engine}) }, policy.Settling},
		"found from before":     {policy.HeldSinceBefore, func(s *site) { s.tell(policy.Update{Source: policy.Engine}) }, policy.Settling},
		"reboot refused":        {policy.NotHeld, func(s *site) { s.refuse = errRefused; s.tell(need) }, policy.Releasing},
		"still up after a time": {policy.NotHeld, func(s *site) { s.tell(need); s.sleep(policy.RebootGrace) }, policy.Releasing},
		"update withdrawn": {policy.NotHeld, func(s *site) {
			s.local = people
			s.tell(need)
			s.tell(policy.Update{Source: policy.Engine})
		}, policy.Releasing},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", test.held)
				s.goingDown = down
				s.run(locked(k))
				test.reach(s)
				s.sleep(time.Hour)
				if s.expectState(test.state); k.is() == policy.NotHeld {
					t.Error("the slot was given back while the host goes down")
				}
				if last := s.reported()[len(s.reported())-1].Status; !strings.Contains(last, "the host is going down already") {
					t.Errorf("the status is %q", last)
				}
				// It does not go down after all.
				s.set(func() { s.goingDown = func(context.Context) (bool, error) { return false, nil } })
				s.sleep(policy.MaxNap)
				if !slices.ContainsFunc(s.called(), func(c string) bool { return strings.HasSuffix(c, "A release") }) {
					t.Error("the slot is never given back")
				}
				s.expectEnd(nil)
			})
		})
	}
}

// A logind that does not say whether the host is going down does not freeze the fleet.
func TestSlotFromBeforeThisBootIsGivenBackThoughLogindIsSilent(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		s.goingDown = func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() }
		s.run(locked(k))
		s.sleep(askTimeout)
		if s.expectState(policy.Idle); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		s.expectEnd(nil)
	})
}

func TestRebootOfUnknownOutcomeIsWaitedForAndThenTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.refuse = fmt.Errorf("%w: no reply", ErrUnknown)
		s.run(locked(k))
		s.tell(need)
		s.sleep(policy.RebootGrace - time.Nanosecond)
		if s.expectState(policy.Rebooting); k.is() == policy.NotHeld {
			t.Error("the slot was given back although the host may be going down")
		}
		s.sleep(time.Nanosecond)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		s.sleep(time.Minute)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

// logind may still carry out a call that it did not answer: the slot is given back only once
// logind, and systemd, have said that the host does not go down.
func TestSlotIsKeptUntilLogindSaysWhatBecameOfTheReboot(t *testing.T) {
	for name, settings := range map[string]func(*slot) Settings{
		"with a lock":    locked,
		"without a lock": func(*slot) Settings { return Settings{Policy: people5m} },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", policy.NotHeld)
				s.refuse = fmt.Errorf("%w: no reply", ErrUnknown)
				s.run(settings(k))
				s.tell(need)
				s.set(func() { s.goingDown = func(context.Context) (bool, error) { return false, errDown } })
				s.sleep(24 * time.Hour)
				if s.expectState(policy.Releasing); s.did("A release") {
					t.Error("the slot was given back although the host may be going down")
				}
				last := s.reported()[len(s.reported())-1].Status
				for _, part := range []string{"asking logind and systemd whether the reboot that logind was asked for is under way", "a slot that is held is kept until logind answers", "systemctl restart systemd-logind"} {
					if !strings.Contains(last, part) {
						t.Errorf("the status is %q, without %q", last, part)
					}
				}
				s.set(func() { s.refuse, s.goingDown = nil, func(context.Context) (bool, error) { return false, nil } })
				s.sleep(20 * time.Minute)
				s.expectState(policy.Rebooting)
				s.expectEnd(nil)
			})
		})
	}
}

func TestLostReplyOfTheLockIsResolvedByTheNextTry(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		k.lostOnce = true
		s.run(locked(k))
		s.tell(need)
		s.expectState(policy.Waiting)
		s.sleep(5 * time.Second)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

func TestEtcdDownAtBootIsWaitedFor(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		k.fail = errDown
		s.run(locked(k))
		s.tell(need)
		s.sleep(3 * 24 * time.Hour)
		s.expectState(policy.Starting)
		if n := len(s.called()); n < 3*24*60 || n > 3*24*120+10 {
			t.Errorf("etcd was asked %d times in three days", n)
		}
		k.set(func() { k.fail = nil })
		s.sleep(time.Minute)
		s.expectState(policy.Rebooting)
		tail := s.called()[len(s.called())-9:]
		for i, want := range []string{"A inspect", "after", "A release", "local", "A acquire 4081.2.0", "local", "A still held", "local", "reboot"} {
			if !strings.HasSuffix(tail[i], " "+want) {
				t.Errorf("call %q, want %s", tail[i], want)
			}
		}
		s.expectEnd(nil)
	})
}

// A lock that grants a slot and then denies it must not be asked without a pause.
func TestSlotThatIsTakenAwayAgainAndAgainIsRequestedWithPauses(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.engine = func() []policy.Update { k.set(func() { k.held = policy.NotHeld }); return nil }
		s.run(locked(k))
		s.tell(need)
		s.sleep(time.Hour)
		if n := len(s.called()); n > 3*130 {
			t.Errorf("%d calls in an hour", n)
		}
		s.expectEnd(nil)
	})
}
