// Package sharedwatch is a store of the lock whose waits share one watch, for a server with many of them.
//
// The shared watch hears of every change of the lock, which a server for one host need not. So a few waits have watches of
// their own, of the keys that they wait for, and there is a shared one only while there are more.
//
// # Guarantees
//
//   - It is a lock.Store like the one that it is made of. Beyond a few, a wait costs that one nothing.
//   - A call that fails does not disturb a wait. When the watch itself is lost, all waits end without values, which makes
//     their callers read, once there is another one; if there cannot be one, they end with the reason.
//   - What it remembers of changes is bounded.
package sharedwatch

import (
	"context"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/lock"
)

const (
	// maxHistory is how many changes are remembered, for waits that begin after them.
	maxHistory = 4096
	// few is how many waits have watches of their own.
	few = 8
	// linger is how long the shared watch outlives the last wait.
	linger = time.Minute
	// steady is how long a watch lasts that is not lost again and again.
	steady = 10 * time.Second
)

// Watcher is what waits need.
type Watcher interface {
	// Wait is that of a lock.Store.
	Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error)
	// Follow reports the changes of the keys from key on and before end, of each revision at once and in order, until ctx
	// ends or they cannot be reported any more, which is its error. Before that it calls began with the revision after which
	// every change is reported, and not at all if it does not come so far.
	Follow(ctx context.Context, key, end string, began func(revision int64), changed func(lock.Snapshot)) error
}

// Store is a lock.Store. Its methods may be called at once. Run has to run beside its waits.
type Store struct {
	lock.Store // for the calls that are not overridden
	watcher    Watcher
	own        chan struct{} // holds a token for each wait with watches of its own
	needed     chan struct{} // gets a value when there is a wait for the shared watch

	mu         sync.Mutex
	idle       *time.Timer // ends the watch
	up         bool        // there is a watch
	generation int         // counts the watches
	reached    int64       // the store has reached this revision since the watch began
	floor      int64       // history has every change after this revision
	history    []lock.Snapshot
	waits      map[*wait]struct{}
	byKey      map[string]map[*wait]struct{}   // those of a key
	byRange    map[keyRange]map[*wait]struct{} // those of a range
}

type keyRange struct{ key, end string }

// wait is a call of Wait.
type wait struct {
	watches []lock.Watch
	result  chan result // has room for one: more can be found in the history
}

type result struct {
	changes lock.Snapshot
	err     error
}

// New returns a store that waits by w, and passes all other calls on to s.
func New(s lock.Store, w Watcher) *Store {
	return &Store{
		Store: s, watcher: w, own: make(chan struct{}, few), needed: make(chan struct{}, 1), waits: map[*wait]struct{}{},
		byKey: map[string]map[*wait]struct{}{}, byRange: map[keyRange]map[*wait]struct{}{},
	}
}

// Run follows the keys of the lock while that is needed, until ctx ends.
func (s *Store) Run(ctx context.Context) {
	for {
		select {
		case <-s.needed: // perhaps by a wait that an earlier watch has served
			if s.isNeeded() {
				s.watch(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) isNeeded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waits) > 0
}

// watch follows the keys of the lock until nobody has waited for a while.
func (s *Store) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.waits) == 0 {
			s.up = false // a wait that begins now needs another one
			cancel()
		}
	})
	defer idle.Stop()
	s.mu.Lock()
	s.idle = idle
	s.mu.Unlock()
	for failures := 0; ; failures++ {
		var since time.Time
		err := s.watcher.Follow(ctx, lock.Root+"/", lock.Root+"0", func(revision int64) { since = time.Now(); s.began(revision) }, s.changed)
		if ctx.Err() != nil {
			s.stopped()
			return
		}
		if s.ended(err) && time.Since(since) > steady {
			failures = 0
		}
		backoff.Sleep(ctx, backoff.Delay(failures, 100*time.Millisecond, 5*time.Second))
	}
}

// began notes that there is a watch. What happened before it is not known.
func (s *Store) began(revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = true
	s.generation++
	s.reached, s.floor, s.history = revision, revision, nil
	for w := range s.waits {
		w.end(result{})
	}
}

// ended notes that there is no watch any more, and reports whether there was one. Waits go on for now.
func (s *Store) ended(err error) (was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.up = s.up, false
	if !was {
		for w := range s.waits {
			w.end(result{err: err})
		}
	}
	return was
}

// stopped notes that the watch was not needed any more. It may have begun, and a wait as well, at the same moment.
func (s *Store) stopped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = false
	if len(s.waits) > 0 {
		s.need()
	}
}

// need asks for a watch.
func (s *Store) need() {
	select {
	case s.needed <- struct{}{}:
	default:
	}
}

