package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/storetest"
)

// site is a host around a loop in fake time: a Host, its Scheduler and what the
// loop told the world.
type site struct {
	t       *testing.T
	began   time.Time
	updates chan policy.Event
	reload  chan Settings
	parts   Parts
	stop    context.CancelFunc
	ended   chan error // Run's result

	mu         sync.Mutex
	calls      []string // what was asked of the parts, with the time since the start
	reports    []report
	lines      []map[string]string // of the log
	alive      int
	local      policy.Local    // who is at work, but for what is scheduled
	scheduled  policy.Shutdown // what is
	message    string          // that users got with it
	lookErr    error           // what Local answers
	planErr    error           // what Schedule and Cancel answer
	lost       bool            // but they do what they are asked to
	refuse     error           // what Reboot answers
	kept       policy.Kept
	keepErr    error  // what Keep answers
	logind     string // the name of the logind that answers
	restarting bool
	goingDown  func(context.Context) (bool, error)
	engine     func() *policy.Update // what update_engine answers
}

func newSite(t *testing.T) *site {
	s := &site{
		t:         t,
		began:     time.Now(),
		updates:   make(chan policy.Event),
		reload:    make(chan Settings),
		ended:     make(chan error, 1),
		logind:    ":1.1",
		goingDown: func(context.Context) (bool, error) { return false, nil },
		engine:    func() *policy.Update { return nil },
	}
	s.parts = Parts{
		Updates:   s.updates,
		AskEngine: func(context.Context) *policy.Update { return s.engine() },
		Host:      s,
		Scheduler: s,
		Announce:  func(message string) { s.note("announce"); s.set(func() { s.message = message }) },
		Kept:      &policy.Kept{},
		Restarting: func(context.Context) (bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.restarting, s.planErr
		},
		Keep: func(k policy.Kept) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.keepErr == nil {
				s.kept = k
			}
			return s.keepErr
		},
		Reload: s.reload,
		Alive:  func() { s.set(func() { s.alive++ }) },
		Log:    slog.New(s),
		Seed:   1,
	}
	s.parts.Observers = []Observer{s}
	return s
}

// report is what the site has observed.
type report struct {
	policy.Snapshot
	Status string // for people
}

func (s *site) Observe(snapshot policy.Snapshot, _ []policy.Move) {
	s.set(func() { s.reports = append(s.reports, report{snapshot, snapshot.Line(clock)}) })
}

// run starts the loop, and returns when it waits for something.
func (s *site) run(settings Settings) {
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop = stop
	go func() { s.ended <- Run(ctx, settings, s.parts) }()
	synctest.Wait()
}

// sleep lets time pass.
func (s *site) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *site) tell(u policy.Update) {
	s.updates <- u
	synctest.Wait()
}

// end stops the loop and returns how long that took.
func (s *site) end() (time.Duration, error) {
	s.stop()
	since := time.Now()
	err := <-s.ended
	return time.Since(since), err
}

// set changes what the site answers.
func (s *site) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// What the loop has done so far.
func (s *site) called() (calls []string) {
	s.set(func() { calls = slices.Clone(s.calls) })
	return calls
}

func (s *site) reported() (reports []report) {
	s.set(func() { reports = slices.Clone(s.reports) })
	return reports
}

func (s *site) logged() (lines []map[string]string) {
	s.set(func() { lines = slices.Clone(s.lines) })
	return lines
}

func (s *site) signs() (alive int) {
	s.set(func() { alive = s.alive })
	return alive
}

func (s *site) state() policy.State {
	reports := s.reported()
	if len(reports) == 0 {
		return -1
	}
	return reports[len(reports)-1].State
}

func (s *site) expectState(want policy.State) {
	s.t.Helper()
	if got := s.state(); got != want {
		s.t.Fatalf("in state %v, want %v\n%s", got, want, strings.Join(s.called(), "\n"))
	}
}

func (s *site) expectCalls(want ...string) {
	s.t.Helper()
	if calls := s.called(); !slices.Equal(calls, want) {
		s.t.Errorf("calls:\n  %s\nwant:\n  %s", strings.Join(calls, "\n  "), strings.Join(want, "\n  "))
	}
}

func (s *site) expectEnd(want error) {
	s.t.Helper()
	if _, err := s.end(); !errors.Is(err, want) {
		s.t.Errorf("Run returned %v, want %v", err, want)
	}
}

func (s *site) note(call string) {
	s.set(func() { s.calls = append(s.calls, time.Since(s.began).String()+" "+call) })
}

func (s *site) Reboot(_ context.Context, force bool) error {
	s.note(map[bool]string{false: "reboot", true: "reboot by force"}[force])
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse
}

func (s *site) GoingDown(ctx context.Context) (bool, error) { return s.goingDown(ctx) }

func (s *site) Local(context.Context) (policy.Local, error) {
	s.note("local")
	s.mu.Lock()
	defer s.mu.Unlock()
	local := s.local
	local.Shutdown = s.scheduled
	return local, s.lookErr
}

func (s *site) Scheduled(context.Context) (policy.Shutdown, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scheduled, s.lookErr
}

func (s *site) Instance(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logind, nil
}

