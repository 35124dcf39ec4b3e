package systemd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

const (
	testTarget  = "locksmith-before-reboot.target"
	testService = "locksmith-before-reboot.service"
)

// units returns Units on a bus with a systemd.
func units(t *testing.T) (Units, *bustest.Bus, *bustest.Logind) {
	t.Helper()
	bus := bustest.For(t).Bus(bustest.System)
	l := bustest.For(t).Logind(bus)
	u := Units{Connect: func(ctx context.Context) (*dbus.Conn, error) { return connect(ctx, bus.Address(), handshake) }}
	return u, bus, l
}

func TestStartWaitsForTheEndOfTheJob(t *testing.T) {
	u, _, systemd := units(t)
	var ended atomic.Bool
	systemd.SetUnit(testService, bustest.Unit{Run: func(context.Context) (int, string) {
		time.Sleep(10 * time.Millisecond)
		ended.Store(true)
		return 0, ""
	}})
	systemd.SetUnit(testTarget, bustest.Unit{Requires: []string{testService}})
	systemd.SetUnit("skipped.service", bustest.Unit{Skipped: true})
	systemd.SetUnit("network.target", bustest.Unit{Stays: true})
	for range 2 {
		ended.Store(false)
		must.Do(t, u.Start(t.Context(), testTarget))
		if !ended.Load() {
			t.Error("Start returns before the service has ended")
		}
		must.Do(t, u.Start(t.Context(), "network.target"))
	}
	must.Do(t, u.Start(t.Context(), "skipped.service"))
	if got, want := systemd.Started(), []string{testService, testService}; !slices.Equal(got, want) {
		t.Errorf("started: %q, want %q", got, want)
	}
}

func TestFailureNamesWhatFailed(t *testing.T) {
	u, _, systemd := units(t)
	systemd.SetUnit("old.service", bustest.Unit{Run: bustest.Exits(1, "long ago")})
	if err := u.Start(t.Context(), "old.service"); err == nil {
		t.Error("old.service fails without an error")
	}
	systemd.SetUnit("ok.service", bustest.Unit{})
	systemd.SetUnit("vpn.service", bustest.Unit{Run: bustest.Exits(2, "no\x1b[2J key")})
	systemd.SetUnit("hook.service", bustest.Unit{Requires: []string{"vpn.service"}})
	systemd.SetUnit(testService, bustest.Unit{Run: bustest.Exits(3, "10-drain: cannot reach the balancer")})
	for _, test := range []struct {
		unit bustest.Unit
		want string
		list []FailedUnit
	}{
		{bustest.Unit{Requires: []string{testService, "ok.service"}, Wants: []string{"old.service", "missing.service"}},
			testTarget + ": " + testService + " failed with exit status 3: 10-drain: cannot reach the balancer",
			[]FailedUnit{{testService, "exit-code", 3, "10-drain: cannot reach the balancer"}}},
		{bustest.Unit{Requires: []string{"hook.service"}},
			testTarget + `: vpn.service failed with exit status 2: no\x1b[2J key`,
			[]FailedUnit{{"vpn.service", "exit-code", 2, `no\x1b[2J key`}}},
		{bustest.Unit{Run: bustest.Exits(1, "")}, testTarget + " failed", []FailedUnit{{testTarget, "failed", 0, ""}}},
		// systemd refuses this one.
		{bustest.Unit{Requires: []string{"gone.service"}}, testTarget + ": gone.service does not exist", []FailedUnit{{"gone.service", "not-found", 0, ""}}},
	} {
		systemd.SetUnit(testTarget, test.unit)
		err := u.Start(t.Context(), testTarget)
		failure, ok := errors.AsType[*JobError](err)
		if !ok || err.Error() != test.want || !reflect.DeepEqual(failure.Failed, test.list) || errors.Is(err, ErrNoUnit) {
			t.Errorf("got %#v, %v\nwant %q, %+v", err, err, test.want, test.list)
		}
	}
	if err := u.Start(t.Context(), testService); err == nil || err.Error() != testService+" failed with exit status 3: 10-drain: cannot reach the balancer" {
		t.Errorf("the service: %v", err)
	}
}

