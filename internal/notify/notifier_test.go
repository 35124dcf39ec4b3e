package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// site is a host whose scripts are a function.
type site struct {
	testing.TB
	root string
	log  *buffer

	mu     sync.Mutex
	answer func(Event) error // nil: success
	got    []Event           // each time that scripts were told
	at     []time.Time
	gone   []string // reasons of the events that were forgotten
}

// buffer is a log that goroutines share.
type buffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(data)
}

func (b *buffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

func newSite(t testing.TB) *site { return &site{TB: t, root: t.TempDir(), log: new(buffer)} }

func (s *site) path() string { return filepath.Join(s.root, DefaultPath) }

// start starts a notifier of all events without a URL.
func (s *site) start() *Notifier {
	n := New(Options{
		Root: s.root, HasScripts: func() bool { return true }, RunScripts: s.run, ForgetScripts: s.forget, Changed: func() {},
		Log: slog.New(slog.NewTextHandler(s.log, nil)),
	})
	n.Configure(Config{Events: Types()})
	return n
}

func (s *site) run(ctx context.Context, e Event) error {
	s.mu.Lock()
	answer := s.answer
	s.got, s.at = append(s.got, e), append(s.at, time.Now())
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- answer(e) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *site) forget(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, e.Reason)
}

// forgotten returns the reasons of the events that were forgotten, in order.
func (s *site) forgotten() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gone)
}

func (s *site) set(answer func(Event) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// reasons returns the reasons of the events that scripts were told, in order.
func (s *site) reasons() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		all = append(all, e.Reason)
	}
	return all
}

func (s *site) want(reasons ...string) {
	s.Helper()
	if got := s.reasons(); !slices.Equal(got, reasons) {
		s.Errorf("scripts were told %.500q, want %q", got, reasons)
	}
}

var errDown = errors.New("it is down")

func fails(Event) error { return errDown }

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) }

func event(reason string) Event { return Event{Type: Unwell, Reason: reason} }

// The end of the bubble shows that an idle notifier has no goroutine.
func TestEventsAreDeliveredInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		release := make(chan struct{})
		s.set(func(Event) error { <-release; return nil })
		for i := range 3 {
			n.Add(event(fmt.Sprint(i))) // returns although the first script hangs
		}
		synctest.Wait()
		s.want("0")
		close(release)
		synctest.Wait()
		s.want("0", "1", "2")
		if text := n.Undelivered(clock); text != "" {
			t.Errorf("the status is %q", text)
		}
	})
}

func TestEventIsTriedUntilItIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(fails)
		n.Add(event("a"))
		n.Add(event("b"))
		time.Sleep(3 * time.Hour)
		if text, want := n.Undelivered(clock), "; 2 notifications not delivered to notify.d since 00:00:00: it is down"; text != want {
			t.Errorf("the status is %q, want %q", text, want)
		}
		s.set(nil)
		time.Sleep(lastRetry)
		if text := n.Undelivered(clock); text != "" {
			t.Errorf("the status is %q", text)
		}
		got := s.reasons()
		if len(got) < 20 || len(got) > 60 || slices.Index(got, "b") != len(got)-1 {
			t.Errorf("in three hours scripts were told %q", got)
		}
		for i, e := range s.got[:len(s.got)-1] {
			if e != s.got[0] {
				t.Errorf("attempt %d tells %+v, want %+v", i, e, s.got[0])
			}
			if i > 0 && s.at[i].Sub(s.at[i-1]) > lastRetry {
				t.Errorf("attempt %d comes after %v", i, s.at[i].Sub(s.at[i-1]))
			}
		}
		for text, times := range map[string]int{"is not delivered yet": 1, "are delivered again": 1} {
			if got := strings.Count(s.log.text(), text); got != times {
				t.Errorf("the log says %d times that it %s:\n%s", got, text, s.log.text())
			}
		}
	})
}

func TestEventIsLostAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(fails)
		n.Add(event("a"))
		time.Sleep(keepFor - time.Minute)
		if text := n.Undelivered(clock); !strings.HasPrefix(text, "; 1 notification not delivered") {
			t.Errorf("before the day is over the status is %q", text)
		}
		time.Sleep(lastRetry + time.Minute)
		if text, want := n.Undelivered(clock), "; 1 notification lost on the way to notify.d, the last because it was not delivered within 24h0m0s"; text != want {
			t.Errorf("the status is %q, want %q", text, want)
		}
		s.set(nil)
		n.Add(event("b"))
		synctest.Wait()
		if text := n.Undelivered(clock); text != "" {
			t.Errorf("after a success the status is %q", text)
		}
		if gone := s.forgotten(); !slices.Equal(gone, []string{"a"}) {
			t.Errorf("forgotten are %q", gone)
		}
	})
}

