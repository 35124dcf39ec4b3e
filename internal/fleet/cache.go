package fleet

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/lock"
)

const (
	// readEvery is the least time between two reads.
	readEvery = time.Second
	// lingers is how long changes are watched for after the last look, so that looks at a fleet in which nothing
	// happens read nothing.
	lingers = time.Minute
	// oldAfter is how old a fleet may become that somebody looks at. How long a host is silent changes by itself.
	oldAfter = 5 * time.Minute
	// patience is how long a look waits for a read; firstPatience is the same where there is nothing to show instead.
	patience, firstPatience = 2 * time.Second, 8 * time.Second
	// readTime bounds a read.
	readTime = 30 * time.Second
)

var (
	// ErrFollowers says that as many follow already as may.
	ErrFollowers = errors.New("too many follow the fleet already")
	// errSlow says that a read takes longer than a look waits.
	errSlow = errors.New("etcd has not answered yet")
)

// Cache has the newest Fleet for everybody who looks at it. It reads only when somebody looks and the store has
// changed, once a second at most. While nobody looks it does nothing at all. Its methods may be called concurrently.
type Cache struct {
	store     lock.Store
	groups    func() []Source
	followers int // that there may be

	life context.Context // ends with the cache
	stop context.CancelFunc

	mu        sync.Mutex
	seen      Seen
	sources   []Source // of seen, or of the read that has failed
	fresh     bool     // nothing has changed since
	readAt    time.Time
	looked    time.Time
	failures  int                // reads in succession that have failed
	reading   chan struct{}      // closed at the end of the read that is under way; nil: none is
	cancel    context.CancelFunc // ends what runs in the background
	following map[*Follower]struct{}
}

// Seen is a fleet, and whether it is still what the store has. It is not to be changed.
type Seen struct {
	// Fleet is the newest that could be read. Its At is the zero time if none could be yet.
	Fleet
	// Err says why there may be a newer one; nil: there is none.
	Err error
	// Changes counts the changes of each group.
	Changes map[string]uint64
}

// NewCache returns a cache of the groups that a function returns, in this order. The function is called at each look,
// concurrently. At most so many may follow at once.
func NewCache(store lock.Store, groups func() []Source, followers int) *Cache {
	c := &Cache{store: store, groups: groups, followers: followers, cancel: func() {}, following: map[*Follower]struct{}{}}
	c.life, c.stop = context.WithCancel(context.Background())
	return c
}

// Stop ends what the cache does in the background, and every Follower.
func (c *Cache) Stop() { c.stop() }

