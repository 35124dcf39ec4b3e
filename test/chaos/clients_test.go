package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/storetest"
)

// client is the common part of all kinds of clients. It is for one goroutine.
type client struct {
	run    *run
	number int // among all clients, from 1
	group  int
	id     int // within the group, the bit of a state
	rng    *rand.Rand

	open []*op // of unknown outcome, until the next call that gets through
}

// lockClient is a client with the real lock on a real connection: one process.
type lockClient struct {
	client
	endpoints []string

	store *etcd.Store
	tap   *tap
	lock  *lock.Lock
	boot  int
	// tokens are those on the disk of the host.
	tokens []string
	// undecided means that the Lock remembers a transaction of unknown outcome.
	undecided bool
	version   uint8                  // that it reboots for
	waitsFor  atomic.Pointer[string] // the last status of a wait, which may have ended
}

func (c *client) name() string { return idName(c.id) }

func idName(id int) string { return fmt.Sprintf("host-%02d", id) }

// idBit returns the client with a name, or an error if there is none.
func idBit(name string) (int, error) {
	var id int
	if _, err := fmt.Sscanf(name, "host-%02d", &id); err != nil || idName(id) != name || id > 63 {
		return 0, fmt.Errorf("no client has the id %q", name)
	}
	return id, nil
}

// look converts a semaphore to a document of the model.
func (r *run) look(s lock.Semaphore) *document {
	d := &document{max: s.Max}
	for _, h := range s.Holders {
		id, err := idBit(h)
		if err != nil {
			r.problem("a document was shown with a holder that does not exist: %v", err)
			continue
		}
		d.holders |= 1 << id
	}
	return d
}

// start starts a new process: another boot, a new connection, and a Lock that remembers nothing.
func (c *lockClient) start(ctx context.Context) {
	c.boot++
	c.store = etcd.New(etcd.Config{Endpoints: strings.Join(c.endpoints, ",")})
	life, kill := context.WithCancel(ctx)
	c.tap = &tap{Store: c.run.Break(c.store), life: life, kill: kill}
	var err error
	if c.lock, err = lock.New(c.tap, groupName(c.group), 1); err != nil {
		panic(err) // the name is valid
	}
	c.open, c.undecided = nil, false // only the old process could find out
}

// die ends the process and cuts its connection, whatever is under way.
func (c *lockClient) die() {
	c.tap.kill()
	_ = c.store.Close() // its error only reports that it was closed
}

// record returns a record of a host whose hardware, disk, or both are known, and whose name changes with every
// second crash.
func (c *lockClient) record(by kind) lock.Record {
	r := lock.Record{Hostname: fmt.Sprintf("%s-%d.example.com", c.name(), c.boot/2), BootID: bootID(c.boot), Since: time.Now(), By: string(by), Version: versions[c.version], Owner: c.name()}
	if c.id%3 != 0 {
		r.Hardware = "hardware of " + c.name()
	}
	if c.id%3 != 1 {
		r.Token = fmt.Sprintf("%s-%d", c.name(), len(c.tokens))
		c.tokens = append(c.tokens, r.Token)
	}
	return r
}

// do makes a call and records it in the history. One call in twenty has very little time.
func (c *lockClient) do(in input, call func(context.Context) (output, error)) output {
	limit := callTimeout
	if c.rng.IntN(20) == 0 {
		limit = time.Duration(c.rng.IntN(30_000)) * time.Microsecond
	}
	return c.doWithin(limit, in, call)
}

// callTimeout bounds a call.
const callTimeout = 6 * time.Second