// The clock of a host without one of its own is put right after its start, perhaps by years.
func TestEventWaitsADayWhateverItsTimeIs(t *testing.T) {
	for name, off := range map[string]time.Duration{"the clock was put forward": -50 * 365 * 24 * time.Hour, "the clock was put back": 50 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				n := s.start()
				defer n.Close()
				s.set(fails)
				n.Add(Event{Type: Unwell, Time: time.Now().Add(off)})
				time.Sleep(keepFor - time.Minute)
				if text := n.Undelivered(clock); !strings.HasPrefix(text, "; 1 notification not delivered") {
					t.Errorf("before the day is over the status is %q", text)
				}
				time.Sleep(lastRetry + time.Minute)
				if text := n.Undelivered(clock); !strings.HasPrefix(text, "; 1 notification lost") {
					t.Errorf("after the day the status is %q", text)
				}
			})
		})
	}
}

func TestEventFromTheFutureWaitsADayAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(fails)
		n.Add(Event{Type: Unwell, Time: time.Now().Add(1000 * time.Hour)})
		synctest.Wait()
		n.Close()
		n = s.start()
		defer n.Close()
		time.Sleep(keepFor + lastRetry)
		if text := n.Undelivered(clock); !strings.HasPrefix(text, "; 1 notification lost") {
			t.Errorf("after the day the status is %q", text)
		}
	})
}

func TestRefusedEventIsLostAndTheNextIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(func(e Event) error { return &DeliveryError{Err: errors.New("404 Not Found"), Final: true} })
		n.Add(event("a"))
		n.Add(event("b"))
		synctest.Wait()
		s.want("a", "b")
		if text, want := n.Undelivered(clock), "; 2 notifications lost on the way to notify.d, the last because 404 Not Found"; text != want {
			t.Errorf("the status is %q, want %q", text, want)
		}
		if got := strings.Count(s.log.text(), "a notification is lost"); got != 2 {
			t.Errorf("the log names %d of 2 that are lost:\n%s", got, s.log.text())
		}
	})
}

func TestServerThatAsksForPatienceGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(func(Event) error { return &DeliveryError{Err: errDown, After: 30 * time.Minute} })
		n.Add(event("a"))
		time.Sleep(30*time.Minute - time.Second)
		s.want("a")
		n.Add(event("b")) // changes nothing
		s.set(nil)
		time.Sleep(2 * time.Second)
		s.want("a", "a", "b")
	})
}

func TestFullQueueLosesTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(fails)
		for i := range maxQueue + 2 {
			n.Add(event(fmt.Sprint(i)))
			synctest.Wait()
		}
		want := fmt.Sprintf("; %d notifications not delivered to notify.d since 00:00:00: it is down; 2 notifications lost on the way to notify.d, the last because there are more than 50 that are not delivered", maxQueue)
		if text := n.Undelivered(clock); text != want {
			t.Errorf("the status is %q, want %q", text, want)
		}
		s.set(nil)
		s.mu.Lock()
		s.got = nil
		s.mu.Unlock()
		time.Sleep(lastRetry)
		if got := s.reasons(); len(got) != maxQueue || got[0] != "2" {
			t.Errorf("delivered are %q", got)
		}
		if gone := s.forgotten(); !slices.Equal(gone, []string{"0", "1"}) {
			t.Errorf("forgotten are %q", gone)
		}
	})
}

// An event that is pushed out while scripts are told it is forgotten only once they have ended.
func TestEventThatIsBeingToldIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		release := make(chan struct{})
		s.set(func(Event) error { <-release; return errDown })
		for i := range maxQueue + 1 {
			n.Add(event(fmt.Sprint(i)))
			synctest.Wait()
		}
		if gone := s.forgotten(); len(gone) > 0 {
			t.Errorf("forgotten are %q", gone)
		}
		s.set(nil)
		close(release)
		time.Sleep(lastRetry)
		if gone := s.forgotten(); !slices.Equal(gone, []string{"0"}) {
			t.Errorf("in the end forgotten are %q", gone)
		}
	})
}

