// Package policy decides when this host reboots. [Machine] is a state machine without I/O, clock or goroutine: its
// one method Step folds an event into what is known, and answers what to do next. Package daemon runs it.
//
// Guaranteed, and checked by tests that walk the machine at random:
//   - a reboot is asked for only when an update is pending, the reboot window is open and, where a lock is wanted,
//     the slot was confirmed to be this host's after everything else had been waited for, and is recorded to be for
//     the version of this reboot;
//   - no host waits for a reboot window while it holds the lock, or begins to wait for a slot while somebody is known
//     to be at work on it, or that is unknown. Only an installation of packages may begin while it waits;
//   - no reboot is asked for in the middle of such an installation, unless people have postponed it for as long as they
//     may, and the installation has been known of for InstallGrace;
//   - users who are logged in are told, through what logind shows as scheduled, have their delay, and can cancel the
//     reboot, until people have postponed it for as long as they may. Waiting for a slot does not count. A cancel
//     counts up to the last answer of the last check, whatever else happens;
//   - what is hooked in before a reboot runs only with the slot, where one is wanted, and
//     is undone before the slot is given back, unless the host reboots;
//   - a slot of before the boot is not given back by a host that was not found well
//     since, unless the configuration says so;
//   - a slot is not given back while a reboot that was scheduled for it may
//     stand, or one that logind was asked for may come, whichever process of this boot
//     did that. What others have scheduled is neither replaced nor cancelled;
//   - while anything is pending, the gates are asked again at least once a
//     minute, so that a step of the clock does no harm;
//   - every state has a way out.
//
// Not guaranteed:
//   - anything about other hosts: that the fleet reboots one after another is the task of package lock;
//   - the users' delay, and every gate, when the wall clock is put forward past the time that is scheduled, or the
//     host slept until then: logind uses that clock, and reboots at once. A smaller step, or one back, is found
//     within one check, and the reboot called off;
//   - anything about a reboot that logind schedules late, within a minute of the end of the
//     process that asked for it, if what that process kept for the next one is deleted;
//   - that the next process knows who cancelled a reboot, when this one ended
//     while it was itself calling that off: users are told again.
package policy