func (c *lockClient) doWithin(limit time.Duration, in input, call func(context.Context) (output, error)) output {
	in.group, in.boot = c.group, uint16(c.boot)
	ctx, cancel := context.WithTimeout(c.tap.life, limit)
	defer cancel()
	before := c.tap.unanswered.Load()
	c.tap.compared = nil
	o := c.run.history.call(c.number, in)
	out, err := call(ctx)
	unanswered := int(c.tap.unanswered.Load() - before)
	out.undecided = c.undecided || unanswered > 0
	var isFull *lock.FullError
	var isPaused *lock.PausedError
	var isNotHeld *lock.NotHeldError
	var isClone *lock.CloneError
	var isDocument *lock.DocumentError
	switch {
	case err == nil:
	case errors.Is(err, lock.ErrUnknown):
		out = output{result: unknown}
	case errors.As(err, &isFull):
		out.result, out.seen = full, c.run.look(isFull.Semaphore)
	case errors.As(err, &isPaused) && isPaused.Pause.Host != "":
		out.result = waits
	case errors.As(err, &isPaused):
		out.result = paused
	case errors.As(err, &isNotHeld):
		out.result, out.seen = notHeld, c.run.look(isNotHeld.Semaphore)
	case errors.As(err, &isClone), errors.As(err, &isDocument):
		c.run.problem("%s: %v", describe(in, out), err)
		out = output{result: unknown}
	default:
		out.result = failed
	}
	// Each unanswered transaction may have happened, and may have been undone by an operator, before a later one was
	// answered. An operation of unknown outcome is one of them.
	others := unanswered
	if out.result == unknown {
		others = max(0, unanswered-1)
	}
	tries := c.run.history.again(o, others)
	c.run.history.end(o, out, err)
	c.run.count(in, out, unanswered)
	switch {
	case in.kind.pauses(), in.kind == overview: // they close nothing
	case out.result != unknown:
		c.run.history.close(append(c.open, tries...))
		c.open = nil
		if in.kind != holder { // which only reads, and so decides nothing
			c.undecided = false
		}
	case !in.kind.reads():
		c.open = append(append(c.open, o), tries...)
		c.undecided = true
	}
	return out
}

func (c *lockClient) tryAcquire() output {
	return c.do(input{kind: acquire, id: c.id, version: c.version}, func(ctx context.Context) (output, error) {
		held, err := c.lock.TryAcquire(ctx, c.name(), c.record(acquire))
		if held {
			return output{result: already}, err
		}
		return output{result: done}, err
	})
}

func (c *lockClient) queue(limit time.Duration) output {
	return c.doWithin(limit, input{kind: queue, id: c.id, version: c.version}, func(ctx context.Context) (output, error) {
		return output{result: done}, c.lock.Acquire(ctx, c.name(), c.record(queue), func(w lock.WaitStatus, err error) {
			status := fmt.Sprintf("boot %d since %.1f ms: %v, %v", c.boot, float64(c.run.history.now())/1e6, w, err)
			c.waitsFor.Store(&status)
		})
	})
}

func (c *lockClient) release(id int) output {
	return c.do(input{kind: release, id: id}, func(ctx context.Context) (output, error) {
		return output{result: done}, c.lock.Release(ctx, idName(id))
	})
}

func (c *lockClient) holder() output {
	return c.do(input{kind: holder, id: c.id}, func(ctx context.Context) (output, error) {
		held, _, err := c.lock.Holder(ctx, c.name())
		return output{result: done, held: held}, err
	})
}

func (c *lockClient) status() output {
	return c.do(input{kind: status}, func(ctx context.Context) (output, error) {
		s, err := c.lock.Status(ctx)
		return output{result: done, seen: c.run.look(s)}, err
	})
}

func (c *lockClient) overview() output {
	return c.do(input{kind: overview}, func(ctx context.Context) (output, error) {
		o, err := c.lock.Overview(ctx)
		return output{result: done, seen: c.run.look(o.Semaphore), paused: o.Pause != nil, hosts: c.run.lookAt(o)}, err
	})
}

func (c *lockClient) setMax(n int) output {
	return c.do(input{kind: setMax, n: n}, func(ctx context.Context) (output, error) {
		before, after, err := c.lock.SetMax(ctx, n)
		if err == nil && after.Max != n {
			c.run.problem("SetMax(%d) returned max %d", n, after.Max)
		}
		return output{result: done, seen: c.run.look(before)}, err
	})
}

