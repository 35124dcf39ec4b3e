package systemd

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/bustest"
)

// manager has the one property that is asked for.
type manager struct{ state any }

func (m *manager) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	if iface != "org.freedesktop.systemd1.Manager" || name != "SystemState" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant(m.state), nil
}

func TestSystemThatIsStoppingIsKnownWithoutLogind(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.Open)
	conn, err := dbus.Connect(bus.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := Stopping(t.Context(), conn); err == nil {
		t.Error("nobody is there, and there is no error")
	}
	m := &manager{}
	if err := conn.Export(m, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string]bool{"running": false, "degraded": false, "starting": false, "stopping": true} {
		m.state = state
		if stopping, err := Stopping(t.Context(), conn); err != nil || stopping != want {
			t.Errorf("%s: %v, %v", state, stopping, err)
		}
	}
	m.state = 7
	if _, err := Stopping(t.Context(), conn); err == nil {
		t.Error("a number is no state")
	}
}
