// Package daemon decides when this host reboots.
//
// It has two halves. [Machine] is the policy: a state machine without I/O,
// clock or goroutine, whose one method Step folds an event into what is known
// and answers what to do next. [Run] is the loop around it: it runs at most one
// effect at a time, off the loop, and feeds the result back as an event.
//
// Guaranteed, and checked by tests that walk the machine at random:
//   - a reboot is asked for only when an update is pending, the reboot window
//     is open and, where a lock is wanted, the slot was confirmed to be ours
//     after everything else had been waited for;
//   - nobody waits for a reboot window while holding the lock;
//   - while anything is pending, the gates are asked again at least once a
//     minute, so that a step of the clock cannot fool the daemon;
//   - every state has a way out.
//
// Not guaranteed: anything about other hosts. That the fleet reboots one after
// another is the lock's doing (package lock).
package daemon
