package policy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTransitions is the state table.
func TestTransitions(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   []any
		script []any
		state  State
		start  Kind
		cancel bool
		why    string // part of it
	}{
		{"a start asks etcd for a slot", toStarting, nil, Starting, inspects, false, "started"},
		{"nothing held at start, nothing pending", toStarting, []any{notHeld}, Idle, nothing, false, "no slot is held"},
		{"nothing held at start, reboot pending", toStarting, []any{need, notHeld}, Locking, locks, false, "may reboot now"},
		{"nothing held at start, reboot pending, window shut", toStarting, []any{shuts, need, notHeld}, Waiting, nothing, false, "a reboot is needed"},
		{"etcd down at start: no answer yet", toStarting, []any{noAnswer}, Starting, nothing, false, "started"},
		{"etcd down at start: asks again", toStarting, []any{noAnswer, 1 * second}, Starting, inspects, false, "started"},
		{"held since before this boot", toStarting, []any{fromAgo, well}, Settling, unlocks, false, "before this boot"},
		{"held since before this boot, reboot pending", toStarting, []any{need, fromAgo, well}, Settling, unlocks, false, "before this boot"},
		{"held since before this boot, reboot pending, window shut", toStarting, []any{shuts, need, fromAgo, well}, Settling, unlocks, false, "before this boot"},
		{"held since before this boot, window shut", toStarting, []any{shuts, fromAgo, well}, Settling, unlocks, false, "before this boot"},
		{"held without a record", toStarting, []any{from}, Settling, unlocks, false, "not recorded since which boot"},
		{"nobody knows whether a slot is held", toStarting, []any{unsure}, Settling, unlocks, false, "it is not known whether a slot is held"},
		{"nobody knows whether a slot is held, reboot pending", toStarting, []any{need, unsure}, Settling, unlocks, false, "it is not known"},
		{"nobody knows whether a slot is held, and it cannot be given back", toStarting, []any{need, unsure, notGiven, 10 * second}, Settling, unlocks, false, "it is not known"},
		{"nobody knew whether a slot was held", toStarting, []any{need, unsure, given}, Locking, locks, false, "may reboot now"},
		{"held without a record, reboot pending", toStarting, []any{need, from}, Settling, unlocks, false, "not recorded since which boot"},
		{"held since this boot, reboot pending: goes on", toStarting, []any{need, fromNow}, Locking, locks, false, "may reboot now"},
		{"held since this boot, asked for by hand: goes on", toStarting, []any{asked, Inspected{Holding: HeldThisBoot}}, Locking, locks, false, "may reboot now"},
		{"held since this boot for another version", toStarting, []any{newer, fromNow}, Settling, unlocks, false, "taken for version 4081.2.0, and a reboot is needed for 4081.2.1 now"},
		{"held since this boot for a version, asked for by hand: waits for update_engine", toStarting, []any{asked, fromNow}, Starting, nothing, false, "started"},
		{"held since this boot, reboot pending, window shut", toStarting, []any{shuts, need, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, nothing pending", toStarting, []any{idle, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, update_engine gone", toStarting, []any{gone, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, update_engine silent, window shut", toStarting, []any{shuts, fromNow}, Settling, unlocks, false, "no reboot may go ahead"},
		{"held since this boot, update_engine silent: waits", toAwaiting, nil, Starting, nothing, false, "started"},
		{"waiting for update_engine: it needs a reboot", toAwaiting, []any{9 * second, need}, Locking, locks, false, "may reboot now"},
		{"waiting for update_engine: it needs none", toAwaiting, []any{9 * second, idle}, Settling, unlocks, false, "no reboot may go ahead"},
		{"waiting for update_engine: it is gone", toAwaiting, []any{9 * second, gone}, Settling, unlocks, false, "no reboot may go ahead"},
		{"waiting for update_engine: it needs a reboot for another version", toAwaiting, []any{9 * second, newer}, Settling, unlocks, false, "needed for 4081.2.1 now"},
		{"waiting for update_engine: somebody asks for a reboot", toAwaiting, []any{9 * second, asked, need}, Locking, locks, false, "may reboot now"},
		{"waiting for update_engine: somebody asks for a reboot, and it is silent", toAwaiting, []any{9 * second, asked, 1 * second}, Settling, unlocks, false, "needed for unknown now"},
		{"waiting for update_engine: the window shuts", toAwaiting, []any{shuts, 9 * second}, Settling, unlocks, false, "no reboot may go ahead"},
		{"waiting for update_engine: not yet over", toAwaiting, []any{9 * second}, Starting, nothing, false, "started"},
		{"waiting for update_engine: over", toAwaiting, []any{10 * second}, Settling, unlocks, false, "no reboot may go ahead"},

		{"settled, nothing pending", toSettling, []any{given}, Idle, nothing, false, "given back"},
		{"settled, reboot pending", toSettling, []any{need, given}, Locking, locks, false, "may reboot now"},
		{"settled, reboot pending, window shut", toSettling, []any{shuts, need, given}, Waiting, nothing, false, "given back"},
		{"an update while settling waits", toSettling, []any{need}, Settling, nothing, false, "before this boot"},
		{"settling fails", toSettling, []any{notGiven}, Settling, nothing, false, "before this boot"},
		{"settling fails, update comes: still first", toSettling, []any{notGiven, need}, Settling, nothing, false, "before this boot"},
		{"settling fails and is tried again", toSettling, []any{notGiven, 1 * second}, Settling, unlocks, false, "before this boot"},

		{"an update ends idleness", toIdle, []any{need}, Locking, locks, false, "may reboot now"},
		{"a request ends idleness", toIdle, []any{asked}, Locking, locks, false, "may reboot now"},
		{"an update, window shut", toIdle, []any{shuts, need}, Waiting, nothing, false, "a reboot is needed"},
		{"progress does not end idleness", toIdle, []any{idle}, Idle, nothing, false, "no slot"},
		{"update_engine's leaving does not end idleness", toIdle, []any{gone}, Idle, nothing, false, "no slot"},

		{"the window stays shut", toWaiting, []any{time.Minute}, Waiting, nothing, false, "a reboot is needed"},
		{"the window opens", toWaiting, []any{opens, time.Minute}, Locking, locks, false, "may reboot now"},
		{"withdrawn while waiting", toWaiting, []any{idle}, Idle, nothing, false, "withdrawn"},
		{"update_engine's leaving is no withdrawal", toWaiting, []any{gone}, Waiting, nothing, false, "a reboot is needed"},
		{"the same update again", toWaiting, []any{need}, Waiting, nothing, false, "a reboot is needed"},
		{"waiting for the next try, window open", toMaybe, nil, Waiting, nothing, false, "no slot: etcd is down"},
		{"waiting for the next try: due", toMaybe, []any{5 * second}, Locking, locks, false, "may reboot now"},
		{"waiting, may hold: the window shuts", toMaybe, []any{shuts, Tick{}}, Releasing, unlocks, false, "window has shut"},
		{"waiting, may hold: withdrawn", toMaybe, []any{idle}, Releasing, unlocks, false, "withdrawn"},
		{"waiting, holds nothing: the window shuts", toLocking, []any{noSlot, shuts, Tick{}}, Waiting, nothing, false, "no slot"},

		{"got the slot", toLocking, []any{got}, Preparing, checks, false, "got the slot"},
		{"still no slot", toLocking, []any{time.Hour}, Locking, nothing, false, "may reboot now"},
		{"told what blocks", toLocking, []any{Blocked{By: "held by a"}}, Locking, nothing, false, "may reboot now"},
		{"lock error: nothing taken", toLocking, []any{noSlot}, Waiting, nothing, false, "no slot: etcd is down"},
		{"lock error: perhaps taken", toLocking, []any{maybe}, Waiting, nothing, false, "no slot: etcd is down"},
		{"lock error: perhaps taken, and another version", toLocking, []any{maybe, newer}, Releasing, unlocks, false, "needed for 4081.2.1 now"},
		{"the window shuts while locking", toLocking, []any{shuts, Tick{}}, Locking, nothing, true, "may reboot now"},
		{"cancelled once only", toLocking, []any{shuts, Tick{}, Tick{}, idle}, Locking, nothing, false, "may reboot now"},
		{"the window shut while locking: nothing taken", toLocking, []any{shuts, Tick{}, lockEnded}, Waiting, nothing, false, "window has shut"},
		{"the window shut while locking: perhaps taken", toLocking, []any{shuts, Tick{}, Locked{Err: context.Canceled, Unknown: true}}, Releasing, unlocks, false, "window has shut"},
		{"the window shut while locking: taken nevertheless", toLocking, []any{shuts, Tick{}, got}, Releasing, unlocks, false, "window has shut"},
		{"the window shut unnoticed, and then the slot", toLocking, []any{shuts, got}, Releasing, unlocks, false, "window has shut"},
		{"the window shuts and opens again while locking", toLocking, []any{shuts, Tick{}, opens, lockEnded}, Locking, locks, false, "may reboot now"},
		{"another version while locking: waits for that", toLocking, []any{newer}, Locking, nothing, true, "may reboot now"},
		{"another version while locking: nothing taken", toLocking, []any{newer, lockEnded}, Locking, locks, false, "may reboot now"},
		{"another version while locking: taken nevertheless", toLocking, []any{newer, got}, Releasing, unlocks, false, "the slot was taken for version 4081.2.0, and a reboot is needed for 4081.2.1 now"},
		{"another version while locking, and the window shuts", toLocking, []any{newer, shuts, lockEnded}, Waiting, nothing, false, "window has shut"},
		{"another version during a check", toPreparing, []any{newer}, Preparing, nothing, true, "got the slot"},
		{"another version, says the check", toPreparing, []any{Checked{Held: true, Updates: []Update{newer}}}, Releasing, unlocks, false, "needed for 4081.2.1 now"},
		{"another version during the delay", toDelay, []any{newer}, Releasing, unschedules, false, "needed for 4081.2.1 now"},
		{"the slot of the old version is given back", toPreparing, []any{Checked{Held: true, Updates: []Update{newer}}, given}, Locking, locks, false, "may reboot now"},
		{"withdrawn while locking", toLocking, []any{idle}, Locking, nothing, true, "may reboot now"},
		{"withdrawn while locking: nothing taken", toLocking, []any{idle, lockEnded}, Idle, nothing, false, "withdrawn"},
		{"withdrawn while locking: taken nevertheless", toLocking, []any{idle, got}, Releasing, unlocks, false, "withdrawn"},

		{"every gate is open", toPreparing, []any{clear}, Rebooting, reboots, false, "every gate is open"},
		{"the gates cannot be asked", toPreparing, []any{unchecked}, Releasing, unlocks, false, "could not check"},
		{"the slot was taken away", toPreparing, []any{slotless}, Waiting, nothing, false, "taken the slot away"},
		{"the slot was taken away: queues again, but not at once", toPreparing, []any{slotless, 5 * second}, Locking, locks, false, "may reboot now"},
		{"users are logged in", toPreparing, []any{crowded}, Preparing, schedules, false, "got the slot"},
		{"users could not be told", toPreparing, []any{crowded, unwarned}, Releasing, unschedules, false, "could not tell the users"},
		{"users could not be warned, and do not know of it any more", toPreparing, []any{crowded, unwarned, calledOff}, Releasing, unlocks, false, "could not tell the users"},
		{"the delay is not over", toDelay, []any{time.Minute, crowded, LookEvery - second}, Preparing, nothing, false, "got the slot"},
		{"the gates are asked again and again", toDelay, []any{LookEvery}, Preparing, checks, false, "got the slot"},
		{"all have logged out", toDelay, []any{time.Minute, clear}, Rebooting, reboots, false, "every gate is open"},
		{"the delay is over", toDelay, []any{5 * time.Minute, crowded}, Rebooting, reboots, false, "every gate is open"},
		{"the slot is taken away during the delay", toDelay, []any{time.Minute, slotless}, Releasing, unschedules, false, "taken the slot away"},
		{"the slot is taken away during the delay, and the reboot called off", toDelay, []any{time.Minute, slotless, calledOff}, Waiting, nothing, false, "no reboot of ours"},
		{"the gates cannot be asked during the delay", toDelay, []any{time.Minute, unchecked}, Releasing, unschedules, false, "could not check"},
		{"the window shuts during a check", toPreparing, []any{shuts, Tick{}}, Preparing, nothing, true, "got the slot"},
		{"the window shut during a check", toPreparing, []any{shuts, Tick{}, checkDead}, Releasing, unlocks, false, "window has shut"},
		{"the window shut during a check that was not cancelled", toPreparing, []any{shuts, clear}, Releasing, unlocks, false, "window has shut"},
		{"the window shut, and the check says that the slot is gone", toPreparing, []any{shuts, slotless}, Waiting, nothing, false, "window has shut"},
		{"the window shuts and opens again during a check", toPreparing, []any{shuts, Tick{}, opens, checkDead}, Preparing, checks, false, "got the slot"},
		{"a check that was cancelled counts for nothing", toPreparing, []any{shuts, Tick{}, opens, clear}, Preparing, checks, false, "got the slot"},
		{"users may not have been told", toPreparing, []any{crowded, shuts, Tick{}, opens, Scheduled{Err: context.Canceled}}, Releasing, unschedules, false, "could not tell"},
		{"users have been told although that was cancelled", toPreparing, []any{crowded, shuts, Tick{}, opens, warned}, Preparing, nothing, false, "got the slot"},
		{"the window shuts during the delay", toDelay, []any{shuts, time.Minute}, Releasing, unschedules, false, "window has shut"},
		{"withdrawn during a check", toPreparing, []any{idle}, Preparing, nothing, true, "got the slot"},
		{"withdrawn, says the check", toPreparing, []any{retracted}, Releasing, unlocks, false, "withdrawn"},
		{"withdrawn during the delay", toDelay, []any{idle}, Releasing, unschedules, false, "withdrawn"},

		{"logind is being asked", toRebooting, []any{30 * second}, Rebooting, nothing, false, "every gate is open"},
		{"withdrawn while logind is being asked: too late", toRebooting, []any{idle}, Rebooting, nothing, false, "every gate is open"},
		{"the window shuts while logind is being asked: too late", toRebooting, []any{shuts, Tick{}}, Rebooting, nothing, false, "every gate is open"},
		{"refused", toRebooting, []any{refused}, Releasing, unlocks, false, "refused: access denied"},
		{"accepted", toRebooting, []any{accepted}, Rebooting, nothing, false, "every gate is open"},
		{"accepted, not yet over", toAccepted, []any{RebootGrace - second}, Rebooting, nothing, false, "every gate is open"},
		{"accepted, but it never ends", toAccepted, []any{RebootGrace}, Releasing, unschedules, false, "still up"},
		{"accepted, never ends, and logind says so", toAccepted, []any{RebootGrace, calledOff}, Releasing, unlocks, false, "still up"},
		{"accepted, never ends, withdrawn", toAccepted, []any{idle, RebootGrace, calledOff, given}, Idle, nothing, false, "given back"},
		{"unknown whether accepted", toRebooting, []any{silent}, Rebooting, nothing, false, "every gate is open"},
		{"unknown whether accepted: bounded", toRebooting, []any{silent, RebootGrace}, Releasing, unschedules, false, "etcd is down"},
		{"unknown whether accepted, and never known", toRebooting, []any{silent, RebootGrace, standing, second, standing}, Releasing, nothing, false, "etcd is down"},

		{"released, next try later", toReleasing, []any{given}, Waiting, nothing, false, "given back"},
		{"released, withdrawn", toReleasing, []any{idle, given}, Idle, nothing, false, "given back"},
		{"release fails", toReleasing, []any{notGiven}, Releasing, nothing, false, "could not check"},
		{"release is not cut short", toReleasing, []any{idle, time.Minute}, Releasing, nothing, false, "could not check"},
		{"release is tried again", toStuck, []any{1 * second}, Releasing, unlocks, false, "could not check"},
		{"release fails, withdrawn: still to be released", toStuck, []any{idle}, Releasing, nothing, false, "could not check"},

		{"stop while starting", toStarting, []any{stop}, Starting, nothing, true, "started"},
		{"stopped while starting", toStarting, []any{stop, noAnswer}, Left, nothing, false, "before etcd said"},
		{"stopped while starting between two tries", toStarting, []any{noAnswer, stop}, Left, nothing, false, "before etcd said"},
		{"stopped while starting, with an answer", toStarting, []any{stop, fromNow}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while starting, nothing held", toStarting, []any{stop, notHeld}, Left, nothing, false, "no slot is held"},
		{"stop while waiting for update_engine", toAwaiting, []any{stop}, Releasing, unlocks, false, "undo everything before the end"},
		{"stop while settling", toSettling, []any{stop}, Settling, nothing, false, "before this boot"},
		{"stopped while settling", toSettling, []any{stop, given}, Left, nothing, false, "no slot is held"},
		{"stopped while settling fails", toSettling, []any{stop, notGiven}, Left, nothing, false, "could not be given back: etcd is down"},
		{"stop while idle", toIdle, []any{stop}, Left, nothing, false, "no slot is held"},
		{"stop while waiting", toWaiting, []any{stop}, Left, nothing, false, "no slot is held"},
		{"stop while waiting, may hold", toMaybe, []any{stop}, Releasing, unlocks, false, "undo everything before the end"},
		{"stop while locking", toLocking, []any{stop}, Locking, nothing, true, "may reboot now"},
		{"stopped while locking, nothing taken", toLocking, []any{stop, lockEnded}, Left, nothing, false, "no slot is held"},
		{"stopped while locking, perhaps taken", toLocking, []any{stop, maybe}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while locking, taken", toLocking, []any{stop, got}, Releasing, unlocks, false, "undo everything before the end"},
		{"stop while preparing", toPreparing, []any{stop}, Preparing, nothing, true, "got the slot"},
		{"stopped while preparing", toPreparing, []any{stop, checkDead}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while preparing, all clear", toPreparing, []any{stop, clear}, Releasing, unlocks, false, "undo everything before the end"},
		{"stopped while preparing, slot gone", toPreparing, []any{stop, slotless}, Left, nothing, false, "no slot is held"},
		{"stop during the delay", toDelay, []any{stop}, Releasing, unschedules, false, "undo everything before the end"},
		{"stop while logind is being asked", toRebooting, []any{stop}, Left, nothing, true, "logind was asked"},
		{"stop after logind accepted", toAccepted, []any{stop}, Left, nothing, false, "logind was asked"},
		{"stop while releasing", toReleasing, []any{stop}, Releasing, nothing, false, "could not check"},
		{"stopped while releasing", toReleasing, []any{stop, given}, Left, nothing, false, "no slot is held"},
		{"stopped while releasing fails", toReleasing, []any{stop, notGiven}, Left, nothing, false, "could not be given back: etcd is down"},
		{"stop between two tries to release", toStuck, []any{stop}, Left, nothing, false, "could not be given back: etcd is down"},
		{"stop with the last release on its way", toDelay, []any{stop, calledOff, given}, Left, nothing, false, "no slot is held"},

		{"the host goes down while starting", toStarting, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down while settling", toSettling, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down while idle", toIdle, []any{stopDown}, Left, nothing, false, "no slot is held"},
		{"the host goes down while waiting", toWaiting, []any{stopDown}, Left, nothing, false, "no slot is held"},
		{"the host goes down while waiting, may hold", toMaybe, []any{stopDown}, Left, nothing, false, "the slot is kept"},
		{"the host goes down while locking", toLocking, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down while preparing", toPreparing, []any{stopDown}, Left, nothing, true, "the slot is kept"},
		{"the host goes down during the delay", toDelay, []any{stopDown}, Left, nothing, false, "the slot is kept"},
		{"the host goes down while logind is being asked", toRebooting, []any{stopDown}, Left, nothing, true, "logind was asked"},
		{"the host goes down as it should", toAccepted, []any{stopDown}, Left, nothing, false, "logind was asked"},
		{"the host goes down while releasing", toReleasing, []any{stopDown}, Left, nothing, true, "the slot is kept"},

		{"reload while starting", toStarting, []any{reload, noAnswer}, Left, nothing, false, "starting over before etcd said"},
		{"reload while settling", toSettling, []any{reload, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while idle", toIdle, []any{reload}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while waiting", toWaiting, []any{reload}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while locking", toLocking, []any{reload, lockEnded}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while preparing", toPreparing, []any{reload, checkDead, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload while logind is being asked", toRebooting, []any{reload}, Rebooting, nothing, false, "every gate is open"},
		{"reload while logind is being asked, which refuses", toRebooting, []any{reload, refused}, Releasing, unlocks, false, "refused"},
		{"reload after logind refused", toRebooting, []any{reload, refused, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload after logind accepted", toAccepted, []any{reload}, Rebooting, nothing, false, "every gate is open"},
		{"reload after logind accepted, and it never ends", toAccepted, []any{reload, RebootGrace, calledOff, given}, Left, nothing, false, "starting over; no slot is held"},
		{"reload after logind accepted, then stop", toAccepted, []any{reload, stop}, Left, nothing, false, "logind was asked"},
		{"reload while releasing", toReleasing, []any{reload, given}, Left, nothing, false, "starting over; no slot is held"},
		{"nothing happens any more", toIdle, []any{stop, need, time.Hour, reload, Blocked{}}, Left, nothing, false, "stopped; no slot is held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true).do(c.from...).do(c.script...)
			r.expect(c.state, c.start, c.cancel)
			if !strings.Contains(r.m.why, c.why) {
				t.Errorf("why is %q, want something with %q", r.m.why, c.why)
			}
		})
	}
}

// TestTransitionsWithoutLock is what differs under strategy reboot.
func TestTransitionsWithoutLock(t *testing.T) {
	free := Checked{}
	for _, c := range []struct {
		name   string
		script []any
		state  State
		start  Kind
		cancel bool
	}{
		{"idle at once", nil, Idle, nothing, false},
		{"an update", []any{need}, Preparing, checks, false},
		{"an update, window shut", []any{shuts, need}, Waiting, nothing, false},
		{"the window opens", []any{shuts, need, opens, time.Minute}, Preparing, checks, false},
		{"every gate is open", []any{need, free}, Rebooting, reboots, false},
		{"users", []any{need, Checked{Local: &twoUsers}}, Preparing, schedules, false},
		{"withdrawn", []any{need, idle, checkDead}, Idle, nothing, false},
		{"the window shuts", []any{need, shuts, free}, Waiting, nothing, false},
		{"refused", []any{need, free, refused}, Waiting, nothing, false},
		{"refused, tried again", []any{need, free, refused, 5 * second}, Preparing, checks, false},
		{"accepted but never ends", []any{need, free, accepted, RebootGrace, calledOff}, Waiting, nothing, false},
		{"a gate cannot be asked", []any{need, unchecked}, Waiting, nothing, false},
		{"stop", []any{need, stop, checkDead}, Left, nothing, false},
		{"stop during the delay", []any{need, Checked{Local: &twoUsers}, warned, stop}, Releasing, unschedules, false},
		{"stopped during the delay", []any{need, Checked{Local: &twoUsers}, warned, stop, calledOff}, Left, nothing, false},
		{"reload", []any{need, free, reload, refused}, Left, nothing, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false).do(c.script...)
			r.expect(c.state, c.start, c.cancel)
			if slices.ContainsFunc(r.started, func(e Kind) bool { return e == inspects || e == locks || e == unlocks }) {
				t.Errorf("the lock was used: %v", r.started)
			}
		})
	}
}
