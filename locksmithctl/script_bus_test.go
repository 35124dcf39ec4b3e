package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

// The commands about the system bus:
//
//	bus               start a bus with a logind, and set DBUS_SYSTEM_BUS_ADDRESS to it
//	logind WHAT...    change it, see logindCmd
//	reboots N         it has been asked for a reboot N times since the last time this command ran
//	flags N           it has been asked for one reboot since then, with these flags
//	engine VERSION    update_engine is on the bus, and announces that version from now on
//	engine            it does not say any more what it has installed
//	may-reboot TEXT   the scripts in may-reboot.d say no with this text, or yes for ""
//	hooked PHASE EXIT TEXT  a unit that is hooked into a phase ends with this exit status and STATUS=
//	hook-hangs PHASE  a unit that is hooked into a phase does not end until "hook-ends"; see "caught"
//	hook-ends         it ends, with success
//	ran PHASE...      the units of these phases have run since the last time this command ran, in this order
//	alerts NAME...    start a Prometheus in which these alerts are firing, and set LOCKSMITHD_PROMETHEUS_URL to it
//	fires NAME...     these alerts are firing in it from now on
//	web-hook          start one that answers once logind was asked for a reboot, and set LOCKSMITHD_NOTIFY_URL to it
//	told [EVENT]      the web hook was told this, or nothing, since the last time this command ran; see the function told
//	announced         the signal for "need reboot" was on the bus once, as update_engine writes it
var busCommands = commands{
	"bus":        busCmd,
	"logind":     logindCmd,
	"reboots":    rebootsCmd,
	"flags":      flagsCmd,
	"engine":     engineCmd,
	"may-reboot": mayRebootCmd,
	"hooked":     hookedCmd,
	"hook-hangs": hookHangsCmd,
	"hook-ends":  func(s *stage, _ *testscript.TestScript, _ []string) { close(s.hook) },
	"ran":        ranCmd,
	"alerts":     alertsCmd,
	"fires":      firesCmd,
	"web-hook":   webHookCmd,
	"told":       toldCmd,
	"announced":  announcedCmd,
}

func busCmd(s *stage, ts *testscript.TestScript, _ []string) {
	s.bus = bustest.For(s).Bus(bustest.System)
	s.logind = bustest.For(s).Logind(s.bus)
	conn := bustest.For(s).Connect(s.bus)
	all := make(chan *dbus.Signal, 100)
	s.signals = make(chan *dbus.Signal, 100)
	go func() {
		for signal := range all { // until conn is closed
			if signal.Name != "org.freedesktop.DBus.NameAcquired" {
				s.signals <- signal
			}
		}
	}()
	conn.Signal(all)
	ts.Check(conn.AddMatchSignal(dbus.WithMatchInterface(bustest.EngineInterface)))
	ts.Setenv("DBUS_SYSTEM_BUS_ADDRESS", s.bus.Address())
}

// logindCmd makes logind do one of these:
//
//	refuse                   refuse reboots
//	hang                     give no answer when asked for one
//	silent                   give no answer when asked for sessions
//	mute                     have systemd refuse to say how many soft reboots there were
//	heal                     end all of these
//	leave                    leave the bus
//	go-down                  shut down, as if somebody else had asked for that
//	boot                     be up again after a reboot
//	version N                be that of systemd N
//	old                      be older than systemd, so that it knows no soft reboots
//	soft-reboot              have done one
//	sessions [NAME TTY]...   have these sessions of people, with the ids 1, 2, ...; "" is no TTY
//	own ID                   say that its callers are in that session
//	inhibit [MODE WHO WHY]   have this inhibitor for shutdown, or none
//	schedule [TYPE TIME WHY] have this shutdown scheduled, or none; the time is as in RFC 3339
func logindCmd(s *stage, ts *testscript.TestScript, args []string) {
	what, args := args[0], args[1:]
	switch what {
	case "refuse":
		s.logind.Refuse("Reboot", "org.freedesktop.DBus.Error.AccessDenied", "Permission denied")
	case "hang":
		s.caught = s.logind.Hang("Reboot")
	case "heal":
		s.logind.Heal("Reboot")
		s.logind.Heal("ListSessions")
		s.logind.Heal("SoftRebootsCount")
	case "mute":
		s.logind.Refuse("SoftRebootsCount", "org.freedesktop.DBus.Error.NoReply", "it is busy")
	case "silent":
		s.caught = s.logind.Hang("ListSessions")
	case "leave":
		ts.Check(s.logind.Leave())
	case "go-down":
		ts.Check(s.logind.SetPreparing(true))
		s.logind.Refuse("Reboot", "org.freedesktop.login1.OperationInProgress", "There's already a shutdown or sleep operation in progress")
	case "boot":
		ts.Check(s.logind.SetPreparing(false))
	case "version":
		version, err := strconv.Atoi(args[0])
		ts.Check(err)
		ts.Check(s.logind.SetVersion(version))
	case "old":
		s.logind.SetOld(true)
	case "soft-reboot":
		s.logind.SoftReboot(time.Now())
	case "sessions":
		var sessions []bustest.Session
		for ; len(args) > 1; args = args[2:] {
			id := strconv.Itoa(len(sessions) + 1)
			sessions = append(sessions, bustest.Session{ID: id, Name: args[0], TTY: args[1]})
		}
		ts.Check(s.logind.SetSessions(sessions...))
	case "own":
		s.logind.SetOwnSession(args[0])
	case "inhibit":
		if len(args) == 0 {
			s.logind.SetInhibitors()
			return
		}
		s.logind.SetInhibitors(bustest.Inhibitor{Mode: args[0], Who: args[1], Why: args[2], PID: 812})
	case "schedule":
		if len(args) == 0 {
			s.logind.SetShutdown(bustest.Shutdown{})
			return
		}
		at, err := time.Parse(time.RFC3339, args[1])
		ts.Check(err)
		s.logind.SetShutdown(bustest.Shutdown{Type: args[0], At: at, Message: args[2]})
	default:
		ts.Fatalf("logind cannot %s", what)
	}
}

