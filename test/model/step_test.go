package model

import (
	"fmt"
	"slices"
)

// An action is the kind of a step.
type action uint8

const (
	// What continues by itself, without faults and interference.
	goOn         action = iota // a host does the next thing
	event                      // the head acts on an event without a read: the semaphore is free, or an alive key is gone
	reply                      // the transaction of a host happens or fails, and the host gets the reply
	late                       // a straggler happens
	vanish                     // a straggler never happens
	entryExpires               // a queue entry that no host keeps alive is deleted
	aliveExpires               // a time-to-live runs out
	oldRelease                 // the old client releases its slot
	handRelease                // a slot that was locked by hand is unlocked by hand, once: see fault
	getFix                     // a host outside the queue gets the fix

	// The rest is bounded by the budget.
	loseReply      // the client gives up waiting for the reply
	loseReplyLease // and gives up its lease with it
	kill
	crash
	crashRenamed
	rename   // a host comes up after its reboot with another name
	copyDisk // a host goes down, and comes up with the disk of another host
	hang     // longer than the lease
	leave
	leaveQuietly // the lease cannot be revoked
	comeBack
	pause
	resume
	resumeVersion
	getWell
	setMax
	unlock
	lock
	oldUnlock
	oldLock
	oldTake
)

// A step leads from one state to another.
type step struct {
	action action
	host   uint8 // or the place among the stragglers, or an id
	arg    uint8
}

// fault reports whether a step of s belongs to the faults and interference, which end. The end of a time-to-live does,
// unless the holder is dead: two live hosts with too short a time could take the slot from each other forever. An
// unlock of what was locked by hand does while its host is in the queue: the host has to see by itself what it holds,
// and must not depend on the unlock.
func (m *model) fault(s *state, st step) bool {
	has := func(pcs ...pc) bool {
		for i := range s.hosts {
			if m.IDs[i] == st.host && slices.Contains(pcs, s.hosts[i].pc) {
				return true
			}
		}
		return false
	}
	switch st.action {
	case aliveExpires:
		return !has(dead)
	case handRelease:
		return has(follow, head)
	}
	return st.action >= loseReply
}

// steps calls emit for every step that s allows. bad is the property that the step breaks.
func (m *model) steps(s *state, emit func(st step, next state, bad string)) {
	for i := range uint8(nHosts) {
		m.hostSteps(s, i, emit)
		m.hostFaults(s, i, emit)
	}
	for n, t := range s.net {
		if t.kind == none || n > 0 && s.net[n-1] == t {
			continue
		}
		next := *s
		next.net[n] = txn{}
		sortNet(&next.net)
		emit(step{action: vanish, host: uint8(n)}, next, "")
		if ok, bad := m.commit(&next, t); ok {
			emit(step{action: late, host: uint8(n)}, next, bad)
		}
	}
	m.others(s, emit)
}

// hostSteps emits the steps of the program on host i.
func (m *model) hostSteps(s *state, i uint8, emit func(step, state, string)) {
	next := *s
	h := &next.hosts[i]
	bad := ""
	switch h.pc {
	case start:
		m.begin(&next, i)
	case read:
		m.acquire(&next, i)
	case sent:
		t := h.tx
		h.tx = txn{kind: t.kind, host: i, lost: true} // no longer under way
		ok, bad := m.commit(&next, t)
		m.replied(&next, i, ok)
		arg := uint8(0)
		if ok {
			arg = 1
		}
		emit(step{reply, i, arg}, next, bad)
		return
	case follow:
		if !h.changed {
			return
		}
		if m.bug(FollowIsHead) && next.place(m.IDs[i]) >= 0 && next.free() && !next.paused {
			m.send(&next, i, take)
		} else {
			m.acquire(&next, i)
		}
	case outside:
		if !m.NoFix {
			fixed := *s
			fixed.hosts[i].wants = false
			fixed.hosts[i].look()
			fixed.hosts[i].pc = read
			emit(step{action: getFix, host: i}, fixed, "")
		}
		if !h.changed {
			return
		}
		m.acquire(&next, i)
	case ill:
		m.tell(&next, i)
	case sick:
		switch {
		case !m.holds(&next, i):
			h.pc = release
		case m.NoFix:
			return
		default:
			h.wants = false
			m.send(&next, i, again)
		}
	case head:
		if !h.changed {
			return
		}
		m.events(s, i, emit)
		m.acquire(&next, i)
	case held:
		bad = m.check(&next, i)
	case checked:
		h.pc = down
	case down:
		if s.left.Renames > 0 {
			renamed := *s
			renamed.left.Renames--
			m.boot(&renamed, i, true)
			renamed.hosts[i] = h.up()
			emit(step{action: rename, host: i}, renamed, "")
		}
		m.boot(&next, i, false)
		next.hosts[i] = h.up()
	case refused:
		if m.conflict(s, i) {
			return
		}
		m.acquire(&next, i)
	case release:
		m.giveBack(&next, i)
	default:
		return
	}
	emit(step{action: goOn, host: i}, next, bad)
}

