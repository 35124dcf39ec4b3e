package lock

import (
	"context"
	"slices"
	"time"
)

// withTTL returns the holders whose slot has a time-to-live.
func (l *Lock) withTTL(snap Snapshot) []string {
	return slices.DeleteFunc(l.holdersIn(snap), func(id string) bool {
		r, _ := parseRecord(snap.Values[l.recordKey(id)].Data)
		return r.TTL == 0
	})
}

// ttlWatch is a slot with a time-to-live, as this host first saw it.
type ttlWatch struct {
	record, alive int64 // revisions
	since         time.Time
}

// overdue returns the holders that did not come back within their time-to-live, and those whose time-to-live has
// passed while this host watched, even if somebody keeps their lease alive.
func (a *acquisition) overdue(snap Snapshot) []string {
	seen := map[string]ttlWatch{}
	ids := slices.DeleteFunc(a.withTTL(snap), func(id string) bool {
		record, alive := snap.Values[a.recordKey(id)], snap.Values[a.aliveKey(id)]
		now := ttlWatch{record: record.ModRevision, alive: alive.ModRevision, since: a.ttls[id].since}
		if now != a.ttls[id] {
			now.since = time.Now()
		}
		seen[id] = now
		r, _ := parseRecord(record.Data)
		return alive.ModRevision != 0 && time.Since(now.since) < r.TTL
	})
	a.ttls = seen
	return ids
}

// removeExpired releases expired slots, given a snapshot of the state. It returns true if there were any:
// then the state has to be read again.
func (a *acquisition) removeExpired(ctx context.Context, snap Snapshot) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, id := range a.overdue(snap) {
		found = true
		var freed *HolderInfo
		_, err := a.change(ctx, snap, a.state(), func(v view) (*change, error) {
			if !slices.Contains(a.overdue(v.Snapshot), id) {
				if !v.undecided { // else it may be this call that has freed it
					freed = nil
				}
				return nil, nil
			}
			record, _ := parseRecord(v.Values[a.recordKey(id)].Data)
			freed = &HolderInfo{ID: id, Record: record, Expired: true}
			c, err := a.releasing(id, func(Value) error { return nil })(v)
			if err == nil { // a sign of life that comes now keeps the slot
				c.conds = append(c.conds, Cond{Key: a.aliveKey(id), ModRevision: v.Values[a.aliveKey(id)].ModRevision})
			}
			return c, err
		})
		if err != nil {
			return found, err
		}
		if freed != nil {
			status := a.status
			status.Expired = freed
			a.place.outside(func() { a.report(status, nil) })
		}
		if snap, err = a.store.Get(ctx, a.state()...); err != nil {
			return found, err
		}
	}
	return found, nil
}
