package model

// A Budget bounds how often each kind of fault and of interference happens in one history.
type Budget struct {
	Lost      uint8 // replies that do not come: the transaction happens before, after or never
	Kills     uint8 // daemons that die and start again
	Crashes   uint8 // hosts that die and boot again (or never do, with Config.Dead)
	Leases    uint8 // leases that end although the daemon runs: it hung
	Leaves    uint8 // hosts that may no longer reboot, and perhaps may again later
	Pauses    uint8
	Resumes   uint8 // of the bad version
	Recovers  uint8 // unwell hosts that become well with the bad version
	SetMax    uint8 // to 0, 1 or 2
	Unlocks   uint8 // by hand, of any id
	Locks     uint8 // by hand, of a host's id, on that host
	OldUnlock uint8 // the same by a tool that knows only the document
	OldLock   uint8 // by hand, of a host's id, by a tool that knows only the document
	Renames   uint8 // hosts renamed by their reboot
	Copies    uint8 // hosts that come up with a copy of the disk of another host with their id
	OldTakes  uint8 // slots taken by a client that knows only the document, each given back
}

// A Config is one bounded world.
type Config struct {
	Name  string
	Hosts int           // number of hosts that want to reboot, once each; at most 3
	IDs   [nHosts]uint8 // of the hosts
	Max   uint8
	TTL   bool // every host asks for a time-to-live
	Dead  bool // a host that crashed never comes back
	Queue bool // there is no fast path: every host queues
	// What is unknown about hosts with the same id.
	NoHardware, NoDisk, NoName bool
	// Bad are the hosts whose version is bad: they are unwell after their reboot, until they have rebooted for the fix.
	Bad   [nHosts]bool
	NoFix bool // it never comes
	// Replaced: a host may come up with a copy even while a key of its own is in etcd.
	Replaced bool
	Budget   Budget
	Bug      Bug

	named bool // states that differ only in names are different
}

// A Bug is a deliberate mistake in the protocol.
type Bug uint8

const (
	NoBug Bug = iota
	// TakeNoRevision: taking a slot does not compare the semaphore's revision.
	TakeNoRevision
	// TimeoutIsNo: a take whose reply is lost counts as "not taken".
	TimeoutIsNo
	// RetryBlindly: a write whose reply is lost is sent again, and compares nothing.
	RetryBlindly
	// EnqueueNoLease: the queue entry has no lease.
	EnqueueNoLease
	// TakeNoOwnEntry: the head does not compare its own queue entry.
	TakeNoOwnEntry
	// TakeNoPause: taking a slot does not compare the pause.
	TakeNoPause
	// FastNoQueue: the fast path does not compare that the queue is empty.
	FastNoQueue
	// TakeoverNoRevision: a takeover of the own entry does not compare its revision.
	TakeoverNoRevision
	// ReleaseNoFence: release does not fence a transaction of unknown outcome.
	ReleaseNoFence
	// ConflictIsNo: a failed take counts as proof that an earlier one can no longer happen.
	ConflictIsNo
	// AdoptNoFence: "already held" does not fence such a transaction either.
	AdoptNoFence
	// StartForgets: a daemon that starts assumes that its predecessor left nothing under way.
	StartForgets
	// ExpireNoRecord: removing an expired holder does not compare its record.
	ExpireNoRecord
	// ExpireNoAlive: the same does not compare that the alive key is gone.
	ExpireNoAlive
	// ExpireOnlySemaphore: the same compares neither.
	ExpireOnlySemaphore
	// ExpireNoRevision: the same does not compare the semaphore.
	ExpireNoRevision
	// AcquireNoCloneCheck: acquire does not check whose record or entry it finds.
	AcquireNoCloneCheck
	// ReleaseNoCloneCheck: start and release do not check whose record they find.
	ReleaseNoCloneCheck
	// CheckNoCloneCheck: the check before the reboot does not check whose record it finds.
	CheckNoCloneCheck
	// KnownByName: a host is recognized only by its name.
	KnownByName
	// KnownByDisk: any host with the token on its disk counts as the host.
	KnownByDisk
	// NoCheck: there is no check before the reboot.
	NoCheck
	// FollowIsHead: a host that sees the entry before its own go assumes that it is the head.
	FollowIsHead
	// FollowNotSelf: a host in the queue does not watch its own entry.
	FollowNotSelf
	// HeadNotSelf: the head does not watch its own entry.
	HeadNotSelf
	// HeadNoResume: the head does not watch the pause.
	HeadNoResume
	// HeadNoSemaphore: the head does not watch the semaphore.
	HeadNoSemaphore
	// HeadUnqueuesNone: the head leaves the queue entry of a holder without a record alone.
	HeadUnqueuesNone
	// UnqueueNoRevision: deleting that entry does not compare its revision.
	UnqueueNoRevision
	// LeaveKeepsEntry: leaving does not revoke the lease.
	LeaveKeepsEntry
	// TakeNoUnwell: taking a slot does not look for unwell hosts.
	TakeNoUnwell
	// ReportNoSemaphore: a report does not write the document.
	ReportNoSemaphore
	// HeadNoUnwell: the head takes a slot on an event of the document alone, without comparing that nobody is unwell.
	HeadNoUnwell
	// HeadBlind: the head does so only if somebody else was unwell before.
	HeadBlind
	// QueuePaused: a host whose version is paused keeps its place in the queue.
	QueuePaused
	// OutsideDeaf: a host outside the queue does not watch unwell hosts.
	OutsideDeaf
	// ReportKeepsTTL: a report leaves the time-to-live as it is.
	ReportKeepsTTL
	// UnwellGivesBack: an unwell host gives its slot back.
	UnwellGivesBack
	// FixEndsPause: a host that has become well with the fix ends the pause of the bad version.
	FixEndsPause
)