// up is the host after its reboot.
func (h *host) up() host { return host{pc: start, mode: done, wants: h.wants, runs: h.wants} }

// events emits the steps of the head on an event, with what it read earlier.
func (m *model) events(s *state, i uint8, emit func(step, state, string)) {
	h := s.hosts[i]
	if h.semEvent && s.free() && (h.ownFresh || m.bug(TakeNoOwnEntry)) && (!h.entries || m.bug(HeadBlind)) {
		next := *s
		next.hosts[i].look()
		m.send(&next, i, take).none = !h.entries && !m.bug(HeadNoUnwell) // whatever is there by now
		emit(step{action: event, host: i, arg: nobody}, next, "")
	}
	for id := range uint8(nHosts) {
		if has(h.gone, id) && has(s.holders, id) && !s.free() && (has(h.recFresh, id) || m.compares(expire)&recKey == 0) {
			next := *s
			next.hosts[i].look()
			m.send(&next, i, expire).target = id
			emit(step{action: event, host: i, arg: id}, next, "")
		}
	}
}

func (m *model) hostFaults(s *state, i uint8, emit func(step, state, string)) {
	h := s.hosts[i]
	up := h.pc != down && h.pc != start && h.pc != dead && !(h.pc == idle && h.mode == done)
	if s.left.Lost > 0 && h.tx.kind != none && !h.tx.lost {
		next := *s
		next.left.Lost--
		m.loseReply(&next, i)
		emit(step{action: loseReply, host: i}, next, "")
		if h.tx.kept {
			m.endLease(&next, i, false)
			emit(step{action: loseReplyLease, host: i}, next, "")
		}
	}
	if s.left.Kills > 0 && up {
		next := *s
		next.left.Kills--
		m.forget(&next, i)
		emit(step{action: kill, host: i}, next, "")
	}
	if s.left.Crashes > 0 && (up || m.Dead && h.pc == down) {
		next := *s
		next.left.Crashes--
		m.forget(&next, i)
		renamed := next
		m.boot(&next, i, false)
		if m.Dead {
			next.hosts[i] = host{pc: dead}
		}
		emit(step{action: crash, host: i}, next, "")
		if s.left.Renames > 0 && !m.Dead {
			renamed.left.Renames--
			m.boot(&renamed, i, true)
			emit(step{action: crashRenamed, host: i}, renamed, "")
		}
	}
	for j := range uint8(nHosts) {
		if s.left.Copies > 0 && up && j != i && m.IDs[j] == m.IDs[i] && (m.Replaced || !s.wrote(i)) {
			next := *s
			next.left.Copies--
			m.forget(&next, i)
			m.boot(&next, i, false)
			m.copyDisk(&next, i, j)
			emit(step{action: copyDisk, host: i, arg: j}, next, "")
		}
	}
	if s.left.Leases > 0 && h.lease {
		next := *s
		next.left.Leases--
		m.endLease(&next, i, true)
		emit(step{action: hang, host: i}, next, "")
	}
	if s.left.Leaves > 0 && h.mode == ready && up && h.pc != release && h.tx.kind != give && h.tx.kind != fence {
		next := *s
		next.left.Leaves--
		quiet := next
		m.leave(&next, i, true)
		emit(step{action: leave, host: i}, next, "")
		if h.lease && s.left.Lost > 0 {
			quiet.left.Lost--
			m.leave(&quiet, i, false)
			emit(step{action: leaveQuietly, host: i}, quiet, "")
		}
	}
	if s.left.Recovers > 0 && h.runs && h.pc != dead {
		next := *s
		next.left.Recovers--
		next.hosts[i].runs = false
		if h.pc == sick || h.pc == ill {
			next.hosts[i].pc = release
		}
		emit(step{action: getWell, host: i}, next, "")
	}
	if h.mode == away && (h.pc == idle || h.pc == start) {
		next := *s
		if h.pc == idle {
			next.hosts[i].pc = read
		}
		next.hosts[i].mode = ready
		emit(step{action: comeBack, host: i}, next, "")
	}
}

