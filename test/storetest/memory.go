// Package storetest has what tests of the lock need: a [lock.Store] in memory with faults, hooks around the
// calls of any store, and the suite that every store must pass, this one and etcd.
//
// Memory does no I/O. Only the timers that end leases run beside its callers, so it works inside a
// testing/synctest bubble.
package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/lock"
)

// ErrFault is the error of a call that a fault has hit.
var ErrFault = errors.New("injected fault")

// Fault is what happens to a Commit. The error that the caller gets matches ErrFault.
type Fault int

const (
	// LoseReply does the transaction.
	LoseReply Fault = iota
	// LoseRequest never does it.
	LoseRequest
	// DelayRequest does it right after the next Get.
	DelayRequest
	// HoldRequest does it when Deliver is called.
	HoldRequest
	// CutOff is HoldRequest, and every call fails with ErrFault from then on until Break(nil).
	CutOff
	// Refuse does not do it, and says so: the error matches lock.ErrRefused as well.
	Refuse
)

// Memory is a lock.Store in memory. It is safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	revision int64
	values   map[string]lock.Value
	touched  map[string]int64 // revision of the last change of a key, deletion included
	changed  chan struct{}    // closed at the next change of anything
	leases   map[int64]*lease
	granted  int64 // leases so far

	restored  int   // how often
	compacted int64 // changes up to this revision are forgotten

	faults  []Fault       // of the next Commits, one each
	delayed []transaction // until after the next Get
	held    []transaction // until Deliver
	broken  error         // of every call, unless nil
	deaf    bool
	calls   int
}

type transaction struct {
	conds []lock.Cond
	ops   []lock.Op
}

type lease struct {
	ttl time.Duration
	end *time.Timer
}

var _ lock.Store = (*Memory)(nil)

// NewMemory returns an empty store at revision 1, as etcd begins.
func NewMemory() *Memory {
	return &Memory{
		revision: 1,
		values:   map[string]lock.Value{},
		touched:  map[string]int64{},
		changed:  make(chan struct{}),
		leases:   map[int64]*lease{},
	}
}

// Close does nothing: there is no connection.
func (m *Memory) Close() error { return nil }

// FailCommits makes these faults hit the next Commits, one each.
func (m *Memory) FailCommits(faults ...Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, faults...)
}

// Heal drops the faults that have not hit a Commit yet.
func (m *Memory) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
}

// Break makes every call fail with err, also those that wait, until Break(nil).
func (m *Memory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
	m.wake()
}

// Deafen makes Wait miss every change.
func (m *Memory) Deafen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = true
}

// Deliver does the transactions that HoldRequest and CutOff have held.
func (m *Memory) Deliver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.held
	m.held = nil
	for _, t := range held {
		_, _ = m.commit(t) // its outcome is not reported
	}
}

// Calls is the number of calls so far, except those that keep leases alive.
func (m *Memory) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Compact forgets all changes so far: a Wait for one of them returns without values.
func (m *Memory) Compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compacted = m.revision
	m.wake()
}

// Backup is the content of a Memory at some time.
type Backup struct {
	revision int64
	values   map[string]lock.Value
	leases   map[int64]time.Duration
}

// Backup returns the content, for Restore.
func (m *Memory) Backup() Backup {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := Backup{m.revision, maps.Clone(m.values), map[int64]time.Duration{}}
	for id, l := range m.leases {
		b.leases[id] = l.ttl
	}
	return b
}

// Restore resets everything to the backup, also the revision. As in etcd, the leases of the backup start
// again, all others are gone, and every Wait returns without values.
func (m *Memory) Restore(b Backup) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, l := range m.leases {
		l.end.Stop()
		delete(m.leases, id)
	}
	for id, ttl := range b.leases {
		m.addLease(id, ttl)
	}
	m.revision, m.compacted = b.revision, b.revision
	m.values, m.touched = maps.Clone(b.values), map[string]int64{}
	m.held, m.delayed = nil, nil // no member that had them is left
	m.restored++
	m.wake()
}

// KeepAll keeps every lease alive, as anybody can in etcd before 3.7.
func (m *Memory) KeepAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.leases {
		l.end.Reset(l.ttl)
	}
}

// Leases is the number of leases that have not run out.
func (m *Memory) Leases() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.leases)
}

// Get implements lock.Store.
func (m *Memory) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	snap := m.snapshot(reads)
	for _, r := range reads {
		size := 0
		for key, v := range snap.Values {
			size += len(key) + len(v.Data)
		}
		if r.AtMost > 0 && size > r.AtMost {
			return lock.Snapshot{}, fmt.Errorf("%w: %w", lock.ErrRefused, lock.ErrTooLarge)
		}
	}
	delayed := m.delayed
	m.delayed = nil
	for _, t := range delayed {
		_, _ = m.commit(t) // its outcome is not reported
	}
	return snap, nil
}

// Commit implements lock.Store.
func (m *Memory) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (ok bool, now lock.Snapshot, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return false, lock.Snapshot{}, err
	}
	t := transaction{slices.Clone(conds), slices.Clone(ops)}
	if len(m.faults) > 0 {
		fault := m.faults[0]
		m.faults = m.faults[1:]
		switch fault {
		case LoseReply:
			_, _ = m.commit(t)
		case DelayRequest:
			m.delayed = append(m.delayed, t)
		case HoldRequest:
			m.held = append(m.held, t)
		case CutOff:
			m.held = append(m.held, t)
			m.broken = ErrFault
			m.wake()
		case Refuse:
			return false, lock.Snapshot{}, fmt.Errorf("%w: %w", lock.ErrRefused, ErrFault)
		}
		return false, lock.Snapshot{}, ErrFault
	}
	ok, err = m.commit(t)
	if err != nil {
		return false, lock.Snapshot{}, err
	}
	if !ok {
		var also []lock.Read
		for _, c := range conds {
			if c.End == "" {
				also = append(also, lock.Read{Key: c.Key})
			}
		}
		reads = append(also, reads...)
	}
	return ok, m.snapshot(reads), nil
}

