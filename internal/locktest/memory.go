// Package locktest has what tests of the lock need: a [lock.Store] in memory with faults, and the
// suite that every store must pass, this one and etcd.
//
// Memory does no I/O and starts no goroutine, so that it works inside a testing/synctest bubble.
package locktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/locksmithd/locksmith/lock"
)

// ErrFault is the error of a call that a fault has hit.
var ErrFault = errors.New("injected fault")

// Fault is what happens to a Commit. The caller gets ErrFault for each but Refuse.
type Fault int

const (
	// LoseReply does the transaction.
	LoseReply Fault = iota
	// LoseRequest does not, ever.
	LoseRequest
	// DelayRequest does it right after the next Get.
	DelayRequest
	// HoldRequest does it when Deliver is called.
	HoldRequest
	// CutOff is HoldRequest, and everything fails with ErrFault from then on until Break(nil).
	CutOff
	// Refuse does not, and says so with lock.ErrRefused.
	Refuse
)

// Memory is a lock.Store in memory. It is safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	revision int64
	values   map[string]lock.Value
	touched  map[string]int64 // revision of the last change of a key, deletion included
	changed  chan struct{}    // closed at the next change of anything

	faults  []Fault       // for the Commits to come, one each
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

var _ lock.Store = (*Memory)(nil)

// NewMemory returns an empty store at revision 1, as etcd begins.
func NewMemory() *Memory {
	return &Memory{
		revision: 1,
		values:   map[string]lock.Value{},
		touched:  map[string]int64{},
		changed:  make(chan struct{}),
	}
}

// FailCommits has the next Commits hit by these faults, one each.
func (m *Memory) FailCommits(faults ...Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, faults...)
}

// Break makes every call fail with err, those that wait as well, until it is called with nil.
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

// Deliver does the transactions that HoldRequest and CutOff have kept.
func (m *Memory) Deliver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.held
	m.held = nil
	for _, t := range held {
		m.commit(t)
	}
}

// Calls is the number of calls so far.
func (m *Memory) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Get implements lock.Store.
func (m *Memory) Get(ctx context.Context, keys ...string) (lock.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx); err != nil {
		return lock.Snapshot{}, err
	}
	snap := m.snapshot(keys)
	delayed := m.delayed
	m.delayed = nil
	for _, t := range delayed {
		m.commit(t)
	}
	return snap, nil
}

// Commit implements lock.Store.
func (m *Memory) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op) (ok bool, now lock.Snapshot, err error) {
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
			m.commit(t)
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
	if m.commit(t) {
		return true, lock.Snapshot{}, nil
	}
	var keys []string
	for _, c := range conds {
		keys = append(keys, c.Key)
	}
	return false, m.snapshot(keys), nil
}

// Wait implements lock.Store.
func (m *Memory) Wait(ctx context.Context, key string, after int64) (lock.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	for {
		switch {
		case ctx.Err() != nil:
			return lock.Snapshot{}, ctx.Err()
		case m.broken != nil:
			return lock.Snapshot{}, m.broken
		case !m.deaf && m.touched[key] > after:
			return m.snapshot([]string{key}), nil
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

// begin counts a call and returns the error that it has to fail with.
func (m *Memory) begin(ctx context.Context) error {
	m.calls++
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return m.broken
}

func (m *Memory) snapshot(keys []string) lock.Snapshot {
	snap := lock.Snapshot{Revision: m.revision, Values: maps.Clone(m.values)}
	maps.DeleteFunc(snap.Values, func(key string, _ lock.Value) bool { return !slices.Contains(keys, key) })
	return snap
}

func (m *Memory) commit(t transaction) bool {
	for _, c := range t.conds {
		if m.values[c.Key].ModRevision != c.ModRevision {
			return false
		}
	}
	m.revision++
	for _, op := range t.ops {
		if op.Delete {
			delete(m.values, op.Key)
		} else {
			m.values[op.Key] = lock.Value{Data: slices.Clone(op.Value), ModRevision: m.revision}
		}
		m.touched[op.Key] = m.revision
	}
	m.wake()
	return true
}

func (m *Memory) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}
