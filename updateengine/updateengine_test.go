package updateengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

func TestMain(m *testing.M) {
	bustest.RunStranger()
	os.Exit(m.Run())
}

// patience bounds what takes milliseconds when it works.
const patience = 20 * time.Second

// journal is a log that can be looked at while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// expect waits for a line that has all the parts.
func (j *journal) expect(t *testing.T, parts ...string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the log:\n%s", j)
		}
	}()
	must.Eventually(t, patience, fmt.Sprintf("a line of the log with %q", parts), func() bool {
		return contains.Lines(j.String(), parts...) > 0
	})
}

// host is one machine's bus as the daemon sees it.
type host struct {
	t      *testing.T
	bus    *bustest.Bus
	conn   *dbus.Conn
	log    *journal
	client *Client
}

func newHost(t *testing.T, trust Trust) *host {
	t.Helper()
	bus := bustest.For(t).Bus(bustest.System)
	h := &host{t: t, bus: bus, log: &journal{}}
	h.conn = h.connect()
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.client = New(h.conn, logger, trust)
	return h
}

// connect connects the way both programs do.
func (h *host) connect() *dbus.Conn {
	h.t.Helper()
	h.t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", h.bus.Address())
	conn, err := systemd.ConnectSystemBus(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return conn
}

func (h *host) watch() *events {
	h.t.Helper()
	ch, err := h.client.Watch(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return &events{h, ch}
}

type events struct {
	*host
	ch <-chan Event
}

// next returns the next event.
func (e *events) next() Event {
	e.t.Helper()
	select {
	case event, ok := <-e.ch:
		if !ok {
			e.t.Fatal("the channel of events is closed")
		}
		return event
	case <-time.After(patience):
		e.t.Fatalf("no event comes; the log:\n%s", e.log)
	}
	panic("unreachable")
}

// expect requires the next event to be this one.
func (e *events) expect(source Source, operation string) Event {
	e.t.Helper()
	got := e.next()
	if got.Source != source || got.Status.Operation != operation {
		e.t.Fatalf("got %+v, want %s from %s; the log:\n%s", got, operation, source, e.log)
	}
	return got
}

// closed requires the channel to be closed, events before that aside.
func (e *events) closed() {
	e.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-e.ch:
			if !ok {
				return
			}
		case <-deadline:
			e.t.Fatal("the channel of events stays open")
		}
	}
}

var (
	needReboot = bustest.Status{LastChecked: 1, Progress: 1, Operation: NeedReboot, NewVersion: "1.2.3", NewSize: 4}
	idle       = bustest.Status{Operation: Idle}
)

func TestRebootThatIsPendingAtStartIsSeen(t *testing.T) {
	h := newHost(t, Trust{})
	bustest.For(t).Engine(h.bus).Set(needReboot)
	got := h.watch().next()
	if got.Source != Engine || got.Status != Status(needReboot) || !got.Status.NeedReboot() {
		t.Errorf("got %+v", got)
	}
}

func TestSignalsOfUpdateEngineAreEventsInOrder(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	for _, operation := range []string{CheckingForUpdate, UpdateAvailable, Downloading, Verifying, Finalizing, NeedReboot, Idle, ReportingErrorEvent, "UPDATE_STATUS_OF_THE_FUTURE"} {
		must.Do(t, engine.Announce(bustest.Status{Operation: operation}))
		e.expect(Engine, operation)
	}
	if log := h.log.String(); log != "" {
		t.Errorf("the log says:\n%s", log)
	}
}

func TestUpdateEngineAbsentAtStartIsWaitedFor(t *testing.T) {
	h := newHost(t, Trust{})
	if _, err := h.client.Status(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("Status: %v, want ErrAbsent", err)
	}
	e := h.watch()
	e.expect(Gone, "")
	engine := bustest.NewEngine(h.bus)
	t.Cleanup(func() { _ = engine.Close() })
	engine.Set(needReboot)
	must.Do(t, engine.Appear())
	e.expect(Engine, NeedReboot)
}

func TestUpdateEngineThatComesAndGoesIsFollowed(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	must.Do(t, engine.Leave())
	e.expect(Gone, "")
	engine.Set(needReboot)
	must.Do(t, engine.Appear())
	e.expect(Engine, NeedReboot)
	must.Do(t, engine.Release())
	e.expect(Gone, "")
	if _, err := h.client.Status(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("Status: %v, want ErrAbsent", err)
	}
}

