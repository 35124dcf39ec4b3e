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

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

const unitFile = "locksmithd.service"

// Hosts, drop-ins or the daemon rely on each of these lines.
func TestUnitFileSaysWhatHostsRelyOn(t *testing.T) {
	want := []unit.UnitOption{
		{Section: "Unit", Name: "After", Value: "update-engine.service"},
		{Section: "Unit", Name: "After", Value: "dbus.service systemd-logind.service etcd.service etcd-member.service"},
		{Section: "Unit", Name: "ConditionVirtualization", Value: "!container"},
		{Section: "Unit", Name: "ConditionPathExists", Value: "!/usr/.noupdate"},
		// The daemon reports when it is ready, and exit status 0 under `off` is a clean finish.
		{Section: "Service", Name: "Type", Value: "notify"},
		{Section: "Service", Name: "NotifyAccess", Value: "main"},
		{Section: "Service", Name: "CPUWeight", Value: "10"},
		{Section: "Service", Name: "MemoryHigh", Value: "32M"},
		{Section: "Service", Name: "Environment", Value: "GOMAXPROCS=1"},
		// A later file overrides an earlier one, and a missing one is not an error. All override Environment= of a drop-in.
		{Section: "Service", Name: "EnvironmentFile", Value: "-/usr/share/flatcar/update.conf"},
		{Section: "Service", Name: "EnvironmentFile", Value: "-/etc/flatcar/update.conf"},
		{Section: "Service", Name: "EnvironmentFile", Value: "-/etc/locksmith/locksmith.conf"},
		// The daemon also starts if the folder cannot be made, as on a read-only disk.
		{Section: "Service", Name: "ExecStartPre", Value: "-+/bin/mkdir -p -m 700 /var/lib/locksmith"},
		{Section: "Service", Name: "ExecStart", Value: "/usr/lib/locksmith/locksmithd"},
		{Section: "Service", Name: "ExecReload", Value: "/bin/kill -HUP $MAINPID"},
		{Section: "Service", Name: "ExecStopPost", Value: "/usr/lib/locksmith/locksmithd --call-off"},
		// A stopped daemon has time to undo a drain.
		{Section: "Service", Name: "TimeoutStopSec", Value: "2min"},
		// An idle daemon wakes at half of this interval.
		{Section: "Service", Name: "WatchdogSec", Value: "5min"},
		{Section: "Service", Name: "Restart", Value: "on-failure"},
		{Section: "Service", Name: "RestartSec", Value: "10s"},
		// The daemon's state survives a restart.
		{Section: "Service", Name: "RuntimeDirectory", Value: "update-engine locksmith"},
		{Section: "Service", Name: "RuntimeDirectoryPreserve", Value: "yes"},
		{Section: "Service", Name: "ReadWritePaths", Value: "-/var/lib/locksmith"},
		{Section: "Install", Name: "WantedBy", Value: "multi-user.target"},
	}
	file, err := os.Open(unitFile)
	must.Do(t, err)
	defer file.Close()
	options, err := unit.DeserializeOptions(file)
	must.Do(t, err)
	var got []unit.UnitOption
	for _, o := range options {
		// The other options are the sandbox's, which other tests cover.
		if slices.ContainsFunc(want, func(w unit.UnitOption) bool { return w.Name == o.Name }) {
			got = append(got, *o)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n%v\nwant:\n%v", got, want)
	}
}

// hookUnits are the units that the daemon starts, without their suffix. May-reboot has no target.
var hookUnits = []string{"locksmith-before-reboot", "locksmith-reboot-cancelled", "locksmith-after-reboot", "locksmith-may-reboot"}

func TestUnitsOfHooksDifferOnlyInTheirPhase(t *testing.T) {
	for _, name := range hookUnits {
		phase := strings.TrimPrefix(name, "locksmith-")
		timeout := "infinity" // the daemon's bounds the whole target
		if phase == "may-reboot" {
			timeout = "30s"
		}
		service := map[string][]string{
			"ConditionDirectoryNotEmpty": {"|/etc/locksmith/" + phase + ".d", "|/run/locksmith/" + phase + ".d", "|/usr/lib/locksmith/" + phase + ".d"},
			"StartLimitIntervalSec":      {"0"},
			"Type":                       {"oneshot"},
			"NotifyAccess":               {"main"},
			"User":                       {"root"},
			"Environment":                {"LOCKSMITH_PHASE=" + phase},
			"EnvironmentFile":            {"-/run/locksmith/hooks.env"},
			"ExecStart":                  {"/usr/bin/locksmithctl hooks scripts " + phase},
			"TimeoutStartSec":            {timeout},
			"TimeoutStopSec":             {"3s"},
		}
		if got := optionsOf(t, name+".service"); !reflect.DeepEqual(got, service) {
			t.Errorf("%s.service has\n%v, want\n%v", name, got, service)
		}
		if phase == "may-reboot" {
			continue
		}
		target := map[string][]string{"Requires": {name + ".service"}, "StopWhenUnneeded": {"yes"}}
		if got := optionsOf(t, name+".target"); !reflect.DeepEqual(got, target) {
			t.Errorf("%s.target has\n%v, want\n%v", name, got, target)
		}
	}
}

func TestUnitOfTheSentinelCommandIsBounded(t *testing.T) {
	want := map[string][]string{
		"StartLimitIntervalSec": {"0"},
		"Type":                  {"oneshot"},
		"NotifyAccess":          {"main"},
		"User":                  {"root"},
		"ExecStart":             {"/usr/bin/locksmithctl sentinel"},
		"TimeoutStartSec":       {"5min"},
		"TimeoutStopSec":        {"3s"},
	}
	if got := optionsOf(t, "locksmith-sentinel.service"); !reflect.DeepEqual(got, want) {
		t.Errorf("it has\n%v, want\n%v", got, want)
	}
}

func TestUnitOfAnEventIsBounded(t *testing.T) {
	want := map[string][]string{
		"StartLimitIntervalSec": {"0"},
		"Type":                  {"oneshot"},
		"NotifyAccess":          {"main"},
		"User":                  {"root"},
		"Environment":           {"LOCKSMITH_PHASE=notify"},
		"EnvironmentFile":       {"-/run/locksmith/notify/%i.env"},
		"ExecStart":             {"/usr/bin/locksmithctl notify scripts %i"},
		"TimeoutStartSec":       {"1min"},
		"TimeoutStopSec":        {"3s"},
	}
	if got := optionsOf(t, "locksmith-notify@.service"); !reflect.DeepEqual(got, want) {
		t.Errorf("it has\n%v, want\n%v", got, want)
	}
}

// optionsOf returns what a unit file sets, except texts for people.
func optionsOf(t *testing.T, name string) map[string][]string {
	t.Helper()
	file, err := os.Open(name)
	must.Do(t, err)
	defer file.Close()
	options, err := unit.DeserializeOptions(file)
	must.Do(t, err)
	all := map[string][]string{}
	for _, o := range options {
		if o.Name != "Description" && o.Name != "Documentation" {
			all[o.Name] = append(all[o.Name], o.Value)
		}
	}
	return all
}

func TestUnitOfTheServerSaysWhatHostsRelyOn(t *testing.T) {
	got := optionsOf(t, "locksmith-serve.service")
	for name, want := range map[string]string{
		"Type":        "notify",
		"ExecStart":   "/usr/bin/locksmithctl serve",
		"ExecReload":  "/bin/kill -HUP $MAINPID", // it reads groups and certificates again
		"Restart":     "on-failure",
		"DynamicUser": "yes",
		"WantedBy":    "multi-user.target",
	} {
		if !slices.Equal(got[name], []string{want}) {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	socket := map[string][]string{"ListenStream": {"127.0.0.1:3333"}, "WantedBy": {"sockets.target"}}
	if got := optionsOf(t, "locksmith-serve.socket"); !reflect.DeepEqual(got, socket) {
		t.Errorf("the socket has\n%v, want\n%v", got, socket)
	}
}

func TestUnitFilesAreValidToSystemd(t *testing.T) {
	realpart.Must(t, realpart.Tool("systemd-analyze", "systemd"))
	// In a root of its own, where the programs exist that the units start.
	root := t.TempDir()
	files := map[string]string{
		"usr/lib/locksmith/locksmithd":           "#!/bin/true\n",
		"usr/bin/locksmithctl":                   "#!/bin/true\n",
		"bin/kill":                               "#!/bin/true\n",
		"bin/mkdir":                              "#!/bin/true\n",
		"usr/lib/systemd/system/sysinit.target":  "[Unit]\nDescription=sysinit\n",
		"usr/lib/systemd/system/basic.target":    "[Unit]\nDescription=basic\n",
		"usr/lib/systemd/system/shutdown.target": "[Unit]\nDescription=shutdown\nDefaultDependencies=no\n",
	}
	units, err := filepath.Glob("*.service")
	must.Do(t, err)
	targets, err := filepath.Glob("*.target")
	must.Do(t, err)
	sockets, err := filepath.Glob("*.socket")
	must.Do(t, err)
	units = slices.Concat(units, targets, sockets)
	if len(units) != 12 {
		t.Errorf("the units are %q", units)
	}
	for _, name := range units {
		data, err := os.ReadFile(name)
		must.Do(t, err)
		files["usr/lib/systemd/system/"+name] = string(data)
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		must.Do(t, os.WriteFile(path, []byte(content), mode))
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--root=" + root}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// systemd rates the units' exposure at 2.0 or less, and at 1.5 for the server, which other hosts may reach.
func TestUnitsAreWellProtected(t *testing.T) {
	realpart.Must(t, realpart.Tool("systemd-analyze", "systemd"))
	for name, threshold := range map[string]string{unitFile: "20", "locksmith-serve.service": "15"} {
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+threshold, "./"+name).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security of %s (%v): more than %s tenths\n%s", name, err, threshold, out)
		}
	}
}
