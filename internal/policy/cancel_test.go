package policy

import (
	"context"
	"strings"
	"testing"
	"time"
)

// After a user's cancel the slot is given back, and the reboot stays cancelled for LoginRetry.
func TestCancelledRebootIsRespected(t *testing.T) {
	for name, how := range map[string][]any{
		"cancelled":                           {cancels, LookEvery, crowded},
		"cancelled at the end":                {cancels, 5 * time.Minute, crowded},
		"cancelled, and logged out":           {cancels, LookEvery, clear},
		"cancelled, and a backup runs":        {cancels, LookEvery, blockaded},
		"replaced":                            {replaces, LookEvery, crowded, cancels},
		"cancelled and scheduled for another": {scheduledIs{Type: "reboot", At: t0.Add(2 * time.Hour)}, LookEvery, crowded, cancels},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(how...)
			r.expect(Releasing, unlocks, false) // there is no reboot of ours to cancel
			at := r.now
			r.do(given)
			r.expect(Waiting, nothing, false)
			if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it "+r.m.config.Clock(at)+"; trying again "+r.m.config.Clock(at.Add(time.Hour))) {
				t.Errorf("the status is %q", s)
			} else if foreign := name == "replaced" || name == "cancelled and scheduled for another"; strings.Contains(s, "that is scheduled") != foreign {
				t.Errorf("the status is %q; somebody else has scheduled a shutdown: %v", s, foreign)
			}
			for r.last.State == Waiting {
				r.do(r.last.Nap)
			}
			if waited := r.now.Sub(at); waited != time.Hour {
				t.Errorf("tried again after %v", waited)
			}
			r.expect(Locking, locks, false)
			r.do(got, crowded)
			r.expect(Preparing, schedules, false) // warned again
		})
	}
}

// An operator's reload for another delay does not overrule users.
func TestReloadKeepsWhatAUserHasCancelled(t *testing.T) {
	r := newRig(t, true).do(toDelay...).do(cancels, LookEvery, crowded, given)
	at := r.now
	p := r.m.config
	p.LoginRetry = 10 * time.Minute
	r.do(Reconfigure{p})
	r.expect(Waiting, nothing, false)
	r.do(5*time.Minute, reload)
	r.expect(Left, nothing, false)
	p.Lock = false
	r.m = r.m.Restart(p, r.now)
	r.do(Tick{})
	r.expect(Waiting, nothing, false)
	for r.last.State == Waiting {
		r.do(r.last.Nap)
	}
	if waited := r.now.Sub(at); waited != 10*time.Minute {
		t.Errorf("tried again after %v", waited)
	}
}

// A user's cancel counts, whatever else happens.
func TestCancelIsRespectedWhateverElseHappens(t *testing.T) {
	cut := Checked{Err: context.Canceled, Local: &twoUsers}
	for name, script := range map[string][]any{
		"etcd is silent":                     {cancels, LookEvery, lockDown, given},
		"etcd is silent, and it is replaced": {replaces, LookEvery, lockDown, given, cancels},
		"no answers":                         {cancels, LookEvery, unchecked, calledOff, given},
		"no answers for some time":           {cancels, LookEvery, unchecked, standing, second, standing, 2 * second, calledOff, given},
		"the slot is taken away":             {cancels, LookEvery, slotless},
		"the window shuts":                   {cancels, shuts, second, calledOff, given, opens},
		"the window shuts during the check":  {cancels, LookEvery, shuts, Tick{}, cut, given, opens},
		"the check is cut short":             {cancels, LookEvery, shuts, Tick{}, checkDead, calledOff, given, opens},
		"the update is withdrawn for now":    {cancels, idle, calledOff, given, need},
		"an inhibitor comes":                 {cancels, LookEvery, blockaded, given},
		"another lock":                       {cancels, reload, calledOff, given},
		"another lock, logind is silent":     {cancels, reload, standing},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(script...)
			if r.last.State == Left {
				r.m = r.m.Restart(r.m.config, r.now)
				r.do(Tick{})
				if is(r.m.running, unschedules) {
					r.do(calledOff)
				}
				r.do(notHeld)
			}
			r.do(Tick{})
			if r.m.state == Waiting && r.m.running == nil {
				if s := r.m.Status(r.now); !strings.Contains(s, "held back by a user, who cancelled it") {
					t.Errorf("the status is %q", s)
				}
			}
			at := r.m.people.cancelledAt
			if at.IsZero() {
				t.Fatalf("in state %v it is not known that it was cancelled", r.m.state)
			}
			r.await(Locking, 2*time.Hour)
			if waited := r.now.Sub(at); waited < time.Hour || waited > time.Hour+MaxNap {
				t.Errorf("tried again after %v", waited)
			}
		})
	}
}

// A reboot that the daemon has called off, or may have, was not cancelled by a user.
func TestCallingOffIsNotTakenForACancel(t *testing.T) {
	lost := Unscheduled{Err: errDown, Found: true}
	for name, script := range map[string][]any{
		"called off":                 {LookEvery, unchecked, calledOff, given},
		"called off, the reply lost": {LookEvery, unchecked, lost, cancels, second, calledOff, given},
		"etcd is silent":             {LookEvery, lockDown, calledOff, given},
		"withdrawn and back":         {idle, calledOff, given, need},
		"never scheduled":            {shuts, second, calledOff, given, opens, time.Minute, got, crowded, unwarned, cancels, calledOff, given},
		"scheduled again":            {LookEvery, unchecked, calledOff, given, 20 * second, got, crowded, warned, LookEvery, crowded},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true).do(toDelay...).do(script...)
			if !r.m.people.cancelledAt.IsZero() {
				t.Errorf("taken for cancelled: %s", r.m.Status(r.now))
			}
		})
	}
}

// A logind that restarts and loses the schedule is not a user who cancels.
func TestScheduleThatLogindLostIsNotACancel(t *testing.T) {
	by := func(logind string) Result {
		return Checked{Held: true, Local: &twoUsers, Logind: logind}
	}
	tells := []any{notHeld, need, got, by(":1.1"), Scheduled{Logind: ":1.1"}}
	r := newRig(t, true).do(tells...).do(cancels, LookEvery, by(":1.2"))
	r.expect(Preparing, schedules, false) // users are told again, and have their whole delay
	if want := r.now.Add(5*time.Minute + Backstop); !r.order.at.Equal(want) {
		t.Errorf("scheduled for %v, want %v", r.order.at, want)
	}
	// The next process finds the same.
	r = newRig(t, true).do(tells...).do(cancels, LookEvery).again().do(Unscheduled{Logind: ":1.2"})
	if !r.m.people.cancelledAt.IsZero() {
		t.Error("taken for cancelled by a user")
	}
	// With the same logind it is a cancel.
	for _, logind := range []string{":1.1", ""} {
		newRig(t, true).do(tells...).do(cancels, LookEvery, by(logind)).expect(Releasing, unlocks, false)
	}
}