// changed passes a change on.
func (s *Store) changed(c lock.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = max(s.reached, c.Revision)
	if len(s.history) == maxHistory {
		s.floor = s.history[maxHistory/2-1].Revision
		s.history = append([]lock.Snapshot(nil), s.history[maxHistory/2:]...)
	}
	s.history = append(s.history, c)
	affected := map[*wait]struct{}{}
	for key := range c.Values {
		for w := range s.byKey[key] {
			affected[w] = struct{}{}
		}
		for r, waits := range s.byRange {
			if r.key <= key && key < r.end {
				for w := range waits {
					affected[w] = struct{}{}
				}
			}
		}
	}
	for w := range affected {
		if found := w.in(c); found.Values != nil {
			w.end(result{changes: found})
		}
	}
}

// in returns what a wait is to know of a change; nothing has no values.
func (w *wait) in(c lock.Snapshot) (found lock.Snapshot) {
	for key, v := range c.Values {
		for _, watch := range w.watches {
			if c.Revision > watch.After && (key == watch.Key || watch.Key <= key && key < watch.End) {
				if found.Values == nil {
					found = lock.Snapshot{Revision: c.Revision, Values: map[string]lock.Value{}}
				}
				found.Values[key] = v
			}
		}
	}
	return found
}

// end ends a wait, unless it has ended.
func (w *wait) end(r result) {
	select {
	case w.result <- r:
	default:
	}
}

// Wait implements lock.Store.
func (s *Store) Wait(ctx context.Context, watches ...lock.Watch) (lock.Snapshot, error) {
	if ctx.Err() != nil {
		return lock.Snapshot{}, ctx.Err()
	}
	select {
	case s.own <- struct{}{}:
		defer func() { <-s.own }()
		return s.watcher.Wait(ctx, watches...)
	default:
	}
	w := &wait{watches: watches, result: make(chan result, 1)}
	s.begin(w)
	defer s.forget(w)
	select {
	case r := <-w.result:
		return r.changes, r.err
	case <-ctx.Done():
		return lock.Snapshot{}, ctx.Err()
	}
}

// begin notes a wait. It ends at once if there was a change already, or that is not known.
func (s *Store) begin(w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits[w] = struct{}{}
	for _, watch := range w.watches {
		if watch.End == "" {
			add(s.byKey, watch.Key, w)
		} else {
			add(s.byRange, keyRange{watch.Key, watch.End}, w)
		}
	}
	if !s.up {
		s.need()
		return
	}
	oldest := s.reached
	for _, watch := range w.watches {
		if watch.After < s.floor || watch.After > s.reached {
			w.end(result{})
			return
		}
		oldest = min(oldest, watch.After)
	}
	var changes lock.Snapshot
	for _, c := range s.history {
		if c.Revision <= oldest {
			continue
		}
		if found := w.in(c); changes.Values == nil {
			changes = found
		} else if found.Values != nil {
			changes.Revision = found.Revision
			for key, v := range found.Values {
				changes.Values[key] = v
			}
		}
	}
	if changes.Values != nil {
		w.end(result{changes: changes})
	}
}

func (s *Store) forget(w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waits, w)
	for _, watch := range w.watches {
		if watch.End == "" {
			remove(s.byKey, watch.Key, w)
		} else {
			remove(s.byRange, keyRange{watch.Key, watch.End}, w)
		}
	}
	if len(s.waits) == 0 && s.idle != nil {
		s.idle.Reset(linger)
	}
}

func add[K comparable](waits map[K]map[*wait]struct{}, key K, w *wait) {
	if waits[key] == nil {
		waits[key] = map[*wait]struct{}{}
	}
	waits[key][w] = struct{}{}
}

func remove[K comparable](waits map[K]map[*wait]struct{}, key K, w *wait) {
	delete(waits[key], w)
	if len(waits[key]) == 0 {
		delete(waits, key)
	}
}

// Get implements lock.Store.
func (s *Store) Get(ctx context.Context, reads ...lock.Read) (lock.Snapshot, error) {
	generation := s.current()
	snap, err := s.Store.Get(ctx, reads...)
	s.note(generation, snap, err)
	return snap, err
}

// Commit implements lock.Store.
func (s *Store) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	generation := s.current()
	ok, now, err := s.Store.Commit(ctx, conds, ops, reads...)
	s.note(generation, now, err)
	return ok, now, err
}

func (s *Store) current() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// note notes the revision of a reply to a call that began in a generation. A reply of an earlier one may come from a store
// that was restored from a backup since.
func (s *Store) note(generation int, snap lock.Snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && generation == s.generation {
		s.reached = max(s.reached, snap.Revision)
	}
}