// Look returns the fleet. If it has to be read and that takes long, Look returns the one before, with an error.
func (c *Cache) Look(ctx context.Context) Seen {
	sources := c.groups()
	c.mu.Lock()
	c.looked = time.Now()
	wait := patience
	if c.seen.At.IsZero() {
		wait = firstPatience
	}
	if same := slices.Equal(sources, c.sources); same && (c.fresh || time.Since(c.readAt) < readEvery) && c.reading == nil {
		defer c.mu.Unlock()
		return c.seen
	}
	done := c.read()
	c.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var late error
	select {
	case <-done:
	case <-timer.C:
		late = errSlow
	case <-ctx.Done():
		late = ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	seen.Err = cmp.Or(seen.Err, late)
	return seen
}

// read begins to read, unless that is under way, and returns a channel that is closed at its end. The caller has c.mu.
func (c *Cache) read() <-chan struct{} {
	if c.reading != nil {
		return c.reading
	}
	done := make(chan struct{})
	c.reading = done
	go func() {
		defer close(done)
		sources := c.groups()
		ctx, cancel := context.WithTimeout(c.life, readTime)
		defer cancel()
		f, revision, err := ReadGroups(ctx, c.store, sources, time.Now())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.reading = nil
		before := c.fresh
		c.note(f, sources, err)
		switch {
		case c.fresh:
			c.watch(revision)
		case before && len(c.following) > 0: // otherwise somebody tries again already
			c.keepUp()
		}
	}()
	return done
}

// note keeps what was read. The caller has c.mu.
func (c *Cache) note(f Fleet, sources []Source, err error) {
	before := c.seen
	c.readAt, c.sources, c.fresh = time.Now(), sources, err == nil
	if c.seen.Err = err; err != nil {
		c.failures++
	} else {
		c.failures = 0
		c.seen.Fleet, c.seen.Changes = f, changes(before, f)
	}
	for follower := range c.following {
		follower.notify()
	}
}

// changes returns how often each group has changed.
func changes(before Seen, f Fleet) map[string]uint64 {
	counts := map[string]uint64{}
	for _, g := range f.Groups {
		i := slices.IndexFunc(before.Groups, func(other Group) bool { return other.Group == g.Group })
		if counts[g.Group] = before.Changes[g.Group]; i < 0 || !reflect.DeepEqual(before.Groups[i], g) {
			counts[g.Group]++
		}
	}
	return counts
}

// watch waits for changes after a revision, in place of the watch before. The caller has c.mu.
func (c *Cache) watch(revision int64) {
	var watches []lock.Watch
	for _, s := range c.sources {
		watches = append(watches, lock.Everything(s.Group, revision)...)
	}
	c.background(func(ctx context.Context) { c.await(ctx, watches) })
}

// background runs f, which ends with the cache, in place of what ran before. The caller has c.mu.
func (c *Cache) background(f func(context.Context)) {
	c.cancel()
	ctx, cancel := context.WithCancel(c.life)
	c.cancel = cancel
	go func() {
		defer cancel()
		f(ctx)
	}()
}

// await waits until the fleet is not fresh any more, and reads again if somebody follows.
func (c *Cache) await(ctx context.Context, watches []lock.Watch) {
	for waiting := true; waiting; {
		limited, cancel := context.WithTimeout(ctx, lingers)
		_, _ = c.store.Wait(limited, watches...) // an error means that a change may have been missed, and a read says why
		timedOut := limited.Err() != nil
		cancel()
		c.mu.Lock()
		watched := len(c.following) > 0 || time.Since(c.looked) < lingers
		waiting = timedOut && watched && time.Since(c.readAt) < oldAfter && ctx.Err() == nil
		if !waiting && ctx.Err() == nil {
			c.fresh = false
		}
		c.mu.Unlock()
	}
	c.follow(ctx)
}

// follow reads until that succeeds, as long as somebody follows. A read that succeeds begins a watch of its own.
func (c *Cache) follow(ctx context.Context) {
	for {
		c.mu.Lock()
		pause := max(readEvery-time.Since(c.readAt), 0)
		if c.failures > 0 {
			pause = backoff.Delay(c.failures, readEvery, 15*time.Second)
		}
		c.mu.Unlock()
		backoff.Sleep(ctx, pause)
		c.mu.Lock()
		if ctx.Err() != nil || c.fresh || len(c.following) == 0 {
			c.mu.Unlock()
			return
		}
		done := c.read()
		c.mu.Unlock()
		<-done
	}
}

// Refresh makes the cache read again, if somebody follows: the groups have changed.
func (c *Cache) Refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fresh = false; len(c.following) > 0 {
		c.keepUp()
	} else {
		c.cancel()
	}
}

// keepUp reads until that succeeds. The caller has c.mu.
func (c *Cache) keepUp() { c.background(c.follow) }

// Follower is somebody who wants to know of each change.
type Follower struct {
	cache   *Cache
	changed chan struct{}
}

// Follow returns a Follower, or ErrFollowers. It has to be closed.
func (c *Cache) Follow() (*Follower, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.following) >= c.followers {
		return nil, ErrFollowers
	}
	f := &Follower{c, make(chan struct{}, 1)}
	c.following[f] = struct{}{}
	if !c.fresh {
		c.keepUp()
	}
	return f, nil
}

// Close ends f.
func (f *Follower) Close() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	delete(f.cache.following, f)
}

// Changed gets a value after the fleet was read again, or could not be: [Cache.Look] then has what is new at once.
// Several changes may be one value.
func (f *Follower) Changed() <-chan struct{} { return f.changed }

// Stopped is closed at the end of the cache.
func (f *Follower) Stopped() <-chan struct{} { return f.cache.life.Done() }

func (f *Follower) notify() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}
