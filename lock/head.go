package lock

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// contend waits for a slot at the head of the queue, and takes it.
func (a *acquisition) contend(ctx context.Context) error {
	for {
		snap, ahead, err := a.readState(ctx)
		if err != nil {
			return err
		}
		if ahead != "" { // an entry that is not in the index yet
			if got, err := a.waitBehind(ctx, snap, ahead); got || err != nil {
				return err
			}
			continue
		}
		a.place.head = true
		if err := a.removeHoldersFromQueue(ctx, snap); err != nil {
			return err
		}
		if got, err := a.waitForSlot(ctx, snap); got || err != nil {
			return err
		}
	}
}

// state is what the head needs to know.
func (a *acquisition) state() []Read {
	return append(a.gates(a.id), a.holdersRange(), a.aliveRange())
}

// readState reads the state, and makes sure that this host is the head: otherwise ahead is the key of the
// entry before its own.
func (a *acquisition) readState(ctx context.Context) (snap Snapshot, ahead string, err error) {
	before := a.queueRange()
	before.KeysOnly, before.CreatedBefore = true, a.place.created
	for before.Limit = pageSize; ; before.Limit *= pageSize {
		reads := a.state()
		for _, id := range a.place.holders[:min(maxReads, len(a.place.holders))] {
			reads = append(reads, Read{Key: a.queueKey(id)})
		}
		if !a.place.head {
			reads = append(reads, before)
		}
		if snap, err = a.store.Get(ctx, reads...); err != nil {
			return snap, "", err
		}
		if snap.Values[a.queueKey(a.id)].ModRevision != a.place.revision {
			return snap, "", ErrLostPlace
		}
		if a.place.head {
			return snap, "", nil
		}
		others := slices.DeleteFunc(keysIn(snap, before), func(key string) bool { return snap.Values[key].CreateRevision >= a.place.created })
		if ahead, _, err = a.firstPlace(ctx, others); err != nil || ahead != "" || len(others) < before.Limit {
			return snap, ahead, err
		}
	}
}

// removeHoldersFromQueue deletes the entries of hosts that hold a slot, given what readState has read. A client
// that knows only the document has taken the slot for a host that waits. That host would learn of it only at
// its turn, while this one may wait for that very slot.
func (a *acquisition) removeHoldersFromQueue(ctx context.Context, snap Snapshot) error {
	holders := a.validHolders(snap)
	var unread []string
	for _, id := range holders {
		if !slices.Contains(a.place.holders, id) {
			unread = append(unread, a.queueKey(id))
		}
	}
	for some := range slices.Chunk(unread, maxReads) {
		found, err := a.store.Get(ctx, keys(some...)...)
		if err != nil {
			return err
		}
		maps.Copy(snap.Values, found.Values)
	}
	held := Cond{Key: a.semaphoreKey(), ModRevision: snap.Values[a.semaphoreKey()].ModRevision}
	for _, id := range holders {
		if entry := snap.Values[a.queueKey(id)]; entry.ModRevision != 0 {
			conds := []Cond{held, {Key: a.queueKey(id), ModRevision: entry.ModRevision}}
			if _, _, err := a.store.Commit(ctx, conds, a.unqueue(id, entry)); err != nil {
				return err
			}
		}
	}
	a.place.holders = holders
	return nil
}

// validHolders returns the holders that may have an entry in the queue: an invalid id cannot enter it.
func (l *Lock) validHolders(snap Snapshot) []string {
	return slices.DeleteFunc(l.holdersIn(snap), func(id string) bool { return ValidateID(id) != nil })
}

// waitForSlot waits at the head for a slot, given a snapshot of the state, and takes it. It returns
// false when the state has to be read again.
func (a *acquisition) waitForSlot(ctx context.Context, snap Snapshot) (got bool, err error) {
	unwell := a.unwellRange()
	watches := a.watches(a.semaphoreKey(), snap.Revision)
	if r := a.aliveRange(); len(a.withTTL(snap)) > 0 {
		watches = append(watches, Watch{Key: r.Key, End: r.End, After: snap.Revision})
	}
	holders := a.holdersIn(snap)
	pausing := len(keysIn(snap, unwell)) > 0 // then events are not enough, as take says
	for fresh := true; ; fresh = false {
		if !fresh && pausing {
			return false, nil
		}
		if !fresh && slices.Contains(a.holdersIn(snap), a.id) {
			return false, nil // the event of the record, which names the host, may still be on its way
		}
		now, got, err := a.takeAsHead(ctx, snap)
		if got {
			return true, nil
		}
		var full *FullError
		var paused *PausedError
		switch {
		case errors.As(err, &full):
			if removed, err := a.removeExpired(ctx, now); removed || err != nil {
				return false, err
			}
			a.waitFor(WaitStatus{Semaphore: full.Semaphore, Records: a.recordsIn(snap)})
		case errors.As(err, &paused) && a.versionPause(a.record.Version, now) != nil:
			return false, errOutside
		case errors.As(err, &paused):
			s, _, _ := a.parse(now) // it was understood before the pause was found
			a.waitFor(WaitStatus{Semaphore: s, Records: a.recordsIn(snap), Pause: &paused.Pause})
		default:
			return false, err
		}
		if now.Revision != snap.Revision || !slices.Equal(holders, a.holdersIn(now)) {
			return false, nil // there may be new records, which have to be read
		}
		changed, err := a.watch(ctx, rereadAfter, watches...)
		if err != nil || changed.Values == nil {
			return false, err
		}
		for key, v := range changed.Values {
			if v.ModRevision == 0 {
				delete(snap.Values, key)
			} else {
				snap.Values[key] = v
			}
			if unwell.Key <= key && key < unwell.End {
				return false, nil // the others of the range are to be read with it
			}
			for i, watch := range watches {
				// Only these watches: events of the others may still be on their way.
				if key == watch.Key || watch.Key <= key && key < watch.End {
					watches[i].After = changed.Revision
				}
			}
		}
	}
}

// takeAsHead takes a slot at the head of the queue, given a snapshot of the state. now is the last snapshot
// seen: a later one, with its own revision, after a conflict.
func (a *acquisition) takeAsHead(ctx context.Context, snap Snapshot) (now Snapshot, got bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, now, err = a.take(ctx, snap, a.state(), a.candidate, func(snap Snapshot) ([]Cond, error) {
		if snap.Values[a.queueKey(a.id)].ModRevision != a.place.revision {
			return nil, ErrLostPlace
		}
		return nil, nil
	})
	if err == nil && !a.place.late && !slices.Contains(a.holdersIn(now), a.id) {
		// The transaction that took the slot has deleted all that lived with the lease. Revoking it would
		// only delay this host.
		a.place.keepLease = true
	}
	return now, err == nil, err
}

// holdersIn returns the holders of slots; none where the document cannot be understood.
func (l *Lock) holdersIn(snap Snapshot) []string {
	s, _, _ := l.parse(snap)
	return s.Holders
}

// recordsIn returns the records of holders, by id.
func (l *Lock) recordsIn(snap Snapshot) map[string]Record {
	records := map[string]Record{}
	for _, id := range l.holdersIn(snap) {
		if r, ok := parseRecord(snap.Values[l.recordKey(id)].Data); ok {
			records[id] = r
		}
	}
	return records
}
