// Package lock is a counting semaphore shared by a fleet of hosts through etcd: at most max of them
// hold a slot, and so reboot, at once.
//
// It has three layers. [Semaphore] is the document as a pure value. [Lock] is the protocol: what is
// read, compared and written, over a [Store]. [Etcd] is the store that hosts use.
//
// # Guarantees
//
//   - The document at the semaphore key is the only truth about who holds a slot. Nothing else that
//     is written beside it can give, take or block a slot, so clients that know only the document
//     can share it.
//   - Every change is one transaction that compares the revision that was read. A document that
//     cannot be understood is never overwritten.
//   - Reads are linearizable.
//   - A transaction whose reply was lost is resolved by reading before anything else is decided.
//     Where that is impossible in the time given, the error is [ErrUnknown], and the next call that
//     gets through makes sure that the transaction can no longer happen, or takes it as done.
//
// # Not guaranteed
//
//   - Fairness between waiting hosts.
//   - That a holder is alive: a slot has no lease, because a rebooting host could not keep it.
package lock