func (s *site) Schedule(_ context.Context, at time.Time, message string) error {
	s.note("schedule for " + at.Sub(s.began).String())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.planErr == nil || s.lost {
		s.scheduled, s.message = policy.Shutdown{Type: "reboot", At: at}, message
	}
	return s.planErr
}

func (s *site) Cancel(context.Context) error {
	s.note("cancel")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.planErr == nil || s.lost {
		s.scheduled = policy.Shutdown{}
	}
	return s.planErr
}

// The site is a slog.Handler too.
func (s *site) Enabled(context.Context, slog.Level) bool { return true }
func (s *site) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *site) WithGroup(string) slog.Handler            { return s }
func (s *site) Handle(_ context.Context, r slog.Record) error {
	line := map[string]string{"level": r.Level.String(), "msg": r.Message}
	r.Attrs(func(a slog.Attr) bool { line[a.Key] = a.Value.String(); return true })
	s.set(func() { s.lines = append(s.lines, line) })
	return nil
}

// slot is a Locker whose lock has one slot.
type slot struct {
	s    *site
	name string

	mu       sync.Mutex
	held     policy.Holding
	free     chan struct{} // closed when Acquire may take the slot
	fail     error         // of every call
	keep     error         // of Release
	lostOnce bool          // the next Acquire takes the slot and fails with ErrUnknown
	deaf     bool          // no call ends before its context
	ended    error         // why Acquire ended before its time
	during   func()        // what happens while StillHeld is asked
}

func newSlot(s *site, name string, held policy.Holding) *slot {
	k := &slot{s: s, name: name, held: held, free: make(chan struct{})}
	close(k.free)
	return k
}

func (k *slot) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *slot) is() policy.Holding {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// begin notes a call and ends it early if it is to.
func (k *slot) begin(ctx context.Context, call string) error {
	k.s.note(k.name + " " + call)
	k.mu.Lock()
	deaf, fail := k.deaf, k.fail
	k.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (k *slot) Inspect(ctx context.Context) (policy.Holding, error) {
	return k.is(), k.begin(ctx, "inspect")
}

func (k *slot) StillHeld(ctx context.Context) (bool, error) {
	if err := k.begin(ctx, "still held"); err != nil {
		return false, err
	}
	if k.during != nil {
		k.during()
	}
	return k.is() != policy.NotHeld, nil
}

func (k *slot) Acquire(ctx context.Context, version string, blocked func(string)) error {
	if err := k.begin(ctx, "acquire "+version); err != nil {
		return err
	}
	k.mu.Lock()
	free, lost := k.free, k.lostOnce
	k.lostOnce = false
	k.mu.Unlock()
	select {
	case <-free:
	default:
		blocked("held by another")
		select {
		case <-free:
		case <-ctx.Done():
			k.set(func() { k.ended = context.Cause(ctx) })
			return ctx.Err()
		}
	}
	k.set(func() { k.held = policy.HeldThisBoot })
	if lost {
		return fmt.Errorf("%w: the reply was lost", ErrUnknown)
	}
	return nil
}

func (k *slot) Release(ctx context.Context) error {
	if err := k.begin(ctx, "release"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keep == nil {
		k.held = policy.NotHeld
	}
	return k.keep
}

// in runs a test in fake time, with a site.
func in(t *testing.T, test func(*testing.T, *site)) {
	synctest.Test(t, func(t *testing.T) { test(t, newSite(t)) })
}

func locked(k *slot) Settings {
	return Settings{Policy: policy.Config{Lock: true, LoginDelay: 5 * time.Minute, LoginRetry: time.Hour}, Lock: k}
}

func TestRebootWithTheLock(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.run(locked(k))
		s.sleep(time.Hour)
		s.tell(need)
		s.expectCalls("0s A inspect", "1h0m0s local", "1h0m0s A acquire 4081.2.0", "1h0m0s local", "1h0m0s A still held", "1h0m0s local", "1h0m0s reboot")
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
		if k.is() == policy.NotHeld {
			t.Error("the slot does not cover the reboot")
		}
	})
}

func TestRebootWithoutALock(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.run(Settings{})
		s.tell(need)
		s.expectCalls("0s local", "0s local", "0s reboot")
		s.expectEnd(nil)
	})
}

func TestLoginDelayIsExactlyFiveMinutes(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.local = people
		s.run(Settings{Policy: people5m})
		s.tell(need)
		s.sleep(5*time.Minute - time.Nanosecond)
		s.expectState(policy.Preparing)
		s.sleep(time.Nanosecond)
		s.expectState(policy.Rebooting)
		want := []string{"0s local", "0s local", "0s schedule for 5m30s"}
		for at := policy.LookEvery; at <= 5*time.Minute; at += policy.LookEvery {
			want = append(want, at.String()+" local")
		}
		s.expectCalls(append(want, "5m0s reboot")...)
		if !strings.HasPrefix(s.message, "System reboot in 5 minutes!") {
			t.Errorf("users are told %q", s.message)
		}
		s.expectEnd(nil)
	})
}

