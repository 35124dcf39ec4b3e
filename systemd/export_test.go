package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/systemd/buspolicy"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

var hostObject = ObjectName{"io.github.locksmithd.Locksmith1", "/io/github/locksmithd/Locksmith1", "io.github.locksmithd.Locksmith1.Host"}

type exportedGate struct{ Name, Answer, Why string }

func exported(state string, since uint64) []Property {
	return []Property{
		{"State", state},
		{"StateSince", since},
		{"Gates", []exportedGate{{"window", "no", "it is shut"}}},
		{"Users", []string(nil)},
	}
}

// logged is a log that tests read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// startExport exports an object until the end of the test.
func startExport(t *testing.T, bus *bustest.Bus) (*Export, *logged) {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	log := &logged{}
	e := NewExport(hostObject, exported("idle", 1), slog.New(slog.NewTextHandler(log, nil)))
	e.refusedEvery = 0
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must.Receive(t, patience, "the end of the export", ended)
	})
	return e, log
}

func awaitName(t *testing.T, conn *dbus.Conn) {
	t.Helper()
	must.Eventually(t, patience, "the name to be on the bus", func() bool {
		var owned bool
		must.Do(t, conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, hostObject.Bus).Store(&owned))
		return owned
	})
}

func TestExportIsReadAndNotWritten(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.Open) // where only the process itself refuses
	startExport(t, bus)
	conn := bustest.For(t).Connect(bus)
	awaitName(t, conn)
	object := conn.Object(hostObject.Bus, hostObject.Path)
	var all map[string]dbus.Variant
	must.Do(t, object.Call("org.freedesktop.DBus.Properties.GetAll", 0, hostObject.Interface).Store(&all))
	if got, err := json.Marshal(all["Gates"].Value()); err != nil || len(all) != 4 || string(got) != `[["window","no","it is shut"]]` {
		t.Errorf("GetAll returns %v", all)
	}
	for name, want := range map[string]string{"State": `"idle"`, "StateSince": "@t 1", "Users": "@as []"} {
		if v, err := object.GetProperty(hostObject.Interface + "." + name); err != nil || v.String() != want {
			t.Errorf("%s is %v, %v, want %s", name, v, err, want)
		}
	}
	for _, c := range []struct {
		path   dbus.ObjectPath
		method string
		args   []any
		want   string // the end of the error's name; "" for success
	}{
		{hostObject.Path, "org.freedesktop.DBus.Properties.Set", []any{hostObject.Interface, "State", dbus.MakeVariant("off")}, "PropertyReadOnly"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.Set", nil, "PropertyReadOnly"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.Get", []any{hostObject.Interface, "Nothing"}, "UnknownProperty"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.Get", []any{"a.b", "State"}, "UnknownProperty"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.Get", []any{"", "State"}, ""},
		{hostObject.Path, "org.freedesktop.DBus.Properties.Get", []any{hostObject.Interface}, "InvalidArgs"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.Get", []any{hostObject.Interface, uint32(1)}, "InvalidArgs"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.GetAll", []any{"a.b"}, "UnknownInterface"},
		{hostObject.Path, "org.freedesktop.DBus.Properties.GetAll", []any{"org.freedesktop.DBus.Properties"}, ""},
		{hostObject.Path, "org.freedesktop.DBus.Peer.Ping", nil, ""},
		{"/elsewhere", "org.freedesktop.DBus.Peer.Ping", nil, ""},
		{"/elsewhere", "org.freedesktop.DBus.Properties.GetAll", []any{hostObject.Interface}, "UnknownObject"},
		{"/elsewhere", "org.freedesktop.DBus.Introspectable.Introspect", nil, "UnknownObject"},
		{hostObject.Path, "a.b.Get", []any{hostObject.Interface, "State"}, "UnknownMethod"},
		{hostObject.Path, hostObject.Interface + ".Reboot", nil, "UnknownMethod"},
	} {
		err := conn.Object(hostObject.Bus, c.path).Call(c.method, 0, c.args...).Err
		var answer dbus.Error
		if errors.As(err, &answer); strings.TrimPrefix(answer.Name, "org.freedesktop.DBus.Error.") != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s %s %v: %v %v, want %q", c.path, c.method, c.args, answer.Name, err, c.want)
		}
	}
}