// Also what is as long as it can be.
func TestUndeliveredEventsSurviveTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(fails)
		for range maxQueue {
			n.Add(Event{Type: RebootBegins, Reason: strings.Repeat(`"ä\`, 1<<18), Version: strings.Repeat("\x1b", 1<<20), Host: "web-1"})
		}
		time.Sleep(time.Second)
		n.Close()
		n.Add(event("after the end"))
		first := s.got[0]
		s.set(nil)
		s.got = nil
		time.Sleep(time.Hour)
		s.start()
		synctest.Wait()
		if len(s.got) != maxQueue || s.got[0] != first {
			t.Fatalf("%d events are delivered after the restart, the first is %+v, want %+v", len(s.got), s.got[0], first)
		}
		s.start() // there is nothing left
		synctest.Wait()
		if len(s.got) != maxQueue {
			t.Errorf("%d events were delivered again", len(s.got)-maxQueue)
		}
	})
}

// A process that is killed has written what it was told, whatever its scripts do.
func TestEventIsOnTheDiskBeforeItIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		release := make(chan struct{})
		defer close(release)
		s.set(func(Event) error { <-release; return nil })
		n.Add(event("a"))
		synctest.Wait()
		next := newSite(t)
		next.root = s.root
		next.start()
		synctest.Wait()
		next.want("a")
		n.Close()
	})
}

// Scripts may take longer to stop than the daemon waits for them. The disk has nothing to do with that.
func TestScriptsThatDoNotStopDoNotKeepTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		stopped := make(chan struct{})
		defer close(stopped)
		n := New(Options{
			Root: s.root, HasScripts: func() bool { return true }, Changed: func() {}, Log: slog.New(slog.NewTextHandler(s.log, nil)),
			RunScripts: func(context.Context, Event) error { <-stopped; return errDown },
		})
		n.Configure(Config{Events: Types()})
		n.Add(event("a"))
		synctest.Wait()
		begun := time.Now()
		n.Close()
		if took := time.Since(begun); took > closeTimeout {
			t.Errorf("the end took %v", took)
		}
		if text := s.log.text(); text != "" {
			t.Errorf("the log says %s", text)
		}
		s.start()
		synctest.Wait()
		s.want("a")
	})
}

func TestFileThatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, content := range map[string]string{"not JSON": "{", "another form": `{"post":"x"}`, "too long": strings.Repeat(" ", maxFile+1)} {
			s := newSite(t)
			must.Do(t, os.MkdirAll(filepath.Dir(s.path()), 0o700))
			must.Do(t, os.WriteFile(s.path(), []byte(content), 0o600))
			n := s.start()
			n.Add(event("a"))
			synctest.Wait()
			s.want("a") // it is delivered nevertheless
			n.Close()
			if got, err := os.ReadFile(s.path()); err != nil || string(got) != content {
				t.Errorf("%s: the file has become %.100q (%v)", name, got, err)
			}
			if !strings.Contains(s.log.text(), s.path()) {
				t.Errorf("%s: the log does not name the file:\n%s", name, s.log.text())
			}
		}
	})
}

func TestHostileFileDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		id := strings.Repeat("a", 32)
		must.Do(t, os.MkdirAll(filepath.Dir(s.path()), 0o700))
		must.Do(t, os.WriteFile(s.path(), fmt.Appendf(nil, `{"scripts":[{"id":"../../etc/passwd","event":"unwell"},{"id":%q,"event":"nonsense"},
			{"id":%[1]q,"event":"unwell","time":%q,"host":"\u001b[2J","reason":"%s"}],"said":{"nonsense":"x"}}`,
			id, time.Now().Format(time.RFC3339), strings.Repeat("x", 1<<19)), 0o600))
		s.start()
		synctest.Wait()
		if len(s.got) != 1 || s.got[0].ID != id || s.got[0].Host != `\x1b[2J` || len(s.got[0].Reason) > maxReason+3 {
			t.Errorf("scripts were told %.300v", s.got)
		}
	})
}

func TestDiskThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		must.Do(t, os.WriteFile(filepath.Join(s.root, "var"), nil, 0o600))
		for _, reason := range []string{"a", "b"} {
			n.Add(event(reason))
			synctest.Wait()
		}
		s.want("a", "b")
		if got := strings.Count(s.log.text(), "are forgotten at the end of locksmithd"); got != 1 {
			t.Errorf("the log says it %d times:\n%s", got, s.log.text())
		}
	})
}

func TestSameNewsIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		say := func(about string) {
			n.Add(Event{Type: AttemptsUsedUp, Reason: about, Once: about})
			synctest.Wait()
		}
		say("1")
		say("1")
		n.Add(Event{Type: Unwell, Reason: "other", Once: "1"})
		synctest.Wait()
		n.Close()
		n = s.start() // it remembers
		say("1")
		say("2")
		say("1")
		n.Forget(AttemptsUsedUp, HookFailed)
		say("1")
		s.want("1", "other", "2", "1", "1")
		n.Close()
	})
}

func TestOnlyChosenEventsAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		n.Configure(Config{Events: []Type{Resumed}})
		n.Add(event("a"))
		n.Add(Event{Type: Resumed, Reason: "b"})
		n.Add(Event{Type: Test, Reason: "c"})
		synctest.Wait()
		s.want("b", "c")
		n.HasScripts = func() bool { return false }
		n.Add(Event{Type: Resumed, Reason: "d"})
		synctest.Wait()
		s.want("b", "c")
	})
}

func TestReloadTriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := s.start()
		s.set(fails)
		n.Add(event("a"))
		time.Sleep(2 * time.Hour)
		s.set(nil)
		n.Configure(Config{Events: Types()})
		synctest.Wait()
		if text := n.Undelivered(clock); text != "" {
			t.Errorf("after the reload the status is %q", text)
		}
	})
}

// Both ways: a web hook that is down does not hold up the scripts. What was for one URL goes to the next.
func TestWaysOfDeliveryDoNotWaitForEachOther(t *testing.T) {
	s := newSite(t)
	n := s.start()
	defer n.Close()
	arrived := make(chan string, 10)
	n.Configure(Config{URL: hook(t, answers(500, "", "rollup_error geh3im")), Events: Types()})
	n.Add(event("a"))
	const patience = 30 * time.Second
	must.Eventually(t, patience, "the scripts to be told", func() bool { return len(s.reasons()) == 1 })
	must.Eventually(t, patience, "the status", func() bool { return n.Undelivered(clock) != "" })
	text := n.Undelivered(clock)
	if !strings.HasPrefix(text, "; 1 notification not delivered to https://127.0.0.1:") || !strings.HasSuffix(text, ": 500 Internal Server Error (rollup_error (hidden))") {
		t.Errorf("the status is %q", text)
	}
	n.Configure(Config{Events: Types(), URL: hook(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
	})})
	if body := must.Receive(t, patience, "the event", arrived); !strings.Contains(body, `"reason":"a"`) {
		t.Errorf("the server got %s", body)
	}
	must.Eventually(t, patience, "the status to be clear", func() bool { return n.Undelivered(clock) == "" })
	if log := s.log.text() + text; strings.Contains(log, "geh3im") || strings.Contains(log, "T0001") {
		t.Errorf("a secret is shown:\n%s", log)
	}
}

func TestWithoutAURLNothingIsKeptForIt(t *testing.T) {
	s := newSite(t)
	n := s.start()
	n.HasScripts = func() bool { return false }
	n.Configure(Config{URL: "http://127.0.0.1:1/geh3im", Events: Types()})
	n.Add(event("a"))
	const patience = 30 * time.Second
	must.Eventually(t, patience, "the status", func() bool { return n.Undelivered(clock) != "" })
	n.Configure(Config{Events: Types()})
	if text := n.Undelivered(clock); text != "" || !strings.Contains(s.log.text(), "notifications are dropped") {
		t.Errorf("the status is %q, and the log\n%s", text, s.log.text())
	}
	n.Close()
	if k, err := newFile(s.root).read(); err != nil || len(k.Post) > 0 {
		t.Errorf("the file has %+v (%v)", k, err)
	}
}

func TestHostWithoutReceiversWritesNothing(t *testing.T) {
	s := newSite(t)
	n := s.start()
	n.HasScripts = func() bool { return false }
	n.Add(Event{Type: Unwell, Once: "1"})
	n.Close()
	if _, err := os.Stat(filepath.Join(s.root, "var")); !os.IsNotExist(err) {
		t.Errorf("there is something (%v)", err)
	}
}