func TestWindowIsMetWithinASecondOfItsOpening(t *testing.T) {
	for _, wait := range []time.Duration{10 * time.Second, 7 * time.Hour, 6*24*time.Hour + 333*time.Millisecond} {
		in(t, func(t *testing.T, s *site) {
			k := newSlot(s, "A", policy.NotHeld)
			opening := s.began.Add(wait)
			s.run(Settings{Policy: policy.Config{Lock: true, Window: &spans{{opening, opening.Add(time.Hour)}}}, Lock: k})
			s.tell(need)
			s.sleep(wait - time.Nanosecond)
			s.expectState(policy.Waiting)
			s.sleep(time.Second)
			s.expectState(policy.Rebooting)
			s.expectCalls("0s A inspect", wait.String()+" local", wait.String()+" A acquire 4081.2.0", wait.String()+" local", wait.String()+" A still held", wait.String()+" local", wait.String()+" reboot")
			s.expectEnd(nil)
		})
	}
}

func TestSlotIsGivenBackWhenTheWindowShuts(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(k))
		s.tell(need)
		if s.expectState(policy.Preparing); k.is() == policy.NotHeld || s.scheduled.Type == "" {
			t.Error("the slot is not held, or nothing scheduled")
		}
		settings := locked(k)
		settings.Policy.Window = &spans{{s.began, s.began.Add(150 * time.Second)}}
		s.reload <- settings
		s.sleep(policy.LookEvery)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld || s.scheduled.Type != "" {
			t.Error("the slot is held for a delay that the window ends")
		}
		s.expectEnd(nil)
	})
}

func TestRefusedRebootIsTriedAgainWithinBounds(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.refuse = errRefused
		s.run(locked(k))
		s.tell(need)
		s.sleep(24 * time.Hour)
		if k.is() != policy.NotHeld {
			t.Error("the slot is kept between the tries")
		}
		var reboots []time.Duration
		for _, call := range s.called() {
			at, what, _ := strings.Cut(call, " ")
			if what == "reboot" {
				d, err := time.ParseDuration(at)
				if err != nil {
					t.Fatal(err)
				}
				reboots = append(reboots, d)
			}
		}
		if len(reboots) < 24*4 || len(reboots) > 24*8+10 {
			t.Errorf("%d reboots were asked for in a day", len(reboots))
		}
		for n := 1; n < len(reboots); n++ {
			full := min(15*time.Minute, 5*time.Second<<min(n-1, 10))
			if d := reboots[n] - reboots[n-1]; d < full/2 || d > full {
				t.Errorf("reboot %d comes %v after the one before, want %v to %v", n+1, d, full/2, full)
			}
		}
		if n := len(s.find("reboot failed")); n != len(reboots) {
			t.Errorf("%d refusals, %d errors in the log", len(reboots), n)
		}
		s.expectEnd(nil)
	})
}

// A slot is not given back under a host that is going down, whatever the reason:
// logind refuses a reboot while another one is under way, the daemon is started
// again between the request and the end of the host, or delays last for longer
// than it waits.
func TestSlotIsKeptWhileTheHostGoesDown(t *testing.T) {
	down := func(context.Context) (bool, error) { return true, nil }
	for name, test := range map[string]struct {
		held  policy.Holding // at start
		reach func(s *site)
		state policy.State
	}{
		"found at start":        {policy.HeldThisBoot, func(s *site) { s.tell(policy.Update{Source: policy.Engine}) }, policy.Settling},
		"found from before":     {policy.HeldSinceBefore, func(s *site) { s.tell(policy.Update{Source: policy.Engine}) }, policy.Settling},
		"reboot refused":        {policy.NotHeld, func(s *site) { s.refuse = errRefused; s.tell(need) }, policy.Releasing},
		"still up after a time": {policy.NotHeld, func(s *site) { s.tell(need); s.sleep(policy.RebootGrace) }, policy.Releasing},
		"update withdrawn": {policy.NotHeld, func(s *site) {
			s.local = people
			s.tell(need)
			s.tell(policy.Update{Source: policy.Engine})
		}, policy.Releasing},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", test.held)
				s.goingDown = down
				s.run(locked(k))
				test.reach(s)
				s.sleep(time.Hour)
				if s.expectState(test.state); k.is() == policy.NotHeld {
					t.Error("the slot was given back while the host goes down")
				}
				if last := s.reported()[len(s.reported())-1].Status; !strings.Contains(last, "the host is going down already") {
					t.Errorf("the status is %q", last)
				}
				// It does not go down after all.
				s.set(func() { s.goingDown = func(context.Context) (bool, error) { return false, nil } })
				s.sleep(policy.MaxNap)
				if !slices.ContainsFunc(s.called(), func(c string) bool { return strings.HasSuffix(c, "A release") }) {
					t.Error("the slot is never given back")
				}
				s.expectEnd(nil)
			})
		})
	}
}

// A logind that does not say whether the host is going down does not freeze the fleet.
func TestSlotFromBeforeThisBootIsGivenBackThoughLogindIsSilent(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		s.goingDown = func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() }
		s.run(locked(k))
		s.sleep(askTimeout)
		if s.expectState(policy.Idle); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		s.expectEnd(nil)
	})
}

