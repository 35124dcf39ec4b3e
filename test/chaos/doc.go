// Package chaos shows that the lock is linearizable under faults: many clients use it at once on a
// cluster of three etcd processes that are killed, paused, restarted, and cut off from each other and
// from the clients, with replies lost after the commit and writes that arrive long after their client
// gave up.
//
// Hosts take slots by hand and through the queue, give them back, die in the middle of a call and come
// back as a new process. Operators set the number of slots, unlock what others hold, pause and resume.
// Old clients know nothing but the document of the semaphore, and compare and swap it.
//
// # What is checked
//
//   - Every operation, with what its caller was told and when, is part of a history, and the history
//     has to have a linearization: an order of operations, each at one moment between its call and its
//     return, in which a simple model of a semaphore gives the same answers. So nobody acquires while
//     max hosts hold a slot or while paused, no release is lost, nobody holds a slot who did not ask,
//     and every document that a caller was shown was the true one.
//   - Every revision of every key, as etcd's watch tells them, past all clients: a document is
//     consistent, changes by one holder or by its maximum at a time, is never above its maximum after a
//     slot was taken and never deleted; a client that knows of pauses takes no slot during one; nobody in
//     the queue is overtaken by another one of the queue.
//   - Once the faults end, every host that waits gets its turn soon; then nobody holds a slot, nobody is in
//     the queue, no lease is left of a long pause that was known to be in force and to end, and after a
//     long run no lease at all, but for those of long pauses that nobody knows of.
//
// # Outcomes that are unknown
//
// An operation of unknown outcome has taken effect at one moment after its call, or never. How long
// that stays open is what package lock promises: until the next call on the same Lock that gets
// through returns. If there is none, because its host died, it stays open until that host, as a new
// process, has taken and given back a slot at the end of the window: from then on the document has
// moved past whatever the old one compared. An operation that failed with any other error has, by the
// same promise, not happened and never will; so one that did shows up as a change that nobody made.
//
// A call whose transaction had no answer tries again before it returns. The first try may have happened
// all the same, and been undone by an operator in between; so for each of them there is one more
// operation that may have happened by the time the call returns.
//
// Nothing of that sort is promised for Pause: a try that was not answered compares that there is no
// pause, and so may still happen after a later one was resumed. It stays open for another window.
//
// The history is cut into windows. Between two of them all clients stop, faults are mended, and all
// slots are given back, so that each window can be checked alone.
//
// # What is not checked
//
// Time-to-live, which is at least a minute, and clones: all ids are of one host. Power failure: members
// are killed but their machine is not. A run cannot be repeated exactly: the seed decides what
// clients and faults do, not when.
package chaos