func TestFailedStateIsReset(t *testing.T) {
	u, bus, systemd := units(t)
	systemd.SetUnit(testService, bustest.Unit{Run: bustest.Exits(1, "")})
	calls, err := connect(t.Context(), bus.Address(), handshake)
	must.Do(t, err)
	defer calls.Close()
	for _, u := range []Units{u, {Connect: u.Connect, Calls: calls}} {
		if err := u.Start(t.Context(), testService); err == nil || systemd.UnitState(testService) != "failed" {
			t.Fatalf("after %v the unit is %s", err, systemd.UnitState(testService))
		}
		must.Do(t, u.ResetFailed(t.Context(), testService))
		if state := systemd.UnitState(testService); state != "inactive" {
			t.Errorf("the unit is %s", state)
		}
		must.Do(t, u.ResetFailed(t.Context(), "missing.service"))
	}
	systemd.Refuse("ResetFailedUnit", errAccessDenied, "not today")
	if err := u.ResetFailed(t.Context(), testService); err == nil || !strings.Contains(err.Error(), testService+": ") {
		t.Errorf("the error is %v", err)
	}
}

func TestMissingUnitIsToldFromAFailure(t *testing.T) {
	u, _, systemd := units(t)
	systemd.SetUnit(testTarget, bustest.Unit{Masked: true})
	for _, name := range []string{testTarget, "missing.target"} {
		if err := u.Start(t.Context(), name); !errors.Is(err, ErrNoUnit) {
			t.Errorf("start %s: %v", name, err)
		}
		if _, err := u.PullsIn(t.Context(), name); !errors.Is(err, ErrNoUnit) {
			t.Errorf("what %s pulls in: %v", name, err)
		}
		must.Do(t, u.Stop(t.Context(), name))
	}
	systemd.SetUnit("there.target", bustest.Unit{})
	for _, method := range []string{"StartUnit", "LoadUnit", "LoadState", "Subscribe"} {
		systemd.Refuse(method, errAccessDenied, "not today")
		if err := u.Start(t.Context(), "there.target"); err == nil || errors.Is(err, ErrNoUnit) {
			t.Errorf("%s is refused: %v", method, err)
		}
		systemd.Heal(method)
	}
}