func (s *site) find(msg string) (lines []map[string]string) {
	for _, l := range s.logged() {
		if l["msg"] == msg {
			lines = append(lines, l)
		}
	}
	return lines
}

func TestRebootOfUnknownOutcomeIsWaitedForAndThenTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.refuse = fmt.Errorf("%w: no reply", ErrUnknown)
		s.run(locked(k))
		s.tell(need)
		s.sleep(policy.RebootGrace - time.Nanosecond)
		if s.expectState(policy.Rebooting); k.is() == policy.NotHeld {
			t.Error("the slot was given back although the host may be going down")
		}
		s.sleep(time.Nanosecond)
		if s.expectState(policy.Waiting); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		s.sleep(time.Minute)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

// A call that logind did not answer may still be before it: the slot is given back only once
// logind, and systemd, have said that the host does not go down.
func TestSlotIsKeptUntilLogindSaysWhatBecameOfTheReboot(t *testing.T) {
	for name, settings := range map[string]func(*slot) Settings{
		"with a lock":    locked,
		"without a lock": func(*slot) Settings { return Settings{Policy: people5m} },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := newSlot(s, "A", policy.NotHeld)
				s.refuse = fmt.Errorf("%w: no reply", ErrUnknown)
				s.run(settings(k))
				s.tell(need)
				s.set(func() { s.goingDown = func(context.Context) (bool, error) { return false, errDown } })
				s.sleep(24 * time.Hour)
				if s.expectState(policy.Releasing); s.did("A release") {
					t.Error("the slot was given back although the host may be going down")
				}
				last := s.reported()[len(s.reported())-1].Status
				for _, part := range []string{"asking logind and systemd whether the reboot that logind was asked for is under way", "a slot that is held is kept until logind answers", "systemctl restart systemd-logind"} {
					if !strings.Contains(last, part) {
						t.Errorf("the status is %q, without %q", last, part)
					}
				}
				s.set(func() { s.refuse, s.goingDown = nil, func(context.Context) (bool, error) { return false, nil } })
				s.sleep(20 * time.Minute)
				s.expectState(policy.Rebooting)
				s.expectEnd(nil)
			})
		})
	}
}

// The next process asks as well.
func TestSlotIsKeptByTheProcessAfterTheOneThatAskedForTheReboot(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.refuse = fmt.Errorf("%w: no reply", ErrUnknown)
		s.run(locked(k))
		s.tell(need)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)

		again := newSite(t)
		again.parts.Kept, k.s = &s.kept, again
		again.goingDown = func(context.Context) (bool, error) { return false, errDown }
		again.run(locked(k))
		again.tell(idle)
		again.sleep(time.Hour)
		if again.expectState(policy.Settling); k.is() == policy.NotHeld {
			t.Error("the slot was given back although the host may be going down")
		}
		again.set(func() { again.goingDown = func(context.Context) (bool, error) { return false, nil } })
		again.sleep(time.Minute)
		if again.expectState(policy.Idle); k.is() != policy.NotHeld {
			t.Error("the slot is kept")
		}
		again.expectEnd(nil)
	})
}

func TestLostReplyOfTheLockIsResolvedByTheNextTry(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		k.lostOnce = true
		s.run(locked(k))
		s.tell(need)
		s.expectState(policy.Waiting)
		s.sleep(5 * time.Second)
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

func TestEtcdDownAtBootIsWaitedFor(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		k.fail = errDown
		s.run(locked(k))
		s.tell(need)
		s.sleep(3 * 24 * time.Hour)
		s.expectState(policy.Starting)
		if n := len(s.called()); n < 3*24*60 || n > 3*24*120+10 {
			t.Errorf("etcd was asked %d times in three days", n)
		}
		k.set(func() { k.fail = nil })
		s.sleep(time.Minute)
		s.expectState(policy.Rebooting)
		tail := s.called()[len(s.called())-8:]
		for i, want := range []string{"A inspect", "A release", "local", "A acquire 4081.2.0", "local", "A still held", "local", "reboot"} {
			if !strings.HasSuffix(tail[i], " "+want) {
				t.Errorf("call %q, want %s", tail[i], want)
			}
		}
		s.expectEnd(nil)
	})
}

// ways are how to bring a loop to each state in which it can be stopped.
var ways = []struct {
	name  string
	held  policy.Holding // at the start
	first func(*slot)    // before the start
	get   func(*site, *slot)
	state policy.State
	holds bool // the slot, once there
	stuck bool // it cannot be given back
}{
	{"starting", policy.HeldSinceBefore, func(k *slot) { k.fail = errDown }, nil, policy.Starting, true, true},
	{"settling", policy.HeldSinceBefore, func(k *slot) { k.keep = errDown }, nil, policy.Settling, true, true},
	{"settled", policy.HeldSinceBefore, nil, nil, policy.Idle, false, false},
	{"idle", policy.NotHeld, nil, nil, policy.Idle, false, false},
	{"locking", policy.NotHeld, func(k *slot) { k.free = make(chan struct{}) }, func(s *site, k *slot) { s.tell(need) }, policy.Locking, false, false},
	{"waiting", policy.NotHeld, nil, func(s *site, k *slot) { k.lostOnce = true; s.tell(need) }, policy.Waiting, true, false},
	{"preparing", policy.NotHeld, nil, func(s *site, k *slot) { s.local = people; s.tell(need) }, policy.Preparing, true, false},
	{"rebooting", policy.NotHeld, nil, func(s *site, k *slot) { s.tell(need) }, policy.Rebooting, true, true},
	{"releasing", policy.NotHeld, nil, func(s *site, k *slot) { k.keep = errDown; s.refuse = errRefused; s.tell(need) }, policy.Releasing, true, true},
}

