package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	firstRetry = 5 * time.Second
	lastRetry  = 10 * time.Minute
	// keepFor is how long an event is tried.
	keepFor = 24 * time.Hour
	// closeTimeout bounds the end of the notifier: what is under way is written to the disk.
	closeTimeout = 2 * time.Second
)

// Config says which events go where.
type Config struct {
	URL    URL    // "" for none
	Events []Type // that are delivered
}

// Chosen reports whether an event is to be delivered.
func (c Config) Chosen(t Type) bool { return t == Test || slices.Contains(c.Events, t) }

// Options are what a Notifier needs of its host.
type Options struct {
	Root string // directory that stands for "/"
	// HasScripts reports whether there are scripts that get events. It must not block.
	HasScripts func() bool
	// RunScripts delivers an event to the scripts, and returns which of them failed. Its context ends when the notifier
	// is closed.
	RunScripts func(context.Context, Event) error
	// ForgetScripts forgets which scripts have succeeded for an event that is not delivered any more. It must not block.
	ForgetScripts func(Event)
	// Changed is called, by any goroutine, when Undelivered may have changed.
	Changed func()
	Log     *slog.Logger
}

// A Notifier delivers events. It is safe for concurrent use. It has goroutines only while there is something to
// deliver, or to write.
type Notifier struct {
	Options
	file  *file
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu            sync.Mutex
	config        Config
	post, scripts *lane
	said          map[Type]string
	closed        bool
	dirty         bool // the file has to be written
	saving        bool // a goroutine does so
	writeErr      error
}

// lane is one way of delivery, with a queue of its own: neither waits for the other. n.mu guards it.
type lane struct {
	queue []waiting
	busy  bool // a goroutine delivers
	// current is the id of the event of which an attempt is under way, which goes on if the event is pushed out.
	current string
	wake    chan struct{} // ends a wait for the next attempt

	failing error     // why the first of the queue was not delivered; nil if it was not tried, or the last attempt succeeded
	since   time.Time // of failing
	lost    int       // events that will never be delivered, since the last success
	why     string    // the last of them was lost
}

// waiting is an event in a queue.
type waiting struct {
	Event
	// since is from when on it has waited. That is not Event.Time, since the clock of a host may be put right by years
	// after its start.
	since time.Time
}

// resume returns the queue with the events that an earlier process has left. Of each only the time by the clock is known:
// one from the future counts as new, and one that is older than keepFor as that old.
func resume(events []Event) (queue []waiting) {
	now := time.Now()
	for _, e := range events {
		waited := min(max(0, now.Sub(e.Time)), keepFor)
		queue = append(queue, waiting{e, now.Add(-waited)})
	}
	return queue
}

// events returns what is in the queue.
func (l *lane) events() (all []Event) {
	for _, w := range l.queue {
		all = append(all, w.Event)
	}
	return all
}

// New returns a Notifier that goes on with what an earlier one could not deliver, once it is configured.
func New(o Options) *Notifier {
	n := &Notifier{Options: o, file: newFile(o.Root)}
	n.ctx, n.stop = context.WithCancel(context.Background())
	k, err := n.file.read()
	if err != nil {
		o.Log.Warn("notifications that are not delivered are forgotten at the end of locksmithd", "error", err)
	}
	n.post = &lane{queue: resume(k.Post), wake: make(chan struct{}, 1)}
	n.scripts = &lane{queue: resume(k.Scripts), wake: make(chan struct{}, 1)}
	if n.said = k.Said; n.said == nil {
		n.said = map[Type]string{}
	}
	return n
}

// Configure replaces the configuration, and tries at once what waits for another attempt. Events that were queued
// for an earlier URL go to the new one.
func (n *Notifier) Configure(c Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	c.Events = slices.Clone(c.Events)
	n.config = c
	if c.URL == "" && len(n.post.queue) > 0 {
		n.Log.Warn("notifications are dropped, since LOCKSMITHD_NOTIFY_URL is not set any more", "number", len(n.post.queue))
		n.post.queue, n.post.failing, n.post.lost, n.post.why = nil, nil, 0, ""
		n.save()
	}
	for _, l := range []*lane{n.post, n.scripts} {
		if l.busy {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
		n.start(l)
	}
}

// Add has an event delivered, unless the configuration does not choose it. It does not wait for anything but the names
// of the scripts.
func (n *Notifier) Add(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || !n.config.Chosen(e.Type) {
		return
	}
	var to []*lane
	if n.config.URL != "" {
		to = append(to, n.post)
	}
	if n.HasScripts() {
		to = append(to, n.scripts)
	}
	once := safetext.Cut(e.Once, maxReason)
	if len(to) == 0 || once != "" && n.said[e.Type] == once {
		return
	}
	if once != "" {
		n.said[e.Type] = once
	}
	e = e.Complete(time.Now())
	n.Log.Debug("notification", "event", e.Type, "id", e.ID, "text", e.Text())
	for _, l := range to {
		if len(l.queue) == maxQueue {
			n.lose(l, l.queue[0].Event, fmt.Sprintf("there are more than %d that are not delivered", maxQueue))
		}
		l.queue = append(l.queue, waiting{e, time.Now()})
		n.start(l)
	}
	n.save()
}

// Forget has the next event of these types delivered even if it is about the same as the last one.
func (n *Notifier) Forget(types ...Type) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range types {
		if _, said := n.said[t]; said && !n.closed {
			delete(n.said, t)
			n.save()
		}
	}
}

