package updateengine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestPendingRebootIsReportedAtTheStart(t *testing.T) {
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
			h.log.expect(t, "WARN", "did not report its status")
			h.log.expect(t, "DEBUG", "did not report its status")
			if n := strings.Count(h.log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings, want 1:\n%s", n, h.log)
			}
			engine.Set(needReboot)
			engine.Heal("GetStatus")
			e.expect(Engine, NeedReboot)
		})
	}
}

func TestSignalOfAHangingUpdateEngineIsReported(t *testing.T) {
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

// Signals that resemble update_engine's, or the bus's own, are ignored.
func TestOtherSignalsAreIgnored(t *testing.T) {
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
	// A peer claims that it is update_engine now, or that update_engine is gone.
	for _, owner := range []string{peer.Names()[0], ""} {
		send("/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged", bustest.EngineName, "", owner)
	}
	send("/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged")
	send("/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged", 1, 2, 3)
	// Once this event arrives, all signals before it have been handled. It would not replace an event of
	// another sender, so it is the first one only if they caused none.
	last := bustest.For(t).Connect(h.bus)
	must.Do(t, peer.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
	must.Do(t, bustest.SendTo(last, me, bustest.EnginePath, bustest.EngineSignal, int64(0), 0.0, Downloading, "", int64(0)))
	e.expect(Requester, Downloading)
}

func TestMalformedNameOwnerChangedIsIgnored(t *testing.T) {
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
	// No event has been taken so far, and yet the connection works.
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

func TestChannelIsClosedWhenTheBusGoesAway(t *testing.T) {
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
	// Another Watch works, and the first one left no match rules.
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
	// The rules are removed after the channel is closed, so signals may still arrive for a moment.
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		must.Do(t, engine.Announce(needReboot))
		must.Do(t, h.conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
		select {
		case <-left:
			continue
		case <-time.After(20 * time.Millisecond):
		}
		return
	}
	t.Error("signals still arrive after the last Watch")
}

func TestStaleAnswerDoesNotUndoASignal(t *testing.T) {
	h := newHost(t, Trust{})
	w := newWatch(t.Context(), h.client)
	w.engineStatus(Status(needReboot), 10)
	w.engineStatus(Status(idle), 9)
	if len(w.queue) != 1 || !w.queue[0].Status.NeedReboot() {
		t.Errorf("queue: %+v", w.queue)
	}
	w.engineStatus(Status(idle), 11)
	if len(w.queue) != 1 || w.queue[0].Status.NeedReboot() {
		t.Errorf("queue: %+v", w.queue)
	}
}

func TestFloodOfSignalsNeitherFillsTheJournalNorBlocks(t *testing.T) {
	h := newHost(t, Trust{})
	engine := bustest.For(t).Engine(h.bus)
	e := h.watch()
	e.expect(Engine, Idle)
	for range 3 {
		must.Do(t, bustest.For(t).Stranger(h.bus, bustest.Nobody, bustest.Nobody).Flood(needReboot, 1500))
	}
	for range 300 {
		must.Do(t, engine.Emit("nonsense"))
	}
	must.Do(t, engine.Announce(bustest.Status{Operation: Downloading}))
	e.expect(Engine, Downloading)
	if n := strings.Count(h.log.String(), "\n"); n == 0 || n > 2*warningsPerPeriod {
		t.Errorf("%d lines in the log:\n%s", n, h.log)
	}
}

func TestWarningsAreLimitedAndTheRestCounted(t *testing.T) {
	var l limiter
	now := time.Unix(1000, 0)
	for i := range warningsPerPeriod {
		if left, ok := l.allow(now); !ok || left != 0 {
			t.Fatalf("warning %d: %d, %v", i, left, ok)
		}
	}
	for range 7 {
		if _, ok := l.allow(now.Add(warningPeriod - 1)); ok {
			t.Fatal("one warning too many")
		}
	}
	if left, ok := l.allow(now.Add(warningPeriod)); !ok || left != 7 {
		t.Errorf("the next period: %d left out, %v", left, ok)
	}
	if left, ok := l.allow(now.Add(warningPeriod)); !ok || left != 0 {
		t.Errorf("after that: %d left out, %v", left, ok)
	}
}

func TestTooManySendersAtATimeAreIgnored(t *testing.T) {
	h := newHost(t, Trust{})
	must.Do(t, h.bus.Pause()) // so that no sender is identified
	w := newWatch(t.Context(), h.client)
	for i := range maxRequesters + 10 {
		w.requesterStatus(Status(needReboot), fmt.Sprintf(":2.%d", i))
	}
	w.engineStatus(Status(idle), 1)
	if len(w.queue) != maxRequesters+1 || w.queue[maxRequesters].Source != Engine {
		t.Errorf("%d entries", len(w.queue))
	}
	w.requesterStatus(Status(idle), ":2.0") // one that the bus has been asked about
	if last := len(w.queue) - 1; last != maxRequesters || w.queue[last].sender != ":2.0" || w.queue[last].Status.NeedReboot() {
		t.Errorf("%d entries, the last one is %+v", len(w.queue), w.queue[last])
	}
	h.log.expect(t, "WARN", "too many senders")
	must.Do(t, h.bus.Resume())
}