// start runs a loop and brings it to the state of a way.
func (s *site) start(way int) *slot {
	s.t.Helper()
	w := ways[way]
	k := newSlot(s, "A", w.held)
	if w.first != nil {
		w.first(k)
	}
	s.run(locked(k))
	if w.get != nil {
		w.get(s, k)
	}
	s.expectState(w.state)
	if held := k.is() != policy.NotHeld; held != w.holds {
		s.t.Fatalf("held %v, want %v", held, w.holds)
	}
	return k
}

func TestStopGivesTheSlotBackUnlessTheHostGoesDown(t *testing.T) {
	silent := func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() }
	for _, logind := range []struct {
		name  string
		down  func(context.Context) (bool, error)
		keeps bool
		takes time.Duration // at most
	}{
		{"host stays up", func(context.Context) (bool, error) { return false, nil }, false, 0},
		{"host goes down", func(context.Context) (bool, error) { return true, nil }, true, 0},
		{"logind fails", func(context.Context) (bool, error) { return false, errDown }, true, 0},
		{"logind is silent", silent, true, askTimeout},
	} {
		for i, way := range ways {
			t.Run(logind.name+" while "+way.name, func(t *testing.T) {
				in(t, func(t *testing.T, s *site) {
					k := s.start(i)
					s.goingDown = logind.down
					took, err := s.end()
					if err != nil {
						t.Errorf("Run returned %v", err)
					}
					if took > logind.takes {
						t.Errorf("it took %v to stop, want %v at most", took, logind.takes)
					}
					keeps := way.holds && (logind.keeps || way.stuck)
					if held := k.is() != policy.NotHeld; held != keeps {
						t.Errorf("held %v after the end, want %v", held, keeps)
					}
					s.expectState(policy.Left)
				})
			})
		}
	}
}

// Nothing that may be held is no reason to ask logind.
func TestStopWithoutASlotAsksNobody(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.goingDown = func(context.Context) (bool, error) { t.Error("logind was asked"); return true, nil }
		s.run(locked(newSlot(s, "A", policy.NotHeld)))
		s.expectEnd(nil)
	})
}

func TestStopTakesFiveSecondsAtMostWhenEtcdHangs(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(k))
		s.tell(need)
		k.set(func() { k.deaf = true })
		s.goingDown = func(context.Context) (bool, error) { time.Sleep(askTimeout / 2); return false, nil }
		if took, err := s.end(); err != nil || took != leaveTimeout {
			t.Errorf("it took %v, Run returned %v", took, err)
		}
		if len(s.find("stopped without knowing whether the slot was given back; it is sorted out at the next start")) != 1 {
			t.Error("the log does not say so")
		}
	})
}

// An effect that does not heed its context must not hold up the end, nor be
// held up by it.
func TestEffectThatEndsAfterTheLoop(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.run(locked(k))
		slow := make(chan struct{})
		s.engine = func() *policy.Update { <-slow; return nil }
		s.tell(need)
		s.expectState(policy.Preparing)
		if took, err := s.end(); err != nil || took != leaveTimeout {
			t.Errorf("it took %v, Run returned %v", took, err)
		}
		close(slow) // and the bubble ends with no goroutine left
	})
}

func TestReloadMovesToTheNewGroup(t *testing.T) {
	for i, way := range ways {
		if way.stuck {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				a, b := s.start(i), newSlot(s, "B", policy.NotHeld)
				s.set(func() { s.local = policy.Local{} })
				s.reload <- locked(b)
				synctest.Wait()
				if a.is() != policy.NotHeld {
					t.Error("the old group's slot is kept")
				}
				last := s.called()[len(s.called())-1]
				if way.state == policy.Idle {
					s.expectState(policy.Idle)
					if last != time.Since(s.began).String()+" B inspect" {
						t.Errorf("the last call is %q", last)
					}
				} else {
					s.expectState(policy.Rebooting) // the update is remembered
					if b.is() == policy.NotHeld {
						t.Error("reboots without the new group's slot")
					}
				}
				i := slices.IndexFunc(s.called(), func(c string) bool { return strings.Contains(c, " B ") })
				if slices.ContainsFunc(s.called()[i:], func(c string) bool { return strings.Contains(c, " A ") }) {
					t.Errorf("the old group is used after the new one:\n%s", strings.Join(s.called(), "\n"))
				}
				s.expectEnd(nil)
			})
		})
	}
}