func TestPullsInNamesUnitsButNotBasicOnes(t *testing.T) {
	u, _, systemd := units(t)
	systemd.SetUnit(testTarget, bustest.Unit{
		Requires: []string{"sysinit.target", "system.slice", "b.service", "a.service"}, Wants: []string{"-.mount", "b.service", "c.target", "tmp.mount"},
	})
	got, err := u.PullsIn(t.Context(), testTarget)
	if want := []string{"a.service", "b.service", "c.target"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestEndOfTheContextStopsWhatHangs(t *testing.T) {
	u, _, systemd := units(t)
	systemd.SetUnit(testService, bustest.Unit{Run: bustest.Hangs})
	systemd.SetUnit("busy.service", bustest.Unit{Run: bustest.Hangs})
	systemd.SetUnit("group.target", bustest.Unit{Wants: []string{testService}})
	late := errors.New("too late")
	hang := func(target string) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		before := len(systemd.Started())
		stop := make(chan error, 1)
		go func() { stop <- u.Start(ctx, target) }()
		must.Eventually(t, patience, "the service to start", func() bool { return len(systemd.Started()) > before })
		cancel(late)
		err := must.Receive(t, patience, "the end of Start", stop)
		if !errors.Is(err, late) || !strings.Contains(err.Error(), "still starting: ") || !strings.Contains(err.Error(), testService) || strings.Contains(err.Error(), "busy.service") != (target == testTarget) {
			t.Errorf("got %v", err)
		}
		if state := systemd.UnitState(testService); state != "inactive" {
			t.Errorf("the service is %s", state)
		}
	}
	systemd.SetUnit(testTarget, bustest.Unit{Requires: []string{"group.target", "busy.service"}})
	hang(testTarget)

	// What somebody else starts goes on, but not in a target that exists only to be started.
	systemd.SetUnit("boot-complete.target", bustest.Unit{Requires: []string{testService, "busy.service"}, Needed: true})
	before, others := len(systemd.Started()), make(chan error, 1)
	go func() { others <- u.Start(context.WithoutCancel(t.Context()), "busy.service") }()
	must.Eventually(t, patience, "the other service to start", func() bool { return len(systemd.Started()) > before })
	hang("boot-complete.target")
	if state := systemd.UnitState("busy.service"); state != "activating" {
		t.Errorf("the other service is %s", state)
	}
	hang(testTarget)
	if err := must.Receive(t, patience, "the end of the other start", others); err == nil {
		t.Error("the other start succeeds")
	}
}

func TestStopStopsWhatIsStillStarting(t *testing.T) {
	u, _, systemd := units(t)
	systemd.SetUnit(testService, bustest.Unit{Run: bustest.Hangs})
	systemd.SetUnit("up.service", bustest.Unit{Stays: true})
	systemd.SetUnit(testTarget, bustest.Unit{Requires: []string{testService}, Wants: []string{"up.service"}})
	end := make(chan error, 1)
	go func() { end <- u.Start(t.Context(), testTarget) }()
	must.Eventually(t, patience, "the services to start", func() bool {
		return systemd.UnitState(testService) == "activating" && systemd.UnitState("up.service") == "active"
	})
	must.Do(t, u.Stop(t.Context(), testTarget))
	for name, want := range map[string]string{testService: "inactive", testTarget: "inactive", "up.service": "active"} {
		if state := systemd.UnitState(name); state != want {
			t.Errorf("%s is %s, want %s", name, state, want)
		}
	}
	if _, ok := errors.AsType[*JobError](must.Receive(t, patience, "the end of Start", end)); !ok {
		t.Error("Start is not told that it was stopped")
	}
	must.Do(t, u.Stop(t.Context(), testTarget))
}

// A bus that was restarted has forgotten who waits for signals.
func TestLostSignalIsMadeUpForByLooking(t *testing.T) {
	u, _, systemd := units(t)
	u.poll = 20 * time.Millisecond
	systemd.LoseJobs(true)
	systemd.SetUnit(testService, bustest.Unit{Run: bustest.Exits(3, "no")})
	systemd.SetUnit("ok.service", bustest.Unit{})
	systemd.SetUnit("skipped.service", bustest.Unit{Skipped: true})
	systemd.SetUnit("up.service", bustest.Unit{Stays: true})
	systemd.SetUnit("ok.target", bustest.Unit{Requires: []string{"ok.service"}})
	systemd.SetUnit(testTarget, bustest.Unit{Requires: []string{testService}})
	for range 2 {
		for _, name := range []string{"skipped.service", "up.service", "ok.target"} {
			if err := u.Start(t.Context(), name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		// This one may as well have been stopped.
		if err := u.Start(t.Context(), "ok.service"); err == nil || !strings.Contains(err.Error(), "report about it was lost") {
			t.Errorf("a service that has ended: %v", err)
		}
		if err := u.Start(t.Context(), testTarget); err == nil || !strings.Contains(err.Error(), "exit status 3: no") {
			t.Errorf("%s: %v", testTarget, err)
		}
	}
}

func TestStartOutlivesTheConnection(t *testing.T) {
	u, bus, systemd := units(t)
	u.poll = 20 * time.Millisecond
	begun, release := make(chan struct{}), make(chan struct{})
	systemd.SetUnit(testService, bustest.Unit{Run: func(context.Context) (int, string) {
		close(begun)
		<-release
		return 3, "no"
	}})
	systemd.SetUnit(testTarget, bustest.Unit{Requires: []string{testService}})
	looks := systemd.Hang("JobType")
	end := make(chan error, 1)
	go func() { end <- u.Start(t.Context(), testTarget) }()
	must.Receive(t, patience, "the service to start", begun)
	must.Receive(t, patience, "Start to wait", looks)
	must.Do(t, bus.Restart())
	systemd.Heal("JobType")
	must.Do(t, systemd.Leave())
	must.Do(t, systemd.Appear())
	close(release)
	if err := must.Receive(t, patience, "the end of Start", end); err == nil || !strings.Contains(err.Error(), "exit status 3: no") {
		t.Errorf("got %v", err)
	}
}

// Anybody can send signals.
func TestForgedResultIsIgnored(t *testing.T) {
	u, bus, systemd := units(t)
	u.poll = time.Hour
	started, release := make(chan struct{}), make(chan struct{})
	systemd.SetUnit(testService, bustest.Unit{Run: func(context.Context) (int, string) {
		close(started)
		<-release
		return 3, "no"
	}})
	conns := make(chan *dbus.Conn, 1)
	dial := u.Connect
	u.Connect = func(ctx context.Context) (*dbus.Conn, error) {
		conn, err := dial(ctx)
		conns <- conn
		return conn, err
	}
	end := make(chan error, 1)
	go func() { end <- u.Start(t.Context(), testService) }()
	must.Receive(t, patience, "the service to start", started)
	victim := (<-conns).Names()[0]
	forger := bustest.For(t).Connect(bus)
	for id := range uint32(200) {
		job := managerPath + dbus.ObjectPath(fmt.Sprintf("/job/%d", id))
		must.Do(t, bustest.SendTo(forger, victim, managerPath, managerInterface+".JobRemoved", id, job, testService, "done"))
	}
	must.Do(t, forger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
	close(release)
	if err := must.Receive(t, patience, "the end of Start", end); err == nil || !strings.Contains(err.Error(), "exit status 3: no") {
		t.Errorf("got %v", err)
	}
}
