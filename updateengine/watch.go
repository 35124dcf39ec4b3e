package updateengine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// maxRequesters bounds the senders besides update_engine that are identified at a time, so that a flood of
// them costs neither memory nor calls.
const maxRequesters = 64

// Watch reports the status of update_engine, from it and from requesters that are believed. The first event
// is the status at the start, or Gone if update_engine is not there. An update_engine that is absent, hangs
// or answers nonsense is not an error: events follow once it reports a status.
//
// The channel is closed when ctx ends or the bus goes away. A consumer that falls behind gets the newest
// status of each source, in order.
func (c *Client) Watch(ctx context.Context) (<-chan Event, error) {
	signals := make(chan *dbus.Signal, 1)
	c.conn.Signal(signals)
	owner, err := c.subscribe(ctx)
	if err != nil {
		c.unsubscribe(signals)
		return nil, fmt.Errorf("watch update_engine: %w", err)
	}
	events := make(chan Event)
	go func() {
		defer close(events)
		defer c.unsubscribe(signals)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		w := newWatch(ctx, c)
		defer w.retry.Stop()
		if owner == "" {
			w.put(&entry{Event: Event{Source: Gone}, believed: true})
		}
		w.setOwner(owner)
		w.run(signals, events)
	}()
	return events, nil
}

// matches are as narrow as possible, so that other traffic on the bus does not wake an idle daemon. They do
// not apply to a signal that is sent to this connection alone, so every received signal is checked again.
var matches = [...][]dbus.MatchOption{
	{
		dbus.WithMatchSender("org.freedesktop.DBus"),
		dbus.WithMatchObjectPath("/org/freedesktop/DBus"),
		dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"),
		dbus.WithMatchArg(0, busName),
	},
	{
		// From any sender, because others than the name's owner may ask for a reboot.
		dbus.WithMatchObjectPath(objectPath),
		dbus.WithMatchInterface(iface),
		dbus.WithMatchMember("StatusUpdate"),
	},
}

// subscribe adds the match rules, and then asks for the name's owner, so that no change is missed in between.
// It returns "" if there is no owner.
func (c *Client) subscribe(ctx context.Context) (owner string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, m := range matches {
		if err := c.conn.AddMatchSignalContext(ctx, m...); err != nil {
			return "", fmt.Errorf("subscribe to signals: %w", err)
		}
	}
	err = c.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, busName).Store(&owner)
	if err != nil && !isError(err, "org.freedesktop.DBus.Error.NameHasNoOwner") {
		return "", fmt.Errorf("ask who owns %s: %w", busName, err)
	}
	return owner, nil
}

// unsubscribe undoes what subscribe has done. Errors do not matter: a bus that is gone has no rules.
func (c *Client) unsubscribe(signals chan *dbus.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for _, m := range matches {
		_ = c.conn.RemoveMatchSignalContext(ctx, m...)
	}
	c.conn.RemoveSignal(signals)
}

// watch is the state of one Watch. Only run's goroutine uses it; calls run in goroutines of their own, so that
// a peer that hangs delays nothing.
type watch struct {
	*Client
	ctx      context.Context
	answers  chan func() // that run's goroutine calls
	retry    *time.Timer // runs after the owner has failed to answer
	warnings limiter

	owner  string        // unique name of update_engine's connection, "" for none
	silent bool          // the owner failed to answer, which has been logged
	asOf   dbus.Sequence // of the message with the owner's last status
	queue  []*entry      // that the consumer has not taken, in order
}

// entry is an event that waits for the consumer. If a requester sent it, it first waits for the bus to say who
// that is.
type entry struct {
	Event
	sender   string // the requester's unique name; "" for update_engine itself
	believed bool
}

func newWatch(ctx context.Context, c *Client) *watch {
	w := &watch{
		Client:  c,
		ctx:     ctx,
		answers: make(chan func()),
		retry:   time.NewTimer(c.retryAfter),
	}
	w.retry.Stop() // nothing has been asked yet
	return w
}

func (w *watch) run(signals <-chan *dbus.Signal, events chan<- Event) {
	for {
		// A nil channel is never ready: while the first entry is not yet believed, no event is offered, so that
		// none overtakes it.
		var out chan<- Event
		var next Event
		if len(w.queue) > 0 && w.queue[0].believed {
			out, next = events, w.queue[0].Event
		}
		select {
		case <-w.ctx.Done():
			return
		case <-w.conn.Context().Done():
			return
		case out <- next:
			w.queue = slices.Delete(w.queue, 0, 1)
		case s, ok := <-signals:
			if !ok {
				return
			}
			w.signal(s)
		case answered := <-w.answers:
			answered()
		case <-w.retry.C:
			w.ask()
		}
	}
}

// answer has run's goroutine call answered.
func (w *watch) answer(answered func()) {
	select {
	case w.answers <- answered:
	case <-w.ctx.Done():
	}
}

func (w *watch) signal(s *dbus.Signal) {
	switch {
	case s.Name == "org.freedesktop.DBus.NameOwnerChanged" && s.Sender == "org.freedesktop.DBus":
		if len(s.Body) != 3 || s.Body[0] != busName {
			return
		}
		if owner, ok := s.Body[2].(string); ok {
			w.setOwner(owner)
		}
	case s.Name == signalName && s.Path == objectPath:
		status, err := decodeStatus(s.Body)
		switch {
		case err != nil:
			w.warn("ignoring a malformed status signal", "sender", s.Sender, "reason", err)
		case s.Sender == w.owner:
			w.engineStatus(status, s.Sequence)
		default:
			w.requesterStatus(status, s.Sender)
		}
	}
}

