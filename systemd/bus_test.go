package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	bustest.RunStranger()
	if phase := os.Getenv("LOCKSMITH_PHASE"); phase != "" {
		os.Exit(runScripts(phase))
	}
	os.Exit(m.Run())
}

// systemBus starts a bus with the system's policy, and connects to it as the programs do.
func systemBus(t *testing.T) (*bustest.Bus, *dbus.Conn) {
	t.Helper()
	bus := bustest.For(t).Bus(bustest.System)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	conn, err := ConnectSystemBus(t.Context())
	must.Do(t, err)
	t.Cleanup(func() { conn.Close() })
	return bus, conn
}

// ask makes a call that the bus itself answers.
func ask(t *testing.T, conn *dbus.Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetId", 0).Err
}

func TestSocketPathOfABusAddress(t *testing.T) {
	for _, test := range []struct{ address, want string }{
		{"unix:path=/run/dbus/system_bus_socket", "/run/dbus/system_bus_socket"},
		{"unix:path=/tmp/a%20b,guid=0123456789abcdef", "/tmp/a b"},
		{"unix:guid=0123456789abcdef,path=/tmp/x", "/tmp/x"},
		{"unix:abstract=/tmp/x", "@/tmp/x"},
		{"unix:path=", ""},
		{"unix:path=/tmp/%zz", ""},
		{"unix:", ""},
		{"unix:tmpdir=/tmp", ""},
		{"tcp:host=127.0.0.1,port=1", ""},
		{"/run/dbus/system_bus_socket", ""},
		{"", ""},
	} {
		got, err := socketPath(test.address)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q: %q, %v, want %q", test.address, got, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), test.address) {
			t.Errorf("%q: the error does not name the address: %v", test.address, err)
		}
	}
}

func TestConnectTriesEveryAddressOfTheList(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=localhost,port=1;unix:path=/nowhere;"+bus.Address())
	conn, err := ConnectSystemBus(t.Context())
	must.Do(t, err)
	defer conn.Close()
	if err := ask(t, conn); err != nil {
		t.Error(err)
	}
}

func TestConnectNamesTheAddressThatFails(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/at/all")
	_, err := ConnectSystemBus(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/nowhere/at/all") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestConnectGivesUpOnABusThatSaysNothing(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "silent")
	listener, err := net.Listen("unix", socket)
	must.Do(t, err)
	defer listener.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ConnectSystemBus(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestConnectGivesUpOnABusThatIsStopped(t *testing.T) {
	bus, _ := systemBus(t)
	must.Do(t, bus.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ConnectSystemBus(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestConnectionOutlivesTheContextOfConnecting(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := ConnectSystemBus(ctx)
	must.Do(t, err)
	defer conn.Close()
	cancel()
	if err := ask(t, conn); err != nil {
		t.Error(err)
	}
}

func TestConnectionEndsWhenTheBusGoesAway(t *testing.T) {
	bus, conn := systemBus(t)
	must.Do(t, bus.Kill())
	must.Receive(t, patience, "the end of the connection", conn.Context().Done())
	if err := ask(t, conn); err == nil {
		t.Error("a call without a bus succeeded")
	}
}

func TestSignalsComeInOrder(t *testing.T) {
	bus, conn := systemBus(t)
	signals := make(chan *dbus.Signal)
	conn.Signal(signals)
	must.Do(t, conn.AddMatchSignal(dbus.WithMatchInterface("a.b")))
	peer := bustest.For(t).Connect(bus)
	const count = 5000
	go func() {
		for i := range uint32(count) {
			if err := peer.Emit("/x", "a.b.C", i); err != nil {
				return
			}
		}
	}()
	for next := uint32(0); next < count; {
		s := must.Receive(t, patience, fmt.Sprintf("signal %d", next), signals)
		if s.Name != "a.b.C" {
			continue
		}
		if s.Body[0] != next {
			t.Fatalf("signal %v arrived, want %d", s.Body[0], next)
		}
		next++
	}
}

// Any user may send any signal to any connection on the system bus.
func TestNobodyCanCutTheBusConnectionWithAMessage(t *testing.T) {
	for _, test := range []struct {
		name    string
		dropped bool
		send    func(t *testing.T, bus *bustest.Bus, to string)
	}{
		{"well-formed, but godbus cannot decode it", true, func(t *testing.T, bus *bustest.Bus, to string) {
			// godbus cannot encode it either.
			realpart.Must(t, realpart.Tool("dbus-send", "dbus-bin"))
			out, err := exec.Command("dbus-send", "--bus="+bus.Address(), "--type=signal", "--dest="+to,
				"/x", "a.b.C", "dict:boolean:string:true,x").CombinedOutput()
			if err != nil {
				t.Fatalf("dbus-send: %v: %s", err, out)
			}
		}},
		{"as big as the bus allows", true, func(t *testing.T, bus *bustest.Bus, to string) {
			must.Do(t, bustest.SendTo(bustest.For(t).Connect(bus), to, "/x", "a.b.C", strings.Repeat("x", 31<<20)))
		}},
		{"without arguments", false, func(t *testing.T, bus *bustest.Bus, to string) {
			must.Do(t, bustest.SendTo(bustest.For(t).Connect(bus), to, "/x", "org.freedesktop.DBus.NameLost"))
		}},
		{"nested as deep as the bus allows", false, func(t *testing.T, bus *bustest.Bus, to string) {
			deep := dbus.MakeVariant("x")
			for range 60 {
				deep = dbus.MakeVariant(deep)
			}
			must.Do(t, bustest.SendTo(bustest.For(t).Connect(bus), to, "/x", "a.b.C", deep))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus, conn := systemBus(t)
			signals := make(chan *dbus.Signal, 10)
			conn.Signal(signals)
			test.send(t, bus, conn.Names()[0])
			// Once the next message has arrived, this one has been read.
			must.Do(t, bustest.SendTo(bustest.For(t).Connect(bus), conn.Names()[0], "/x", "a.b.Last"))
			for last := false; !last; {
				s := must.Receive(t, patience, "a signal", signals)
				if s == nil {
					t.Fatal("the connection was lost")
				}
				if test.dropped && s.Name == "a.b.C" {
					t.Error("the message came through")
				}
				last = s.Name == "a.b.Last"
			}
			if err := ask(t, conn); err != nil {
				t.Error(err)
			}
		})
	}
}

// The bus may send them: dbus-broker disconnects a client that asks for credentials without having
// agreed to receive file descriptors.
func TestFileDescriptorsAreAgreedToAndDropped(t *testing.T) {
	bus, conn := systemBus(t)
	signals := make(chan *dbus.Signal, 10)
	conn.Signal(signals)
	peer := bustest.For(t).Connect(bus)
	file, err := os.Open("/dev/null")
	must.Do(t, err)
	defer file.Close()
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		must.Do(t, err)
		return len(entries)
	}
	before := open()
	const count = 20
	for range count {
		must.Do(t, bustest.SendTo(peer, conn.Names()[0], "/x", "a.b.C", dbus.UnixFD(file.Fd())))
	}
	for n := 0; n < count; {
		if s := must.Receive(t, patience, fmt.Sprintf("signal %d of %d with a file descriptor", n+1, count), signals); s.Name == "a.b.C" {
			n++
		}
	}
	if after := open(); after > before {
		t.Errorf("%d file descriptors are open, %d before", after, before)
	}
}