// loseReply loses a reply: the transaction may happen before, after or never, and the client does not know.
func (m *model) loseReply(s *state, i uint8) {
	h := &s.hosts[i]
	t := h.tx
	m.abandon(s, i)
	writes := t.kind == fast || t.kind == take || t.kind == give
	switch {
	case m.bug(RetryBlindly) && writes:
		h.tx = t
		h.tx.blind = true
		return
	case m.bug(TimeoutIsNo) && (t.kind == fast || t.kind == take):
	case writes || t.kind == fence || t.kind == adopt || t.kind == report || t.kind == again:
		h.unsure, h.unmoved = true, true
	}
	h.pc = read
	if t.kind == report || t.kind == again {
		h.pc = ill
	}
	if t.kind == give || t.kind == fence {
		h.pc = release
	}
}

// leave makes a host that may no longer reboot leave.
func (m *model) leave(s *state, i uint8, revoked bool) {
	h := &s.hosts[i]
	t := h.tx
	m.abandon(s, i)
	if (t.kind == fast || t.kind == take) && !m.bug(TimeoutIsNo) {
		h.unsure, h.unmoved = true, h.unmoved || !t.lost
	}
	holds := h.pc == held || h.pc == checked || t.kind == adopt
	if !m.bug(LeaveKeepsEntry) {
		m.endLease(s, i, revoked)
	} else {
		m.endLease(s, i, false)
	}
	*h = host{pc: idle, mode: away, unsure: h.unsure, unmoved: h.unmoved, wants: h.wants, runs: h.runs}
	if holds || h.unsure {
		h.pc = release
		if h.runs {
			h.pc = ill
		}
	}
}

// others emits the steps of etcd, of the administrator and of clients that know only the document.
func (m *model) others(s *state, emit func(step, state, string)) {
	for p, e := range s.queue {
		if e.exist && !e.kept && !m.bug(EnqueueNoLease) {
			next := *s
			m.deleteEntry(&next, e.id)
			emit(step{action: entryExpires, host: uint8(p)}, next, "")
		}
	}
	for id := range uint8(nHosts) {
		if has(s.alive, id) {
			next := *s
			m.dropAlive(&next, id)
			emit(step{action: aliveExpires, host: id}, next, "")
		}
		if s.left.Unlocks > 0 && has(s.holders, id) {
			next := *s
			next.left.Unlocks--
			m.remove(&next, id)
			m.putRecord(&next, id, entry{})
			m.dropAlive(&next, id)
			emit(step{action: unlock, host: id}, next, "")
		}
		if s.left.OldUnlock > 0 && has(s.holders, id) {
			next := *s
			next.left.OldUnlock--
			m.remove(&next, id)
			emit(step{action: oldUnlock, host: id}, next, "")
		}
		if !has(s.holders, id) && s.free() {
			if s.left.Locks > 0 && !s.paused && s.unwell == 0 {
				next := *s
				next.left.Locks--
				m.lockByHand(&next, id)
				m.deleteEntry(&next, id)
				m.putRecord(&next, id, entry{id: id, host: m.hostOf(id), boot: true, exist: true, facts: facts{disks: 1 << m.hostOf(id)}})
				if m.TTL {
					next.alive |= 1 << id
					next.asked |= 1 << id
				}
				emit(step{action: lock, host: id}, next, "")
			}
			if s.left.OldLock > 0 {
				next := *s
				next.left.OldLock--
				m.lockByHand(&next, id)
				emit(step{action: oldLock, host: id}, next, "")
			}
		}
		if has(s.byHand, id) {
			next := *s
			m.remove(&next, id)
			emit(step{action: handRelease, host: id}, next, "")
		}
	}
	if s.oldHolds {
		next := *s
		if has(s.holders, oldID) {
			m.write(&next, s.holders&^(1<<oldID), s.max)
		}
		next.oldHolds = false
		emit(step{action: oldRelease}, next, "")
	} else if s.left.OldTakes > 0 && s.free() {
		next := *s
		next.left.OldTakes--
		m.write(&next, s.holders|1<<oldID, s.max)
		next.oldHolds = true
		emit(step{action: oldTake}, next, "")
	}
	switch {
	case s.paused:
		next := *s
		m.setPause(&next, false)
		emit(step{action: resume}, next, "")
	case s.left.Pauses > 0:
		next := *s
		next.left.Pauses--
		m.setPause(&next, true)
		emit(step{action: pause}, next, "")
	}
	if s.left.Resumes > 0 && s.unwell != 0 {
		next := *s
		next.left.Resumes--
		m.setUnwell(&next, 0, s.resumed|s.unwell)
		emit(step{action: resumeVersion}, next, "")
	}
	for n := range uint8(3) {
		if s.left.SetMax > 0 && n != s.max {
			next := *s
			next.left.SetMax--
			m.write(&next, s.holders, n)
			emit(step{action: setMax, arg: n}, next, "")
		}
	}
}

