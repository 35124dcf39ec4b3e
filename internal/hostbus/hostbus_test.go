package hostbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/hostfacts"
	"github.com/locksmithd/locksmith/systemd"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

const patience = 30 * time.Second

// full is a state in which every field is set.
func full() hostfacts.Host {
	var h hostfacts.Host
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(name)
		case uint64:
			f.SetUint(uint64(i) + 1)
		case bool:
			f.SetBool(true)
		case []string:
			f.Set(reflect.ValueOf([]string{name, "b"}))
		}
	}
	h.Gates = []hostfacts.Gate{{Name: "window", Answer: "no", Why: "it is shut"}}
	h.Retries = []hostfacts.Retry{{At: 1, Error: "e"}}
	h.Undo = []hostfacts.Undo{{Name: "a", Doing: "b", Settles: 1, RetryAt: 2, Error: "c", Advice: "d"}}
	return h
}

func TestWhatIsExportedIsRead(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	conn := bustest.For(t).Connect(bus)
	if _, err := Read(t.Context(), conn); !errors.Is(err, ErrAbsent) {
		t.Errorf("without a daemon: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 100)
	watched := make(chan error, 1)
	go func() {
		watched <- Watch(ctx, conn, func(h hostfacts.Host, err error) {
			if err != nil {
				seen <- err.Error()
				return
			}
			seen <- h.State
		})
	}()
	await := func(want string) {
		t.Helper()
		must.Eventually(t, patience, want, func() bool { return must.Receive(t, patience, "an observation", seen) == want })
	}
	await(ErrAbsent.Error())

	want := full()
	e := systemd.NewExport(Object, Properties(want), slog.New(slog.DiscardHandler))
	exporting, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(exporting) }()
	await("State")
	if got, err := Read(t.Context(), conn); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	e.Set(Properties(hostfacts.Host{State: "idle"}))
	await("idle")
	if got, err := Read(t.Context(), conn); err != nil || len(got.Gates)+len(got.Users)+len(got.Undo) > 0 || got.Gates == nil {
		t.Errorf("an empty state is %+v, %v", got, err)
	}
	end()
	must.Receive(t, patience, "the end of the export", ended)
	await(ErrAbsent.Error())
	cancel()
	if err := must.Receive(t, patience, "the end of the watch", watched); err != nil {
		t.Error(err)
	}
}

func TestWatchEndsWithTheBus(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	conn := bustest.For(t).Connect(bus)
	first := make(chan struct{}, 100)
	watched := make(chan error, 1)
	go func() { watched <- Watch(t.Context(), conn, func(hostfacts.Host, error) { first <- struct{}{} }) }()
	must.Receive(t, patience, "an observation", first)
	must.Do(t, bus.Kill())
	if err := must.Receive(t, patience, "the end of the watch", watched); err == nil {
		t.Error("no error")
	}
}

// busy is a daemon that does not answer the first question, and of which nothing changes.
type busy struct{ asked atomic.Int32 }

func (b *busy) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	if b.asked.Add(1) == 1 {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.NoReply", nil)
	}
	return map[string]dbus.Variant{"State": dbus.MakeVariant("idle")}, nil
}

func TestWatchAsksAgainAfterAFailure(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	daemon, reader := bustest.For(t).Connect(bus), bustest.For(t).Connect(bus)
	must.Do(t, daemon.Export(&busy{}, Object.Path, propertiesInterface))
	_, err := daemon.RequestName(Object.Bus, dbus.NameFlagDoNotQueue)
	must.Do(t, err)
	seen := make(chan string, 100)
	go Watch(t.Context(), reader, func(h hostfacts.Host, err error) { seen <- fmt.Sprint(h.State, err) })
	if first := must.Receive(t, patience, "a failure", seen); !strings.Contains(first, "NoReply") {
		t.Errorf("first %s", first)
	}
	if second := must.Receive(t, patience, "the state", seen); second != "idle<nil>" {
		t.Errorf("then %s", second)
	}
}

// A program of another version may have properties of other types; the answer is then not half believed.
func TestPropertyOfAnotherTypeIsAnError(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	e := systemd.NewExport(Object, []systemd.Property{{Name: "Strange", Value: "x"}, {Name: "State", Value: []string{"idle"}}}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	conn := bustest.For(t).Connect(bus)
	var err error
	must.Eventually(t, patience, "the name", func() bool { _, err = Read(t.Context(), conn); return !errors.Is(err, ErrAbsent) })
	if err == nil || !strings.Contains(err.Error(), "the property State has the type as") {
		t.Errorf("got %v", err)
	}
}

// The table in docs/dbus.md has every property, with its type, in this order.
func TestDocumentNamesEveryProperty(t *testing.T) {
	content, err := os.ReadFile("../../docs/dbus.md")
	must.Do(t, err)
	_, table, found := strings.Cut(string(content), "| property | type | what it is |\n| --- | --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	all := Properties(hostfacts.Host{})
	if !found || len(rows) != len(all) {
		t.Fatalf("%d rows for %d properties", len(rows), len(all))
	}
	for i, p := range all {
		if want := fmt.Sprintf("| `%s` | `%s` | ", p.Name, dbus.SignatureOf(p.Value)); !strings.HasPrefix(rows[i], want) {
			t.Errorf("row %q, want %q", rows[i], want)
		}
	}
}