func TestUpdateEngineThatDoesNotAnswerIsAskedAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(*bustest.Engine)
	}{
		{"refuses", func(e *bustest.Engine) {
			e.Refuse("GetStatus", "org.freedesktop.DBus.Error.Failed", "not now")
		}},
		{"answers nonsense", func(e *bustest.Engine) { e.Set(bustest.Status{Operation: ""}) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t, Trust{})
			h.client.retryAfter = 10 * time.Millisecond
			engine := bustest.For(t).Engine(h.bus)
			test.fault(engine)
			e := h.watch()
			h.log.expect(t, "WARN", "did not tell its status")
			h.log.expect(t, "DEBUG", "did not tell its status")
			if n := strings.Count(h.log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings, want 1:\n%s", n, h.log)
			}
			engine.Set(needReboot)
			engine.Heal("GetStatus")
			e.expect(Engine, NeedReboot)
		})
	}
}

func TestSignalOfUpdateEngineThatHangsIsSeen(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	engine.Hang("GetStatus")
	e := h.watch()
	<-engine.Asked()
	must.Do(t, engine.Announce(needReboot))
	e.expect(Engine, NeedReboot)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.client.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Status: %v, want the deadline", err)
	}
}

func TestMalformedSignalsAreIgnored(t *testing.T) {
	type pair struct{ A, B string }
	for i, values := range [][]any{
		{},
		{int64(0)},
		{int64(0), 0.0, NeedReboot, ""},
		{int64(0), 0.0, NeedReboot, "", int64(0), "more"},
		{int32(0), 0.0, NeedReboot, "", int64(0)},
		{int64(0), int64(0), NeedReboot, "", int64(0)},
		{int64(0), 0.0, dbus.MakeVariant(NeedReboot), "", int64(0)},
		{int64(0), 0.0, []string{NeedReboot}, "", int64(0)},
		{int64(0), 0.0, dbus.ObjectPath("/x"), "", int64(0)},
		{NeedReboot, 0.0, int64(0), "", int64(0)},
		{pair{"a", "b"}},
		{map[string]dbus.Variant{NeedReboot: dbus.MakeVariant(int64(1))}},
		{int64(0), nan(), NeedReboot, "", int64(0)},
		{int64(0), 0.0, "", "", int64(0)},
		{int64(0), 0.0, strings.Repeat("x", 100_000), "", int64(0)},
		{int64(0), 0.0, NeedReboot, strings.Repeat("x", 100_000), int64(0)},
		{int64(0), 0.0, NeedReboot, strings.Repeat("x", 1<<20), int64(0)},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			h := newHost(t, Trust{})
			engine := bustest.For(t).Engine(h.bus)
			e := h.watch()
			e.expect(Engine, Idle)
			must.Do(t, engine.Emit(values...))
			// The next event is that of the next signal that means something.
			must.Do(t, engine.Announce(bustest.Status{Operation: Downloading}))
			e.expect(Engine, Downloading)
			if len(values) > 3 {
				if s, ok := values[3].(string); ok && len(s) >= 1<<20 {
					return // too big to be even looked at
				}
			}
			h.log.expect(t, "WARN", "malformed")
		})
	}
}

func nan() float64 { var zero float64; return zero / zero }