// setOwner sets the owner of update_engine's name, "" for none, and asks a new one for its status.
func (w *watch) setOwner(owner string) {
	if owner == w.owner {
		return
	}
	w.retry.Stop()
	if w.owner != "" && owner == "" {
		w.put(&entry{Event: Event{Source: Gone}, believed: true})
	}
	w.owner, w.silent = owner, false
	if owner != "" {
		w.ask()
	}
}

// ask asks update_engine for its status.
func (w *watch) ask() {
	owner := w.owner
	go func() {
		status, at, err := w.getStatus(w.ctx, owner)
		w.answer(func() { w.statusAnswered(owner, status, at, err) })
	}()
}

func (w *watch) statusAnswered(owner string, status Status, at dbus.Sequence, err error) {
	switch {
	case owner != w.owner:
		// The answer of an earlier owner.
	case err != nil:
		level := slog.LevelDebug // unless it is the first failure
		if !w.silent {
			level = slog.LevelWarn
		}
		w.silent = true
		w.log.Log(w.ctx, level, "update_engine did not report its status; it is asked again until it does or sends a signal",
			"error", err, "next_in", w.retryAfter)
		w.retry.Reset(w.retryAfter)
	default:
		w.engineStatus(status, at)
	}
}

// engineStatus queues a status that update_engine reported, unless there was a newer one: answers and signals
// arrive on different channels, and not in order.
func (w *watch) engineStatus(status Status, at dbus.Sequence) {
	if at < w.asOf {
		return
	}
	w.asOf = at
	w.retry.Stop()
	w.put(&entry{Event: Event{Status: status, Source: Engine}, believed: true})
}

// requesterStatus queues a status that another process sent, and asks the bus at once who that is: the bus
// can answer only while the sender is connected.
func (w *watch) requesterStatus(status Status, sender string) {
	asked, requesters := false, 0
	for _, e := range w.queue {
		if e.sender != "" {
			requesters++
		}
		asked = asked || e.sender == sender
	}
	if !asked && requesters >= maxRequesters {
		w.warn("ignoring a status signal: too many senders at a time", "sender", sender)
		return
	}
	w.put(&entry{Event: Event{Status: status, Source: Requester}, sender: sender})
	if asked {
		return
	}
	go func() {
		believed, who, err := w.identify(sender)
		w.answer(func() { w.senderAnswered(sender, believed, who, err) })
	}()
}

// identify finds out whether a sender is believed, and who it is, for the log.
func (w *watch) identify(sender string) (believed bool, who string, err error) {
	c, err := readCredentials(w.ctx, w.conn, sender)
	if err != nil {
		return false, "", err
	}
	trust := w.trust.Load()
	believed, err = trust.accepts(c)
	return believed, trust.describe(c), err
}

func (w *watch) senderAnswered(sender string, believed bool, who string, err error) {
	i := slices.IndexFunc(w.queue, func(e *entry) bool { return e.sender == sender })
	if i < 0 {
		return
	}
	if believed {
		w.queue[i].believed, w.queue[i].By = true, who
		return
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	switch {
	case isError(err, "org.freedesktop.DBus.Error.NameHasNoOwner"):
		w.warn("ignoring a status signal: its sender left the bus before it could be identified "+
			"(`locksmithctl send-need-reboot` stays long enough)", "sender", sender)
	case err != nil:
		w.warn("ignoring a status signal: its sender could not be identified", "sender", sender, "error", err)
	default:
		w.warn("ignoring a status signal: its sender is neither update_engine nor root nor in a group that may ask for a reboot",
			"from", who, "sender", sender, "groups", w.trust.Load().Groups)
	}
}

// put appends an entry, and removes an older one of the same source that the consumer has not taken yet.
func (w *watch) put(e *entry) {
	i := slices.IndexFunc(w.queue, func(old *entry) bool {
		return old.Source == e.Source && old.sender == e.sender
	})
	if i >= 0 {
		e.believed, e.By = w.queue[i].believed, w.queue[i].By
		w.queue = slices.Delete(w.queue, i, i+1)
	}
	w.queue = append(w.queue, e)
}

// warn logs a warning that anybody on the bus can cause, within a limit.
func (w *watch) warn(message string, attributes ...any) {
	suppressed, ok := w.warnings.allow(time.Now())
	if !ok {
		return
	}
	if suppressed > 0 {
		attributes = append(attributes, "warnings_left_out", suppressed)
	}
	w.log.Warn(message, attributes...)
}

// limiter allows a few warnings per minute, so that a flood of signals cannot fill the journal.
type limiter struct {
	since      time.Time
	used       int
	suppressed int
}

const (
	warningsPerPeriod = 10
	warningPeriod     = time.Minute
)

// allow reports whether a warning may be logged now, and how many were suppressed since the last one that was logged.
func (l *limiter) allow(now time.Time) (suppressed int, ok bool) {
	if now.Sub(l.since) >= warningPeriod {
		l.since, l.used = now, 0
	}
	if l.used >= warningsPerPeriod {
		l.suppressed++
		return 0, false
	}
	l.used++
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}