type model struct {
	Config
	renamings []renaming
}

const oldID = nIDs - 1

func newModel(c Config) *model {
	all := renamings(c.IDs)
	if c.named {
		all = all[:1]
	}
	return &model{Config: c, renamings: all}
}

func (m *model) initial() state {
	s := state{max: m.Max, left: m.Budget}
	for i := range m.Hosts {
		s.hosts[i] = host{pc: read, mode: ready, wants: m.Bad[i]}
	}
	return s
}

func (m *model) bug(any ...Bug) bool {
	for _, b := range any {
		if m.Bug == b {
			return true
		}
	}
	return false
}

// The keys whose revision a transaction may compare.
const (
	semKey   uint8 = 1 << iota
	ownKey         // the own queue entry
	recKey         // the record of the holder to be removed
	entryKey       // the queue entry of the holder to be removed from the queue
)

// compares returns the keys whose revision a transaction compares.
func (m *model) compares(k kind) (keys uint8) {
	switch k {
	case fast:
		keys = semKey
	case take:
		keys = semKey | ownKey
	case takeover:
		keys = ownKey
	case expire:
		keys = semKey | recKey
	case unqueue:
		keys = entryKey
	case give, fence, adopt, report, again:
		keys = semKey
	}
	switch {
	case m.bug(TakeNoRevision) && (k == fast || k == take), m.bug(ExpireNoRevision) && k == expire:
		keys &^= semKey
	case m.bug(TakeNoOwnEntry) && k == take, m.bug(TakeoverNoRevision) && k == takeover:
		keys &^= ownKey
	case m.bug(ExpireNoRecord, ExpireOnlySemaphore):
		keys &^= recKey
	case m.bug(UnqueueNoRevision):
		keys &^= entryKey
	}
	return keys
}

// another reports whether a record or entry belongs to another host than i: the table in docs/host-identity.md.
func (m *model) another(e entry, i uint8) bool {
	mine := e.host == i
	renamed := !m.NoName && (!mine || e.old)
	disk := !m.NoDisk && has(e.disks, i)
	noDisk := !m.NoDisk && !has(e.disks, i)
	switch {
	case !e.exist, mine && e.boot:
		return false
	case m.bug(KnownByName):
	case m.bug(KnownByDisk) && disk:
		return false
	case m.NoHardware:
		if disk {
			return false
		}
	case mine && !noDisk:
		return false
	case !mine && !disk:
		return true
	}
	return renamed
}

// Writes. Each makes the transactions that compare what it changes lost, and marks the hosts that watch.

// lose marks the transactions that match as lost.
func (s *state) lose(match func(txn) bool) {
	n := 0
	for _, t := range s.net {
		if t.kind != none && (t.blind || !match(t)) {
			s.net[n] = t
			n++
		}
	}
	clear(s.net[n:])
	for i := range s.hosts {
		if t := &s.hosts[i].tx; t.kind != none && !t.blind && match(*t) {
			*t = txn{kind: t.kind, host: t.host, lost: true}
		}
	}
	sortNet(&s.net)
}

