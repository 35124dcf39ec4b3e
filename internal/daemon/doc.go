// Package daemon decides when this host reboots.
//
// It has two halves. [Machine] is the policy: a state machine without I/O,
// clock or goroutine, whose one method Step folds an event into what is known
// and answers what to do next. [Run] is the loop around it: it runs at most one
// effect at a time, and a look at who is at work beside it, off the loop, and
// feeds the results back as events.
//
// Guaranteed, and checked by tests that walk the machine at random:
//   - a reboot is asked for only when an update is pending, the reboot window
//     is open and, where a lock is wanted, the slot was confirmed to be ours
//     after everything else had been waited for;
//   - nobody waits for a reboot window while holding the lock, and no slot is
//     waited for while somebody is known to be at work on this host, or nobody
//     can tell;
//   - users who are logged in are told, through what logind shows as scheduled,
//     have their delay, and can cancel the reboot, until what people may
//     postpone is used up;
//   - a slot is not given back while a reboot that was scheduled for it may
//     stand, and what others have scheduled is neither replaced nor cancelled;
//   - while anything is pending, the gates are asked again at least once a
//     minute, so that a step of the clock cannot fool the daemon;
//   - every state has a way out.
//
// Not guaranteed: anything about other hosts. That the fleet reboots one after
// another is the lock's doing (package lock).
package daemon
