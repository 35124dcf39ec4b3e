package lock

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// The queue has two keys for a host that waits, both with its lease. P/queue/ID is its entry; entries
// are in the order in which they were created. P/order/N/ID is its place in an index of them, whose
// keys are in reverse order of N, which is made of that revision. Etcd can read the key right after a
// given one without looking at all of them, and so a host finds whom to watch. The index may lack an
// entry that was made a moment ago. So the one that is first by the index looks once at the entries
// themselves: nobody can come before it from then on.

// Waiting is what a host waits for.
type Waiting struct {
	// Semaphore is as last seen. Only the head of the queue sees every change.
	Semaphore Semaphore
	// Records are of the holders, by id, as far as there are any and this host is the head of the queue.
	Records map[string]Record
	// Ahead is the id that is right before this host in the queue; "" at the head, and beside another process.
	Ahead string
	// Beside says that another process has the place in the queue of this id, and this one waits for what
	// becomes of that.
	Beside bool
	// Pause is not nil while nobody may take a slot.
	Pause *Pause
}

// String says in one sentence what is waited for. Only the head of the queue knows the holders, so only it
// names them.
func (w Waiting) String() string {
	place, slots := "first in the queue", fmt.Sprintf("; no slot is free: max is %d, held by %s", w.Semaphore.Max, w.Holders())
	if w.Semaphore.Max == 0 {
		slots = "; " + (&FullError{Semaphore: w.Semaphore}).Error()
	}
	switch {
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

// maxHolders is how many holders of slots a sentence names.
const maxHolders = 5

// Holders names those who hold a slot, as last seen, and says since when, where a record does; "nobody" if
// there is none.
func (w Waiting) Holders() string {
	var texts []string
	for i, id := range w.Semaphore.Holders {
		if i == maxHolders {
			texts = append(texts, fmt.Sprintf("%d more", len(w.Semaphore.Holders)-i))
			break
		}
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
	return strings.Join(texts, ", ")
}

func (l *Lock) queueRange() Read   { return below(l.prefix + "/queue/") }
func (l *Lock) orderRange() Read   { return below(l.prefix + "/order/") }
func (l *Lock) holdersRange() Read { return below(l.prefix + "/holders/") }

func (l *Lock) aliveRange() Read {
	r := below(l.prefix + "/alive/")
	r.KeysOnly = true
	return r
}

// orderKey is the key in the index of an entry that was created at a revision.
func (l *Lock) orderKey(id string, created int64) string {
	return fmt.Sprintf("%s/order/%016x/%s", l.prefix, math.MaxInt64-created, url.QueryEscape(id))
}

// unqueue deletes an entry, and what there is of it in the index.
func (l *Lock) unqueue(id string, entry Value) []Op {
	return []Op{{Key: l.queueKey(id), Delete: true}, {Key: l.orderKey(id, entry.CreateRevision), Delete: true}}
}

// Acquire takes a slot for id like TryAcquire, but waits in the queue for its turn, for a slot, and
// for the end of a pause, as long as ctx lets it; holding a slot already is success. It waits by
// watching, and through failures of the store, which do not end the wait; only a store that refuses,
// a document that cannot be understood or another host with the same id does. When it returns, this call
// has no place in the queue any more, or will not within a minute if the store cannot be reached.
//
// The place of an id belongs to one process, or to one after the other, by the Owner of the Record. A
// process that is started again with the Owner of the one before takes its place over. A process with
// another Owner waits beside it: it neither moves nor ends that place, has the slot once the id has it,
// and enters the queue itself, at the end, when the place is gone without a slot. A wait that ends
// because ctx was cancelled with the cause [ErrKeepPlace] leaves its place for a process that is to take
// it over, for 40 s at least.
//
// waiting, if not nil, is called in the goroutine of the caller, and the wait goes on once it returns: while it
// does not, the place in the queue is not kept alive, and lost within a minute. It is called when the wait begins and whenever
// what it waits for is seen to be another, with a nil error; and after each failure of the store, with
// the error and what was last waited for, which is the zero Waiting as long as there was nothing.
func (l *Lock) Acquire(ctx context.Context, id string, r Record, waiting func(Waiting, error)) error {
	h, err := newHost(id, r)
	if err != nil {
		return err
	}
	if waiting == nil {
		waiting = func(Waiting, error) {}
	}
	w := &waiter{Lock: l, host: h, waiting: waiting}
	defer w.leave(ctx)
	for {
		err := w.try(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errLostPlace):
			w.evicted = w.evicted || w.revision != 0
			w.leave(ctx)
		case ctx.Err() != nil || permanent(err):
			if context.Cause(ctx) == ErrKeepPlace {
				w.lease = 0 // to run out by itself
			}
			return l.outcome("take a slot for "+id, err)
		default:
			failure := l.outcome("take a slot for "+id, err)
			w.outside(func() { waiting(w.last, failure) })
			w.told = false
			sleep(ctx, backoff.Delay(w.failures, 250*time.Millisecond, 10*time.Second))
			w.failures++
		}
	}
}

// ErrKeepPlace is the cause to cancel the context of Acquire with, where another process is to take the place
// in the queue over.
var ErrKeepPlace = errors.New("the place in the queue is kept for the next process")

// errLostPlace means that the entry in the queue is gone or another's.
var errLostPlace = errors.New("the place in the queue is lost")

// errQueue means that others wait.
var errQueue = errors.New("others wait for a slot")

// waiter is one call of Acquire.
type waiter struct {
	*Lock
	*host
	waiting  func(Waiting, error)
	last     Waiting
	told     bool // of last, and of no failure since
	failures int  // since something worked
	aged     map[string]aged
	evicted  bool // there was a place, and it was lost, perhaps to another process of the same owner
	place
}

// place is a place in the queue.
type place struct {
	session
	created  int64 // revision at which the entry was created
	revision int64 // of its last change; 0: there is none yet
	indexed  bool
	late     bool     // what makes the entry may be done once more, as long as the lease lives
	head     bool     // nobody is, or can come, before it
	holders  []string // of slots, as last seen: look reads their entries along
	near     bool     // few are before it, by the index
	stuck    stuck
}

// stuck is an entry at the head of the queue that leaves a free slot alone, as first seen; without a key it is
// a free slot, of which it has yet to be seen who leaves it alone. Whoever lives and is the
// head takes one in seconds. A lease is no sign of life: before etcd 3.6 anybody who can connect to it can
// keep every lease alive.
type stuck struct {
	key             string
	entry, document int64 // revisions
	since           time.Time
}

// tell reports what is waited for, unless that is known.
func (w *waiter) tell(now Waiting) {
	w.failures = 0
	if !w.told || !reflect.DeepEqual(w.last, now) {
		w.last, w.told = now, true
		w.outside(func() { w.waiting(now, nil) })
	}
}

// leave gives the place in the queue up. Whoever has a slot has none, and only a lease that nothing
// lives with any more: that runs out by itself, rather than delay whoever got the slot.
func (w *waiter) leave(ctx context.Context) {
	w.session.end(ctx, w.store)
	w.place = place{}
}

// try goes on until there is a slot or an error.
func (w *waiter) try(ctx context.Context) error {
	for w.revision == 0 {
		if got, err := w.arrive(ctx); got || err != nil {
			return err
		}
	}
	for !w.head {
		snap, ahead, err := w.findAhead(ctx)
		if err != nil {
			return err
		}
		if ahead == "" {
			holders := w.dismissable(snap)
			w.holders = holders[:min(many, len(holders))]
			break
		}
		if got, err := w.await(ctx, snap, ahead); got || err != nil {
			return err
		}
	}
	return w.contend(ctx)
}

// arrive takes a free slot if nobody waits, and otherwise enters the queue, or waits until there is
// something new to be seen of another process that is in it for the same id.
func (w *waiter) arrive(ctx context.Context) (got bool, err error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	queue := w.queueRange()
	reads := append(w.gates(w.id), first(queue))
	snap, err := w.store.Get(limited, reads...)
	if err != nil {
		return false, err
	}
	again := false
	_, snap, err = w.acquire(limited, snap, reads, w.host, func(snap Snapshot) ([]Cond, error) {
		if again || len(within(snap, queue)) > 0 {
			return nil, errQueue
		}
		again = true // after a conflict it is not known whether somebody waits
		return []Cond{{Key: queue.Key, End: queue.End}}, nil
	})
	var full *FullError
	var paused *PausedError
	if !errors.Is(err, errQueue) && !errors.As(err, &full) && !errors.As(err, &paused) {
		return err == nil, err
	}
	entry := snap.Values[w.queueKey(w.id)]
	if w.another(entry) {
		return w.await(ctx, snap, w.queueKey(w.id))
	}
	return false, w.enqueue(ctx, entry)
}

// another reports whether an entry is the place of another process. Two of one owner, though there should
// not be two, do not take it from each other for ever.
func (w *waiter) another(entry Value) bool {
	r, _ := parseWaiter(entry.Data)
	return isPlace(entry) && entry.Lease != w.lease && (r.Owner != w.record.Owner || w.evicted)
}

// enqueue makes an entry in the queue, or takes over the one that an earlier process of the same owner
// has left. It does nothing where another process was quicker.
func (w *waiter) enqueue(ctx context.Context, found Value) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := w.queueKey(w.id)
	if w.lease == 0 {
		s, err := newSession(ctx, limited, w.store, queueLease)
		if err != nil {
			return err
		}
		w.session = s
	}
	for failures := 0; ; {
		if found.Lease == w.lease { // an earlier try has worked after all
			w.created, w.revision = found.CreateRevision, found.ModRevision
			return nil
		}
		ops := []Op{{Key: key, Value: w.waiterDoc, Lease: w.lease}}
		useless := found.ModRevision != 0 && !isPlace(found) // it may last for ever, and be old
		switch err := w.cloneOf(w.id, w.record, found); {
		case useless:
			ops = w.unqueue(w.id, found)
		case err != nil:
			return err
		case w.another(found):
			return nil
		case found.ModRevision != 0: // its key in the index must not outlive it
			ops = append(ops, Op{Key: w.orderKey(w.id, found.CreateRevision), Value: indexed, Lease: w.lease})
		}
		// A try that is still under way compares the same, or what is not true any more.
		ok, now, err := w.store.Commit(limited, []Cond{{Key: key, ModRevision: found.ModRevision}}, ops)
		switch {
		case err == nil && ok && useless:
			found = Value{}
		case err == nil && ok:
			w.created, w.revision = now.Revision, now.Revision
			if found.CreateRevision != 0 {
				w.created, w.indexed = found.CreateRevision, true
			}
			return nil
		case err == nil:
			found = now.Values[key]
		case errors.Is(err, ErrNoLease):
			return fmt.Errorf("%w: %w", errLostPlace, err)
		case errors.Is(err, ErrRefused):
			return err
		default:
			w.late = true
			now, readErr := w.reread(limited, keys(key), &failures)
			if readErr != nil {
				return err
			}
			found = now.Values[key]
		}
	}
}

// indexed is what a key of the index holds: others in that range are nobody's place.
var indexed = []byte("{}")

// few bounds how many keys are read at once where one is most often enough, and many where that is not
// so: etcd refuses a transaction of more than 128 operations (--max-txn-ops).
const few, many = 8, 100

// findAhead returns the key in the index to wait for, of the host right before this one; "" if it is
// the first. It puts this host into the index first, if need be.
func (w *waiter) findAhead(ctx context.Context) (Snapshot, string, error) {
	order := w.orderRange()
	mine := w.orderKey(w.id, w.created)
	entry := w.queueKey(w.id)
	next := Read{Key: mine + "\x00", End: order.End, Limit: few}
	for {
		reads := append(w.gates(w.id), next)
		var snap Snapshot
		var err error
		if w.indexed {
			snap, err = w.store.Get(ctx, reads...)
		} else {
			_, snap, err = w.store.Commit(ctx, []Cond{{Key: entry, ModRevision: w.revision}}, []Op{{Key: mine, Value: indexed, Lease: w.lease}}, reads...)
			w.indexed = err == nil
		}
		if err != nil {
			return snap, "", err
		}
		if snap.Values[entry].ModRevision != w.revision {
			return snap, "", errLostPlace
		}
		found := within(snap, next)
		w.near = len(found) < few
		for _, key := range found {
			if v := snap.Values[key]; v.Lease != 0 && bytes.Equal(v.Data, indexed) {
				return snap, key, nil
			}
		}
		if len(found) < few {
			return snap, "", nil
		}
		next.Key = found[len(found)-1] + "\x00" // these live without a lease, for ever: they are no places
	}
}

// isPlace reports whether an entry is a place in the queue: it ends with its host, and can be understood.
func isPlace(entry Value) bool {
	_, ok := parseWaiter(entry.Data)
	return ok && entry.Lease != 0
}

// within returns the keys in snap that are in a range, in order.
func within(snap Snapshot, r Read) []string {
	var found []string
	for key := range snap.Values {
		if r.Key <= key && key < r.End {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	return found
}

// idOf returns the id that the last part of a key stands for.
func idOf(key string) string {
	last := key[strings.LastIndexByte(key, '/')+1:]
	if id, err := url.QueryUnescape(last); err == nil {
		return id
	}
	return last
}

// await waits, behind another host, until that key, the own entry or a pause has changed; where that key
// is of the own entry, another process has it, and the document counts as well. It returns true if there
// is a slot already: the other process has taken it, or somebody by hand, and the host ahead may wait
// for that one.
func (w *waiter) await(ctx context.Context, snap Snapshot, ahead string) (got bool, err error) {
	s, _, err := w.parse(snap)
	if err != nil {
		return false, err
	}
	if s.Holds(w.id) {
		err := w.cloneOf(w.id, w.record, snap.Values[w.recordKey(w.id)])
		return err == nil, err
	}
	now := Waiting{Semaphore: s, Ahead: idOf(ahead), Pause: w.pauseIn(snap)}
	atMost := rereadPlaceAfter
	if w.near {
		atMost = rereadAfter
	}
	if _, full := s.Acquire(w.id); full != nil || now.Pause != nil {
		w.stuck = stuck{}
	} else {
		atMost = stuckAfter
		if document := snap.Values[w.semaphoreKey()].ModRevision; w.stuck.document != document {
			w.stuck = stuck{document: document} // most free slots are about to be taken
		} else if removed, err := w.removeStuck(ctx, snap, snap.Values[w.queueKey(w.id)].CreateRevision); removed || err != nil {
			return false, err
		}
	}
	if ahead == w.queueKey(w.id) {
		now.Ahead, now.Beside = "", true
		ahead = w.semaphoreKey()
	}
	w.tell(now)
	var watches []Watch
	for _, key := range []string{ahead, w.queueKey(w.id), w.pauseKey(), pauseAllKey} {
		watches = append(watches, Watch{Key: key, After: snap.Revision})
	}
	_, err = w.watch(ctx, atMost, watches...)
	return false, err
}

// removeStuck deletes the entry at the head of the queue if it has left a free slot alone for too long, given a
// snapshot in which a slot is free and nothing is paused, and the revision at which the entry of this host was
// created. That one is the head's, too, where another process made it and died. It returns true if there may be
// another head.
func (w *waiter) removeStuck(ctx context.Context, snap Snapshot, created int64) (removed bool, err error) {
	before := w.queueRange()
	before.KeysOnly, before.CreatedBefore = true, created+1
	queue, err := w.store.Get(ctx, before)
	if err != nil {
		return false, err
	}
	found := slices.SortedFunc(maps.Keys(queue.Values), func(a, b string) int {
		return cmp.Compare(queue.Values[a].CreateRevision, queue.Values[b].CreateRevision)
	})
	head, entry, err := w.firstPlace(ctx, found)
	if err != nil || head == "" {
		return false, err
	}
	now := stuck{key: head, entry: entry.ModRevision, document: snap.Values[w.semaphoreKey()].ModRevision, since: w.stuck.since}
	if now != w.stuck {
		now.since = time.Now()
		w.stuck = now
	}
	if time.Since(now.since) < stuckAfter {
		return false, nil
	}
	w.stuck = stuck{}
	_, _, err = w.store.Commit(ctx, []Cond{
		{Key: w.semaphoreKey(), ModRevision: now.document}, {Key: w.pauseKey()}, {Key: pauseAllKey}, {Key: head, ModRevision: now.entry},
	}, w.unqueue(idOf(head), entry))
	return true, err
}

// watch waits for changes, for so long at most, and as long as the place is not lost. What it returns
// has no values if it has to be read what happened.
func (w *waiter) watch(ctx context.Context, atMost time.Duration, watches ...Watch) (Snapshot, error) {
	alive := cmp.Or(w.alive, ctx) // without a place, there is none to lose
	limited, cancel := context.WithTimeout(alive, atMost)
	defer cancel()
	changed, err := w.store.Wait(limited, watches...)
	switch {
	case err == nil:
		return changed, nil
	case ctx.Err() != nil:
		return Snapshot{}, ctx.Err()
	case alive.Err() != nil:
		return Snapshot{}, context.Cause(alive)
	case limited.Err() != nil:
		return Snapshot{}, nil
	}
	return Snapshot{}, err
}

// contend waits for a slot at the head of the queue, and takes it.
func (w *waiter) contend(ctx context.Context) error {
	for {
		snap, ahead, err := w.look(ctx)
		if err != nil {
			return err
		}
		if ahead != "" { // it has yet to enter the index
			if got, err := w.await(ctx, snap, ahead); got || err != nil {
				return err
			}
			continue
		}
		w.head = true
		if err := w.dismiss(ctx, snap); err != nil {
			return err
		}
		if got, err := w.watchSlots(ctx, snap); got || err != nil {
			return err
		}
	}
}

// dismiss deletes the entries of those who hold a slot, given what look has read: a client that knows
// only the document has taken it for a host that waits, and that one would learn of it only once its turn
// comes, while this one may wait for that very slot.
func (w *waiter) dismiss(ctx context.Context, snap Snapshot) error {
	holders := w.dismissable(snap)
	var unread []string
	for _, id := range holders {
		if !slices.Contains(w.holders, id) {
			unread = append(unread, w.queueKey(id))
		}
	}
	for some := range slices.Chunk(unread, many) {
		found, err := w.store.Get(ctx, keys(some...)...)
		if err != nil {
			return err
		}
		maps.Copy(snap.Values, found.Values)
	}
	held := Cond{Key: w.semaphoreKey(), ModRevision: snap.Values[w.semaphoreKey()].ModRevision}
	for _, id := range holders {
		if entry := snap.Values[w.queueKey(id)]; entry.ModRevision != 0 {
			conds := []Cond{held, {Key: w.queueKey(id), ModRevision: entry.ModRevision}}
			if _, _, err := w.store.Commit(ctx, conds, w.unqueue(id, entry)); err != nil {
				return err
			}
		}
	}
	w.holders = holders
	return nil
}

// dismissable returns the holders who may have an entry: an id that is none has not, however long it is.
func (l *Lock) dismissable(snap Snapshot) []string {
	return slices.DeleteFunc(l.holdersIn(snap), func(id string) bool { return ValidateID(id) != nil })
}

// state is all that the head has to know.
func (w *waiter) state() []Read {
	return append(w.gates(w.id), w.holdersRange(), w.aliveRange())
}

// look reads the state, and makes sure that this host is the head: otherwise ahead is the key of the
// entry before its own.
func (w *waiter) look(ctx context.Context) (snap Snapshot, ahead string, err error) {
	before := w.queueRange()
	before.KeysOnly, before.CreatedBefore = true, w.created
	for before.Limit = few; ; before.Limit *= few {
		reads := w.state()
		for _, id := range w.holders[:min(many, len(w.holders))] {
			reads = append(reads, Read{Key: w.queueKey(id)})
		}
		if !w.head {
			reads = append(reads, before)
		}
		if snap, err = w.store.Get(ctx, reads...); err != nil {
			return snap, "", err
		}
		if snap.Values[w.queueKey(w.id)].ModRevision != w.revision {
			return snap, "", errLostPlace
		}
		if w.head {
			return snap, "", nil
		}
		others := slices.DeleteFunc(within(snap, before), func(key string) bool { return snap.Values[key].CreateRevision >= w.created })
		if ahead, _, err = w.firstPlace(ctx, others); err != nil || ahead != "" || len(others) < before.Limit {
			return snap, ahead, err
		}
	}
}

// firstPlace returns the first of the entries that is a place in the queue; "" if none is.
func (w *waiter) firstPlace(ctx context.Context, among []string) (string, Value, error) {
	for some := range slices.Chunk(among, few) {
		snap, err := w.store.Get(ctx, keys(some...)...)
		if err != nil {
			return "", Value{}, err
		}
		for _, key := range some {
			if v := snap.Values[key]; isPlace(v) {
				return key, v, nil
			}
		}
	}
	return "", Value{}, nil
}

// watchSlots waits at the head for a slot, given a snapshot of the state, and takes it. It returns
// false when the state has to be read again.
func (w *waiter) watchSlots(ctx context.Context, snap Snapshot) (got bool, err error) {
	watches := []Watch{{Key: w.semaphoreKey()}, {Key: w.queueKey(w.id)}, {Key: w.pauseKey()}, {Key: pauseAllKey}}
	if r := w.aliveRange(); len(w.mortals(snap)) > 0 {
		watches = append(watches, Watch{Key: r.Key, End: r.End})
	}
	for i := range watches {
		watches[i].After = snap.Revision
	}
	holders := w.holdersIn(snap)
	for fresh := true; ; fresh = false {
		if !fresh && slices.Contains(w.holdersIn(snap), w.id) {
			return false, nil // the event of the record, which says for whom, may be on its way still
		}
		now, got, err := w.take(ctx, snap)
		if got {
			return true, nil
		}
		var full *FullError
		var paused *PausedError
		switch {
		case errors.As(err, &full):
			if removed, err := w.removeExpired(ctx, now); removed || err != nil {
				return false, err
			}
			w.tell(Waiting{Semaphore: full.Semaphore, Records: w.recordsIn(snap)})
		case errors.As(err, &paused):
			s, _, err := w.parse(now)
			if err != nil {
				return false, err
			}
			w.tell(Waiting{Semaphore: s, Records: w.recordsIn(snap), Pause: &paused.Pause})
		default:
			return false, err
		}
		if now.Revision != snap.Revision || !slices.Equal(holders, w.holdersIn(now)) {
			return false, nil // there may be records that are not known yet
		}
		changed, err := w.watch(ctx, rereadAfter, watches...)
		if err != nil || changed.Values == nil {
			return false, err
		}
		for key, v := range changed.Values {
			if v.ModRevision == 0 {
				delete(snap.Values, key)
			} else {
				snap.Values[key] = v
			}
			for i, watch := range watches {
				// Only of these: those of others may be on their way still.
				if key == watch.Key || watch.Key <= key && key < watch.End {
					watches[i].After = changed.Revision
				}
			}
		}
	}
}

// take takes a slot at the head of the queue, given a snapshot of the state. now is the last that it
// has seen, with a revision of its own if that is another one.
func (w *waiter) take(ctx context.Context, snap Snapshot) (now Snapshot, got bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, now, err = w.acquire(ctx, snap, w.state(), w.host, func(snap Snapshot) ([]Cond, error) {
		if snap.Values[w.queueKey(w.id)].ModRevision != w.revision {
			return nil, errLostPlace
		}
		return nil, nil
	})
	if err == nil && !w.late && !slices.Contains(w.holdersIn(now), w.id) {
		w.lease = 0 // nothing lives with it any more: the transaction that took the slot saw to that
	}
	return now, err == nil, err
}

// holdersIn returns who holds a slot; nobody where the document cannot be understood.
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

// mortals returns the holders whose slot has a time-to-live.
func (l *Lock) mortals(snap Snapshot) []string {
	return slices.DeleteFunc(slices.Clone(l.holdersIn(snap)), func(id string) bool {
		r, _ := parseRecord(snap.Values[l.recordKey(id)].Data)
		return r.TTL == 0
	})
}

// expired returns the holders who did not come back within the time that their record gave them.
func (l *Lock) expired(snap Snapshot) []string {
	return slices.DeleteFunc(l.mortals(snap), func(id string) bool {
		return snap.Values[l.aliveKey(id)].ModRevision != 0
	})
}

// aged is a slot with a time-to-live, as this host has first seen it.
type aged struct {
	record, alive int64 // revisions
	since         time.Time
}

// overdue returns the holders who are expired, and those whose time-to-live has passed while this host looked
// on, whatever keeps the lease of it alive.
func (w *waiter) overdue(snap Snapshot) []string {
	seen := map[string]aged{}
	ids := slices.DeleteFunc(w.mortals(snap), func(id string) bool {
		record, alive := snap.Values[w.recordKey(id)], snap.Values[w.aliveKey(id)]
		now := aged{record: record.ModRevision, alive: alive.ModRevision, since: w.aged[id].since}
		if now != w.aged[id] {
			now.since = time.Now()
		}
		seen[id] = now
		r, _ := parseRecord(record.Data)
		return alive.ModRevision != 0 && time.Since(now.since) < r.TTL
	})
	w.aged = seen
	return ids
}

// removeExpired takes the slots of those away whose time is up, given a snapshot of the state. It
// returns true if there were any: then the state has to be read again.
func (w *waiter) removeExpired(ctx context.Context, snap Snapshot) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, id := range w.overdue(snap) {
		found = true
		_, err := w.change(ctx, snap, w.state(), func(v view) (*change, error) {
			if !slices.Contains(w.overdue(v.Snapshot), id) {
				return nil, nil
			}
			next, err := v.semaphore.Release(id)
			if err != nil {
				return nil, err
			}
			return &change{
				next: next,
				conds: []Cond{
					{Key: w.recordKey(id), ModRevision: v.Values[w.recordKey(id)].ModRevision},
					{Key: w.aliveKey(id), ModRevision: v.Values[w.aliveKey(id)].ModRevision},
				},
				ops: []Op{{Key: w.recordKey(id), Delete: true}, {Key: w.aliveKey(id), Delete: true}},
			}, nil
		})
		if err != nil {
			return found, err
		}
		if snap, err = w.store.Get(ctx, w.state()...); err != nil {
			return found, err
		}
	}
	return found, nil
}