func (m *model) write(s *state, holders, maximum uint8) {
	s.holders, s.max = holders, maximum
	s.asked &= holders
	s.byHand &= holders
	s.lose(func(t txn) bool { return m.compares(t.kind)&semKey != 0 })
	for i := range s.hosts {
		h := &s.hosts[i]
		h.unmoved = false
		if h.pc == head && !m.bug(HeadNoSemaphore) {
			h.changed, h.semEvent = true, !h.wasPaused
		}
	}
}

// remove takes a slot away from id. Hosts that believe to hold it are not at fault.
func (m *model) remove(s *state, id uint8) {
	m.write(s, s.holders&^(1<<id), s.max)
	for i := range s.hosts {
		if h := &s.hosts[i]; m.IDs[i] == id && h.believes() {
			h.removed = true
		}
	}
}

func (m *model) putRecord(s *state, id uint8, e entry) {
	s.rec[id] = e
	for i := range s.hosts {
		if h := &s.hosts[i]; h.pc == outside && m.IDs[i] == id {
			h.changed = true
		}
	}
	s.lose(func(t txn) bool { return m.compares(t.kind)&recKey != 0 && !t.lost && t.target == id })
	for i := range s.hosts {
		s.hosts[i].recFresh &^= 1 << id
	}
}

func (m *model) dropAlive(s *state, id uint8) {
	if !has(s.alive, id) {
		return
	}
	s.alive &^= 1 << id
	for i := range s.hosts {
		if h := &s.hosts[i]; h.pc == head && !h.wasPaused {
			h.changed = true
			h.gone |= 1 << id
		}
	}
}

// entryChanged is called after id's queue entry was put or deleted.
func (m *model) entryChanged(s *state, id uint8) {
	s.lose(func(t txn) bool {
		keys := m.compares(t.kind)
		return keys&ownKey != 0 && m.IDs[t.host] == id || keys&entryKey != 0 && !t.lost && t.target == id
	})
	for i := range s.hosts {
		h := &s.hosts[i]
		own := m.IDs[i] == id
		switch {
		case h.pc == follow && (h.before == id || own && !m.bug(FollowNotSelf)):
			h.changed = true
		case h.pc == head && own:
			h.ownFresh = false
			h.changed = h.changed || !m.bug(HeadNotSelf)
		}
	}
}

func (m *model) putEntry(s *state, e entry) {
	p := s.place(e.id)
	for i := 0; p < 0; i++ {
		if !s.queue[i].exist {
			p = i
		}
	}
	s.queue[p] = e
	m.entryChanged(s, e.id)
}

func (m *model) deleteEntry(s *state, id uint8) {
	p := s.place(id)
	if p < 0 {
		return
	}
	copy(s.queue[p:], s.queue[p+1:])
	s.queue[nHosts-1] = entry{}
	m.entryChanged(s, id)
}

func (m *model) setPause(s *state, on bool) {
	s.paused = on
	for i := range s.hosts {
		if h := &s.hosts[i]; h.pc == head && !m.bug(HeadNoResume) {
			h.changed = true
		}
	}
}

// setUnwell changes the entries of unwell hosts.
func (m *model) setUnwell(s *state, unwell, resumed uint8) {
	if s.unwell == unwell && s.resumed == resumed {
		return
	}
	s.unwell, s.resumed, s.condemned = unwell, resumed, unwell != 0
	for i := range s.hosts {
		h := &s.hosts[i]
		if h.pc == follow || h.pc == head || h.pc == outside && !m.bug(OutsideDeaf) {
			h.changed = true
		}
	}
}

// endLease ends the lease of host i: what has the lease is deleted, or is no longer kept alive.
func (m *model) endLease(s *state, i uint8, revoked bool) {
	if !s.hosts[i].lease {
		return
	}
	s.hosts[i].lease = false
	for p := range s.queue {
		if e := &s.queue[p]; e.exist && e.host == i {
			e.kept = false
		}
	}
	for n := range s.net {
		if t := &s.net[n]; t.host == i {
			t.kept = false
		}
	}
	s.hosts[i].tx.kept = false
	sortNet(&s.net)
	if !revoked {
		return
	}
	s.lose(func(t txn) bool { return t.host == i && (t.kind == enqueue || t.kind == takeover) })
	if p := s.place(m.IDs[i]); p >= 0 && s.queue[p].host == i && !m.bug(EnqueueNoLease) {
		m.deleteEntry(s, m.IDs[i])
	}
}

// Transactions.

