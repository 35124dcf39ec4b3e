package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
)

// place is a place for records that notes what is asked of it.
type place struct {
	name string
	err  error         // of every call
	slow time.Duration // that a call takes

	mu    sync.Mutex
	calls []string // "put STATE", "forget"
	last  Host     // that was put
}

func (p *place) Place() string { return p.name }

func (p *place) Put(ctx context.Context, h Host) error { return p.call(ctx, "put "+string(h.State), h) }

func (p *place) Forget(ctx context.Context, id string) error {
	return p.call(ctx, "forget", Host{ID: id})
}

func (p *place) call(ctx context.Context, call string, h Host) error {
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.last = append(p.calls, call), h
	return p.err
}

// mend forgets the calls, and lets the next ones succeed.
func (p *place) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.err = nil, nil
}

// writing is a writer that runs in a bubble.
type writing struct {
	*testing.T
	*Writer
	mu   sync.Mutex // guards at and err, where the writer is not told of the change
	at   *place     // where the record belongs; nil for nowhere
	self Host
	err  error // why there is no record
	made int   // records, also those that were not written
	log  strings.Builder
	stop context.CancelFunc
}

// write runs a test with a writer that has a place.
func write(t *testing.T, test func(*writing)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := &writing{T: t, Writer: NewWriter(), at: &place{name: "a"}, self: Host{ID: "1", Hostname: "web-1"}, stop: stop}
		w.Self = func() (Records, Host, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.made++
			if w.at == nil {
				return nil, Host{}, nil
			}
			return w.at, w.self, w.err
		}
		w.Policy = func() policy.Config { return policy.Config{Zone: func() *time.Location { return time.UTC }} }
		w.Log = slog.New(slog.NewTextHandler(&w.log, nil))
		ended := make(chan struct{})
		go func() { defer close(ended); w.Writer.Run(ctx) }()
		defer func() { stop(); <-ended }()
		test(w)
	})
}

// does tells the writer what the daemon does.
func (w *writing) does(s policy.Snapshot) { w.Observe(s, "", nil) }

// after lets time pass, and checks what was asked of a place since the last time.
func (w *writing) after(d time.Duration, p *place, want ...string) {
	w.Helper()
	time.Sleep(d)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if got, want := strings.Join(p.calls, ", "), strings.Join(want, ", "); got != want {
		w.Errorf("%s was asked %q, want %q", p.name, got, want)
	}
	p.calls = nil
}

// says checks what was logged since the last time, in part; "" for nothing.
func (w *writing) says(want string) {
	w.Helper()
	if got := w.log.String(); want == "" && got != "" || !strings.Contains(got, want) {
		w.Errorf("the log says %q, want %q", got, want)
	}
	w.log.Reset()
}

func idle() policy.Snapshot { return policy.Snapshot{State: policy.Idle, Since: time.Unix(1e9, 0)} }

func needs(state policy.State, version string) policy.Snapshot {
	s := idle()
	s.State = state
	s.Need = policy.Need{Since: s.Since, Version: version, Sources: []string{"update_engine"}, Reasons: []string{"update_engine"}}
	return s
}

// soon is longer than changes are gathered.
const soon = settle + spread

func TestChangesAreGathered(t *testing.T) {
	write(t, func(w *writing) {
		w.after(time.Hour, w.at) // nothing is known yet
		w.does(idle())
		w.after(settle-time.Second, w.at)
		for range 3 {
			w.does(needs(policy.Locking, "2"))
			w.after(time.Millisecond, w.at)
		}
		w.does(needs(policy.Preparing, "2"))
		w.after(soon, w.at, "put preparing")
		if h := w.at.last; h.ID != "1" || h.Hostname != "web-1" || h.Need.Version != "2" || time.Since(h.Updated) > soon+time.Second {
			t.Errorf("the record is %+v", h)
		}
		w.says("")
	})
}

// Its record would otherwise be as old as its place in the queue was when the slot is given back, and be no news.
func TestAHostThatHasQueuedWritesAtOnceThatItHasItsSlot(t *testing.T) {
	write(t, func(w *writing) {
		w.does(needs(policy.Locking, "2"))
		w.after(soon, w.at, "put locking")
		w.after(time.Hour, w.at)
		s := needs(policy.Preparing, "2")
		s.Holds = true
		w.does(s)
		w.after(time.Millisecond, w.at, "put preparing")
		if age := time.Since(w.at.last.Updated); age > 2*time.Second {
			t.Errorf("the record is from %v ago", age)
		}
		s.State = policy.Rebooting
		w.does(s)
		w.after(settle-time.Second, w.at)
		w.after(soon, w.at, "put rebooting")
	})
}

