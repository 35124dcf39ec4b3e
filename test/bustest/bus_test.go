package bustest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/realpart"
)

func TestMain(m *testing.M) {
	bustest.RunStranger()
	os.Exit(m.Run())
}

func TestBusListensAtOneAddressAcrossRestarts(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.Open)
	address := bus.Address()
	before := bustest.For(t).Connect(bus)
	must.Do(t, bus.Kill())
	<-before.Context().Done()
	if _, err := bus.Connect(); err == nil {
		t.Fatal("connected to a bus that was killed")
	}
	must.Do(t, bus.Restart())
	bustest.For(t).Connect(bus)
	if got := bus.Address(); got != address {
		t.Errorf("address after a restart: %s, before: %s", got, address)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	bus, err := bustest.Start(bustest.Open)
	realpart.Must(t, err)
	socket := strings.TrimPrefix(bus.Address(), "unix:path=")
	must.Do(t, bus.Close())
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat %s: %v, want it gone", socket, err)
	}
	// The command line of a dbus-daemon of ours names its configuration.
	out, _ := exec.Command("pgrep", "-f", "--", strings.TrimSuffix(socket, "socket")+"bus.conf").Output()
	if len(out) > 0 {
		t.Errorf("a process is left: %s", out)
	}
}

func TestEngineIsSeenAsUpdateEngine(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	engine := h.Engine(bus)
	conn := h.Connect(bus)
	object := conn.Object(bustest.EngineName, bustest.EnginePath)
	status := func() (s bustest.Status, err error) {
		err = object.Call(bustest.EngineInterface+".GetStatus", 0).
			Store(&s.LastChecked, &s.Progress, &s.Operation, &s.NewVersion, &s.NewSize)
		return s, err
	}
	if got, err := status(); err != nil || got.Operation != bustest.OperationIdle {
		t.Fatalf("at first: %+v, %v", got, err)
	}
	signals := make(chan *dbus.Signal, 10)
	conn.Signal(signals)
	must.Do(t, conn.AddMatchSignal(dbus.WithMatchInterface(bustest.EngineInterface)))
	want := bustest.Status{LastChecked: 7, Progress: 0.5, Operation: bustest.OperationDownloading, NewVersion: "1.2.3", NewSize: 9}
	must.Do(t, engine.Announce(want))
	s := <-signals
	for s.Name != bustest.EngineSignal {
		s = <-signals
	}
	if len(s.Body) != 5 || s.Body[2] != want.Operation {
		t.Errorf("signal: %v", s.Body)
	}
	if got, err := status(); err != nil || got != want {
		t.Errorf("after Announce: %+v, %v, want %+v", got, err, want)
	}
	engine.Refuse("GetStatus", "org.freedesktop.DBus.Error.Failed", "no")
	var answer dbus.Error
	if _, err := status(); !errors.As(err, &answer) || answer.Name != "org.freedesktop.DBus.Error.Failed" {
		t.Errorf("refused: %v", err)
	}
	engine.Hang("GetStatus")
	answered := make(chan error, 1)
	go func() {
		_, err := status()
		answered <- err
	}()
	for range 4 { // the three calls before, and the one that hangs
		<-engine.Asked()
	}
	select {
	case err := <-answered:
		t.Errorf("a call that hangs was answered: %v", err)
	default:
	}
	engine.Heal("GetStatus")
	if err := <-answered; err != nil {
		t.Errorf("after Heal: %v", err)
	}
	must.Do(t, engine.Leave())
	if _, err := status(); err == nil {
		t.Error("an engine that has left answered GetStatus")
	}
	must.Do(t, engine.Appear())
	if _, err := status(); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

// GetStatus during an announcement may return either status, but the older one only before the signal.
func TestNoAnswerOfEngineIsOlderThanTheSignalBeforeIt(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	engine := h.Engine(bus)
	conn := h.Connect(bus)
	object := conn.Object(bustest.EngineName, bustest.EnginePath)
	signals := make(chan *dbus.Signal, 10)
	conn.Signal(signals)
	must.Do(t, conn.AddMatchSignal(dbus.WithMatchInterface(bustest.EngineInterface)))
	random := rand.New(rand.NewPCG(randtest.Seed(t), 0))
	for round := range 300 {
		calls := make(chan *dbus.Call, 20) // many at once, so that they race
		for range cap(calls) {
			object.Go(bustest.EngineInterface+".GetStatus", 0, calls)
		}
		time.Sleep(time.Duration(random.IntN(400)) * time.Microsecond)
		announced := bustest.Status{Operation: bustest.OperationDownloading, NewSize: int64(round)}
		must.Do(t, engine.Announce(announced))
		signal := <-signals
		for signal.Name != bustest.EngineSignal {
			signal = <-signals
		}
		for range cap(calls) {
			call := <-calls
			if call.Err != nil {
				t.Fatal(call.Err)
			}
			if call.ResponseSequence > signal.Sequence && call.Body[4] != announced.NewSize {
				t.Fatalf("round %d: an answer after the signal of %+v has %v", round, announced, call.Body)
			}
		}
	}
}

func TestLogindReportsReboots(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	logind := h.Logind(bus)
	conn := h.Connect(bus)
	object := conn.Object(bustest.LogindName, bustest.LogindPath)
	before := time.Now()
	must.Do(t, object.Call("org.freedesktop.login1.Manager.Reboot", 0, false).Err)
	call := <-logind.Reboots()
	if call.Interactive || call.Sender != conn.Names()[0] || !call.Accepted || call.At.Before(before) {
		t.Errorf("call: %+v", call)
	}
	preparing, err := object.GetProperty("org.freedesktop.login1.Manager.PreparingForShutdown")
	if err != nil || preparing.Value() != true {
		t.Errorf("preparing after a reboot was accepted: %v, %v", preparing, err)
	}
	logind.Refuse("Reboot", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "no")
	if err := object.Call("org.freedesktop.login1.Manager.Reboot", 0, false).Err; err == nil {
		t.Error("a refused reboot was accepted")
	}
	if call := <-logind.Reboots(); call.Accepted {
		t.Errorf("call: %+v", call)
	}
}

// Also if a fault is healed while the call is under way.
func TestReportedRebootMatchesItsAnswer(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	logind := h.Logind(bus)
	object := h.Connect(bus).Object(bustest.LogindName, bustest.LogindPath)
	for range 2000 {
		logind.Refuse("Reboot", "org.freedesktop.DBus.Error.AccessDenied", "no")
		answer := object.Go("org.freedesktop.login1.Manager.Reboot", 0, nil, false)
		call := <-logind.Reboots()
		logind.Heal("Reboot")
		if err := (<-answer.Done).Err; (err == nil) != call.Accepted {
			t.Fatalf("reported as %+v, but the answer was %v", call, err)
		}
	}
}

// The reader of Reboots may boot the host at once, so nothing that belongs to the reboot may come after the report.
func TestRebootHasBegunWhenItIsReported(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	logind := h.Logind(bus)
	object := h.Connect(bus).Object(bustest.LogindName, bustest.LogindPath)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // keeps logind busy, so that everything it does takes time
		defer close(stopped)
		for many := slices.Repeat([]bustest.Inhibitor{{What: "sleep"}}, 10); ; {
			select {
			case <-stop:
				return
			default:
				logind.SetInhibitors(many...)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 150 {
		answer := object.Go("org.freedesktop.login1.Manager.Reboot", 0, nil, false)
		<-logind.Reboots()
		if s := logind.Shutdown(); s.Type != "reboot" {
			t.Fatalf("a reboot is reported, but %+v is under way", s)
		}
		must.Do(t, logind.SetPreparing(false))
		must.Do(t, (<-answer.Done).Err)
		if preparing, err := object.GetProperty("org.freedesktop.login1.Manager.PreparingForShutdown"); err != nil || preparing.Value() != false {
			t.Fatalf("preparing after a boot: %v, %v", preparing, err)
		}
	}
}

// As with the real logind, a missing object is another error than a missing interface.
func TestSessionThatHasEndedIsAnUnknownObject(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	logind := h.Logind(bus)
	conn := h.Connect(bus)
	read := func(id string) string {
		object := conn.Object(bustest.LogindName, bustest.LogindPath+"/session/"+dbus.ObjectPath(id))
		err := object.Call("org.freedesktop.DBus.Properties.GetAll", 0, "org.freedesktop.login1.Session").Err
		var answer dbus.Error
		if errors.As(err, &answer) {
			return answer.Name
		}
		return fmt.Sprint(err)
	}
	const fine, unknown = "<nil>", "org.freedesktop.DBus.Error.UnknownObject"
	a, b := bustest.Session{ID: "a"}, bustest.Session{ID: "b"}
	set := func(sessions ...bustest.Session) {
		t.Helper()
		must.Do(t, logind.SetSessions(sessions...))
	}
	want := func(wantA, wantB string) {
		t.Helper()
		if gotA, gotB := read("a"), read("b"); gotA != wantA || gotB != wantB {
			t.Errorf("a: %s, want %s; b: %s, want %s", gotA, wantA, gotB, wantB)
		}
	}
	set(a, b)
	want(fine, fine)
	set(b)
	want(unknown, fine)
	set(a, b)
	want(fine, fine)
	must.Do(t, logind.Vanish("b"))
	want(fine, unknown)
	var listed [][]any
	err := conn.Object(bustest.LogindName, bustest.LogindPath).Call("org.freedesktop.login1.Manager.ListSessions", 0).Store(&listed)
	if err != nil || len(listed) != 2 {
		t.Errorf("listed: %v, %v, want both", listed, err)
	}
	if err := logind.Vanish("c"); err == nil {
		t.Error("a session vanished that did not exist")
	}
	// A call that hangs is answered with the state at the time of the answer.
	hung := logind.Hang("Session")
	answer := make(chan string, 1)
	go func() { answer <- read("a") }()
	<-hung
	set(b)
	logind.Heal("Session")
	if got := <-answer; got != unknown {
		t.Errorf("a, which ended while the call hung: %s, want %s", got, unknown)
	}
}

func TestStrangerIsAnotherUser(t *testing.T) {
	h := bustest.For(t)
	bus := h.Bus(bustest.System)
	conn := h.Connect(bus)
	stranger := h.Stranger(bus, bustest.Nobody, 4243, 4244, 4245)
	var uid uint32
	must.Do(t, conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixUser", 0, stranger.Name()).Store(&uid))
	if uid != bustest.Nobody {
		t.Errorf("the bus reports uid %d, want nobody", uid)
	}
	var fields map[string]dbus.Variant
	must.Do(t, conn.BusObject().Call("org.freedesktop.DBus.GetConnectionCredentials", 0, stranger.Name()).Store(&fields))
	t.Log(fields)
	if got := fields["ProcessID"].Value(); got != uint32(stranger.PID()) {
		t.Errorf("the bus reports pid %v, want %d", got, stranger.PID())
	}
}