// commit applies t if its comparisons hold. bad is the property of the protocol that this breaks.
func (m *model) commit(s *state, t txn) (ok bool, bad string) {
	id := m.IDs[t.host]
	e := entry{id: id, host: t.host, boot: t.boot, exist: true, facts: t.facts}
	switch {
	case t.lost:
		return false, ""
	case t.blind:
	case t.kind == fast && (s.paused && !m.bug(TakeNoPause) || s.queued() && !m.bug(FastNoQueue)),
		t.kind == take && s.paused && !m.bug(TakeNoPause),
		t.none && s.entries(),
		t.kind == enqueue && s.place(id) >= 0,
		t.kind == expire && has(s.alive, t.target) && !m.bug(ExpireNoAlive, ExpireOnlySemaphore):
		return false, ""
	}
	switch t.kind {
	case fast, take:
		if !has(s.holders, id) { // otherwise it was checked when it was added
			bad = m.mayTake(s, id)
			if t.bad && s.condemned {
				bad = "a slot was taken for a version that is paused"
			}
		}
		e.bad = t.bad
		m.write(s, t.holders|1<<id, t.max)
		if count(s.holders) > int(s.max) && bad == "" {
			bad = "more holders than slots when a slot was taken"
		}
		m.putRecord(s, id, e)
		m.deleteEntry(s, id)
		if m.TTL {
			s.alive |= 1 << id
			s.asked |= 1 << id
		}
	case enqueue, takeover:
		e.kept = t.kept
		m.putEntry(s, e)
	case expire:
		if !has(s.asked, t.target) || has(s.alive, t.target) {
			bad = "a holder was removed although its time-to-live had not run out"
		}
		for i := range s.hosts {
			if m.IDs[i] == t.target && s.hosts[i].pc == sick {
				bad = "a host that is alive and unwell was robbed of its slot"
			}
		}
		m.write(s, t.holders, t.max) // the document as it was read; a bug shows here
		m.remove(s, t.target)
		m.putRecord(s, t.target, entry{})
	case unqueue:
		m.deleteEntry(s, t.target)
	case report:
		if !m.bug(ReportNoSemaphore) {
			m.write(s, t.holders, t.max)
		}
		if s.rec[id].exist && !m.bug(ReportKeepsTTL) {
			e := s.rec[id]
			e.noTTL = true
			m.putRecord(s, id, e)
			s.asked &^= 1 << id
			m.dropAlive(s, id)
		}
		if !has(s.resumed, id) {
			m.setUnwell(s, s.unwell|1<<id, s.resumed)
		}
	case again:
		m.write(s, t.holders, t.max)
		m.putRecord(s, id, e)
		if m.TTL {
			s.alive |= 1 << id
			s.asked |= 1 << id
		}
	case give:
		if s.hosts[t.host].runs && s.rec[id].bad {
			bad = "a host that is unwell has given its slot back"
		}
		if s.rec[id].bad {
			m.setUnwell(s, s.unwell&^(1<<id), s.resumed&^(1<<id))
		} else if m.bug(FixEndsPause) {
			known := s.condemned
			m.setUnwell(s, s.unwell&^(1<<id), s.resumed&^(1<<id))
			s.condemned = known
		}
		m.write(s, t.holders&^(1<<id), t.max)
		m.putRecord(s, id, entry{})
		m.dropAlive(s, id)
	case fence, adopt:
		m.write(s, t.holders, t.max)
	}
	return true, bad
}

// mayTake returns why id must not take a slot now, or "".
func (m *model) mayTake(s *state, id uint8) string {
	switch {
	case s.paused:
		return "a slot was taken during a pause"
	case s.queued() && s.queue[0].id != id:
		return "a host that queued earlier was overtaken"
	}
	return ""
}

func (m *model) send(s *state, i uint8, k kind) *txn {
	h := &s.hosts[i]
	h.pc = sent
	h.tx = txn{kind: k, host: i}
	switch k {
	case enqueue, takeover:
		h.lease = true
		h.tx.kept, h.tx.boot, h.tx.disks = true, true, 1<<i
	case unqueue:
	case fast, take, again:
		h.tx.boot, h.tx.disks, h.tx.bad = true, 1<<i, h.wants
		h.tx.none = k != again && !s.entries()
		fallthrough
	default:
		h.tx.holders, h.tx.max = s.holders, s.max
	}
	return &h.tx
}

// What hosts do.

