package lock

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// Overview is all that is known about a group at one moment.
type Overview struct {
	// Semaphore is what a client would create if Exists is false.
	Semaphore Semaphore
	Exists    bool
	Holders   []HolderInfo // in the order of Semaphore.Holders
	Queue     []QueueEntry // in order: the first one is next
	// Pause is not nil during a pause. If both the group and all groups are paused, it is the pause of all groups.
	Pause *Pause
	// Unwell are the hosts that pause a version, or did until Resume, in the order of their reports.
	Unwell []UnwellHost
}

// VersionPauses returns the pauses that unwell hosts cause, one for each version.
func (o Overview) VersionPauses() (pauses []*Pause) {
	for _, u := range o.Unwell {
		p := u.Pause()
		same := func(other *Pause) bool {
			return other.Version == p.Version && other.Left == p.Left && other.Broken == p.Broken
		}
		switch i := slices.IndexFunc(pauses, same); {
		case u.Resumed:
		case i >= 0:
			pauses[i].Others++
		default:
			pauses = append(pauses, p)
		}
	}
	return pauses
}

// HolderInfo is a holder of a slot. The Record is the zero Record if there is none, as when the slot
// was taken by a client that writes none.
type HolderInfo struct {
	ID       string
	Record   Record
	Broken   bool  // there is a record that cannot be understood
	Expired  bool  // the time-to-live that the record asks for is over
	revision int64 // of the record
}

// QueueEntry is a host in the queue.
type QueueEntry struct {
	ID       string
	Hostname string
	Since    time.Time
	Version  string
	Reason   string // see Record
}

// Overview returns the state of the group. It only reads, and does not create the document.
func (l *Lock) Overview(ctx context.Context) (Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, _, err := l.overview(ctx)
	if err != nil {
		err = fmt.Errorf("read the lock: %w", err)
	}
	return o, err
}

func (l *Lock) overview(ctx context.Context) (Overview, Snapshot, error) {
	reads := append(keys(l.semaphoreKey(), l.pauseKey(), pauseAllKey), l.holdersRange(), l.aliveRange(), l.queueRange(), l.unwellRange())
	snap, err := l.store.Get(ctx, reads...)
	if err != nil {
		return Overview{}, snap, err
	}
	s, revision, err := l.parse(snap)
	if err != nil {
		return Overview{}, snap, err
	}
	o := Overview{Semaphore: s, Exists: revision != 0, Pause: l.pauseIn(snap), Unwell: unwellIn(snap, l.unwellRange())}
	for _, id := range s.Holders {
		v := snap.Values[l.recordKey(id)]
		r, ok := parseRecord(v.Data)
		o.Holders = append(o.Holders, HolderInfo{
			ID: id, Record: r, Broken: !ok && v.ModRevision != 0, revision: v.ModRevision,
			Expired: r.TTL != 0 && snap.Values[l.aliveKey(id)].ModRevision == 0,
		})
	}
	for _, key := range byCreation(snap, l.queueRange()) {
		if r, _ := parseEntry(snap.Values[key].Data); isPlace(snap.Values[key]) {
			o.Queue = append(o.Queue, QueueEntry{ID: idOf(key), Hostname: r.Hostname, Since: r.Since, Version: r.Version, Reason: r.Reason})
		}
	}
	return o, snap, nil
}

// coalesce is how long changes are gathered before WatchOverview reads again.
const coalesce = 200 * time.Millisecond

// WatchOverview calls changed with the overview, now and after every change, until ctx ends, and returns why it
// ended. Changes that come close together are reported as one. A failure of the store is reported as well, and
// does not end it; only a store that refuses or a document that cannot be understood does.
func (l *Lock) WatchOverview(ctx context.Context, changed func(Overview, error)) error {
	for failures := 0; ; failures++ {
		err := l.follow(ctx, func(o Overview) {
			failures = 0
			changed(o, nil)
		})
		err = fmt.Errorf("watch the lock: %w", cmp.Or(ctx.Err(), err))
		if ctx.Err() != nil || permanent(err) {
			return err
		}
		changed(Overview{}, err)
		backoff.Sleep(ctx, backoff.Delay(failures, 250*time.Millisecond, 10*time.Second))
	}
}

// follow reports every change until there is an error.
func (l *Lock) follow(ctx context.Context, changed func(Overview)) error {
	alive := l.aliveRange()
	for {
		o, snap, err := l.overview(ctx)
		if err != nil {
			return err
		}
		changed(o)
		// The first range has, in the order of keys: holders, order, pause, queue, semaphore and unwell. (In the
		// default group pause-all as well.)
		limited, cancel := context.WithTimeout(ctx, rereadAfter)
		_, err = l.store.Wait(limited,
			Watch{Key: l.holdersRange().Key, End: l.unwellRange().End, After: snap.Revision},
			Watch{Key: alive.Key, End: alive.End, After: snap.Revision},
			Watch{Key: pauseAllKey, After: snap.Revision})
		timedOut := limited.Err() != nil
		cancel()
		if ctx.Err() != nil || err != nil && !timedOut {
			return cmp.Or(ctx.Err(), err)
		}
		backoff.Sleep(ctx, coalesce)
	}
}
