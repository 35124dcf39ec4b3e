package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
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

// until repeats a call until it has one of the results. It returns false if ctx ends first.
func until(ctx context.Context, call func() output, results ...result) bool {
	for !slices.Contains(results, call().result) {
		if ctx.Err() != nil {
			return false
		}
	}
	return true
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
