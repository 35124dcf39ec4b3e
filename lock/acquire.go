package lock

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// ErrKeepPlace is the cause with which to cancel the context of Acquire so that another process, or the next call, can
// take over the place in the queue.
var ErrKeepPlace = errors.New("the place in the queue is kept for the next process")

// ErrLostPlace is why an Acquire with a Stay ends when its place in the queue is gone: another call for this id has
// taken it over, it was deleted, as Withdraw does, or its lease has run out, as in a long outage.
var ErrLostPlace = errors.New("the place in the queue is lost")

var (
	errQueue = errors.New("others wait for a slot")
	// errOutside means that the version is paused: the host must not hold up others in the queue.
	errOutside = errors.New("the version is paused")
)

// WaitStatus is what a host in [Lock.Acquire] waits for.
type WaitStatus struct {
	Semaphore Semaphore         // as last read; only the head of the queue sees every change
	Records   map[string]Record // of the holders, by id; only the head of the queue reads them
	Ahead     string            // the id right before this host; "" at the head, and beside another process
	Beside    bool              // another process has this id's place in the queue, and this one waits for its outcome
	Pause     *Pause            // not nil during a pause
	// Expired is a slot that this call has just freed, because its time-to-live was over; nil if it has not. The rest is
	// as in the report before, since what is waited for has not changed yet.
	Expired *HolderInfo
	// Outside says that this host has no place in the queue, where others wait for versions that are not paused. It
	// enters the queue, at the end, after the pause.
	Outside bool
}

// String says in one sentence what the host waits for. Only the head of the queue knows the holders, so only it
// names them.
func (w WaitStatus) String() string {
	place, slots := "first in the queue", fmt.Sprintf("; no slot is free: max is %d, held by %s", w.Semaphore.Max, w.Holders())
	if w.Semaphore.Max == 0 {
		slots = "; " + (&FullError{Semaphore: w.Semaphore}).Error()
	}
	switch {
	case w.Outside && w.Pause != nil:
		return w.Pause.String()
	case w.Beside:
		place, slots = "another process is in the queue for this machine, and this one waits beside it", ""
	case w.Ahead != "":
		place, slots = "in the queue behind "+safetext.Clean(w.Ahead), ""
	}
	if w.Pause != nil {
		return place + "; " + w.Pause.String()
	}
	return place + slots
}

// Holders names the holders of slots, each with the host name and the time that its record has; or "nobody".
func (w WaitStatus) Holders() string {
	var texts []string
	for _, id := range w.Semaphore.Holders {
		text := safetext.Clean(id)
		if r := w.Records[id]; r.Hostname != "" {
			text += " (" + r.Hostname + ")"
		}
		if r := w.Records[id]; !r.Since.IsZero() {
			text += " since " + r.Since.Local().Format(timeLayout)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return "nobody"
	}
	return safetext.List(texts)
}

// Acquire takes a slot for id like TryAcquire, but waits in the queue for its turn, for a slot, and
// for the end of a pause, until ctx ends; holding a slot already is success. It waits by
// watching. Failures of the store do not end the wait; only a store that refuses, a document that cannot be
// understood or another host with the same id does. When it returns, this call has left the queue, or
// falls out of it within a minute if the store cannot be reached.
//
// The place of an id belongs to one process at a time, by the Owner of the Record. A process that is restarted with
// the same Owner takes over the place of the one before. A process with another Owner waits beside it: it neither
// moves nor ends that place, has the slot once the id has it, and enters the queue itself, at the end, when the
// place is gone without a slot. A wait that ends because ctx was cancelled with the cause [ErrKeepPlace] leaves its
// place for the next process with the same Owner, for 40 s at least.
//
// With a Stay in the Record the call is one of several of a client that comes back: whenever ctx ends, the place is
// left for the next call with the same Owner, for two thirds of the Stay at least. A call that has lost its place ends
// with ErrLostPlace: it cannot tell whether a Withdraw came since, after which it must not enter the queue again. If id
// holds a slot when the call begins, the call makes sure that no Withdraw which any process has sent can still release
// it.
//
// report, if not nil, is called in the goroutine of the caller, and the wait goes on once it returns: until
// then the place in the queue is not kept alive, and is lost within a minute. It is called with a nil error
// when the wait begins and whenever what it waits for has changed; and after each failure of the store, with
// the error and what was last reported, which is the zero WaitStatus before the first report; and for each expired slot
// that the call has freed.
func (l *Lock) Acquire(ctx context.Context, id string, r Record, report func(WaitStatus, error)) error {
	c, err := newCandidate(id, r)
	if err != nil {
		return err
	}
	if report == nil {
		report = func(WaitStatus, error) {}
	}
	a := &acquisition{Lock: l, candidate: c, report: report}
	defer a.leave(ctx)
	for {
		err := a.try(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrLostPlace) && c.record.Stay != 0:
			return l.outcome("take a slot for "+id, err)
		case errors.Is(err, ErrLostPlace):
			a.evicted = a.evicted || a.place.revision != 0
			a.leave(ctx)
		case errors.Is(err, errOutside):
			a.leave(ctx)
		case ctx.Err() != nil || permanent(err):
			a.place.keepLease = context.Cause(ctx) == ErrKeepPlace || ctx.Err() != nil && c.record.Stay != 0
			return l.outcome("take a slot for "+id, err)
		default:
			failure := l.outcome("take a slot for "+id, err)
			a.place.outside(func() { report(a.status, failure) })
			a.reported = false
			backoff.Sleep(ctx, backoff.Delay(a.failures, 250*time.Millisecond, 10*time.Second))
			a.failures++
		}
	}
}

