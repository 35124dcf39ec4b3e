package lock

import (
	"context"
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// A Phase is what a holder does with its slot.
type Phase string

const (
	Draining  Phase = "draining"  // what is to be done before the reboot is done
	Rebooting Phase = "rebooting" // the host goes down
	Checking  Phase = "checking"  // the host has booted, and is not known to be well yet
	Unwell    Phase = "unwell"    // it is not
	Delaying  Phase = "delaying"  // it is well, and keeps the slot for a while
)

// booted reports whether the host has been up since the reboot that the slot was for.
func (p Phase) booted() bool { return p == Checking || p == Unwell || p == Delaying }

// Report is what a holder says about itself.
type Report struct {
	Phase Phase
	Why   string
	// Pause, with Unwell, pauses the group for the version that the slot was taken for; see [UnwellHost].
	Pause bool
	// Again, with Draining or Rebooting, is the record of the next reboot with the same slot, for a host that takes
	// another version. Its Since and its phase do not count.
	Again *Record
}

// check refuses what makes no sense.
func (r Report) check() error {
	switch r.Phase {
	case Draining, Rebooting:
	case Checking, Unwell, Delaying:
		if r.Again != nil {
			return fmt.Errorf("in phase %s there is no next reboot", r.Phase)
		}
	default:
		return fmt.Errorf("there is no phase %q", string(r.Phase))
	}
	if r.Pause && r.Phase != Unwell {
		return fmt.Errorf("only phase %s pauses, not %s", Unwell, r.Phase)
	}
	if r.Again != nil {
		return r.Again.checkTTL()
	}
	return nil
}

// Report writes what the host that Identify named does with the slot of id into its record, for others to see. A report
// that changes nothing writes nothing. The error is a [*NotHeldError] when id holds none, and a [*CloneError] when
// another host does.
//
// A host that reports that it has booted is alive: from then on its slot has no time-to-live. As long as it is Unwell
// with Pause, nobody takes a slot for its version, not even on a decision that was made before.
func (l *Lock) Report(ctx context.Context, id string, r Report) (err error) {
	defer func() { err = l.outcome("report the phase of "+id, err) }()
	if err := r.check(); err != nil {
		return err
	}
	r.Why = safetext.Clean(r.Why)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	alive := aliveLease{lock: l}
	defer func() { alive.end(ctx, err == nil) }()
	reads := l.holderReads(id)
	return l.changeFound(ctx, reads, l.reporting(ctx, id, r, reads, &alive))
}

// reporting writes a report about the slot of id.
func (l *Lock) reporting(ctx context.Context, id string, r Report, reads []Read, alive *aliveLease) decision {
	now := time.Now().UTC().Truncate(time.Second)
	return func(v view) (*change, error) {
		if !v.semaphore.Holds(id) {
			return nil, &NotHeldError{ID: id, Semaphore: v.semaphore}
		}
		found, entry := v.Values[l.recordKey(id)], v.Values[l.unwellKey(id)]
		if err := l.cloneOf(id, l.self, found); err != nil {
			return nil, err
		}
		was, readable := rawRecord(found.Data)
		if !readable {
			was = Record{Hostname: l.self.Hostname} // and not the boot: nobody knows in which the slot was taken
		}
		next := r.record(was, now)
		ops := l.unwellOps(id, r, was, entry, now)
		switch {
		case r.Phase.booted() && v.Values[l.aliveKey(id)].ModRevision != 0:
			ops = append(ops, Op{Key: l.aliveKey(id), Delete: true})
		case r.Again != nil:
			again, err := alive.ops(ctx, id, next.TTL, v.Values[l.aliveKey(id)])
			if err != nil {
				return nil, err
			}
			ops = append(ops, again...)
		}
		if readable && next == was && len(ops) == 0 {
			return nil, nil
		}
		document, _, err := next.encode()
		if err != nil {
			return nil, err
		}
		var conds []Cond
		for _, read := range reads[1:] {
			conds = append(conds, Cond{Key: read.Key, ModRevision: v.Values[read.Key].ModRevision})
		}
		// The document is written as it is: a take that has not seen this fails, and the head of the queue looks again.
		ops = append(ops, Op{Key: l.recordKey(id), Value: document})
		return &change{next: v.semaphore, conds: conds, ops: ops, reads: reads, keep: true}, nil
	}
}

// record returns the record of a holder after the report.
func (r Report) record(was Record, now time.Time) Record {
	next := was
	if r.Again != nil {
		next = *r.Again
		next.Owner = ""
		next.Since, next.Phase, next.PhaseSince = was.Since, was.Phase, was.PhaseSince
	}
	if next.Phase != r.Phase || next.PhaseSince.IsZero() {
		next.PhaseSince = now
	}
	next.Phase, next.PhaseWhy = r.Phase, r.Why
	if r.Phase.booted() {
		next.TTL = 0
	}
	return next
}

// unwellOps is what the report changes about the entry of the host among the unwell ones.
func (l *Lock) unwellOps(id string, r Report, was Record, entry Value, now time.Time) []Op {
	exists := entry.ModRevision != 0
	u := parseUnwell(id, entry.Data)
	switch {
	case r.Phase == Delaying:
		return l.well(id, was, entry)
	case r.Phase == Unwell && r.Pause:
		next := UnwellHost{ID: id, Hostname: safetext.Clean(l.self.Hostname), BootID: l.self.BootID, Version: safetext.Clean(was.Version), Why: r.Why, Since: now}
		if exists && u.BootID == next.BootID && !u.Broken { // with Again the record has the version of the next reboot
			next.Version, next.Since, next.Resumed = u.Version, u.Since, u.Resumed
		}
		if exists && (u.Resumed && next.Resumed || next == u) {
			return nil
		}
		return []Op{next.put(l.unwellKey(id))}
	case r.Phase == Unwell && exists && !u.Resumed && u.BootID == l.self.BootID: // the host does not pause any more
		return []Op{{Key: l.unwellKey(id), Delete: true}}
	case r.Again != nil && exists && !u.Broken && !u.Left && u.Version != safetext.Clean(r.Again.Version):
		u.Left = true
		return []Op{u.put(l.unwellKey(id))}
	}
	return nil
}

// rawRecord is parseRecord without a change to the texts.
func rawRecord(data []byte) (r Record, ok bool) {
	err := decode(data, &r)
	return r, err == nil
}

// aliveLease is the lease of the alive key of a holder, while a transaction to put that is under way.
type aliveLease struct {
	lock *Lock
	id   int64
}

// ops puts the key with a lease of this length, 0 for none, unless it has that already.
func (a *aliveLease) ops(ctx context.Context, id string, ttl time.Duration, found Value) (ops []Op, err error) {
	switch {
	case ttl == 0 && found.ModRevision == 0, a.id != 0 && found.Lease == a.id:
		return nil, nil
	case ttl == 0:
		return []Op{{Key: a.lock.aliveKey(id), Delete: true}}, nil
	case a.id == 0:
		if a.id, err = a.lock.store.Grant(ctx, ttl); err != nil {
			return nil, err
		}
	}
	return []Op{{Key: a.lock.aliveKey(id), Lease: a.id}}, nil
}

// end ends the lease if it is not used.
func (a *aliveLease) end(ctx context.Context, used bool) {
	if a.id != 0 && !used && a.lock.unresolved == noRevision { // else it may be in use
		revoke(ctx, a.lock.store, a.id)
	}
}