// Close stops the deliveries, and waits until they have ended and what is not delivered is on the disk, for two seconds at
// most.
func (n *Notifier) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	done := make(chan struct{})
	go func() { n.tasks.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(closeTimeout):
		n.mu.Lock()
		saving := n.saving
		n.mu.Unlock()
		if !saving { // scripts that take their time to stop: systemd sees to it
			return
		}
		n.Log.Warn("notifications that are not delivered may be forgotten: the disk does not answer")
	}
}

// Undelivered says in a sentence what was not delivered, with times that clock writes; "" if there is nothing to say.
func (n *Notifier) Undelivered(clock func(time.Time) string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := ""
	for _, l := range []*lane{n.post, n.scripts} {
		if l.failing != nil && len(l.queue) > 0 {
			text += fmt.Sprintf("; %s not delivered to %s since %s: %v", count(len(l.queue)), n.name(l), clock(l.since), l.failing)
		}
		if l.lost > 0 {
			text += fmt.Sprintf("; %s lost on the way to %s, the last because %s", count(l.lost), n.name(l), l.why)
		}
	}
	return text
}

func count(n int) string {
	if n == 1 {
		return "1 notification"
	}
	return fmt.Sprintf("%d notifications", n)
}

// name names where a lane leads; n.mu is held.
func (n *Notifier) name(l *lane) string {
	if l == n.scripts {
		return "notify.d"
	}
	return n.config.URL.String()
}

// start has the queue of a lane delivered; n.mu is held.
func (n *Notifier) start(l *lane) {
	if l.busy || n.closed || len(l.queue) == 0 {
		return
	}
	l.busy = true
	n.tasks.Go(func() { n.deliver(l) })
}

// deliver delivers the queue of a lane, until it is empty or the notifier is closed.
func (n *Notifier) deliver(l *lane) {
	for tries := 0; ; {
		e, to, ok := n.next(l)
		if !ok {
			return
		}
		var err error
		if l == n.scripts {
			err = n.RunScripts(n.ctx, e)
		} else {
			_, err = to.Post(n.ctx, e)
		}
		if n.ctx.Err() != nil {
			return // whether it was delivered or not: with the same id it does no harm to deliver it again
		}
		wait := n.ended(l, e, err, tries)
		if n.Changed(); wait == 0 {
			tries = 0
			continue
		}
		tries++
		select {
		case <-time.After(wait):
		case <-l.wake:
			tries = 0
		case <-n.ctx.Done():
			return
		}
	}
}

// next returns the event to be delivered next, and where to. ok is false if there is none: then the goroutine of the
// lane ends.
func (n *Notifier) next(l *lane) (e Event, to URL, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(l.queue) > 0 {
		if time.Since(l.queue[0].since) < keepFor {
			break
		}
		n.lose(l, l.queue[0].Event, fmt.Sprintf("it was not delivered within %v", keepFor))
		n.save()
	}
	if len(l.queue) == 0 || n.ctx.Err() != nil || l == n.post && n.config.URL == "" {
		l.busy = false
		return Event{}, "", false
	}
	l.current = l.queue[0].ID
	return l.queue[0].Event, n.config.URL, true
}

// ended notes the end of an attempt, and returns how long to wait before the next, 0 for no time.
func (n *Notifier) ended(l *lane, e Event, err error, tries int) (wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := slices.IndexFunc(l.queue, func(w waiting) bool { return w.ID == e.ID }) // -1 if it was pushed out meanwhile
	if l.current = ""; first < 0 && l == n.scripts && err != nil {
		n.ForgetScripts(e)
	}
	var failure *DeliveryError
	switch {
	case err == nil:
		if l.failing != nil || l.lost > 0 {
			n.Log.Info("notifications are delivered again", "to", n.name(l))
		}
		l.failing, l.lost, l.why = nil, 0, ""
		if first >= 0 {
			l.queue = slices.Delete(l.queue, first, first+1)
		}
		n.save()
		return 0
	case errors.As(err, &failure) && failure.Final:
		if l.failing = nil; first >= 0 {
			n.lose(l, e, err.Error())
			n.save()
		}
		return 0
	}
	if l.failing == nil {
		l.since = time.Now()
		n.Log.Warn("a notification is not delivered yet; it is tried again", "to", n.name(l), "event", e.Type, "error", err)
	}
	l.failing = err
	wait = backoff.Delay(tries, firstRetry, lastRetry)
	if failure != nil && failure.After > wait {
		wait = failure.After
	}
	return wait
}

// lose drops an event for ever, and says so; n.mu is held, and the caller saves.
func (n *Notifier) lose(l *lane, e Event, why string) {
	l.queue = slices.DeleteFunc(l.queue, func(w waiting) bool { return w.ID == e.ID })
	if l == n.scripts && e.ID != l.current {
		n.ForgetScripts(e)
	}
	l.lost++
	l.why = why
	if len(l.queue) == 0 {
		l.failing = nil
	}
	n.Log.Warn("a notification is lost", "to", n.name(l), "event", e.Type, "text", e.Text(), "why", why)
}

// save has the file written; n.mu is held.
func (n *Notifier) save() {
	n.dirty = true
	if n.saving {
		return
	}
	n.saving = true
	n.tasks.Go(func() {
		for {
			n.mu.Lock()
			if !n.dirty {
				n.saving = false
				n.mu.Unlock()
				return
			}
			n.dirty = false
			k := kept{Post: n.post.events(), Scripts: n.scripts.events(), Said: maps.Clone(n.said)}
			n.mu.Unlock()
			err := n.file.write(k)
			if err != nil && n.writeErr == nil { // only one goroutine saves
				n.Log.Warn("notifications that are not delivered are forgotten at the end of locksmithd", "error", err)
			}
			n.writeErr = err
		}
	})
}