// host is a machine that reboots now and then.
type host struct {
	lockClient
	holding bool        // as far as the host knows
	unwell  bool        // it has said last that it is
	through atomic.Bool // has had its turn at the end of the window
}

func (h *host) start(ctx context.Context) {
	h.lockClient.start(ctx)
	disk := slices.Clone(h.tokens)
	h.lock.Identify(h.record(holder), disk)
	h.holding, h.unwell = false, false
}

// learn updates what the host knows about holding a slot.
func (h *host) learn(out output, held bool) {
	switch out.result {
	case done, already:
		h.holding = held
	case notHeld, full, paused, waits:
		h.holding = false
	}
}

// act makes one call, or crashes.
func (h *host) act(ctx context.Context) {
	if h.rng.IntN(60) == 0 {
		h.crash(ctx)
		return
	}
	h.call()
}

func (h *host) call() {
	if h.rng.IntN(50) == 0 {
		h.cloned()
	}
	switch n := h.rng.IntN(100); {
	case n < 6:
		h.status()
	case n < 12:
		h.overview()
	case n < 18:
		out := h.holder()
		h.learn(out, out.held)
	case n < 23: // whether it holds a slot or not
		h.learn(h.release(h.id), false)
	case n < 28:
		h.learn(h.tryAcquire(), true)
	case h.holding:
		h.hold()
	case n < 29:
		h.learn(h.tell(h.anything()), true)
	case n < 60:
		h.chooses()
		if h.rng.IntN(3) == 0 {
			h.second()
		}
		h.learn(h.queue(time.Duration(20+h.rng.IntN(2500))*time.Millisecond), true)
	default:
		h.chooses()
		h.learn(h.tryAcquire(), true)
	}
}

// cloned starts another host with the id of this one, whose disk is an earlier copy. It must neither find nor
// release a slot.
func (h *host) cloned() {
	l, err := lock.New(h.tap, groupName(h.group), 1)
	if err != nil {
		panic(err) // the name is valid
	}
	r := lock.Record{Hostname: "clone.example.com", BootID: "boot of a clone", Token: "token of a clone"}
	if h.id%3 != 0 {
		r.Hardware = "hardware of a clone"
	}
	l.Identify(r, []string{"an older token"})
	ctx, cancel := context.WithTimeout(h.tap.life, callTimeout)
	defer cancel()
	if held, found, err := l.Holder(ctx, h.name()); held || err == nil && found != (lock.Record{}) {
		h.run.problem("a clone of %s in group %d takes the slot for its own: %+v, %v", h.name(), h.group, found, err)
	}
	if err := l.Release(ctx, h.name()); err == nil {
		h.run.problem("a clone of %s in group %d released its slot", h.name(), h.group)
	}
}

// second starts another process of this host, such as locksmithctl lock -wait, which waits beside the process in
// the queue, and gives up.
func (h *host) second() {
	store := etcd.New(etcd.Config{Endpoints: strings.Join(h.endpoints, ",")})
	l, err := lock.New(onlyWaits(h.run.Break(store)), groupName(h.group), 1)
	if err != nil {
		panic(err) // the name is valid
	}
	r := h.record(queue)
	r.Owner = "" // another owner than the first process
	limit := time.Duration(100+h.rng.IntN(2000)) * time.Millisecond
	h.run.seconds.Go(func() {
		defer store.Close()
		ctx, cancel := context.WithTimeout(h.run.ctx, limit)
		defer cancel()
		_ = l.Acquire(ctx, h.name(), r, nil) // it cannot get a slot
	})
}

// onlyWaits neither takes a slot nor enters the queue. It could take over an entry that exists.
func onlyWaits(s lock.Store) lock.Store {
	enters := func(c lock.Cond) bool { return strings.Contains(c.Key, "/queue/") && c.ModRevision == 0 }
	return before(s, storetest.Commit, func(c *storetest.Call) error {
		if slices.ContainsFunc(c.Ops, counts) || slices.ContainsFunc(c.Conds, enters) {
			return lock.ErrRefused
		}
		return nil
	})
}

