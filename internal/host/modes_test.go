package host

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/sentinel"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestModes(t *testing.T) {
	bus := bustest.For(t).Bus(bustest.System)
	fake := bustest.For(t).Logind(bus)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	const loaded, noSystemd = "/sys/kernel/kexec_loaded", "not started by systemd"
	const soft, kexec, full, auto = policy.SoftReboot, policy.Kexec, policy.FullReboot, policy.Auto
	for _, test := range []struct {
		name    string
		version int
		files   map[string]string
		set     policy.Mode
		mode    policy.Mode
		text    string
	}{
		{"soft", 256, map[string]string{bySystemdFile: ""}, soft, soft, "a soft reboot instead of a full one"},
		{"soft, too old", 255, map[string]string{bySystemdFile: ""}, soft, full, "a full reboot, because this systemd is older than 256 and does not count soft reboots"},
		{"soft, no systemd", 257, nil, soft, full, noSystemd},
		{"kexec", 252, map[string]string{loaded: "1\n"}, kexec, kexec, "a reboot by kexec instead of a full one"},
		{"kexec, no kernel", 252, map[string]string{loaded: "0\n"}, kexec, full, "a full reboot, because no kernel is loaded for kexec"},
		{"auto, no file", 257, nil, auto, full, "a full reboot, because there is no /run/reboot-needed"},
		{"auto, soft", 257, map[string]string{bySystemdFile: "", sentinel.Needed: "soft-reboot\n"}, auto, soft, "a soft reboot instead of a full one, because /run/reboot-needed says soft-reboot"},
		{"auto, soft, too old", 255, map[string]string{bySystemdFile: "", sentinel.Needed: "soft-reboot"}, auto, full, "older than 256"},
		{"auto, kexec", 252, map[string]string{loaded: "1", sentinel.Needed: " kexec "}, auto, kexec, "a reboot by kexec instead of a full one, because /run/reboot-needed says kexec"},
		{"auto, full", 257, map[string]string{sentinel.Needed: "reboot\n"}, auto, full, "a full reboot, because /run/reboot-needed says reboot"},
		{"auto, another word", 257, map[string]string{sentinel.Needed: "maybe"}, auto, full, `a full reboot, because /run/reboot-needed says "maybe"`},
		{"auto, a folder", 257, map[string]string{sentinel.Needed + "/x": ""}, auto, full, "reboot-needed"},
	} {
		root := newRoot(t, test.files)
		must.Do(t, fake.SetVersion(test.version))
		boot, err := ThisBoot(t.Context(), root)
		must.Do(t, err)
		modes := boot.Modes(root)
		if got := modes.Choose(test.set, nil); got.Mode != test.mode || !strings.Contains(got.Text, test.text) {
			t.Errorf("%s: it is %+v, want %q, %q", test.name, got, test.mode, test.text)
		}
	}

	root := newRoot(t, map[string]string{bySystemdFile: "", sentinel.Needed: "soft-reboot"})
	modes := Boot{Since: time.Now().Add(time.Minute)}.Modes(root)
	if got := modes.Choose(auto, nil); got.Mode != full || !strings.Contains(got.Text, "is from before the last soft reboot") {
		t.Errorf("with a file from before the boot it is %+v", got)
	}
}