// node is what Introspect returns.
type node struct {
	Nodes []struct {
		Name string `xml:"name,attr"`
	} `xml:"node"`
	Interfaces []struct {
		Name       string `xml:"name,attr"`
		Properties []struct {
			Name   string `xml:"name,attr"`
			Type   string `xml:"type,attr"`
			Access string `xml:"access,attr"`
		} `xml:"property"`
	} `xml:"interface"`
}

// busctl finds the object by its tree, which begins at "/".
func TestExportIsFoundByIntrospection(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	startExport(t, bus)
	conn := bustest.For(t).Connect(bus)
	awaitName(t, conn)
	path := ""
	for range 10 {
		var text string
		must.Do(t, conn.Object(hostObject.Bus, dbus.ObjectPath(path + "/")[:max(1, len(path))]).Call("org.freedesktop.DBus.Introspectable.Introspect", 0).Store(&text))
		var n node
		must.Do(t, xml.Unmarshal([]byte(text), &n))
		if len(n.Nodes) == 0 {
			if got := fmt.Sprint(n.Interfaces[0]); path != string(hostObject.Path) ||
				got != "{io.github.locksmithd.Locksmith1.Host [{State s read} {StateSince t read} {Gates a(sss) read} {Users as read}]}" {
				t.Errorf("%s is %s", path, got)
			}
			return
		}
		path += "/" + n.Nodes[0].Name
	}
	t.Error("the tree has no end")
}

func TestExportTellsOnlyWhatHasChanged(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	e, _ := startExport(t, bus)
	conn := bustest.For(t).Connect(bus)
	awaitName(t, conn)
	must.Do(t, conn.AddMatchSignal(dbus.WithMatchSender(hostObject.Bus), dbus.WithMatchMember("PropertiesChanged")))
	signals := make(chan *dbus.Signal, 10)
	conn.Signal(signals)
	e.Set(exported("idle", 1)) // the same
	e.Set(exported("waiting", 1))
	got := must.Receive(t, patience, "a signal", signals)
	if text := fmt.Sprint(got.Path, got.Body); text != `/io/github/locksmithd/Locksmith1[io.github.locksmithd.Locksmith1.Host map[State:"waiting"] []]` {
		t.Errorf("the signal is %s", text)
	}
	e.Set(exported("waiting", 2))
	if got := must.Receive(t, patience, "a signal", signals); fmt.Sprint(got.Body[1]) != "map[StateSince:@t 2]" {
		t.Errorf("the second signal is %v", got.Body)
	}
}