// look is what every read does, also for a host that remembers a transaction of unknown outcome.
func (h *host) look() {
	h.changed, h.semEvent, h.ownFresh, h.wasPaused = false, false, false, false
	h.before, h.recFresh, h.gone, h.entries = 0, 0, 0, false
	h.tx = txn{}
	if h.unsure && !h.unmoved {
		h.unsure = false
	}
}

// acquire reads everything and decides what to send or to wait for.
func (m *model) acquire(s *state, i uint8) {
	h, id := &s.hosts[i], m.IDs[i]
	h.look()
	place := s.place(id)
	switch {
	case m.conflict(s, i):
		h.pc = refused
	case has(s.holders, id) && h.unsure && !m.bug(AdoptNoFence):
		m.send(s, i, adopt)
	case has(s.holders, id):
		m.hold(s, i)
	case h.wants && s.unwell != 0 && !m.bug(TakeNoUnwell, QueuePaused):
		m.endLease(s, i, true)
		h.pc = outside
	case !m.Queue && !s.queued() && !s.paused && s.free() && !(h.wants && s.unwell != 0 && m.bug(QueuePaused)):
		m.send(s, i, fast)
	case place < 0:
		m.send(s, i, enqueue)
	case s.queue[place].host != i || !s.queue[place].kept:
		m.send(s, i, takeover)
	case place > 0:
		h.pc, h.before = follow, s.queue[place-1].id
	default:
		m.lead(s, i)
	}
}

// conflict reports whether another host has the id of host i, as far as the keys show.
func (m *model) conflict(s *state, i uint8) bool {
	if m.bug(AcquireNoCloneCheck) {
		return false
	}
	id := m.IDs[i]
	place := s.place(id)
	return has(s.holders, id) && m.another(s.rec[id], i) ||
		!has(s.holders, id) && place >= 0 && m.another(s.queue[place], i)
}

// lead is acquire for the head of the queue.
func (m *model) lead(s *state, i uint8) {
	h := &s.hosts[i]
	for id := range uint8(nHosts) {
		if has(s.holders, id) && s.place(id) >= 0 && !m.bug(HeadUnqueuesNone) {
			m.send(s, i, unqueue).target = id
			return
		}
	}
	switch {
	case s.paused, h.wants && s.unwell != 0 && m.bug(QueuePaused):
		h.pc, h.wasPaused = head, true
		return
	case s.free():
		m.send(s, i, take)
		return
	}
	for id := range uint8(nHosts) {
		if m.TTL && has(s.holders, id) && s.rec[id].exist && !s.rec[id].noTTL && !has(s.alive, id) {
			m.send(s, i, expire).target = id
			return
		}
	}
	h.pc, h.ownFresh, h.entries = head, true, s.entries()
	for id := range uint8(nHosts) {
		if m.TTL && s.rec[id].exist && !s.rec[id].noTTL {
			h.recFresh |= 1 << id
		}
	}
}

// hold makes the host believe that it holds a slot. The lease is no longer needed.
func (m *model) hold(s *state, i uint8) {
	m.endLease(s, i, true)
	h := &s.hosts[i]
	h.look()
	h.pc, h.removed, h.unsure, h.unmoved = held, false, false, false
}

// giveBack reads, and sends a release, or a fence that makes sure that none is needed.
func (m *model) giveBack(s *state, i uint8) {
	h, id := &s.hosts[i], m.IDs[i]
	h.look()
	switch {
	case has(s.holders, id) && (!m.another(s.rec[id], i) || m.bug(ReleaseNoCloneCheck)):
		m.send(s, i, give)
	case h.unsure && !m.bug(ReleaseNoFence):
		m.send(s, i, fence)
	default:
		m.finish(s, i)
	}
}

// finish continues when nothing is held.
func (m *model) finish(s *state, i uint8) {
	h := &s.hosts[i]
	h.look()
	h.unsure, h.unmoved = false, false
	h.pc = idle
	if h.mode == ready {
		h.pc = read
	}
}

// begin is the start of the daemon: does it hold a slot from before this boot, or from this one?
func (m *model) begin(s *state, i uint8) {
	h, id := &s.hosts[i], m.IDs[i]
	if !m.bug(StartForgets) {
		// The previous daemon may have left a transaction under way.
		h.unsure, h.unmoved = true, true
	}
	mine := has(s.holders, id) && (!m.another(s.rec[id], i) || m.bug(ReleaseNoCloneCheck))
	fromNow := s.rec[id].exist && s.rec[id].host == i && s.rec[id].boot
	h.pc = release
	switch {
	case h.mode == ready && (!mine || fromNow):
		h.pc = read
	case mine && h.runs && !m.bug(UnwellGivesBack):
		h.pc = ill
	}
}