func rebootsCmd(s *stage, ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := len(s.logind.Reboots())
	for range got {
		<-s.logind.Reboots()
	}
	if got != want {
		ts.Fatalf("logind was asked for %d reboots, want %d", got, want)
	}
}

func flagsCmd(s *stage, ts *testscript.TestScript, args []string) {
	want, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	if n := len(s.logind.Reboots()); n != 1 {
		ts.Fatalf("logind was asked for %d reboots, want 1", n)
	}
	if call := <-s.logind.Reboots(); call.Flags != want {
		ts.Fatalf("logind was asked for the reboot %+v, want the flags %d", call, want)
	}
}

func engineCmd(s *stage, ts *testscript.TestScript, args []string) {
	if s.engine == nil {
		s.engine = bustest.For(s).Engine(s.bus)
	}
	if len(args) == 0 {
		s.engine.Refuse("GetStatus", "org.freedesktop.DBus.Error.NoReply", "it is busy")
		return
	}
	s.engine.Heal("GetStatus")
	s.engine.Set(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: args[0]})
}

func mayRebootCmd(s *stage, _ *testscript.TestScript, args []string) {
	exit := 0
	if args[0] != "" {
		exit = 1
	}
	s.logind.SetUnit(hooks.MayReboot.Service(), bustest.Unit{Run: bustest.Exits(exit, args[0])})
}

func hookedCmd(s *stage, ts *testscript.TestScript, args []string) {
	exit, err := strconv.Atoi(args[1])
	ts.Check(err)
	s.hookIn(args[0], bustest.Exits(exit, args[2]))
}

func hookHangsCmd(s *stage, _ *testscript.TestScript, args []string) {
	begun, end := make(chan struct{}), make(chan struct{})
	s.caught, s.hook = begun, end
	s.hookIn(args[0], func(ctx context.Context) (int, string) {
		close(begun)
		select {
		case <-end:
		case <-ctx.Done():
		}
		return 0, ""
	})
}

// hookIn hooks a service into a phase.
func (s *stage) hookIn(phase string, run func(context.Context) (int, string)) {
	s.logind.SetUnit(phase+".service", bustest.Unit{Run: run})
	s.logind.SetUnit("locksmith-"+phase+".target", bustest.Unit{Requires: []string{phase + ".service"}})
}

func ranCmd(s *stage, ts *testscript.TestScript, phases []string) {
	var ran []string
	for _, unit := range s.logind.Started()[s.ran:] {
		ran = append(ran, strings.TrimSuffix(unit, ".service"))
	}
	s.ran += len(ran)
	if !slices.Equal(ran, phases) {
		ts.Fatalf("%q have run, want %q", ran, phases)
	}
}

func alertsCmd(s *stage, ts *testscript.TestScript, names []string) {
	firesCmd(s, ts, names)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, *s.alerts.Load())
	}))
	s.Cleanup(server.Close)
	ts.Setenv("LOCKSMITHD_PROMETHEUS_URL", server.URL)
}

func firesCmd(s *stage, _ *testscript.TestScript, names []string) {
	var series []string
	for _, name := range names {
		series = append(series, fmt.Sprintf(`{"metric":{"alertname":%q},"value":[0,"1"]}`, name))
	}
	all := strings.Join(series, ",")
	s.alerts.Store(&all)
}

func webHookCmd(s *stage, ts *testscript.TestScript, _ []string) {
	s.told = make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for len(s.logind.Reboots()) == 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
		s.told <- told(body)
	}))
	s.Cleanup(server.Close)
	ts.Setenv("LOCKSMITHD_NOTIFY_URL", server.URL)
}

func toldCmd(s *stage, ts *testscript.TestScript, want []string) {
	var got []string
	for range len(s.told) {
		got = append(got, <-s.told)
	}
	if !slices.Equal(got, want) {
		ts.Fatalf("the web hook was told %q, want %q", got, want)
	}
}

func announcedCmd(s *stage, ts *testscript.TestScript, _ []string) {
	signal := must.Receive(s, patience, "the signal", s.signals)
	want := []any{int64(0), float64(0), bustest.OperationNeedReboot, "", int64(0)}
	if signal.Name != bustest.EngineSignal || signal.Path != bustest.EnginePath || !slices.Equal(signal.Body, want) {
		ts.Fatalf("the signal is %v", signal)
	}
	if n := len(s.signals); n > 0 {
		ts.Fatalf("there were %d more signals", n)
	}
}
