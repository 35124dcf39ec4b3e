// Package daemon runs the policy of package policy on a host.
//
// [Run] is the loop: it performs at most one effect at a time, and a look at who
// is at work beside it, off the loop, and feeds the results back as events. What
// it talks to are interfaces of its own: the lock, the host, its scheduler of
// shutdowns.
//
// Guaranteed:
//   - what the next process has to know is kept before an effect begins;
//   - the end of Run waits for nobody for longer than a few seconds;
//   - an idle loop has no timer.
//
// Not guaranteed: that nobody schedules or cancels a shutdown in the moment between
// logind's last answer and the call that follows it. logind has no way to compare
// and change at once.
package daemon
