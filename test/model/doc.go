// Package model searches the state space of the lock protocol: all histories of a small, bounded
// world, so that a fault at the worst possible moment is not left to chance. It is a model, written
// beside package lock and not made from it. All of it is part of its tests.
//
// # The world
//
// Three hosts that each want to reboot once, an old client and old tools that know only the
// semaphore document, and an administrator who pauses, sets max, locks and unlocks. etcd is
// linearizable: a read is one step, and so is a transaction. A transaction is made from one read and
// happens in a later step, with anything in between, so that each of its comparisons counts. What
// goes wrong is bounded by a budget: replies that never come (the transaction has happened, never
// does, or does so at any later time), daemons that are killed and start again without a memory,
// hosts that crash and boot, hangs that outlast a lease, hosts that leave at any moment, hosts that come up
// by another name, and disks that are copied to another host with the same id.
//
// # What is checked
//
// In every state: who acts on a slot has it in the document, unless somebody took it away, and then
// it does not pass the check before the reboot; no two hosts act on one slot. In every step: no slot
// is taken beyond max, during a pause, or past somebody who queued earlier; no holder is removed before
// its time-to-live has run out. And from every state, once faults and interference end, there is only
// one kind of end: everybody who may reboot has done so, and nobody holds a slot or waits, except for a
// pause to end or for max to be raised. As the steps that are no faults form no cycle, every order of
// them leads there. A slot held by nobody who knows would show as an end of another kind.
//
// # Abstractions
//
// Revisions and times are left out. A revision never comes back, so a transaction is marked as lost
// as soon as something that it compares is written. A lease ends at any time once nobody keeps it
// alive; a time-to-live runs out at any time. A host that hangs is one that takes no step. A read is
// all keys at once; a watch is a mark on the host that a key which it watches has changed, and the
// head may act on such an event with what it read before. States that differ only in the names of
// hosts are one state. What old clients and administrators do compares all that it reads, and is one step.
//
// # What it needs of the protocol
//
// Things that are easy to leave out: a daemon that starts takes it that its predecessor left a
// transaction under way, and moves the semaphore's revision before it believes that it holds nothing,
// or that it still holds what the predecessor took. Every look at a holder, at start, before a
// release and before the reboot, refuses the record of another host, not only acquire. And a host in the
// middle of the queue has to learn that somebody took a slot for it, or it waits for the host ahead,
// which waits for that slot: locking by hand deletes the queue entry in the same transaction, and the host
// watches its own entry; where a tool that knows only the document locks, the head deletes the entry.
//
// # Not covered
//
// More than three hosts, more faults than the budget, the code itself, etcd losing data, broken
// values and entries without a lease, clocks and how long anything takes, several groups. With records
// that old tools leave behind, with cloned hosts of which neither name nor hardware is known, and with renamed
// ones of which nothing else is, the protocol has limits that the tests pin. Some comparisons and watches make nothing safer in the model and are
// kept all the same: of record and alive key one would do when an expired holder is removed, but
// both are free in the same transaction; without the comparison a straggler could put an old lease
// on an entry, which is repaired at once but may cost the place in the queue; the head, which watches
// the semaphore, notices sooner by its own entry that it fell out; the entry that the head deletes could
// be one that its host has made since, which costs that one its place; and a lease that is not revoked
// costs the others a minute.
package model
