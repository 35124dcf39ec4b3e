package updateengine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// maxStrangers bounds how many senders besides update_engine are looked into
// at a time, so that a flood of them costs neither memory nor calls.
const maxStrangers = 64

// Watch reports what update_engine, and those who may speak for it, say about
// the update. The first event tells the state at start, Gone if update_engine is
// not there; an update_engine that is absent, hangs or answers nonsense is not an
// error: events come when it has something to say.
//
// The channel is closed when ctx ends or the bus goes away. A consumer that
// falls behind is given the newest state of each source, in order.
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

// The match rules are as narrow as can be: an idle daemon is not woken by what
// others say on the bus. They do not keep out a signal sent to this connection
// alone, so every signal is looked at again when it comes.
var matches = [...][]dbus.MatchOption{
	{
		dbus.WithMatchSender("org.freedesktop.DBus"),
		dbus.WithMatchObjectPath("/org/freedesktop/DBus"),
		dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"),
		dbus.WithMatchArg(0, busName),
	},
	{
		// Not only from the name's owner: others may ask for a reboot.
		dbus.WithMatchObjectPath(objectPath),
		dbus.WithMatchInterface(iface),
		dbus.WithMatchMember("StatusUpdate"),
	},
}

// subscribe asks for the signals first and for the owner second, so that no
// change falls in between. It returns "" when there is no owner.
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

// unsubscribe undoes subscribe as far as it went. Errors do not matter: a bus
// that is gone has forgotten the rules anyway.
func (c *Client) unsubscribe(signals chan *dbus.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for _, m := range matches {
		_ = c.conn.RemoveMatchSignalContext(ctx, m...)
	}
	c.conn.RemoveSignal(signals)
}

// watch is the state of one Watch. All of it belongs to run's goroutine; calls
// run in goroutines of their own, so that a peer which hangs holds up nothing.
type watch struct {
	*Client
	ctx      context.Context
	statuses chan statusAnswer
	senders  chan senderAnswer
	retry    *time.Timer // runs while the owner owes an answer
	warnings limiter

	owner  string        // unique name of update_engine's connection, "" for none
	silent bool          // the owner failed to answer, and the log says so
	asOf   dbus.Sequence // where in the stream of messages the owner's last status stood
	queue  []*entry      // what the consumer has not taken, in order
}

// entry is an event that waits for the consumer, and before that, if it came
// from a stranger, for the bus to say who that is.
type entry struct {
	Event
	sender   string // the unique name; "" for what concerns update_engine itself
	believed bool
}

type statusAnswer struct {
	owner  string
	status Status
	at     dbus.Sequence
	err    error
}

type senderAnswer struct {
	sender   string
	believed bool
	who      string // for people; empty when err is set
	err      error
}

func newWatch(ctx context.Context, c *Client) *watch {
	w := &watch{
		Client:   c,
		ctx:      ctx,
		statuses: make(chan statusAnswer),
		senders:  make(chan senderAnswer),
		retry:    time.NewTimer(c.retryAfter),
	}
	w.retry.Stop() // nobody owes an answer yet
	return w
}

func (w *watch) run(signals <-chan *dbus.Signal, events chan<- Event) {
	for {
		// A nil channel is never ready: nothing is offered while the first
		// entry is not yet believed, and nothing behind it overtakes it.
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
		case a := <-w.statuses:
			w.statusAnswered(a)
		case a := <-w.senders:
			w.senderAnswered(a)
		case <-w.retry.C:
			w.ask()
		}
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
			w.engineSaid(status, s.Sequence)
		default:
			w.strangerSaid(status, s.Sender)
		}
	}
}

// setOwner notes who update_engine is from now on, "" for nobody.
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
		a := statusAnswer{owner: owner}
		a.status, a.at, a.err = w.getStatus(w.ctx, owner)
		select {
		case w.statuses <- a:
		case <-w.ctx.Done():
		}
	}()
}

func (w *watch) statusAnswered(a statusAnswer) {
	switch {
	case a.owner != w.owner:
		// An answer of one that has left.
	case a.err != nil:
		level := slog.LevelDebug // it was said already
		if !w.silent {
			level = slog.LevelWarn
		}
		w.silent = true
		w.log.Log(w.ctx, level, "update_engine did not tell its status, it is asked again until it does or sends a signal",
			"error", a.err, "next_in", w.retryAfter)
		w.retry.Reset(w.retryAfter)
	default:
		w.engineSaid(a.status, a.at)
	}
}

// engineSaid takes a status of update_engine, unless a newer one is known:
// answers and signals come by different channels.
func (w *watch) engineSaid(status Status, at dbus.Sequence) {
	if at < w.asOf {
		return
	}
	w.asOf = at
	w.retry.Stop()
	w.put(&entry{Event: Event{Status: status, Source: Engine}, believed: true})
}

// strangerSaid takes a status that somebody else sent, and has the bus asked
// who that is at once: it can tell only as long as the sender stays.
func (w *watch) strangerSaid(status Status, sender string) {
	asked, strangers := false, 0
	for _, e := range w.queue {
		if e.sender != "" {
			strangers++
		}
		asked = asked || e.sender == sender
	}
	e := &entry{Event: Event{Status: status, Source: Requester}, sender: sender}
	if asked {
		w.put(e)
		return
	}
	if strangers >= maxStrangers {
		w.warn("ignoring a status signal, too many senders at a time", "sender", sender)
		return
	}
	w.put(e)
	go func() {
		a := senderAnswer{sender: sender}
		a.believed, a.who, a.err = w.judge(sender)
		select {
		case w.senders <- a:
		case <-w.ctx.Done():
		}
	}()
}

// judge finds out who a sender is and whether to believe it.
func (w *watch) judge(sender string) (believed bool, who string, err error) {
	c, err := readCredentials(w.ctx, w.conn, sender)
	if err != nil {
		return false, "", err
	}
	trust := w.trust.Load()
	believed, err = trust.believes(c)
	if err != nil {
		return false, "", err
	}
	return believed, trust.describe(c), nil
}

func (w *watch) senderAnswered(a senderAnswer) {
	i := slices.IndexFunc(w.queue, func(e *entry) bool { return e.sender == a.sender })
	if i < 0 {
		return
	}
	if a.believed {
		w.queue[i].believed = true
		w.queue[i].By = a.who
		return
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	switch {
	case isError(a.err, "org.freedesktop.DBus.Error.NameHasNoOwner"):
		w.warn("ignoring a status signal: its sender left the bus before it could be asked who that was "+
			"(`locksmithctl send-need-reboot` stays long enough)", "sender", a.sender)
	case a.err != nil:
		w.warn("ignoring a status signal: its sender could not be looked up", "sender", a.sender, "error", a.err)
	default:
		w.warn("ignoring a status signal: its sender is neither update_engine nor root nor in a group that may ask for a reboot",
			"from", a.who, "sender", a.sender, "groups", w.trust.Load().Groups)
	}
}

// put appends an entry, in place of an older one of the same source that the
// consumer has not taken yet.
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

// warn logs what anybody on the bus can provoke, within a limit.
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

// limiter lets a few warnings through each minute, so that a flood of signals
// cannot fill the journal.
type limiter struct {
	since      time.Time
	used       int
	suppressed int
}

const (
	warningsPerPeriod = 10
	warningPeriod     = time.Minute
)

// allow tells whether a warning may be logged now, and how many were not since
// the last one that was.
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
