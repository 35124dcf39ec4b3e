package model

import (
	"bytes"
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

const (
	nHosts = 3
	nIDs   = 4 // those of the hosts, and one of the old client
	maxNet = 4 // stragglers at once

	nobody = 0xff
)

// A pc is the state of a host's program.
type pc uint8

const (
	idle    pc = iota // wants nothing, holds nothing as far as it knows
	start             // the daemon starts: it will check whether it holds a slot
	read              // acquiring: it will read everything, and decide
	sent              // a transaction is under way
	follow            // in the queue, watching the entry before its own
	head              // first in the queue, watching the semaphore and the pause
	held              // believes that it holds a slot, will check again before the reboot
	checked           // has checked again, and will reboot
	down              // is rebooting
	refused           // has found another host with its id
	release           // will read, and release the slot
	dead              // has crashed, and never comes back
	outside           // its version is paused: has no place in the queue, and watches the unwell hosts
	ill               // has booted the bad version: will read, and report that
	sick              // has reported that, and waits for the fix
)

// A mode is what a host wants.
type mode uint8

const (
	done  mode = iota // has rebooted, or never wanted to
	ready             // wants to reboot, and may now
	away              // wants to reboot, and may not now (window shut, update withdrawn)
)

// A kind of transaction.
type kind uint8

const (
	none     kind = iota
	fast          // take a slot without queueing
	enqueue       // create the queue entry
	takeover      // put a new lease on an entry of this host's
	take          // take a slot as the head of the queue
	expire        // remove a holder whose time-to-live has run out
	give          // release
	fence         // write the document unchanged, before believing that nothing is held
	adopt         // write the document unchanged, before believing in a slot that an earlier process took
	unqueue       // as the head, delete the queue entry of a holder that has no record
	report        // of an unwell host: pause its version, and write the document unchanged
	again         // make the slot one for the fix, and write the document unchanged
)

// A txn is a transaction under way, or a straggler: one whose client no longer waits for the reply.
// A revision that has moved never comes back, so a transaction that compares one is lost then, and
// revisions themselves are not needed.
type txn struct {
	kind    kind
	host    uint8
	holders uint8 // as read
	max     uint8 // as read
	target  uint8 // expire, unqueue: the id
	boot    bool  // its host is still in the same boot
	kept    bool  // its host keeps the lease of the entry alive
	blind   bool  // compares nothing (a deliberate bug)
	lost    bool  // it can no longer happen: what it compares has moved, or its lease is gone
	bad     bool  // take: for the bad version
	none    bool  // take: compares that there is no entry of an unwell host
	facts
}

// An entry of the queue, or a holder's record.
type entry struct {
	id    uint8
	host  uint8
	boot  bool // written in the current boot of its host
	kept  bool // entry: the lease is kept alive
	exist bool
	bad   bool // record: of a slot that was taken for the bad version
	noTTL bool // record: of a host that has reported that it is up
	facts
}

// facts are what has happened to a host since it wrote something.
type facts struct {
	old   bool  // the host has another name now
	disks uint8 // the hosts that have the token on their disk
}

// A host is one machine, with what its daemon remembers.
type host struct {
	pc   pc
	mode mode
	tx   txn // in state sent

	lease     bool // has a lease, and keeps it alive
	unsure    bool // a transaction of unknown outcome is remembered ...
	unmoved   bool // ... and the semaphore is still at the revision that it compares
	removed   bool // ghost: an administrator or the time-to-live took the slot away
	changed   bool // follow, head: a key that it watches has changed since it was read
	semEvent  bool // head: the semaphore was among the changed keys
	ownFresh  bool // head: its queue entry has not changed since it was read
	wasPaused bool // head: it waits for the end of the pause
	wants     bool // the version that it waits for is bad
	runs      bool // the version that it has booted is bad
	entries   bool // head: there were entries of unwell hosts when it read
	before    uint8
	recFresh  uint8 // head: records that have not changed since they were read
	gone      uint8 // head: ids whose alive key was deleted since
}

// A state is the state of the whole world. It has no revisions and no times, so that states can be compared.
type state struct {
	holders, max uint8 // the document; free is their difference
	paused       bool
	condemned    bool  // ghost: the bad version is known to be bad, and nobody has resumed it
	unwell       uint8 // ids of hosts that pause the bad version
	resumed      uint8 // ids of hosts of which that was resumed, in this boot of theirs
	alive        uint8
	asked        uint8 // ghost: ids in holders that asked for a time-to-live with the slot that they have
	byHand       uint8 // ghost: ids in holders that were put there by hand
	rec          [nHosts]entry
	queue        [nHosts]entry // in order of creation
	net          [maxNet]txn
	hosts        [nHosts]host
	oldHolds     bool
	left         Budget
}

// named reports whether the transaction is about the id of another host.
func (t txn) named() bool { return t.kind == expire || t.kind == unqueue }

func has(set, id uint8) bool { return set&(1<<id) != 0 }

func count(set uint8) int { return bits.OnesCount8(set) }

func (s *state) free() bool { return count(s.holders) < int(s.max) }

// place returns the place of id in the queue, from 0, or -1.
func (s *state) place(id uint8) int {
	for i, e := range s.queue {
		if e.exist && e.id == id {
			return i
		}
	}
	return -1
}

func (s *state) queued() bool { return s.queue[0].exist }

// entries reports whether there are any of unwell hosts.
func (s *state) entries() bool { return s.unwell|s.resumed != 0 }

func (h *host) believes() bool { return h.pc == held || h.pc == checked || h.pc == down }

// permuted is s with host i renamed p[i] and id j renamed q[j].
func (s *state) permuted(p [nHosts]uint8, q [nIDs]uint8) state {
	set := func(m uint8) (to uint8) {
		for j := range uint8(nIDs) {
			if has(m, j) {
				to |= 1 << q[j]
			}
		}
		return to
	}
	machines := func(m uint8) (to uint8) {
		for i := range uint8(nHosts) {
			if has(m, i) {
				to |= 1 << p[i]
			}
		}
		return to
	}
	one := func(e entry) entry {
		if e.exist {
			e.id, e.host, e.disks = q[e.id], p[e.host], machines(e.disks)
		}
		return e
	}
	send := func(t txn) txn {
		if t.kind == none {
			return t
		}
		t.host, t.holders, t.disks = p[t.host], set(t.holders), machines(t.disks)
		if t.named() && !t.lost {
			t.target = q[t.target]
		}
		return t
	}
	r := *s
	r.holders, r.alive, r.asked, r.byHand = set(s.holders), set(s.alive), set(s.asked), set(s.byHand)
	r.unwell, r.resumed = set(s.unwell), set(s.resumed)
	for i := range s.rec {
		r.rec[q[i]] = one(s.rec[i])
		r.queue[i] = one(s.queue[i])
	}
	for i, t := range s.net {
		r.net[i] = send(t)
	}
	sortNet(&r.net)
	for i, h := range s.hosts {
		h.tx = send(h.tx)
		h.recFresh, h.gone = set(h.recFresh), set(h.gone)
		if h.pc == follow {
			h.before = q[h.before]
		}
		r.hosts[p[i]] = h
	}
	return r
}

func sortNet(net *[maxNet]txn) {
	for i := 1; i < maxNet; i++ {
		if net[i].kind != none { // otherwise they are in order: free places are at the end
			slices.SortFunc(net[:], func(a, b txn) int { return bytes.Compare(a.encode(nil), b.encode(nil)) })
			return
		}
	}
}

func bit(bs ...bool) (b uint8) {
	for i, set := range bs {
		if set {
			b |= 1 << i
		}
	}
	return b
}

func (t txn) encode(b []byte) []byte {
	if t.kind == none {
		return append(b, 0xff, 0, 0, 0)
	}
	return append(b, uint8(t.kind)<<4|t.host|bit(t.bad, t.none)<<2, t.holders|t.max<<4, t.target, bit(t.boot, t.kept, t.blind, t.lost, t.old)|t.disks<<5)
}

func (e entry) encode(b []byte) []byte {
	return append(b, e.id|e.host<<2|bit(e.boot, e.kept, e.exist, e.old)<<4, e.disks|bit(e.bad, e.noTTL)<<3)
}

// local is the state of a host without its identity, as a number that orders hosts partially.
func (s *state) local(i int, id uint8) uint64 {
	h := &s.hosts[i]
	n := uint64(h.pc)<<2 | uint64(h.mode)
	n = n<<8 | uint64(bit(h.lease, h.unsure, h.unmoved, h.removed, h.changed, h.semEvent, h.ownFresh, h.wasPaused))
	n = n<<8 | uint64(h.tx.kind)<<4 | uint64(bit(h.tx.boot, h.tx.kept, h.tx.blind, h.tx.lost))
	n = n<<3 | uint64(s.place(id)+1)
	return n<<3 | uint64(bit(has(s.holders, id), has(s.alive, id), s.rec[id].exist))
}

// encode is only for comparisons.
func (s *state) encode(b []byte) []byte {
	b = append(b, s.holders, s.max, s.alive, s.asked, s.byHand, s.unwell|s.resumed<<4, bit(s.paused, s.oldHolds, s.condemned))
	for i := range nHosts {
		h := &s.hosts[i]
		b = s.queue[i].encode(s.rec[i].encode(b))
		b = append(b, uint8(h.pc)<<4|uint8(h.mode), h.before, h.recFresh|h.gone<<4,
			bit(h.lease, h.unsure, h.unmoved, h.removed, h.changed, h.semEvent, h.ownFresh, h.wasPaused), bit(h.wants, h.runs, h.entries))
		b = h.tx.encode(b)
	}
	for _, t := range s.net {
		b = t.encode(b)
	}
	return b
}

// A renaming of hosts and ids under which the model stays the same.
type renaming struct {
	hosts [nHosts]uint8
	ids   [nIDs]uint8
}

// renamings returns the consistent renamings of hosts and their ids. The first one changes nothing.
func renamings(ids [nHosts]uint8) (all []renaming) {
	for _, p := range [][nHosts]uint8{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		q := [nIDs]uint8{nobody, nobody, nobody, nobody}
		fits := true
		for i := range p {
			from, to := ids[i], ids[p[i]]
			fits = fits && (q[from] == nobody || q[from] == to)
			q[from] = to
		}
		for j := range q {
			if q[j] == nobody {
				q[j] = uint8(j)
			}
		}
		if fits {
			all = append(all, renaming{p, q})
		}
	}
	return all
}

// canonical returns the representative of all states that differ only in names.
func (m *model) canonical(s *state) state {
	var n [nHosts]uint64
	for i := range n {
		n[i] = s.local(i, m.IDs[i])
	}
	var best state
	var bestKey, key [80]byte
	var bestBytes []byte
	for _, r := range m.renamings {
		var moved [nHosts]uint64
		for i := range n {
			moved[r.hosts[i]] = n[i]
		}
		if !m.ordered(moved) {
			continue
		}
		c := s.permuted(r.hosts, r.ids)
		if bestBytes == nil {
			best, bestBytes = c, c.encode(bestKey[:0])
			continue
		}
		if b := c.encode(key[:0]); bytes.Compare(b, bestBytes) < 0 {
			best = c
			bestBytes = append(bestKey[:0], b...)
		}
	}
	return best
}

// ordered reports whether no renaming would put the numbers of the hosts in a lower order.
func (m *model) ordered(n [nHosts]uint64) bool {
	for _, r := range m.renamings {
		var moved [nHosts]uint64
		for i := range n {
			moved[r.hosts[i]] = n[i]
		}
		if slices.CompareFunc(moved[:], n[:], cmp.Compare) < 0 {
			return false
		}
	}
	return true
}

var (
	pcNames   = [...]string{"idle", "starting", "about to read", "", "waiting behind", "waiting as head", "HOLDS", "HOLDS and checked", "REBOOTING", "refused", "about to release", "dead", "waiting outside", "UNWELL", "UNWELL and waiting for the fix"}
	modeNames = [...]string{"done", "ready", "away"}
	kindNames = [...]string{"", "fast take", "enqueue", "takeover", "take", "expire", "release", "fence", "adopt", "unqueue", "report", "take of the fix"}
	hostNames = [...]string{"A", "B", "C"}
)

func (m *model) idName(id uint8) string {
	if id == nIDs-1 {
		return "old"
	}
	return "id" + string('0'+rune(id))
}

func (m *model) set(set uint8) string {
	var names []string
	for id := range uint8(nIDs) {
		if has(set, id) {
			names = append(names, m.idName(id))
		}
	}
	return "{" + strings.Join(names, " ") + "}"
}

func (m *model) txn(t txn) string {
	name := kindNames[t.kind]
	if t.lost {
		name = "stale " + name
	} else if t.named() {
		name += " of " + m.idName(t.target)
	}
	return name
}

// describe returns a state in one line.
func (m *model) describe(s *state) string {
	var b strings.Builder
	fmt.Fprintf(&b, "max %d holders %s", s.max, m.set(s.holders))
	if m.TTL {
		fmt.Fprintf(&b, " alive %s", m.set(s.alive))
	}
	b.WriteString(" queue [")
	for i, e := range s.queue {
		if !e.exist {
			break
		}
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(m.idName(e.id) + " by " + hostNames[e.host])
		if !e.kept {
			b.WriteString(" (not kept alive)")
		}
	}
	b.WriteString("]")
	if s.paused {
		b.WriteString(" PAUSED")
	}
	if s.entries() {
		fmt.Fprintf(&b, " unwell %s resumed %s", m.set(s.unwell), m.set(s.resumed))
	}
	for i, h := range s.hosts {
		fmt.Fprintf(&b, "; %s %s, ", hostNames[i], modeNames[h.mode])
		switch h.pc {
		case sent:
			b.WriteString("sent " + m.txn(h.tx))
		case follow:
			b.WriteString(pcNames[h.pc] + " " + m.idName(h.before))
		default:
			b.WriteString(pcNames[h.pc])
		}
		if h.wants {
			b.WriteString(" (for the bad version)")
		}
		if h.unsure {
			b.WriteString(" (outcome unknown)")
		}
		if h.removed {
			b.WriteString(" (taken away)")
		}
	}
	for _, t := range s.net {
		if t.kind != none {
			fmt.Fprintf(&b, "; under way: %s of %s", m.txn(t), hostNames[t.host])
		}
	}
	if s.oldHolds {
		b.WriteString("; old client HOLDS")
	}
	return b.String()
}