// A new endpoint is how an operator mends what the old one broke.
func TestReloadDoesNotWaitForAnEtcdThatDoesNotAnswer(t *testing.T) {
	for i, way := range ways {
		if !way.stuck || way.state == policy.Rebooting {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				s.start(i)
				s.set(func() { s.refuse = nil })
				s.reload <- locked(newSlot(s, "B", policy.NotHeld))
				synctest.Wait()
				if calls := s.called(); !slices.Contains(calls, time.Since(s.began).String()+" B inspect") {
					t.Errorf("calls:\n%s", strings.Join(calls, "\n"))
				}
				told := slices.ContainsFunc(s.logged(), func(line map[string]string) bool {
					return strings.Contains(line[slog.MessageKey], "may still be held")
				})
				if !told {
					t.Error("nobody is told of the slot that stays behind")
				}
				s.expectEnd(nil)
			})
		})
	}
}

func TestReloadRemembersWhatWasAskedForByHand(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.run(Settings{Policy: policy.Config{Window: &spans{}}})
		s.tell(asked)
		s.expectState(policy.Waiting)
		s.reload <- Settings{}
		synctest.Wait()
		s.expectState(policy.Rebooting)
		s.expectEnd(nil)
	})
}

func TestReloadOfTheSameLockKeepsTheSlot(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(a))
		s.tell(asked)
		s.expectState(policy.Preparing)
		before := s.called()
		s.reload <- locked(a)
		synctest.Wait()
		s.expectState(policy.Preparing)
		s.expectCalls(before...)

		shut := locked(a)
		shut.Policy.Window = &spans{}
		s.reload <- shut
		synctest.Wait()
		s.expectState(policy.Waiting)
		if a.is() != policy.NotHeld {
			t.Error("the new window is shut, and the slot is kept")
		}
		s.expectEnd(nil)
	})
}

// What comes while the slot is being given back for the new configuration is
// for the new configuration.
func TestNothingIsLostDuringAReload(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a, b, c := newSlot(s, "A", policy.NotHeld), newSlot(s, "B", policy.NotHeld), newSlot(s, "C", policy.NotHeld)
		s.local = people
		s.run(locked(a))
		s.tell(need)
		a.set(func() { a.deaf = true })
		s.reload <- locked(b) // hangs until the release gives up
		synctest.Wait()
		s.expectState(policy.Releasing)
		s.tell(policy.Update{Source: policy.Engine})
		s.reload <- locked(c) // a better one: B is never used
		synctest.Wait()
		s.tell(asked)
		s.tell(policy.Update{Source: policy.Engine, Pending: true, Version: "5"})
		s.set(func() { s.local = policy.Local{} })
		s.sleep(policy.Unlock{}.Kind().Limit)
		s.expectState(policy.Rebooting)
		if c.is() == policy.NotHeld || b.is() != policy.NotHeld {
			t.Errorf("C %v, B %v", c.is(), b.is())
		}
		if !slices.Contains(s.called(), policy.Unlock{}.Kind().Limit.String()+" C acquire 5") {
			t.Errorf("calls:\n%s", strings.Join(s.called(), "\n"))
		}
		s.expectEnd(nil)
	})
}

func TestStopDuringAReloadStops(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a := newSlot(s, "A", policy.NotHeld)
		s.local = people
		s.run(locked(a))
		s.tell(need)
		a.set(func() { a.deaf = true })
		s.reload <- locked(newSlot(s, "B", policy.NotHeld))
		synctest.Wait()
		if took, err := s.end(); err != nil || took != leaveTimeout {
			t.Errorf("it took %v, Run returned %v", took, err)
		}
		if slices.ContainsFunc(s.called(), func(c string) bool { return strings.Contains(c, " B ") }) {
			t.Errorf("the new configuration was used:\n%s", strings.Join(s.called(), "\n"))
		}
	})
}

func TestStopDuringAReloadThatEndsInTime(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		a := newSlot(s, "A", policy.NotHeld)
		s.run(locked(a))
		slow := make(chan struct{})
		s.engine = func() *policy.Update { <-slow; return nil }
		s.tell(need)
		s.reload <- locked(newSlot(s, "B", policy.NotHeld))
		synctest.Wait()
		s.stop()
		s.sleep(time.Second)
		close(slow)
		if err := <-s.ended; err != nil || a.is() != policy.NotHeld {
			t.Errorf("Run returned %v, holding %v", err, a.is())
		}
		if slices.ContainsFunc(s.called(), func(c string) bool { return strings.Contains(c, " B ") }) {
			t.Errorf("the new configuration was used:\n%s", strings.Join(s.called(), "\n"))
		}
	})
}

// A lock that says yes and then no must not be asked without a pause.
func TestSlotThatIsTakenAwayAgainAndAgainIsNotFoughtFor(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		s.engine = func() *policy.Update { k.set(func() { k.held = policy.NotHeld }); return nil }
		s.run(locked(k))
		s.tell(need)
		s.sleep(time.Hour)
		if n := len(s.called()); n > 3*130 {
			t.Errorf("%d calls in an hour", n)
		}
		s.expectEnd(nil)
	})
}

