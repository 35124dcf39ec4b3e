package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/locksmithd/locksmith/test/realpart"
)

const unitFile = "locksmithd.service"

// Each line is something that hosts, drop-ins or the daemon rely on.
func TestUnitFileSaysWhatHostsRelyOn(t *testing.T) {
	want := []unit.UnitOption{
		{Section: "Unit", Name: "After", Value: "update-engine.service"},
		{Section: "Unit", Name: "After", Value: "dbus.service systemd-logind.service etcd.service etcd-member.service"},
		{Section: "Unit", Name: "ConditionVirtualization", Value: "!container"},
		{Section: "Unit", Name: "ConditionPathExists", Value: "!/usr/.noupdate"},
		// The daemon says when it is ready, and `off` counts as a clean finish.
		{Section: "Service", Name: "Type", Value: "notify"},
		{Section: "Service", Name: "NotifyAccess", Value: "main"},
		{Section: "Service", Name: "CPUWeight", Value: "10"},
		{Section: "Service", Name: "MemoryHigh", Value: "32M"},
		{Section: "Service", Name: "Environment", Value: "GOMAXPROCS=1"},
		// A later file wins over an earlier one, and a missing one is no error.
		{Section: "Service", Name: "EnvironmentFile", Value: "-/usr/share/flatcar/update.conf"},
		{Section: "Service", Name: "EnvironmentFile", Value: "-/etc/flatcar/update.conf"},
		// Without the folder, as on a read-only disk, the daemon starts as well.
		{Section: "Service", Name: "ExecStartPre", Value: "-+/bin/mkdir -p -m 700 /var/lib/locksmith"},
		{Section: "Service", Name: "ExecStart", Value: "/usr/lib/locksmith/locksmithd"},
		{Section: "Service", Name: "ExecReload", Value: "/bin/kill -HUP $MAINPID"},
		{Section: "Service", Name: "ExecStopPost", Value: "/usr/lib/locksmith/locksmithd --call-off"},
		// Half of it is how often an idle daemon wakes.
		{Section: "Service", Name: "WatchdogSec", Value: "5min"},
		{Section: "Service", Name: "Restart", Value: "on-failure"},
		{Section: "Service", Name: "RestartSec", Value: "10s"},
		// What the daemon keeps over a restart is still there then.
		{Section: "Service", Name: "RuntimeDirectory", Value: "update-engine locksmith"},
		{Section: "Service", Name: "RuntimeDirectoryPreserve", Value: "yes"},
		{Section: "Service", Name: "ReadWritePaths", Value: "-/var/lib/locksmith"},
		{Section: "Install", Name: "WantedBy", Value: "multi-user.target"},
	}
	file, err := os.Open(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	options, err := unit.DeserializeOptions(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []unit.UnitOption
	for _, o := range options {
		// The other names are those of the sandbox, which has tests of its own.
		if slices.ContainsFunc(want, func(w unit.UnitOption) bool { return w.Name == o.Name }) {
			got = append(got, *o)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n%v\nwant:\n%v", got, want)
	}
}

func TestUnitFileIsValidToSystemd(t *testing.T) {
	realpart.Must(t, realpart.Tool("systemd-analyze", "systemd"))
	data, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	// In a root of its own, where what the unit starts exists.
	root := t.TempDir()
	for name, content := range map[string]string{
		"usr/lib/locksmith/locksmithd":           "#!/bin/true\n",
		"bin/kill":                               "#!/bin/true\n",
		"bin/mkdir":                              "#!/bin/true\n",
		"usr/lib/systemd/system/" + unitFile:     string(data),
		"usr/lib/systemd/system/sysinit.target":  "[Unit]\nDescription=sysinit\n",
		"usr/lib/systemd/system/basic.target":    "[Unit]\nDescription=basic\n",
		"usr/lib/systemd/system/shutdown.target": "[Unit]\nDescription=shutdown\nDefaultDependencies=no\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+root, unitFile).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// The daemon can do what it needs, and no more than systemd calls well protected.
func TestUnitIsWellProtected(t *testing.T) {
	realpart.Must(t, realpart.Tool("systemd-analyze", "systemd"))
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", "./"+unitFile).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security (%v): more than 2.0\n%s", err, out)
	}
}
