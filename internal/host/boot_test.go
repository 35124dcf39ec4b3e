package host

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

// bySystemdFile is a file in the folder that shows that systemd has started a host.
const bySystemdFile = booted + "/x"

func TestSoftRebootIsABoot(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	logind := bustest.For(t).Logind(bus)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	root := newRoot(t, map[string]string{bySystemdFile: ""})
	expect := func(id string) (boot Boot) {
		t.Helper()
		boot, err := ThisBoot(t.Context(), root)
		if must.Do(t, err); boot.ID != id || boot.Since.IsZero() == strings.Contains(id, "+") {
			t.Errorf("this is boot %+v, want %s", boot, id)
		}
		return boot
	}
	must.Do(t, logind.SetVersion(255))
	expect("boot-1")
	must.Do(t, logind.SetVersion(257))
	expect("boot-1")
	logind.SoftReboot(time.Now())
	first := expect("boot-1+1")
	logind.SoftReboot(time.Now())
	if second := expect("boot-1+2"); !second.Since.After(first.Since) {
		t.Errorf("the second soft reboot ended at %v, the first at %v", second.Since, first.Since)
	}

	// A step of the clock since then does not matter.
	ago := time.Since(first.Since)
	must.Do(t, logind.Answer("UserspaceTimestamp", uint64(time.Now().Add(time.Hour).UnixMicro())))
	stepped := expect("boot-1+2")
	if began, err := stepped.BeganAt(root, time.Now()); err != nil || time.Since(began) < 0 || time.Since(began) > ago+time.Minute {
		t.Errorf("it began at %v, %v", began, err)
	}

	for _, property := range []string{"SoftRebootsCount", "UserspaceTimestamp"} {
		logind.Refuse(property, "org.freedesktop.DBus.Error.AccessDenied", "not you")
		if boot, err := ThisBoot(t.Context(), root); err == nil || boot != (Boot{}) || !strings.Contains(err.Error(), "find out which boot this is") {
			t.Errorf("without %s it is %+v, %v", property, boot, err)
		}
		logind.Heal(property)
	}
	must.Do(t, logind.Leave())
	if boot, err := ThisBoot(t.Context(), root); err == nil {
		t.Errorf("without systemd on the bus it is %+v", boot)
	}
}

func TestSoftRebootsKeepTheKernel(t *testing.T) {
	for _, test := range []struct {
		this, that string
		same       bool
	}{{"a", "a", true}, {"a+1", "a", true}, {"a", "a+2", true}, {"a+2", "a+1", true}, {"a", "b", false}, {"a+1", "b+1", false}, {"a", "", false}} {
		if got := (Boot{ID: test.this}).SameKernel(test.that); got != test.same {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}

func TestBootOfAHostWithoutSystemdOrBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	boot, err := ThisBoot(t.Context(), newRoot(t, map[string]string{bySystemdFile: ""}))
	if must.Do(t, err); boot != (Boot{ID: "boot-1"}) {
		t.Errorf("without a bus it is %+v", boot)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "nonsense")
	boot, err = ThisBoot(t.Context(), newRoot(t, nil))
	if must.Do(t, err); boot != (Boot{ID: "boot-1"}) {
		t.Errorf("without systemd it is %+v", boot)
	}
	if boot, err := ThisBoot(t.Context(), newRoot(t, map[string]string{bySystemdFile: ""})); err == nil {
		t.Errorf("with a bus that cannot be reached it is %+v", boot)
	}
}