// lockByHand takes a slot for id. It compares what it reads, so it is one step.
func (m *model) lockByHand(s *state, id uint8) {
	m.write(s, s.holders|1<<id, s.max)
	s.byHand |= 1 << id
	for i := range s.hosts {
		if m.IDs[i] == id {
			s.hosts[i].removed = false // it has a slot again
		}
	}
}

// hostOf returns a host that has an id.
func (m *model) hostOf(id uint8) uint8 {
	for i := range m.IDs {
		if m.IDs[i] == id {
			return uint8(i)
		}
	}
	return 0
}

// label describes a step from a state.
func (m *model) label(st step, s *state) string {
	switch st.action {
	case vanish, late:
		t := s.net[st.host]
		if st.action == late {
			return fmt.Sprintf("%s's %s happens late", hostNames[t.host], m.txn(t))
		}
		return fmt.Sprintf("%s's %s never happens", hostNames[t.host], m.txn(t))
	case entryExpires:
		return "the lease of queue entry " + m.idName(s.queue[st.host].id) + " ends"
	case aliveExpires:
		return "the time-to-live of " + m.idName(st.host) + " expires"
	case oldRelease:
		return "the old client releases its slot"
	case handRelease:
		return m.idName(st.host) + " is unlocked by hand again"
	case pause:
		return "the administrator pauses"
	case resume:
		return "the pause ends"
	case resumeVersion:
		return "the administrator resumes the bad version"
	case setMax:
		return fmt.Sprintf("the administrator sets max to %d", st.arg)
	case unlock:
		return "the administrator unlocks " + m.idName(st.host)
	case lock:
		return "the administrator locks " + m.idName(st.host)
	case oldUnlock:
		return "an old tool unlocks " + m.idName(st.host)
	case oldLock:
		return "an old tool locks " + m.idName(st.host)
	case oldTake:
		return "the old client takes a slot"
	}
	h := s.hosts[st.host]
	name := hostNames[st.host]
	switch st.action {
	case event:
		if st.arg == nobody {
			return name + " gets the event of the free slot"
		}
		return name + " gets the event that the alive key of " + m.idName(st.arg) + " is gone"
	case reply:
		if st.arg == 1 {
			return name + "'s " + m.txn(h.tx) + " happens"
		}
		return name + "'s " + m.txn(h.tx) + " fails"
	case loseReply:
		return name + " gets no reply to its " + m.txn(h.tx)
	case loseReplyLease:
		return name + " gets no reply to its " + m.txn(h.tx) + " and drops its lease"
	case kill:
		return name + "'s daemon is killed"
	case crash:
		return name + " crashes"
	case crashRenamed:
		return name + " crashes, and comes up with another name"
	case rename:
		return name + " is up again, with another name"
	case copyDisk:
		return name + " comes up with the disk of " + hostNames[st.arg]
	case hang:
		return name + " hangs until its lease ends"
	case getFix:
		return name + " gets the fix"
	case getWell:
		return name + " becomes well with the bad version"
	case leave:
		return name + " leaves"
	case leaveQuietly:
		return name + " leaves, and cannot revoke its lease"
	case comeBack:
		return name + " is ready again"
	}
	switch h.pc {
	case start:
		return name + " starts and checks whether it holds a slot"
	case held:
		return name + " checks its slot"
	case checked:
		return name + " reboots"
	case down:
		return name + " is up again"
	case release:
		return name + " reads, in order to release"
	case ill:
		return name + " reads, in order to report that it is unwell"
	case sick:
		return name + " takes the fix with its slot"
	case follow, head:
		return name + " is woken and reads"
	}
	return name + " reads"
}