func TestAnIdleHostWritesNothingAndHasNoTimer(t *testing.T) {
	write(t, func(w *writing) {
		w.does(idle())
		w.after(soon, w.at, "put idle")
		for n := range 3 {
			w.after(365*24*time.Hour, w.at)
			if w.made != n+1 {
				t.Errorf("in year %d it has woken up %d times", n, w.made)
			}
			w.does(idle()) // as after a need that was withdrawn before it was written
			w.Refresh()
			w.after(soon, w.at)
		}
	})
}

func TestTextsAreWrittenRarely(t *testing.T) {
	write(t, func(w *writing) {
		s := needs(policy.Waiting, "2")
		s.HeldBack = &policy.Obstacle{Kind: policy.Inhibited, Text: "backup 0"}
		w.does(s)
		w.after(soon, w.at, "put waiting")
		for n := range 28 { // every half a minute, for 14 minutes
			s.HeldBack = &policy.Obstacle{Kind: policy.Inhibited, Text: fmt.Sprint("backup ", n+1)}
			w.does(s)
			w.after(30*time.Second, w.at)
		}
		w.after(2*time.Minute, w.at, "put waiting")
		if !strings.Contains(w.at.last.Why, "backup 28") {
			t.Errorf("the record says %q", w.at.last.Why)
		}
		w.after(time.Hour, w.at)

		// A text waits; what comes meanwhile does not.
		s.HeldBack = &policy.Obstacle{Kind: policy.Inhibited, Text: "another"}
		w.does(s)
		w.after(soon, w.at, "put waiting") // the last one is older than that
		s.HeldBack = &policy.Obstacle{Kind: policy.Inhibited, Text: "a third"}
		w.does(s)
		w.after(time.Minute, w.at)
		s.HeldBack = &policy.Obstacle{Kind: policy.LoggedIn, Text: "ann"}
		w.does(s)
		w.after(soon, w.at, "put waiting")
		if w.at.last.WaitsFor != "users" {
			t.Errorf("the record is %+v", w.at.last)
		}
	})
}

func TestAFailureIsTriedAgainAndSaidOnce(t *testing.T) {
	write(t, func(w *writing) {
		w.at.err = errors.New("etcd is down")
		w.does(idle())
		w.after(soon, w.at, "put idle")
		w.says("etcd is down")
		w.does(needs(policy.Waiting, "2"))             // which does not make it try sooner
		w.after(firstRetry/2-spread-time.Second, w.at) // the attempt may have been made that much sooner
		w.after(firstRetry/2+spread+2*time.Second, w.at, "put waiting")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(w.at.calls); n < 48 || n > 110 {
			t.Errorf("%d attempts in a day", n)
		}
		w.says("")
		w.at.mend()
		w.after(lastRetry, w.at, "put waiting")
		w.says("knows again")
		w.after(time.Hour, w.at)
	})
}

// An attempt that has failed may have written what is no longer true, also where a reload comes in between.
func TestAfterAFailureTheRecordBeforeIsWrittenAgain(t *testing.T) {
	write(t, func(w *writing) {
		w.does(idle())
		w.after(soon, w.at, "put idle")
		w.at.err = errors.New("no answer in time")
		w.does(needs(policy.Waiting, "2"))
		w.after(soon, w.at, "put waiting")
		w.at.mend()
		w.does(idle())
		w.Refresh()
		w.after(firstRetry+soon, w.at, "put idle")
		w.after(time.Hour, w.at)
	})
}

func TestAReloadTriesAgainAtOnce(t *testing.T) {
	write(t, func(w *writing) {
		w.at.err = errors.New("the password is wrong")
		w.does(idle())
		w.after(48*time.Hour, &place{})
		w.at.mend()
		w.log.Reset()
		w.Refresh()
		w.after(soon, w.at, "put idle")
		w.says("")
	})
}

func TestAHostThatMayNotWriteSaysWhatToDo(t *testing.T) {
	write(t, func(w *writing) {
		w.at.err = fmt.Errorf("etcd %w: user a needs permission", lock.ErrRefused)
		w.does(idle())
		w.after(soon, w.at, "put idle")
		w.says("LOCKSMITHD_INVENTORY=false")
	})
	write(t, func(w *writing) { // and so does one that does not know who it is
		w.err = errors.New("read /etc/machine-id: permission denied")
		w.does(idle())
		w.after(soon, w.at)
		w.says("machine-id")
		w.mu.Lock()
		w.err = nil
		w.mu.Unlock()
		w.after(firstRetry, w.at, "put idle")
	})
}