// tell reads, and sends a report, unless that would change nothing.
func (m *model) tell(s *state, i uint8) {
	h, id := &s.hosts[i], m.IDs[i]
	h.look()
	told := has(s.unwell|s.resumed, id) && (!s.rec[id].exist || s.rec[id].noTTL)
	switch {
	case !m.holds(s, i):
		h.pc = release
	case told && !h.unsure:
		h.pc = sick
	default:
		m.send(s, i, report)
	}
}

// holds reports whether host i has a slot, as far as the keys show.
func (m *model) holds(s *state, i uint8) bool {
	id := m.IDs[i]
	return has(s.holders, id) && !m.another(s.rec[id], i)
}

// check is the last check before the reboot.
func (m *model) check(s *state, i uint8) (bad string) {
	h, id := &s.hosts[i], m.IDs[i]
	if !m.bug(NoCheck) && (!has(s.holders, id) || m.another(s.rec[id], i) && !m.bug(CheckNoCloneCheck)) {
		h.pc, h.removed = read, false
		return ""
	}
	if h.removed {
		bad = "a host is about to reboot although its slot was taken away before it checked"
	}
	h.pc = checked
	return bad
}

// replied continues after the reply to the transaction of host i.
func (m *model) replied(s *state, i uint8, ok bool) {
	h := &s.hosts[i]
	k := h.tx.kind
	h.tx = txn{}
	switch {
	case ok && k == again:
		h.mode = ready
		m.hold(s, i)
	case ok && k == report:
		h.pc, h.unsure, h.unmoved = sick, false, false
	case k == report, k == again:
		h.pc = ill
	case ok && (k == fast || k == take || k == adopt):
		m.hold(s, i)
	case ok && (k == give || k == fence):
		m.finish(s, i)
	case k == give || k == fence:
		h.pc = release
	default:
		h.pc = read
		if !ok && (k == fast || k == take) && m.bug(ConflictIsNo) {
			h.unsure, h.unmoved = false, false
		}
	}
}

// abandon stops waiting for the reply of host i, if it waits for one.
func (m *model) abandon(s *state, i uint8) {
	h := &s.hosts[i]
	t := h.tx
	h.tx = txn{}
	if t.kind == none || t.lost {
		return
	}
	for n := range s.net {
		if s.net[n].kind == none {
			s.net[n] = t
			sortNet(&s.net)
			return
		}
	}
	panic("model: too many transactions under way")
}

// forget is the death of the daemon on host i.
func (m *model) forget(s *state, i uint8) {
	m.abandon(s, i)
	m.endLease(s, i, false)
	h := s.hosts[i]
	s.hosts[i] = host{pc: start, mode: h.mode, wants: h.wants, runs: h.runs}
}

// boot marks what host i has written as from an earlier boot, and from an earlier name if it is renamed.
func (m *model) boot(s *state, i uint8, renamed bool) {
	m.setUnwell(s, s.unwell, s.resumed&^(1<<m.IDs[i]))
	for n := range s.rec {
		for _, e := range []*entry{&s.rec[n], &s.queue[n]} {
			if e.exist && e.host == i {
				e.boot, e.old = false, e.old || renamed
			}
		}
	}
	for n := range s.net {
		if t := &s.net[n]; t.kind != none && t.host == i {
			t.boot, t.old = false, t.old || renamed && t.disks != 0
		}
	}
	sortNet(&s.net)
}

// wrote reports whether host i has a key in etcd, or a transaction under way.
func (s *state) wrote(i uint8) bool {
	for n := range s.rec {
		if s.rec[n].exist && s.rec[n].host == i || s.queue[n].exist && s.queue[n].host == i {
			return true
		}
	}
	for _, t := range s.net {
		if t.kind != none && t.host == i {
			return true
		}
	}
	return s.hosts[i].tx.kind != none
}

// copyDisk gives host i the disk of host j, with the tokens on it.
func (m *model) copyDisk(s *state, i, j uint8) {
	put := func(f *facts) {
		f.disks &^= 1 << i
		if has(f.disks, j) {
			f.disks |= 1 << i
		}
	}
	for n := range s.rec {
		put(&s.rec[n].facts)
		put(&s.queue[n].facts)
	}
	for n := range s.net {
		put(&s.net[n].facts)
	}
	for n := range s.hosts {
		put(&s.hosts[n].tx.facts)
	}
	sortNet(&s.net)
}