// Wait implements lock.Store.
func (m *Memory) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	restored := m.restored
	for {
		if ctx.Err() != nil {
			return lock.Snapshot{}, ctx.Err()
		}
		if restored != m.restored && !m.deaf {
			return lock.Snapshot{}, nil
		}
		if m.broken != nil {
			return lock.Snapshot{}, m.broken
		}
		if snap, ok := m.changes(watches); ok && !m.deaf {
			return snap, nil
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		m.mu.Lock()
	}
}

// changes returns the changes of the first watch that has any, as etcd does.
func (m *Memory) changes(watches []lock.Watch) (lock.Snapshot, bool) {
	for _, w := range watches {
		if w.After < m.compacted || w.After > m.revision {
			return lock.Snapshot{}, true
		}
		snap := lock.Snapshot{Values: map[string]lock.Value{}}
		for key, revision := range m.touched {
			if revision > w.After && covers(w.Key, w.End, key) {
				snap.Values[key] = m.values[key]
				snap.Revision = max(snap.Revision, revision)
			}
		}
		if len(snap.Values) > 0 {
			return snap, true
		}
	}
	return lock.Snapshot{}, false
}

// covers reports whether key is from, or in the range.
func covers(from, end, key string) bool {
	return key == from || from <= key && key < end
}

// Grant implements lock.Store.
func (m *Memory) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return 0, err
	}
	m.granted++
	id := m.granted
	ttl = (ttl + time.Second - 1).Truncate(time.Second)
	m.addLease(id, ttl)
	return id, nil
}

func (m *Memory) addLease(id int64, ttl time.Duration) {
	l := &lease{ttl: ttl}
	l.end = time.AfterFunc(ttl, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.leases[id] == l {
			m.endLease(id)
		}
	})
	m.leases[id] = l
}

// KeepAlive implements lock.Store.
func (m *Memory) KeepAlive(ctx context.Context, id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.broken); err != nil {
		return err
	}
	l, ok := m.leases[id]
	if !ok {
		return lock.ErrNoLease
	}
	l.end.Reset(l.ttl)
	return nil
}

// Revoke implements lock.Store.
func (m *Memory) Revoke(ctx context.Context, id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return err
	}
	m.endLease(id)
	return nil
}

func (m *Memory) endLease(id int64) {
	l, ok := m.leases[id]
	if !ok {
		return
	}
	l.end.Stop()
	delete(m.leases, id)
	var ops []lock.Op
	for key, v := range m.values {
		if v.Lease == id {
			ops = append(ops, lock.Op{Key: key, Delete: true})
		}
	}
	if len(ops) > 0 {
		_, _ = m.commit(transaction{ops: ops}) // deletes, which do not fail
	}
}

// begin counts a call and returns the error that it has to fail with.
func (m *Memory) begin(ctx context.Context) error {
	m.calls++
	return cmp.Or(ctx.Err(), m.broken)
}

func (m *Memory) snapshot(reads []lock.Read) lock.Snapshot {
	snap := lock.Snapshot{Revision: m.revision, Values: map[string]lock.Value{}}
	for _, r := range reads {
		var found []string
		for key, v := range m.values {
			if covers(r.Key, r.End, key) && (r.CreatedBefore == 0 || v.CreateRevision < r.CreatedBefore) {
				found = append(found, key)
			}
		}
		slices.SortFunc(found, func(a, b string) int {
			if r.CreatedBefore != 0 {
				return cmp.Compare(m.values[b].CreateRevision, m.values[a].CreateRevision)
			}
			return cmp.Compare(a, b)
		})
		if r.Limit > 0 {
			found = found[:min(r.Limit, len(found))]
		}
		for _, key := range found {
			v := m.values[key]
			if r.KeysOnly {
				v.Data, v.Lease = nil, 0
			}
			if _, ok := snap.Values[key]; !ok {
				snap.Values[key] = v
			}
		}
	}
	return snap
}

func (m *Memory) commit(t transaction) (bool, error) {
	for _, c := range t.conds {
		if c.End == "" && m.values[c.Key].ModRevision != c.ModRevision {
			return false, nil
		}
		for key := range m.values {
			if c.End != "" && covers(c.Key, c.End, key) {
				return false, nil
			}
		}
	}
	for _, op := range t.ops {
		if _, ok := m.leases[op.Lease]; !ok && !op.Delete && op.Lease != 0 {
			return false, lock.ErrNoLease
		}
	}
	m.revision++
	for _, op := range t.ops {
		was, existed := m.values[op.Key]
		switch {
		case !op.Delete:
			created := m.revision
			if existed {
				created = was.CreateRevision
			}
			m.values[op.Key] = lock.Value{Data: slices.Clone(op.Value), ModRevision: m.revision, CreateRevision: created, Lease: op.Lease}
		case existed:
			delete(m.values, op.Key)
		default:
			continue // not an event
		}
		m.touched[op.Key] = m.revision
	}
	m.wake()
	return true, nil
}

func (m *Memory) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}
