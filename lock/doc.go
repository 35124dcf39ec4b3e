// Package lock is a counting semaphore shared by a fleet of hosts through etcd: at most max of them
// hold a slot, and so reboot, at once.
//
// It has three layers. [Semaphore] is the document as a pure value. [Lock] is the protocol: what is read, compared
// and written. [Store] is what the protocol needs; package etcd, below this one, has the store that hosts use.
//
// # Guarantees
//
//   - The document at the semaphore key is the only truth about who holds a slot, so clients that know
//     only the document can share it. Together with ours they never hold more than max.
//   - Hosts that wait get their turn in the order in which they entered the queue, as long as they
//     stay: only the first one tries. A host that hangs or dies delays the others by a minute.
//   - No key beside the document, whatever it holds, gives a slot or takes one away, except that a slot
//     ends with the time-to-live that its record asks for. Only a pause, or an entry of the
//     queue whose lease is kept alive, delays hosts.
//   - Every change is one transaction that compares the revision that was read. A document that
//     cannot be understood is never overwritten.
//   - Reads are linearizable.
//   - A transaction whose reply was lost is resolved by reading before anything else is decided.
//     Where that is impossible in the time given, the error is [ErrUnknown], and the next call that
//     gets through makes sure that the transaction can no longer happen, or takes it as done.
//
// # Not guaranteed
//
//   - That clients which know only the document, or administrators who take a slot by hand, wait for their
//     turn.
//   - That a holder is alive: a slot has no lease, because a rebooting host could not keep it alive.
package lock
