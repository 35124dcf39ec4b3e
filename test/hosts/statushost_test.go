package hosts

import (
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
)

// As an ordinary user sees a host on which the package is installed: what is on the bus can be read, and not changed.
func TestStateOfAHostIsOnTheBus(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\n")
	before := h.awaitUp()
	h.awaitStatus("idle")
	const user, name, path, iface = "joe", "io.github.locksmithd.Locksmith1", "/io/github/locksmithd/Locksmith1", "io.github.locksmithd.Locksmith1.Host"
	get := func(properties ...string) string {
		t.Helper()
		return h.runAs(user, append([]string{"busctl", "get-property", name, path, iface}, properties...)...).stdout
	}
	eventually(t, "the state on the bus", func() bool { return get("State", "RebootNeeded") == "s \"idle\"\nb false\n" })
	if r := h.runAs(user, "locksmithctl", "status", "-host"); r.status != 0 || !strings.HasPrefix(r.stdout, "No reboot of this host is needed.\n") {
		t.Errorf("idle: %+v", r)
	}
	for _, by := range []string{user, "root"} {
		if r := h.runAs(by, "busctl", "set-property", name, path, iface, "State", "s", "off"); r.status == 0 || get("State") != "s \"idle\"\n" {
			t.Errorf("set-property as %s: %+v", by, r)
		}
	}
	h.do("systemctl", "stop", "locksmithd")
	if r := h.runAs(user, "busctl", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", name, "4"); r.status == 0 {
		t.Errorf("%s has the name: %+v", user, r)
	}
	if r := h.runAs(user, "locksmithctl", "status", "-host"); r.status != 1 || !strings.Contains(r.stderr, `see "systemctl status locksmithd"`) {
		t.Errorf("without a daemon: %+v", r)
	}
	h.do("systemctl", "start", "locksmithd")

	h.inhibit("copy")
	h.announce("4081.2.0")
	h.awaitStatus("held back by")
	eventually(t, "the need on the bus", func() bool { return get("RebootNeeded", "NeededVersion") == "b true\ns \"4081.2.0\"\n" })
	if r := h.runAs(user, "locksmithctl", "status", "-host"); r.status != 0 ||
		!contains.All(r.stdout, "This host needs a reboot, which 1 gate holds back: inhibitors.", "nightly copy", "users ") {
		t.Errorf("held back: %+v", r)
	}
	h.wantNoReboot(before)
	h.do("systemctl", "stop", "copy")
	h.awaitReboot(before)
	eventually(t, "the state after the reboot", func() bool { return get("State") == "s \"idle\"\n" })
}