// crash kills the process somewhere in a call, and starts another one in another boot.
func (h *host) crash(ctx context.Context) {
	timer := time.AfterFunc(time.Duration(h.rng.IntN(15000))*time.Microsecond, h.die)
	h.call()
	if timer.Stop() {
		h.die()
	}
	pace(ctx, time.Duration(h.rng.IntN(300))*time.Millisecond)
	h.start(h.run.ctx)
	h.boots()
}

// drain waits for the host's turn, and releases the slot.
func (h *host) drain(ctx context.Context) error {
	defer context.AfterFunc(ctx, h.die)()
	if !until(ctx, func() output { return h.queue(time.Hour) }, done) {
		return fmt.Errorf("%s in group %d never got its turn", h.name(), h.group)
	}
	if !until(ctx, h.releaseWell, done, notHeld) {
		return fmt.Errorf("%s in group %d cannot release its slot", h.name(), h.group)
	}
	return nil
}

// until repeats a call until it has one of the results. It returns false if ctx ends first.
func until(ctx context.Context, call func() output, results ...result) bool {
	for !slices.Contains(results, call().result) {
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

// operator is an administrator with locksmithctl.
type operator struct{ lockClient }

// long is the duration of a long pause: longer than any run, unless it is ended.
const long = time.Hour

func (o *operator) act(ctx context.Context) {
	switch n := o.rng.IntN(100); {
	case n < 25:
		o.setMax(o.rng.IntN(o.run.Hosts/2 + 1))
	case n < 45:
		o.status()
	case n < 65:
		o.overview()
	case n < 85:
		o.release(o.rng.IntN(o.run.Hosts + o.run.Old))
	case n < 90:
		o.resume(resume)
	default:
		o.stopAndGo(ctx)
	}
	pace(ctx, time.Duration(o.rng.IntN(10))*time.Millisecond)
}

// stopAndGo pauses and resumes.
func (o *operator) stopAndGo(ctx context.Context) {
	stop, ends, goOn := pause, lapse, resume
	if o.rng.IntN(5) == 0 {
		stop, ends, goOn = pauseAll, lapseAll, resumeAll
	}
	durations := []time.Duration{0, 0, time.Second, 2 * time.Second, long, long}
	if stop == pauseAll { // which other operators may end
		durations = durations[:4]
	}
	d := durations[o.rng.IntN(len(durations))]
	n := int(o.run.pauses.Add(1))
	var lapsing []*op
	stopped := o.pausing(input{kind: stop, n: n}, func(ctx context.Context) (output, error) {
		if d > 0 && d < long { // it may end at any time from now on, since the time of the grant is unknown
			lapsing = append(lapsing, o.run.history.call(o.number, input{group: o.group, kind: ends, n: n}))
		}
		info := lock.PauseInfo{By: "chaos", Reason: fmt.Sprint(n)}
		var err error
		if stop == pauseAll {
			_, err = lock.NewGroups(o.tap, 1).Pause(ctx, info, d)
		} else {
			_, err = o.lock.Pause(ctx, info, d)
		}
		return output{result: done}, err
	})
	pace(ctx, time.Duration(o.rng.IntN(20))*time.Millisecond)
	if resumed, _ := o.resume(goOn); stopped.result == done && !stopped.undecided && (resumed.result == done || resumed.result == nothing) {
		o.run.history.close(lapsing) // no pause is left to end
	}
}

// pausing is do for an operation on a pause. If it is uncertain which pause is in force, a lease that is left is
// not a violation.
func (o *operator) pausing(in input, call func(context.Context) (output, error)) output {
	before := o.tap.unanswered.Load()
	out := o.do(in, call)
	if o.tap.unanswered.Load() != before || out.result != done && out.result != nothing {
		o.tap.long = nil
	}
	return out
}

// resume ends pauses. all is false if unwell hosts may still pause their versions.
func (o *operator) resume(which kind) (out output, all bool) {
	before, was := o.tap.resumes, lock.Resumed{}
	call := o.run.history.now()
	out = o.pausing(input{kind: which}, func(ctx context.Context) (output, error) {
		var err error
		if which == resumeAll {
			was, err = lock.NewGroups(o.tap, 1).Resume(ctx)
		} else {
			was, err = o.lock.Resume(ctx)
		}
		all = err == nil
		if was.Pause != nil { // even if the versions could not be resumed
			return output{result: done}, nil
		}
		return output{result: nothing}, err
	})
	o.resumed(call, was.Unwell, before, all)
	return out, all
}

// mend ends whatever keeps hosts from their turn.
func (o *operator) mend(ctx context.Context) error {
	n := 1 + o.rng.IntN(2)
	mended := func(which kind) func() output {
		return func() output {
			out, all := o.resume(which)
			if !all {
				out.result = unknown
			}
			return out
		}
	}
	if until(ctx, mended(resumeAll), done, nothing) &&
		until(ctx, mended(resume), done, nothing) &&
		until(ctx, func() output { return o.setMax(n) }, done) {
		return nil
	}
	return fmt.Errorf("the operator of group %d can neither resume nor set the number of slots", o.group)
}

// tap is the store of one process. It counts unanswered transactions, of which several in a call count as one if at most one
// of them can happen; and records the leases of long pauses, which must be gone once the pauses are.
type tap struct {
	lock.Store
	life       context.Context
	kill       context.CancelFunc
	unanswered atomic.Int64
	compared   []int64 // the revisions of the document that unanswered transactions of this call compare
	// Used only by operators, which make one call at a time.
	long    []int64
	resumes resumes
}

func (t *tap) Commit(ctx context.Context, conds []lock.Cond, ops []lock.Op, reads ...lock.Read) (bool, lock.Snapshot, error) {
	ok, now, err := t.Store.Commit(ctx, conds, ops, reads...)
	t.resumes.note(ops, ok, err)
	if unanswered(err) && slices.ContainsFunc(ops, counts) && !t.excluded(conds) {
		t.unanswered.Add(1)
	}
	return ok, now, err
}

// excluded reports whether an unanswered transaction of this call compares the same revision of the document.
func (t *tap) excluded(conds []lock.Cond) bool {
	i := slices.IndexFunc(conds, isSemaphore)
	if i < 0 {
		return false
	}
	if slices.Contains(t.compared, conds[i].ModRevision) {
		return true
	}
	t.compared = append(t.compared, conds[i].ModRevision)
	return false
}

// unanswered reports whether a transaction with this error may have happened.
func unanswered(err error) bool {
	return err != nil && !errors.Is(err, lock.ErrRefused) && !errors.Is(err, lock.ErrNoLease)
}

// counts reports whether an operation changes the state of the model.
func counts(op lock.Op) bool {
	return strings.HasSuffix(op.Key, "/semaphore") || strings.Contains(op.Key, "/pause")
}

func (t *tap) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	lease, err := t.Store.Grant(ctx, ttl)
	if err == nil && ttl == long {
		t.long = append(t.long, lease)
	}
	return lease, err
}

// Revoke ends with the process. (The contexts of all other calls do so anyway.)
func (t *tap) Revoke(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	err := t.Store.Revoke(ctx, lease)
	if err != nil && len(t.long) > 0 { // the lease expires by itself
		t.long = slices.DeleteFunc(t.long, func(l int64) bool { return l == lease })
	}
	return err
}

// oldClient is a client of another program that knows only the document: it reads, and then compares and swaps.
type oldClient struct {
	client
	etcd     *clientv3.Client
	key      string
	holding  bool
	compared int64 // the revision that the open transactions compare, if there are any
}

func newOldClient(c client, endpoints []string) (*oldClient, error) {
	etcd, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("make old client: %w", err)
	}
	return &oldClient{client: c, etcd: etcd, key: semaphoreKey(c.group)}, nil
}