func TestARecordMoves(t *testing.T) {
	write(t, func(w *writing) {
		a, b := w.at, &place{name: "b"}
		w.does(idle())
		w.after(soon, a, "put idle")
		w.at = b
		w.Refresh()
		w.after(soon, a, "forget")
		w.after(0, b, "put idle")

		// The same place, reached in another way, keeps it.
		w.at = &place{name: "b"}
		w.Refresh()
		w.after(soon, b)
		w.after(0, w.at)

		// One that is gone does not stop it.
		w.at.err = errors.New("no route")
		w.at = a
		w.Refresh()
		w.after(soon, a, "put idle")
		w.says("hosts forget")

		// Nowhere.
		w.at = nil
		w.Refresh()
		w.after(soon, a, "forget")
		w.does(needs(policy.Waiting, "2"))
		w.after(time.Hour, a)
		w.says("")

		w.at = a
		w.Refresh()
		w.after(soon, a, "put waiting")
	})
}

func TestARecordThatWasNotThereIsLeftSilently(t *testing.T) {
	write(t, func(w *writing) {
		a := w.at
		w.does(idle())
		w.after(soon, a, "put idle")
		a.err, w.at = ErrNoHost, nil
		w.Refresh()
		w.after(soon, a, "forget")
		w.says("")
	})
}

// Off after a failure is not a success, also where the settings are in force before the writer is told of them.
func TestOffAfterAFailureIsSilent(t *testing.T) {
	write(t, func(w *writing) {
		a := w.at
		a.err = errors.New("etcd is down")
		w.does(idle())
		w.after(soon, a, "put idle")
		w.says("etcd is down")
		w.mu.Lock()
		w.at = nil
		w.mu.Unlock()
		w.after(time.Hour, a)
		w.Refresh()
		w.after(time.Hour, a)
		w.says("")
	})
}

func TestTheEndOfTheDaemonEndsACall(t *testing.T) {
	write(t, func(w *writing) {
		w.at.slow = time.Hour
		w.does(idle())
		w.after(soon, w.at) // the call runs
		began := time.Now()
		w.stop()
		synctest.Wait()
		w.does(needs(policy.Waiting, "2")) // an observer never blocks
		w.does(needs(policy.Waiting, "3"))
		w.Refresh()
		w.Refresh()
		if time.Since(began) > 0 {
			t.Errorf("it took %v", time.Since(began))
		}
		w.says("")
	})
}

func TestTheEndIsNotAState(t *testing.T) {
	write(t, func(w *writing) {
		w.does(idle())
		w.after(soon, w.at, "put idle")
		s := idle()
		s.State = policy.Left
		w.does(s)
		w.after(time.Hour, w.at)
	})
}

func TestClockIsLookedAtAlsoAfterAReload(t *testing.T) {
	write(t, func(w *writing) {
		var set atomic.Int64
		w.Clock = func() time.Time { return time.Now().Add(time.Duration(set.Load())) }
		w.does(idle())
		w.after(time.Minute, w.at, "put idle")
		w.Refresh()
		w.after(soon, w.at)
		set.Store(int64(time.Hour))
		w.after(clockAfter, w.at, "put idle")
		w.after(24*time.Hour, w.at)
	})
}

// The clock of a host without one of its own is put right some time after its start.
func TestRecordIsWrittenAgainOnceTheClockIsRight(t *testing.T) {
	for name, off := range map[string]time.Duration{"forward": 50 * 365 * 24 * time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			write(t, func(w *writing) {
				var set atomic.Int64
				w.Clock = func() time.Time { return time.Now().Add(time.Duration(set.Load())) }
				w.does(policy.Snapshot{State: policy.Idle})
				w.after(time.Minute, w.at, "put idle")
				set.Store(int64(off))
				w.after(clockAfter, w.at, "put idle")
				if want := time.Now().Add(off); w.at.last.Updated.Sub(want).Abs() > clockAfter {
					t.Errorf("the record is from %v, want %v", w.at.last.Updated, want)
				}
				set.Add(int64(clockOff / 2))
				w.after(24*time.Hour, w.at)
			})
		})
	}
}