func TestMalformedAnswerIsAnError(t *testing.T) {
	h := newHost(t, Trust{})
	peer := bustest.For(t).Connect(h.bus)
	must.Do(t, peer.ExportMethodTable(map[string]any{
		"GetStatus": func() (string, *dbus.Error) { return NeedReboot, nil },
	}, bustest.EnginePath, bustest.EngineInterface))
	if _, err := peer.RequestName(bustest.EngineName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	status, err := h.client.Status(t.Context())
	if err == nil || errors.Is(err, ErrAbsent) || status != (Status{}) {
		t.Errorf("got %+v, %v", status, err)
	}
}

// Only the signal itself is looked at, whatever else arrives under its name.
func TestOtherSignalsAreNotLookedAt(t *testing.T) {
	h := newHost(t, Trust{})
	bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	peer := bustest.For(t).Connect(h.bus)
	me := h.conn.Names()[0]
	values := []any{int64(0), 0.0, NeedReboot, "", int64(0)}
	send := func(path dbus.ObjectPath, name string, values ...any) {
		t.Helper()
		must.Do(t, peer.Emit(path, name, values...))
		must.Do(t, bustest.SendTo(peer, me, path, name, values...))
	}
	send("/elsewhere", bustest.EngineSignal, values...)
	send(bustest.EnginePath, bustest.EngineInterface+".StatusUpdated", values...)
	send(bustest.EnginePath, "com.coreos.update2.Manager.StatusUpdate", values...)
	// One who says to be update_engine now, or that it is gone.
	for _, owner := range []string{peer.Names()[0], ""} {
		send("/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged", bustest.EngineName, "", owner)
	}
	send("/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged")
	send("/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged", 1, 2, 3)
	// All of it has been seen once this comes. It is the first event: another
	// sender's does not take the place of one that came before.
	last := bustest.For(t).Connect(h.bus)
	must.Do(t, peer.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
	must.Do(t, bustest.SendTo(last, me, bustest.EnginePath, bustest.EngineSignal, int64(0), 0.0, Downloading, "", int64(0)))
	e.expect(Requester, Downloading)
}

func TestNameOwnerChangedWithoutArgumentsIsSurvived(t *testing.T) {
	w := newWatch(t.Context(), newHost(t, Trust{}).client)
	for _, body := range [][]any{nil, {busName}, {busName, "", 1}, {1, 2, 3}} {
		w.signal(&dbus.Signal{Sender: "org.freedesktop.DBus", Name: "org.freedesktop.DBus.NameOwnerChanged", Body: body})
	}
	if len(w.queue) != 0 || w.owner != "" {
		t.Errorf("owner %q, queue %v", w.owner, w.queue)
	}
}

func TestIdleDaemonIsNotWokenByOtherTraffic(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	woken := make(chan *dbus.Signal, 100)
	h.conn.Signal(woken)
	peer := bustest.For(t).Connect(h.bus)
	must.Do(t, peer.Emit("/elsewhere", bustest.EngineSignal, "x"))
	must.Do(t, peer.Emit(bustest.EnginePath, bustest.EngineInterface+".Other", "x"))
	must.Do(t, peer.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.UnitNew", "x"))
	if _, err := peer.RequestName("some.other.Name", 0); err == nil {
		t.Error("the bus gives away names, its policy is not the system's")
	}
	bustest.For(t).Logind(h.bus) // another name that changes its owner
	must.Do(t, engine.Announce(needReboot))
	e.expect(Engine, NeedReboot)
	if s := <-woken; s.Name != bustest.EngineSignal || s.Path != bustest.EnginePath {
		t.Errorf("woken by %s on %s from %s", s.Name, s.Path, s.Sender)
	}
}

func TestSlowConsumerGetsTheNewestStatus(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	const count = 3000
	for i := range count {
		must.Do(t, engine.Announce(bustest.Status{Operation: Downloading, NewSize: int64(i)}))
	}
	must.Do(t, engine.Announce(needReboot))
	// Nobody has read an event so far, and yet the connection answers.
	if _, err := h.client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken := 0
	for last := (Event{}); !last.Status.NeedReboot(); taken++ {
		next := e.next()
		if next.Status.NewSize < last.Status.NewSize && !next.Status.NeedReboot() {
			t.Errorf("%d came after %d", next.Status.NewSize, last.Status.NewSize)
		}
		last = next
	}
	if taken > count/2 {
		t.Errorf("%d events were kept for a consumer that takes none", taken)
	}
}

func TestTheBusGoesAwayClosesTheChannel(t *testing.T) {
	h := newHost(t, Trust{})
	bustest.For(t).Engine(h.bus)
	e := h.watch()
	must.Do(t, h.bus.Kill())
	e.closed()
	if _, err := h.client.Status(t.Context()); err == nil || errors.Is(err, ErrAbsent) {
		t.Errorf("Status without a bus: %v", err)
	}
	if _, err := h.client.Watch(t.Context()); err == nil {
		t.Error("Watch without a bus: no error")
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	ctx, cancel := context.WithCancel(t.Context())
	ch, err := h.client.Watch(ctx)
	must.Do(t, err)
	cancel()
	(&events{h, ch}).closed()
	// Another one works, and the first left no subscription of its own behind.
	ctx, cancel = context.WithCancel(t.Context())
	if ch, err = h.client.Watch(ctx); err != nil {
		t.Fatal(err)
	}
	e := &events{h, ch}
	e.expect(Engine, Idle)
	cancel()
	e.closed()
	left := make(chan *dbus.Signal, 10)
	h.conn.Signal(left)
	// The rules go after the channel is closed, while the bus is still asked.
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		must.Do(t, engine.Announce(needReboot))
		if err := h.conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
			t.Fatal(err)
		}
		select {
		case <-left:
			continue
		case <-time.After(20 * time.Millisecond):
		}
		return
	}
	t.Error("signals come although nobody watches")
}

func TestStaleAnswerDoesNotUndoASignal(t *testing.T) {
	h := newHost(t, Trust{})
	w := newWatch(t.Context(), h.client)
	w.engineSaid(Status(needReboot), 10)
	w.engineSaid(Status(idle), 9)
	if len(w.queue) != 1 || !w.queue[0].Status.NeedReboot() {
		t.Errorf("queue: %+v", w.queue)
	}
	w.engineSaid(Status(idle), 11)
	if len(w.queue) != 1 || w.queue[0].Status.NeedReboot() {
		t.Errorf("queue: %+v", w.queue)
	}
}

func TestSendNeedRebootIsBelieved(t *testing.T) {
	h := newHost(t, Trust{})
	bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	// The event comes while the command is still on the bus.
	conn := h.connect()
	ctx, cancel := context.WithCancelCause(t.Context())
	emitted := make(chan error, 1)
	go func() { emitted <- EmitNeedReboot(ctx, conn) }()
	got := e.expect(Requester, NeedReboot)
	if want := (Status{Operation: NeedReboot}); got.Status != want {
		t.Errorf("got %+v, want %+v", got.Status, want)
	}
	if !strings.Contains(got.By, fmt.Sprintf("(uid %d)", os.Getuid())) || !strings.Contains(got.By, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("by %s, want uid %d and pid %d", got.By, os.Getuid(), os.Getpid())
	}
	gone := errors.New("interrupted")
	cancel(gone)
	if err := <-emitted; !errors.Is(err, gone) {
		t.Errorf("interrupted: %v", err)
	}
	if err := EmitNeedReboot(t.Context(), conn); err != nil {
		t.Errorf("not interrupted: %v", err)
	}
	e.expect(Requester, NeedReboot)
}

// The bus goes away before, or after, it says that it has taken the signal.
func TestSendNeedRebootToABusThatGoesAway(t *testing.T) {
	for name, answers := range map[string]bool{"without an answer": false, "after its answer": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, Trust{})
			raw, err := net.Dial("unix", strings.TrimPrefix(h.bus.Address(), "unix:path="))
			must.Do(t, err)
			asked := make(chan struct{})
			conn, err := dbus.NewConn(&tapped{raw, []byte("GetId"), sync.OnceFunc(func() { close(asked) })})
			must.Do(t, err)
			t.Cleanup(func() { conn.Close() })
			must.Do(t, conn.Auth(nil))
			must.Do(t, conn.Hello())
			if !answers {
				must.Do(t, h.bus.Pause())
			}
			emitted := make(chan error, 1)
			go func() { emitted <- EmitNeedReboot(t.Context(), conn) }()
			select {
			case <-asked:
			case err := <-emitted:
				t.Fatalf("ended before it has asked the bus: %v", err)
			}
			if answers { // in order, so that this one comes after that one
				must.Do(t, conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
			}
			must.Do(t, h.bus.Kill()) // as at a reboot
			want := "may have taken it"
			if answers {
				want = "the bus took it"
			}
			if err := <-emitted; errors.Is(err, ErrBusGone) != answers || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
			<-conn.Context().Done()
			if err := EmitNeedReboot(t.Context(), conn); err == nil || errors.Is(err, ErrBusGone) {
				t.Errorf("without a bus: %v", err)
			}
		})
	}
}

// tapped tells when something that has a text in it was written.
type tapped struct {
	net.Conn
	text    []byte
	written func()
}

func (c *tapped) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if bytes.Contains(p, c.text) {
		c.written()
	}
	return n, err
}

// userDatabase makes a root with these lines in its files.
func userDatabase(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.Do(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}
