package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/journal"
	"github.com/locksmithd/locksmith/internal/policy"
)

// site is a host around a loop in fake time: a Host, and what the loop
// told the world.
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
	facts      []journal.Facts     // of lines that have any
	alive      int
	local      policy.Local    // who is at work, without scheduled
	scheduled  policy.Shutdown // the shutdown that is
	message    string          // what users got with it
	lookErr    error           // what Local answers
	planErr    error           // what Schedule and Cancel answer
	lost       bool            // they take effect anyway
	refuse     error           // what Reboot answers
	old        bool            // it knows only full reboots
	begun      []policy.Reboot // what Begin was called with
	modes      policy.Modes    // what Modes answers
	kept       policy.Kept
	keepErr    error  // what Keep answers
	logind     string // the name of the logind that answers
	restarting bool
	goingDown  func(context.Context) (bool, error)
	engine     func() []policy.Update // what update_engine answers
	gate       func() *policy.Obstacle
	hooks      hooks
	results    []error // of the reboot before this boot, as recorded
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
		engine:    func() []policy.Update { return nil },
		gate:      func() *policy.Obstacle { return nil },
	}
	s.hooks.site = s
	s.parts = Parts{
		Updates:    s.updates,
		AskSources: func(context.Context) []policy.Update { return now(s, &s.engine)() },
		Host:       s,
		Announce:   func(message string) { s.note("announce"); s.set(func() { s.message = message }) },
		Found:      policy.Found{Kept: &policy.Kept{}},
		Gate:       func(context.Context, policy.Need) *policy.Obstacle { return now(s, &s.gate)() },
		Hooks:      &s.hooks,
		Begin: func(_ context.Context, r policy.Reboot) error {
			s.set(func() { s.begun = append(s.begun, r) })
			return nil
		},
		Ended: func(_ context.Context, failure error) error {
			s.set(func() { s.results = append(s.results, failure) })
			return nil
		},
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

func (s *site) Observe(snapshot policy.Snapshot, line string, _ []policy.Move) {
	s.set(func() { s.reports = append(s.reports, report{snapshot, line}) })
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

// now returns what a field of the site is now, since set may change it at any time.
func now[T any](s *site, field *T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *field
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

func (s *site) Reboot(_ context.Context, mode policy.Mode, force bool) (policy.Mode, error) {
	call := map[bool]string{false: "reboot", true: "reboot by force"}[force]
	if mode != policy.FullReboot {
		call += ", " + string(mode)
	}
	s.note(call)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.old {
		mode = policy.FullReboot
	}
	return mode, s.refuse
}

func (s *site) Modes() policy.Modes {
	s.note("modes")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.modes
}

func (s *site) GoingDown(ctx context.Context) (bool, error) { return now(s, &s.goingDown)(ctx) }

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

func (s *site) WithAttrs([]slog.Attr) slog.Handler { return s }

func (s *site) WithGroup(string) slog.Handler { return s }

func (s *site) Handle(_ context.Context, r slog.Record) error {
	line := map[string]string{"level": r.Level.String(), "msg": r.Message}
	var facts []journal.Facts
	r.Attrs(func(a slog.Attr) bool {
		if f, ok := a.Value.Any().(journal.Facts); ok {
			facts = append(facts, f)
		} else {
			line[a.Key] = a.Value.String()
		}
		return true
	})
	s.set(func() { s.lines, s.facts = append(s.lines, line), append(s.facts, facts...) })
	return nil
}

// in runs a test in fake time, with a site.
func in(t *testing.T, test func(*testing.T, *site)) {
	synctest.Test(t, func(t *testing.T) { test(t, newSite(t)) })
}

func locked(k *slot) Settings {
	p := people5m
	p.Lock = true
	return Settings{Policy: p, Lock: k}
}

func (s *site) find(msg string) (lines []map[string]string) {
	for _, l := range s.logged() {
		if l["msg"] == msg {
			lines = append(lines, l)
		}
	}
	return lines
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

// did reports whether a call was made, whenever.
func (s *site) did(call string) bool {
	return slices.ContainsFunc(s.called(), func(c string) bool { return strings.HasSuffix(c, " "+call) })
}

// expectOrder checks that calls were made in this order, the last of each counted.
func (s *site) expectOrder(calls ...string) {
	s.t.Helper()
	at := -1
	for _, want := range calls {
		i := -1
		for n, c := range s.called() {
			if strings.HasSuffix(c, " "+want) {
				i = n
			}
		}
		if i < at || i < 0 {
			s.t.Errorf("%q comes at %d, after %d:\n%s", want, i, at, strings.Join(s.called(), "\n"))
		}
		at = i
	}
}

// warned runs a loop and brings it to where users have been told.
func (s *site) warned(k *slot) {
	s.t.Helper()
	s.local = people
	s.run(locked(k))
	s.tell(need)
	s.expectState(policy.Preparing)
	if s.scheduled.Type == "" {
		s.t.Fatal("nothing is scheduled")
	}
}

// left has a process before the loop leave a reboot that it has scheduled.
func (s *site) left(at time.Time) {
	s.scheduled = policy.Shutdown{Type: "reboot", At: at}
	s.parts.Found.Kept = &policy.Kept{Scheduled: policy.KeptSchedule{Type: "reboot", Usec: at.UnixMicro(), Announced: true, Logind: s.logind}}
}

func TestMain(m *testing.M) {
	time.Local = time.UTC // status lines are in local time
	os.Exit(m.Run())
}

var (
	errDown     = errors.New("etcd is down")
	errRefused  = errors.New("access denied")
	errNonsense = errors.New("nonsense")
)

// What update_engine and people say.
var (
	need  = policy.Update{Source: policy.Engine, Pending: true, Version: "4081.2.0"}
	idle  = policy.Update{Source: policy.Engine}
	asked = policy.Update{Source: policy.Requester, Pending: true}
)

// Who may be at work.
var (
	people = policy.Local{Users: []string{"ann", "bob"}}
	backup = policy.Local{Inhibitors: []policy.Inhibitor{{Who: "rsync", Why: "unattended backup", User: "root"}}}
)

var people5m = policy.Config{LoginDelay: 5 * time.Minute, LoginRetry: time.Hour, BeforeTimeout: 10 * time.Minute, HealthTimeout: 10 * time.Minute}

var clock = policy.Config{}.Clock

// span is an opening, and spans is a Window made of them, in order.
type span struct{ start, end time.Time }

type spans []span

func (g *spans) Next(t time.Time) (start, end time.Time) {
	for _, s := range *g {
		if t.Before(s.end) {
			return s.start, s.end
		}
	}
	far := t.AddDate(100, 0, 0)
	return far, far.Add(time.Hour)
}

func (g *spans) ShutBy(time.Time) string { return "" }
