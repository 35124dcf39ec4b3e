// Package model searches the state space of the lock protocol: all histories of a small, bounded world, so that a
// fault at the worst possible moment is not left to chance. The model is written beside package lock, not derived
// from it, and is all part of its own tests.
//
// # The world
//
// Three hosts that each want to reboot once, an old client and old tools that know only the semaphore document,
// and an administrator who pauses, sets max, locks and unlocks. etcd is linearizable: a read is one step, and so
// is a transaction. A transaction is built from one read and happens in a later step, with anything in between, so
// that each of its comparisons counts. A budget bounds the faults: replies that never come (the transaction has
// happened, never does, or does so at any later time), daemons that are killed and start again without a memory,
// hosts that crash and boot, hangs that outlast a lease, hosts that leave at any moment, hosts that come up with
// another name, and disks that are copied to another host with the same id.
//
// The version that a host waits for may be bad: then the host is unwell after its reboot, reports that, and takes the
// fix on the slot that it has, or recovers. Hosts that wait for the bad version leave the queue until they get the fix,
// or until it is resumed.
//
// # What is checked
//
// In every state: a host that acts on a slot has it in the document, unless somebody took it away, and then the
// host does not pass the check before the reboot; no two hosts act on one slot. In every step: no slot is taken
// beyond max, during a pause, or past a host that queued earlier; no holder is removed before its time-to-live has
// expired, or once it has reported that it is unwell; no slot is taken for a version that was reported and not resumed;
// and no host that is unwell gives its slot back. And from every state, once faults and interference end, there is
// only one kind of end: every host that may reboot has done so, and no host holds a slot or waits, except for a
// pause to end or for max to be raised, or where a fix never comes. As the steps that are not faults form no cycle,
// every order of them leads there. A slot whose holder does not know of it would show as an end of another kind.
//
// # Abstractions
//
// Revisions and times are left out. A revision never comes back, so a transaction is marked as lost as soon as
// something that it compares is written. A lease ends at any time once no host keeps it alive; a time-to-live
// expires at any time. A host that hangs is one that takes no step. A read covers all keys at once; a watch is a
// mark on the host that a key which it watches has changed, and the head may act on such an event with what it
// read before. States that differ only in the names of hosts are one state. Operations of old clients and
// administrators compare all that they read, and are one step.
//
// # What the protocol needs
//
// Some parts are easy to leave out. A daemon that starts assumes that its predecessor left a transaction under
// way, and moves the semaphore's revision before it believes that it holds nothing, or that it still holds what
// the predecessor took. Every check of a holder, at start, before a release and before the reboot, refuses the
// record of another host, not only the check in acquire. And a host in the middle of the queue has to learn that
// somebody took a slot for it, or it waits for the host ahead, which waits for that slot: locking by hand deletes
// the queue entry in the same transaction, and the host watches its own entry; if a tool that knows only the
// document locks, the head deletes the entry.
//
// # Not covered
//
// More than three hosts, more faults than the budget, the code itself, loss of data in etcd, broken values and
// entries without a lease, clocks and durations, several groups. The protocol has limits, which the tests pin:
// with records that old tools leave behind, with cloned hosts without a known name or hardware, and with renamed
// hosts without any other known fact.
//
// Some comparisons and watches add no safety in the model, but are kept. To remove an expired holder, the
// comparison of either the record or the alive key would do, but both are free in the same transaction. Without
// the comparison in a takeover a straggler could put an old lease on an entry; the host repairs that at once, but
// may lose its place in the queue. The head, which watches the semaphore, notices sooner by its own entry that it
// has lost its place. The entry that the head deletes could be one that its host has made since, which would cost
// that host its place. And a lease that is not revoked costs the others a minute.
package model