// oldDocument is the document as an old client knows it.
type oldDocument struct {
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

// swap reads the document, applies change, and writes it if the result of change is done.
func (c *oldClient) swap(ctx context.Context, in input, change func(*oldDocument) result) output {
	in.group, in.old = c.group, true
	o := c.run.history.call(c.number, in)
	out := output{result: failed}
	for tries := 0; tries < 20 && out.result == failed; tries++ {
		var revision int64
		out, revision = c.swapOnce(ctx, change)
		if out.result == unknown {
			c.compared = revision
		}
	}
	c.run.history.end(o, out, nil)
	c.run.count(in, out, 0)
	if out.result != unknown {
		return out
	}
	// All open transactions compare the same revision, so at most one of them can happen. A second one of a kind would
	// add no information, and double the work of the checker.
	if slices.ContainsFunc(c.open, func(earlier *op) bool { return earlier.in == o.in }) {
		c.run.history.drop(o)
	} else {
		c.open = append(c.open, o)
	}
	return out
}

func (c *oldClient) swapOnce(ctx context.Context, change func(*oldDocument) result) (out output, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got, err := c.etcd.Get(ctx, c.key)
	if err != nil {
		return output{result: failed}, 0
	}
	d := oldDocument{Semaphore: 1, Max: 1}
	if len(got.Kvs) > 0 {
		revision = got.Kvs[0].ModRevision
		d = oldDocument{}
		if err := json.Unmarshal(got.Kvs[0].Value, &d); err != nil {
			c.run.problem("an old client cannot read %s: %v", got.Kvs[0].Value, err)
			return output{result: failed}, 0
		}
	}
	if len(c.open) > 0 && revision != c.compared {
		c.run.history.close(c.open)
		c.open = nil
	}
	seen := c.run.look(lock.Semaphore{Max: d.Max, Holders: d.Holders})
	if r := change(&d); r != done {
		return output{result: r, seen: seen}, revision
	}
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // numbers and strings always encode
	}
	txn, err := c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(c.key), "=", revision)).
		Then(clientv3.OpPut(c.key, string(data))).Commit()
	switch {
	case err != nil:
		return output{result: unknown}, revision
	case !txn.Succeeded:
		return output{result: failed}, revision
	}
	c.run.history.close(c.open)
	c.open = nil
	return output{result: done, seen: seen}, revision
}

