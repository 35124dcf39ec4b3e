package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// butane is what the test needs of the example of a drop-in in docs/flatcar.md.
type butane struct {
	Variant string
	Storage struct {
		Files []struct {
			Path     string
			Contents struct{ Inline, Source string }
		}
	}
	Systemd struct {
		Units []struct {
			Name    string
			Dropins []struct{ Name, Contents string }
		}
	}
}

func documentedDropIn(t *testing.T) butane {
	t.Helper()
	page, err := os.ReadFile("../../docs/flatcar.md")
	must.Do(t, err)
	_, section, found := strings.Cut(string(page), "\n## A drop-in\n")
	_, example, opened := strings.Cut(section, "```yaml\n")
	example, _, closed := strings.Cut(example, "```")
	if !found || !opened || !closed {
		t.Fatal("docs/flatcar.md has no YAML example of a drop-in")
	}
	var b butane
	must.Do(t, yaml.Unmarshal([]byte(example), &b))
	return b
}

// shippedUnit is the part of the unit that Flatcar ships on which hosts rely.
const shippedUnit = `[Unit]
After=update-engine.service
ConditionVirtualization=!container
ConditionPathExists=!/usr/.noupdate

[Service]
CPUWeight=10
MemoryHigh=32M
Environment=GOMAXPROCS=1
EnvironmentFile=-/usr/share/flatcar/update.conf
EnvironmentFile=-/etc/flatcar/update.conf
ExecStart=/usr/lib/locksmith/locksmithd
Restart=on-failure
RestartSec=10s

[Install]
WantedBy=multi-user.target
`

func TestFlatcarDropInIsValidToSystemd(t *testing.T) {
	realpart.Must(t, realpart.Tool("systemd-analyze", "systemd"))
	ours, err := os.ReadFile("../../systemd/locksmithd.service")
	must.Do(t, err)
	units := documentedDropIn(t).Systemd.Units
	if len(units) != 1 || len(units[0].Dropins) != 1 {
		t.Fatalf("the example has units %+v, want one with one drop-in", units)
	}
	name, dropIn := units[0].Name, units[0].Dropins[0]
	root := newRoot(t, map[string]string{
		"opt/bin/locksmithd":             "#!/bin/true\n",
		"bin/kill":                       "#!/bin/true\n",
		"usr/lib/systemd/system/" + name: shippedUnit,
		"etc/systemd/system/" + name + ".d/" + dropIn.Name: dropIn.Contents,
		"usr/lib/systemd/system/sysinit.target":            "[Unit]\nDescription=sysinit\n",
		"usr/lib/systemd/system/basic.target":              "[Unit]\nDescription=basic\n",
		"usr/lib/systemd/system/shutdown.target":           "[Unit]\nDescription=shutdown\nDefaultDependencies=no\n",
	})
	for _, program := range []string{"opt/bin/locksmithd", "bin/kill"} {
		must.Do(t, os.Chmod(filepath.Join(root, program), 0o755))
	}
	args := []string{"verify", "--man=no", "--root=" + root, name}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}

	// With debug messages it prints what it makes of the unit and the drop-in together.
	cmd := exec.Command("systemd-analyze", args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=debug")
	merged, err := cmd.Output()
	if err != nil {
		t.Fatalf("systemd-analyze verify: %v", err)
	}
	for line := range strings.Lines(string(ours)) {
		if args, found := strings.CutPrefix(line, "ExecStopPost=/usr/lib/locksmith/locksmithd"); found {
			if want := "Command Line: /opt/bin/locksmithd" + args; !strings.Contains(string(merged), want) {
				t.Errorf("with the drop-in the unit that Flatcar ships has no %q, as ours has:\n%s", want, merged)
			}
		}
		others, found := strings.CutPrefix(line, "After=")
		if !found {
			continue
		}
		for _, other := range strings.Fields(others) {
			if !strings.Contains(string(merged), "\tAfter: "+other+" ") {
				t.Errorf("with the drop-in the unit that Flatcar ships is not ordered after %s, as ours is:\n%s", other, merged)
			}
		}
	}
}
