package daemon

import (
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

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

func (o stuck) Observe(s policy.Snapshot, line string, moves []policy.Move) {
	if s.State == policy.Rebooting {
		<-o.release
	}
	o.site.Observe(s, line, moves)
}

// counted is a Window that counts the moments for which it is asked: every
// step of the machine asks, for the status line.
type counted struct {
	policy.Window
	mu    sync.Mutex
	asked int
	last  time.Time
}

func (g *counted) Next(t time.Time) (start, end time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.Equal(g.last) {
		g.asked, g.last = g.asked+1, t
	}
	return g.Window.Next(t)
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
		gate := &counted{Window: &spans{}}
		s.parts.AliveEvery = time.Minute // signs of life are all that it does
		s.run(Settings{Policy: policy.Config{Lock: true, Window: gate}, Lock: newSlot(s, "A", policy.NotHeld)})
		s.expectState(policy.Idle)
		if n := gate.since(func() { s.sleep(time.Second); s.tell(idle) }); n != 1 {
			t.Fatal("the window does not count the steps: find another way")
		}
		if n := gate.since(func() { s.sleep(30 * 24 * time.Hour) }); n != 0 {
			t.Errorf("the idle loop woke %d times in a month", n)
		}
		s.tell(need)
		s.expectState(policy.Waiting)
		if n := gate.since(func() { s.sleep(24 * time.Hour) }); n != 24*60 {
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

func TestObserversSeeChangesOnly(t *testing.T) {
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
		// The window has opened, a look has answered, the slot is held by others, and the gates' answers are too old.
		if want := "starting idle waiting waiting waiting locking locking locking"; strings.Join(states, " ") != want {
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

// An effect that the loop has cancelled has not failed.
func TestCancelledEffectsAreNotFailures(t *testing.T) {
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

func TestEachObstacleIsLoggedOnce(t *testing.T) {
	in(t, func(t *testing.T, s *site) {
		s.local = backup
		s.run(Settings{Policy: people5m})
		s.tell(need)
		s.sleep(6 * time.Hour)
		s.set(func() { s.local, s.lookErr = policy.Local{}, errDown })
		s.sleep(6 * time.Hour)
		if l := s.find("held back"); len(l) != 2 || !strings.Contains(l[0]["by"], "unattended backup") || !strings.Contains(l[1]["by"], "logind, which does not say") {
			t.Errorf("the log has %v", l)
		}
		for _, l := range s.logged() {
			if l["level"] != "INFO" {
				t.Errorf("line %v", l)
			}
		}
		s.expectEnd(nil)
	})
}