func (c *oldClient) acquire(ctx context.Context) output {
	return c.swap(ctx, input{kind: acquire, id: c.id}, func(d *oldDocument) result {
		switch {
		case slices.Contains(d.Holders, c.name()):
			return already
		case d.Semaphore <= 0:
			return full
		}
		d.Semaphore--
		d.Holders = append(d.Holders, c.name())
		slices.Sort(d.Holders)
		return done
	})
}

func (c *oldClient) release(ctx context.Context) output {
	return c.swap(ctx, input{kind: release, id: c.id}, func(d *oldDocument) result {
		i := slices.Index(d.Holders, c.name())
		if i < 0 {
			return notHeld
		}
		d.Semaphore++
		d.Holders = slices.Delete(d.Holders, i, i+1)
		return done
	})
}

func (c *oldClient) act(ctx context.Context) {
	if c.holding {
		out := c.release(c.run.ctx)
		c.holding = out.result != done && out.result != notHeld
	} else {
		out := c.acquire(c.run.ctx)
		c.holding = out.result != full // perhaps, if the outcome is unknown
	}
	pace(ctx, time.Duration(c.rng.IntN(10))*time.Millisecond)
}

// drain releases the slot, and makes sure that no transaction is under way.
func (c *oldClient) drain(ctx context.Context) error {
	for {
		out := c.release(ctx)
		if len(c.open) > 0 { // the document has not changed since
			c.swap(ctx, input{kind: status}, func(*oldDocument) result { return done })
			continue
		}
		if out.result == done || out.result == notHeld {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("old client %s in group %d cannot release its slot", c.name(), c.group)
		}
	}
}

// pace waits for d, or until ctx ends.
func pace(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