// acquisition is one call of Acquire.
type acquisition struct {
	*Lock
	*candidate
	report   func(WaitStatus, error)
	status   WaitStatus
	reported bool // status was reported, and no failure since
	failures int  // since the last success
	evicted  bool // there was a place, and it was lost, perhaps to another process of the same owner
	place    place
	ttls     map[string]ttlWatch // by the id of the holder
}

// waitFor reports what the call waits for, unless it was the last report.
func (a *acquisition) waitFor(now WaitStatus) {
	a.failures = 0
	if !a.reported || !reflect.DeepEqual(a.status, now) {
		a.status, a.reported = now, true
		a.place.outside(func() { a.report(now, nil) })
	}
}

// leave gives up the place in the queue.
func (a *acquisition) leave(ctx context.Context) {
	a.place.end(ctx)
	a.place = place{}
}

// try goes on until there is a slot or an error.
func (a *acquisition) try(ctx context.Context) error {
	for a.place.revision == 0 {
		if got, err := a.arrive(ctx); got || err != nil {
			return err
		}
	}
	for !a.place.head {
		snap, ahead, err := a.findAhead(ctx)
		if err != nil {
			return err
		}
		if ahead == "" {
			holders := a.validHolders(snap)
			a.place.holders = holders[:min(maxReads, len(holders))]
			break
		}
		if got, err := a.waitBehind(ctx, snap, ahead); got || err != nil {
			return err
		}
	}
	return a.contend(ctx)
}

// arrive takes a free slot if nobody waits. Otherwise it enters the queue, or, where another process is in it
// for the same id, or the version is paused, waits until that changes.
func (a *acquisition) arrive(ctx context.Context) (got bool, err error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	queue := a.queueRange()
	reads := append(a.gates(a.id), first(queue))
	snap, err := a.store.Get(limited, reads...)
	if err != nil {
		return false, err
	}
	again := false
	_, snap, err = a.take(limited, snap, reads, a.candidate, func(snap Snapshot) ([]Cond, error) {
		if again || len(keysIn(snap, queue)) > 0 {
			return nil, errQueue
		}
		again = true // after a conflict it is not known whether anybody waits
		return []Cond{{Key: queue.Key, End: queue.End}}, nil
	})
	var full *FullError
	var paused *PausedError
	if !errors.Is(err, errQueue) && !errors.As(err, &full) && !errors.As(err, &paused) {
		return err == nil, err
	}
	if p := a.versionPause(a.record.Version, snap); p != nil {
		return false, a.waitOutside(ctx, snap, p)
	}
	entry := snap.Values[a.queueKey(a.id)]
	if a.ofAnother(entry) {
		return a.waitBehind(ctx, snap, a.queueKey(a.id))
	}
	return false, a.enqueue(ctx, entry, snap.Values[a.semaphoreKey()].ModRevision)
}

// waitOutside waits, without a place in the queue, until the pause of a version may have ended, or another process
// may have taken a slot for this host.
func (a *acquisition) waitOutside(ctx context.Context, snap Snapshot, p *Pause) error {
	s, _, err := a.parse(snap)
	if err != nil {
		return err
	}
	a.waitFor(WaitStatus{Semaphore: s, Pause: p, Outside: true})
	r := a.unwellRange()
	_, err = a.watch(ctx, rereadPlaceAfter, Watch{Key: r.Key, End: r.End, After: snap.Revision}, Watch{Key: a.recordKey(a.id), After: snap.Revision})
	return err
}
