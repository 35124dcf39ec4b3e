// Package lock is a counting semaphore shared by a fleet of hosts through etcd: at most max of them
// hold a slot, and so reboot, at once.
//
// It has three layers. [Semaphore] is the document as a pure value. [Lock] is the protocol: what is
// read, compared and written, over a [Store]. The store that hosts use is in package
// etcd, below this one.
//
// # Guarantees
//
//   - The document at the semaphore key is the only truth about who holds a slot, so clients that know
//     only the document can share it. They are never more than max with ours.
//   - Hosts that wait have their turn in the order in which they entered the queue, as long as they
//     stay: only the first one tries. One that hangs or dies holds the others up for a minute.
//   - Nothing that somebody writes beside the document, whatever it is, gives a slot or takes one away,
//     except that the time-to-live which a record asks for is over. Only a pause, or an entry of the
//     queue with a lease that is kept alive, holds hosts up.
//   - Every change is one transaction that compares the revision that was read. A document that
//     cannot be understood is never overwritten.
//   - Reads are linearizable.
//   - A transaction whose reply was lost is resolved by reading before anything else is decided.
//     Where that is impossible in the time given, the error is [ErrUnknown], and the next call that
//     gets through makes sure that the transaction can no longer happen, or takes it as done.
//
// # Not guaranteed
//
//   - That clients which know only the document wait for their turn, or administrators who take a
//     slot by hand.
//   - That a holder is alive: a slot has no lease, because a rebooting host could not keep it.
package lock
