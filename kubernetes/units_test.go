package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// units are our services, each of which has the common options of a drop-in.
var units = []string{"locksmith-kubernetes-drain.service", "locksmith-kubernetes-undrain.service", "locksmith-kubernetes-uncordon.service"}

// analyze runs systemd-analyze on our services, in a root that has locksmith's as well and the programs that they start.
func analyze(t *testing.T, arguments ...string) {
	t.Helper()
	realpart.Must(t, realpart.Tool("systemd-analyze", "systemd"))
	root := t.TempDir()
	folder := filepath.Join(root, "usr/lib/systemd/system")
	must.Do(t, os.CopyFS(folder, os.DirFS("systemd")))
	files := map[string]string{"../../../bin/locksmith-kubernetes": "#!/bin/true\n", "../../../bin/locksmithctl": "#!/bin/true\n"}
	for _, target := range []string{"sysinit", "basic", "shutdown"} {
		files[target+".target"] = "[Unit]\nDescription=" + target + "\nDefaultDependencies=no\n"
	}
	for _, name := range []string{"locksmith-after-reboot.service", "locksmith-may-reboot.service"} {
		data, err := os.ReadFile("../systemd/" + name)
		must.Do(t, err)
		files[name] = string(data)
	}
	for name, content := range files {
		path, mode := filepath.Join(folder, name), os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.Do(t, os.WriteFile(path, []byte(content), mode))
	}
	out, err := exec.Command("systemd-analyze", append(arguments, "--root="+root)...).CombinedOutput()
	if err != nil || arguments[0] == "verify" && len(out) > 0 {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
}

func TestUnitsAreValidToSystemd(t *testing.T) {
	analyze(t, append([]string{"verify", "--man=no"}, append(units, "locksmith-may-reboot.service")...)...)
}

// systemd rates their exposure at 2.0 or less.
func TestUnitsAreWellProtected(t *testing.T) {
	for _, name := range units {
		analyze(t, "security", "--no-pager", "--offline=true", "--threshold=20", name)
	}
}