func TestLostBusEndsTheLoopOnce(t *testing.T) {
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				k := s.start(i)
				s.goingDown = func(context.Context) (bool, error) { t.Error("logind was asked without a bus"); return false, nil }
				calls, reports := len(s.called()), len(s.reported())
				close(s.updates)
				if err := <-s.ended; err != ErrBusGone {
					t.Errorf("Run returned %v", err)
				}
				if held := k.is() != policy.NotHeld; held != way.holds {
					t.Errorf("held %v after the end, want %v: nobody can tell whether the host goes down", held, way.holds)
				}
				if len(s.called()) != calls || len(s.reported()) != reports+1 {
					t.Errorf("%d calls and %d reports after the bus was lost", len(s.called())-calls, len(s.reported())-reports)
				}
			})
		})
	}
}

// Who watches the bus stops when the loop is to stop: that is no lost bus.
func TestUpdatesThatEndWithTheContextAreNoLostBus(t *testing.T) {
	for range 50 { // the loop sees either first
		in(t, func(t *testing.T, s *site) {
			k := newSlot(s, "A", policy.NotHeld)
			s.local = people
			s.run(locked(k))
			s.tell(need)
			s.stop()
			close(s.updates)
			if err := <-s.ended; err != nil {
				t.Errorf("Run returned %v", err)
			}
			if k.is() != policy.NotHeld {
				t.Error("the slot is kept")
			}
		})
	}
}

func TestLoopSaysThatItIsAlive(t *testing.T) {
	for name, drive := range map[string]func(*site, *slot){
		"idle":    func(s *site, k *slot) {},
		"blocked": func(s *site, k *slot) { k.free = make(chan struct{}); s.tell(need) },
		"etcd hangs": func(s *site, k *slot) {
			k.set(func() { k.deaf = true })
			s.tell(need)
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, s *site) {
				s.parts.AliveEvery = 15 * time.Second
				k := newSlot(s, "A", policy.NotHeld)
				s.run(locked(k))
				drive(s, k)
				s.sleep(time.Hour)
				if s.signs() != 240 {
					t.Errorf("%d signs of life in an hour, want 240", s.signs())
				}
				s.expectEnd(nil)
				s.sleep(time.Hour)
				if s.signs() != 240 {
					t.Errorf("%d signs of life after the end", s.signs()-240)
				}
			})
		})
	}
}

func TestStuckLoopIsNotAlive(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.parts.AliveEvery = 15 * time.Second
		release := make(chan struct{})
		s.parts.Observers = []Observer{stuck{s, release}}
		s.run(Settings{})
		s.sleep(time.Minute)
		s.tell(need)
		before := s.signs()
		s.sleep(time.Hour)
		if s.signs() != before || before == 0 {
			t.Errorf("%d signs of life before, %d after it got stuck", before, s.signs()-before)
		}
		close(release)
		s.sleep(15 * time.Second)
		if s.signs() == before {
			t.Error("no sign of life any more")
		}
		s.expectEnd(nil)
	})
}

// stuck is an Observer that does not return from a reboot before its channel is closed.
type stuck struct {
	*site
	release chan struct{}
}

func (o stuck) Observe(s policy.Snapshot, moves []policy.Move) {
	if s.State == policy.Rebooting {
		<-o.release
	}
	o.site.Observe(s, moves)
}

// counted is a Gate that counts how often it is asked: at least once in every
// step of the machine, for the status line.
type counted struct {
	policy.Gate
	mu    sync.Mutex
	asked int
}

func (g *counted) Next(t time.Time) (start, end time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	return g.Gate.Next(t)
}

func (g *counted) since(do func()) int {
	g.mu.Lock()
	before := g.asked
	g.mu.Unlock()
	do()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked - before
}

func TestIdleLoopSleeps(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		gate := &counted{Gate: &spans{}}
		s.run(Settings{Policy: policy.Config{Lock: true, Window: gate}, Lock: newSlot(s, "A", policy.NotHeld)})
		s.expectState(policy.Idle)
		if n := gate.since(func() { s.tell(idle) }); n == 0 {
			t.Fatal("the window does not count the steps: find another way")
		}
		if n := gate.since(func() { s.sleep(30 * 24 * time.Hour) }); n != 0 {
			t.Errorf("the idle loop woke %d times in a month", n)
		}
		s.tell(need)
		s.expectState(policy.Waiting)
		if n := gate.since(func() { s.sleep(24 * time.Hour) }); n < 24*60 || n > 3*24*60 {
			t.Errorf("the waiting loop asked for the window %d times in a day", n)
		}
		s.tell(idle)
		s.expectState(policy.Idle)
		if n := gate.since(func() { s.sleep(24 * time.Hour) }); n != 0 {
			t.Errorf("the loop, idle again, woke %d times in a day", n)
		}
		s.expectEnd(nil)
	})
}

