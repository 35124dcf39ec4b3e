package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
)

const (
	// settle is how long changes are gathered before a record is written. It is longer than an idle host takes from
	// the need of a reboot to the reboot itself, during which only the lock is told what it does.
	settle = 5 * time.Second
	// spread is how much longer it takes at random, since the hosts of a fleet often change together.
	spread = 5 * time.Second
	// textEvery is how often a record is written of which only the texts have changed.
	textEvery = 15 * time.Minute
	// clockAfter is how long after a record was written it is looked at once more, in case the clock was put right:
	// that of a host without one of its own is wrong by years until it has reached a time server. clockOff is how much
	// that has to be.
	clockAfter = 15 * time.Minute
	clockOff   = time.Minute

	firstRetry, lastRetry = 30 * time.Second, 30 * time.Minute
)

// Records is where the record of this host belongs.
type Records interface {
	// Place names it, whoever asks, such as by an address and a group: a record that moves to another place is removed
	// from the one before.
	Place() string
	// Put replaces the record of a host.
	Put(ctx context.Context, h Host) error
	// Forget removes the record of a host; if there is none, the error matches ErrNoHost.
	Forget(ctx context.Context, id string) error
}

// A Writer writes the record of this host whenever it has changed. It is an observer of the daemon. While nothing
// changes it has no connection, and from a quarter of an hour on no timer.
type Writer struct {
	// Self returns where this host's record belongs, nil for nowhere, and the record, but for what the daemon does. It is
	// called right before the record is written; with an error it is called again later.
	Self func() (Records, Host, error)
	// Policy returns the settings of the policy that are in force.
	Policy func() policy.Config
	// Clock returns the time by the host's clock.
	Clock func() time.Time
	Log   *slog.Logger

	latest  chan policy.Snapshot // the newest one that Run has not seen yet
	refresh chan struct{}
}

// NewWriter returns a Writer, of which the fields are to be set.
func NewWriter() *Writer {
	return &Writer{Clock: time.Now, latest: make(chan policy.Snapshot, 1), refresh: make(chan struct{}, 1)}
}

// Observe notes what the daemon does. It returns at once. It is for one goroutine.
func (w *Writer) Observe(s policy.Snapshot, _ string, _ []policy.Move) {
	if s.State == policy.Left { // it ends, which a reboot does as well, or starts over with other settings
		return
	}
	select {
	case <-w.latest:
	default:
	}
	w.latest <- s
}

// Refresh makes Run look at the settings again, and try again soon what has failed. It returns at once.
func (w *Writer) Refresh() {
	select {
	case w.refresh <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends. A record that moves to another place, or nowhere, is removed where it was.
func (w *Writer) Run(ctx context.Context) {
	r := run{Writer: w, timer: time.NewTimer(time.Hour)}
	r.timer.Stop()
	defer r.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-w.latest:
			r.now = &now
			r.change()
		case <-w.refresh:
			r.due, r.failed = time.Time{}, 0
			r.change()
		case <-r.timer.C:
			r.due = time.Time{}
			r.write(ctx)
		}
	}
}

// run is the state of Run.
type run struct {
	*Writer
	now   *policy.Snapshot // what the daemon does; nil before it has said so
	timer *time.Timer
	due   time.Time // when the timer fires; zero: it does not
	look  bool      // it fires to look at the clock alone

	place   Records // of the record that was written last; nil: there is none
	written Host
	at      time.Time // when it was written, by the clock that nobody sets
	unsure  bool      // an attempt since then has failed, and may have written something else
	failed  int       // attempts in succession
}

func (r *run) arm(after time.Duration) {
	r.due, r.look = time.Now().Add(after), false
	r.timer.Reset(after)
}

// change sees to it that the record is written soon. It does not wait for as long as a text may; after a failure it
// waits for the next attempt. A host that has queued writes at once that it has its slot: few hosts have one at a time,
// and a record that is still that of the queue when the slot is given back may be so old that it counts as no news.
func (r *run) change() {
	if queued := r.place != nil && r.written.State == Locking; queued && r.failed == 0 && r.now.Holds && r.now.State != policy.Locking {
		r.arm(0)
		return
	}
	if r.look || r.due.IsZero() || r.failed == 0 && time.Until(r.due) > settle+spread {
		r.arm(settle + rand.N(spread))
	}
}

// write writes the record if it has changed.
func (r *run) write(ctx context.Context) {
	if r.now == nil || r.look && !r.clockSet() {
		return
	}
	place, h, err := r.Self()
	r.leave(ctx, place)
	if place == nil {
		r.failed = 0
		return
	}
	if err == nil {
		h.fill(*r.now, r.Clock(), r.Policy())
		h.clean()
		if r.place != nil && !r.unsure && !h.changed(r.written) && !r.clockSet() {
			if h.Why == r.written.Why {
				r.watchClock()
				return
			}
			if wait := textEvery - time.Since(r.at); wait > 0 {
				r.arm(wait)
				return
			}
		}
		h.Updated = r.Clock().UTC().Truncate(time.Second)
		err = place.Put(ctx, h)
		r.unsure = err != nil
	}
	switch {
	case err == nil:
		if r.failed > 0 {
			r.Log.Info("the inventory of the fleet knows again what this host does")
		}
		r.place, r.written, r.at, r.failed = place, h, time.Now(), 0
		r.watchClock()
	case ctx.Err() == nil:
		if r.failed++; r.failed == 1 {
			r.Log.Warn("the inventory of the fleet does not know what this host does", "error", explain(err))
		}
		r.arm(backoff.Delay(r.failed-1, firstRetry, lastRetry))
	}
}

// watchClock has the clock looked at once the record is clockAfter old, unless something else is due.
func (r *run) watchClock() {
	if wait := clockAfter - time.Since(r.at); wait > 0 && r.due.IsZero() {
		r.arm(wait)
		r.look = true
	}
}

// clockSet reports whether the clock was put right since the record was written.
func (r *run) clockSet() bool {
	return (r.Clock().Sub(r.written.Updated) - time.Since(r.at)).Abs() > clockOff
}

// leave removes the record from where it was, if it belongs elsewhere. It tries once: the store may not be there any
// more.
func (r *run) leave(ctx context.Context, place Records) {
	switch {
	case r.place == nil:
		return
	case place != nil && place.Place() == r.place.Place():
		r.place = place // perhaps with another password
		return
	}
	err := r.place.Forget(ctx, r.written.ID)
	if err != nil && !errors.Is(err, ErrNoHost) && ctx.Err() == nil {
		r.Log.Warn(`this host's record may be left where it was before the settings changed: there, "locksmithctl hosts forget" removes it`,
			"id", r.written.ID, "where", r.place.Place(), "error", err)
	}
	r.place = nil
}

// explain adds to an error what an operator can do about it.
func explain(err error) error {
	if errors.Is(err, lock.ErrRefused) {
		return fmt.Errorf("%w: let this host's user of etcd write the keys of its group below fleet/, see access to etcd in "+
			"docs/operations.md, or set LOCKSMITHD_INVENTORY=false in /etc/locksmith/locksmith.conf", err)
	}
	return err
}
