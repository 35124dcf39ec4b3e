// Package chaos shows that the lock is linearizable under faults. It has no code of its own, only tests.
//
// Many clients use the lock at once on a cluster of three etcd processes. The processes are killed, paused,
// restarted, and cut off from each other and from the clients; replies are lost after the commit, and writes
// arrive long after their client has given up.
//
// Hosts take slots by hand and through the queue, release them, die in the middle of a call and come back as a new
// process. They report what they do with a slot, and that they are unwell, which pauses the version that they have
// booted. Operators set the number of slots, unlock slots of others, pause and resume. Old clients know only the
// document of the semaphore, and change it by compare-and-swap.
//
// FleetLock clients ask two servers at once, now one and now the other. The servers are made of what locksmithctl serve
// is made of, in this process, each with its own connections to etcd. Requests and answers are lost, cut short, or
// arrive after their client has given up. Servers are stopped, and killed: while a transaction is on its way to etcd,
// and between the commit and the answer. A killed server is cut off from etcd and from its clients, and another one
// takes its place.
//
// # What is checked
//
//   - Every operation, with its answer and times, is part of a history, and the history must have a
//     linearization: an order of operations, each at one moment between its call and its return, in which a
//     simple model of a semaphore gives the same answers. So no client acquires a slot while max hosts hold one
//     or during a pause, also one of its version, no release is lost, no client holds a slot that it did not ask for,
//     and every document that a caller was shown was the true one.
//   - Every revision of every key, from etcd's watch, past all clients: a document is consistent, changes by
//     one holder or by its maximum at a time, is never above its maximum after a slot was taken, and is never
//     deleted; a client that knows of pauses takes no slot during one, and none for a version that an unwell host
//     pauses; only a holder reports, and writes the document with it; a pause of a version ends only by an operator, or
//     with the slot of a host that is well; no host in the queue is overtaken by another one in the queue.
//   - What the FleetLock servers promise: 200 to pre-reboot only for a slot, again for the host that has one, also
//     while an earlier steady-state may still be under way; 200 to steady-state whether the host had a slot or not, and
//     from then on neither a slot nor a place in the queue by an earlier request, except one that a server still works
//     on; nothing for a client that gives the id of a host that asks for itself.
//   - Once the faults end, every host that waits gets its turn soon. Then no host holds a slot, the queue is
//     empty, and no lease is left of a long pause that was known to be in force and to end. After a long run no
//     lease is left at all, except those of long pauses that no client knows of.
//
// # Operations of unknown outcome
//
// An operation of unknown outcome has taken effect at one moment after its call, or never. Package lock promises
// how long that stays open: until the next call on the same Lock that gets through returns. If there is none,
// because its host has died, it stays open until that host, as a new process, has taken and released a slot at the
// end of the window: then the document has moved past every revision that the old process compared. An operation
// that failed with any other error has, by the same promise, not happened and never will; one that did happen
// shows up as a change that no client made.
//
// A call whose transaction got no answer tries again before it returns. The first try may have happened
// nevertheless, and may have been undone by an operator in between. So for each such try there is one more
// operation that may have happened by the time the call returns. Of tries that compare the same revision of the
// document one can happen, at most: they are one operation.
//
// A FleetLock client learns nothing of tries. The store of its server notes them, and for a request of unknown outcome
// whether anything can have happened at all. Its operations stay open until the client gets 200 to a later request, if
// the server had ended the earlier one by then, or, with an earlier pre-reboot, if it is the same server.
//
// Resume ends the pauses of versions in a transaction of its own, or in several. In the history that is an operation
// of its own, for the hosts that Resume has named.
//
// Pause makes no such promise: an unanswered try compares that there is no pause, and so may still happen after a
// later pause was resumed. It stays open for one more window.
//
// The history is cut into windows. Between two windows all clients stop, faults are mended, and all slots are
// released, so that each window can be checked alone.
//
// # What is not checked
//
// Time-to-live, which is at least a minute, and clones: all ids belong to one host. Power failure: members are
// killed, but their machine is not. A run cannot be repeated exactly: the seed decides what clients and faults do,
// but not when.
package chaos