func TestExportComesBackAfterItsConnectionIsLost(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	e, log := startExport(t, bus)
	awaitName(t, bustest.For(t).Connect(bus))
	must.Do(t, bus.Kill())
	must.Eventually(t, patience, "a warning", func() bool { return log.count("level=WARN") == 1 })
	e.Set(exported("waiting", 2))
	must.Do(t, bus.Restart())
	conn := bustest.For(t).Connect(bus)
	awaitName(t, conn)
	if v, err := conn.Object(hostObject.Bus, hostObject.Path).GetProperty(hostObject.Interface + ".State"); err != nil || v.Value() != "waiting" {
		t.Errorf("the state is %v, %v", v, err)
	}
	if n := log.count("level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

func TestExportWithoutThePolicyFileIsTriedAgainWhenTheStateChanges(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.Bare)
	e, log := startExport(t, bus)
	must.Eventually(t, patience, "a warning that names the file", func() bool {
		return log.count("lacks the policy file /usr/share/dbus-1/system.d/io.github.locksmithd.Locksmith1.conf") == 1
	})
	must.Do(t, bus.Install())
	conn := bustest.For(t).Connect(bus)
	state := 0
	must.Eventually(t, patience, "the name to be on the bus", func() bool {
		state++
		e.Set(exported(fmt.Sprint(state), 1))
		var owned bool
		must.Do(t, conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, hostObject.Bus).Store(&owned))
		return owned
	})
	if n := log.count("level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

func TestExportTakesTheNameOnceItIsFree(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	conn := bustest.For(t).Connect(bus)
	if reply, err := conn.RequestName(hostObject.Bus, 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("the name: %v, %v", reply, err)
	}
	_, log := startExport(t, bus)
	must.Eventually(t, patience, "a warning", func() bool { return log.count("another program has the name") == 1 })
	_, err := conn.ReleaseName(hostObject.Bus)
	must.Do(t, err)
	must.Eventually(t, patience, "the export to have the name", func() bool {
		v, err := conn.Object(hostObject.Bus, hostObject.Path).GetProperty(hostObject.Interface + ".State")
		return err == nil && v.Value() == "idle"
	})
}

// Callers who ask without end, and read no answer, cost no goroutine and no memory that grows.
func TestExportIsNotFlooded(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	e, _ := startExport(t, bus)
	conn := bustest.For(t).Connect(bus)
	awaitName(t, conn)
	before := runtime.NumGoroutine()
	for range 3 {
		flood, err := net.Dial("unix", strings.TrimPrefix(bus.Address(), "unix:path="))
		must.Do(t, err)
		defer flood.Close()
		c, err := newCallee(flood)
		must.Do(t, err)
		must.Do(t, c.call("Hello"))
		ask := func(args ...any) error {
			return c.send(&dbus.Message{Type: dbus.TypeMethodCall, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldPath:        dbus.MakeVariant(hostObject.Path),
				dbus.FieldInterface:   dbus.MakeVariant(propertiesInterface),
				dbus.FieldDestination: dbus.MakeVariant(hostObject.Bus),
				dbus.FieldMember:      dbus.MakeVariant("GetAll"),
			}}, args...)
		}
		must.Do(t, ask(strings.Repeat("x", 10*maxCall))) // it is dropped
		for range 2000 {
			must.Do(t, ask(hostObject.Interface))
		}
	}
	e.Set(exported("waiting", 2)) // at once
	if v, err := conn.Object(hostObject.Bus, hostObject.Path).GetProperty(hostObject.Interface + ".State"); err != nil || v.Value() != "waiting" {
		t.Errorf("the state is %v, %v", v, err)
	}
	if now := runtime.NumGoroutine(); now > before+2 {
		t.Errorf("there were %d goroutines, and are %d", before, now)
	}
}

// Set does not wait for a bus that takes nothing.
func TestExportDoesNotWaitForTheBus(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	e, _ := startExport(t, bus)
	awaitName(t, bustest.For(t).Connect(bus))
	must.Do(t, bus.Pause())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 10_000 {
			e.Set(exported(strings.Repeat("x", 1000), uint64(i)))
		}
	}()
	must.Receive(t, patience, "the end of Set", done)
	must.Do(t, bus.Resume())
}

// As another user sees it, with the policy file that is installed.
func TestPolicyFileLetsEverybodyReadAndNobodyWrite(t *testing.T) {
	realpart.Must(t, realpart.Root("another user"), realpart.Tool("busctl", "systemd"))
	bus := bustest.For(t).Bus(bustest.System)
	startExport(t, bus)
	awaitName(t, bustest.For(t).Connect(bus))
	busctl := func(uid uint32, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "busctl", append([]string{"--address=" + bus.Address()}, args...)...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	name, path, iface := hostObject.Bus, string(hostObject.Path), hostObject.Interface
	for _, uid := range []uint32{0, bustest.Nobody} {
		if out, err := busctl(uid, "get-property", name, path, iface, "State", "StateSince", "Gates"); err != nil ||
			out != "s \"idle\"\nt 1\na(sss) 1 \"window\" \"no\" \"it is shut\"" {
			t.Errorf("user %d: get-property: %s, %v", uid, out, err)
		}
		if out, err := busctl(uid, "introspect", name, path); err != nil || !strings.Contains(out, "StateSince") {
			t.Errorf("user %d: introspect: %s, %v", uid, out, err)
		}
		if out, err := busctl(uid, "tree", name); err != nil || !strings.Contains(out, path) {
			t.Errorf("user %d: tree: %s, %v", uid, out, err)
		}
		for _, refused := range [][]string{
			{"set-property", name, path, iface, "State", "s", "off"},
			{"call", name, path, iface, "Reboot"},
		} {
			if out, err := busctl(uid, refused...); err == nil || !strings.Contains(out, "Access denied") && !strings.Contains(out, "not allowed") &&
				!strings.Contains(out, "rejected") {
				t.Errorf("user %d: %v: %s, %v", uid, refused, out, err)
			}
		}
	}
	if out, err := busctl(bustest.Nobody, "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
		"RequestName", "su", name, "4"); err == nil || !strings.Contains(out, "Access denied") {
		t.Errorf("another user takes the name: %s, %v", out, err)
	}
	if !strings.Contains(buspolicy.Content, `<policy user="root">`) {
		t.Errorf("the file is %s", buspolicy.Content)
	}
}