func TestReportComesOnlyWithAChange(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.parts.AliveEvery = time.Second
		k := newSlot(s, "A", policy.NotHeld)
		opening := s.began.Add(6 * time.Hour)
		k.free = make(chan struct{})
		s.run(Settings{Policy: policy.Config{Lock: true, Window: &spans{{opening, opening.Add(time.Hour)}}}, Lock: k})
		s.tell(need)
		s.tell(need)
		s.sleep(5 * time.Hour)
		s.tell(need)
		s.sleep(time.Hour + 30*time.Minute)
		var states []string
		for i, r := range s.reported() {
			if i > 0 && reflect.DeepEqual(r, s.reported()[i-1]) {
				t.Errorf("told twice: %v", r)
			}
			if r.Status == "" || !r.Lock {
				t.Errorf("report %+v", r)
			}
			states = append(states, r.State.String())
		}
		if want := "starting idle waiting waiting locking locking"; strings.Join(states, " ") != want {
			t.Errorf("reports of %v, want %s", states, want)
		}
		s.expectEnd(nil)
	})
}

func TestEveryTransitionIsOneLineInTheLog(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.HeldSinceBefore)
		s.refuse = errRefused
		s.run(locked(k))
		s.tell(need)
		s.sleep(time.Second)
		var moves []string
		from := "starting"
		for _, l := range s.logged() {
			if l["level"] != "INFO" {
				continue
			}
			if l["from"] != from || l["why"] == "" || l["status"] == "" {
				t.Errorf("line %v after state %s", l, from)
			}
			from = l["msg"]
			moves = append(moves, from)
		}
		if want := "settling idle waiting locking preparing rebooting releasing waiting"; strings.Join(moves, " ") != want {
			t.Errorf("the log has %v, want %s", moves, want)
		}
		if l := s.find("reboot failed"); len(l) != 1 || l[0]["level"] != "WARN" || l[0]["error"] != errRefused.Error() {
			t.Errorf("the log has %v", l)
		}
		s.expectEnd(nil)
	})
}

// What the loop itself cancelled is no failure.
func TestCancelledEffectsAreNoFailures(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		k := newSlot(s, "A", policy.NotHeld)
		k.free = make(chan struct{})
		s.run(locked(k))
		s.tell(need)
		s.tell(idle)
		s.expectState(policy.Idle)
		s.expectEnd(nil)
		for _, l := range s.logged() {
			if l["level"] != "INFO" {
				t.Errorf("line %v", l)
			}
		}
	})
}

// realSlot is a host's view of a real lock.
type realSlot struct {
	*lock.Lock
	id, boot string
}

func (r realSlot) Inspect(ctx context.Context) (policy.Holding, error) {
	held, record, err := r.Holder(ctx, r.id)
	switch {
	case err != nil || !held:
		return policy.NotHeld, err
	case record.BootID == r.boot:
		return policy.HeldThisBoot, nil
	}
	return policy.HeldSinceBefore, nil
}

func (r realSlot) StillHeld(ctx context.Context) (bool, error) {
	held, _, err := r.Holder(ctx, r.id)
	return held, err
}

func (r realSlot) Acquire(ctx context.Context, version string, blocked func(string)) error {
	err := r.Lock.Acquire(ctx, r.id, lock.Record{BootID: r.boot, Version: version}, func(w lock.WaitStatus, err error) {
		blocked(fmt.Sprint(w.Semaphore.Holders, w.Ahead, err))
	})
	if errors.Is(err, lock.ErrUnknown) {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

func (r realSlot) Release(ctx context.Context) error {
	var notHeld *lock.NotHeldError
	if err := r.Lock.Release(ctx, r.id); err != nil && !errors.As(err, &notHeld) {
		return err
	}
	return nil
}

// Hosts that are told of an update at once go down one after another, each as
// soon as the one before is up again.
func TestFleetRebootsOneAtATime(t *testing.T) {
	const hosts, downtime = 5, 90 * time.Second
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		var mu sync.Mutex
		down, most := 0, 0
		begin := time.Now()
		var fleet sync.WaitGroup
		for n := range hosts {
			fleet.Go(func() {
				for boot := range 2 {
					s := newSite(t)
					l, err := lock.New(store, "", 1)
					if err != nil {
						t.Error(err)
						return
					}
					ctx, stop := context.WithCancel(t.Context())
					go func() {
						s.ended <- Run(ctx, Settings{Policy: policy.Config{Lock: true}, Lock: realSlot{l, fmt.Sprintf("host%d", n), fmt.Sprint("boot", boot)}}, s.parts)
					}()
					if boot == 1 { // it comes up with the slot held, gives it back, and is done
						for s.state() != policy.Idle {
							time.Sleep(time.Millisecond)
						}
						stop()
						<-s.ended
						return
					}
					s.updates <- need
					for s.state() != policy.Rebooting {
						time.Sleep(time.Second)
					}
					mu.Lock()
					down++
					most = max(most, down)
					mu.Unlock()
					stop()
					<-s.ended
					time.Sleep(downtime)
					mu.Lock()
					down--
					mu.Unlock()
				}
			})
		}
		fleet.Wait()
		if most != 1 {
			t.Errorf("%d hosts were down at once", most)
		}
		if took := time.Since(begin); took > hosts*(downtime+5*time.Second) {
			t.Errorf("%d hosts took %v", hosts, took)
		}
		l, err := lock.New(store, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := l.Status(t.Context()); err != nil || len(s.Holders) != 0 {
			t.Errorf("at the end: %+v, %v", s, err)
		}
	})
}
