package hosts

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// systemd-sysext merges the unpacked tree, because containers have no loop devices for the image.
func TestTheSystemExtensionReplacesTheDaemonAndTheUnitOfTheHost(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	const program, unit = "/usr/lib/locksmith/locksmithd", "/usr/lib/systemd/system/locksmithd.service"
	h := newHost(t, "REBOOT_STRATEGY=reboot\n")
	h.write("/usr/lib/os-release", "ID=flatcar\nVERSION_ID=4230.2.1\nSYSEXT_LEVEL=1.0\n")
	h.write(unit, "[Unit]\nDescription=The distribution's own\n[Service]\nType=exec\nExecStart="+program+" infinity\n[Install]\nWantedBy=multi-user.target\n")
	must.Do(t, sh("cp "+h.root+"/usr/bin/sleep "+h.root+program))
	must.Do(t, sh("../../packaging/build-sysext locksmith e2e "+runtime.GOARCH+" "+h.root+"/opt/extensions"))
	tree := "/opt/extensions/locksmith-e2e-" + map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]
	link := filepath.Join(h.root, "etc/extensions/locksmith")
	must.Do(t, os.MkdirAll(filepath.Dir(link), 0o755))
	must.Do(t, os.Symlink(tree, link))
	h.powerOn()
	h.awaitUp()
	restart := func(wantProgram, wantDescription string) {
		t.Helper()
		h.do("systemctl", "daemon-reload")
		h.do("systemctl", "restart", "locksmithd")
		h.do("cmp", "/proc/"+h.unit("locksmithd", "MainPID")+"/exe", wantProgram)
		if got := h.do("readlink", "-f", h.unit("locksmithd", "FragmentPath")); got != unit+"\n" {
			t.Errorf("the unit is %q, want %s", got, unit)
		}
		if got := h.unit("locksmithd", "Description"); got != wantDescription {
			t.Errorf("the unit is %q, want %q", got, wantDescription)
		}
	}
	restart("/usr/bin/sleep", "The distribution's own")

	h.do("systemctl", "restart", "systemd-sysext")
	restart(tree+program, "Cluster reboot manager")
	h.do("cmp", unit, tree+unit)
	if got := h.unit("locksmithd", "ExecStart"); !strings.Contains(got, "argv[]="+program+" ;") {
		t.Errorf("ExecStart is %s, want %s", got, program)
	}
	h.awaitStatus("idle")

	must.Do(t, os.Remove(link))
	h.do("systemctl", "restart", "systemd-sysext")
	restart("/usr/bin/sleep", "The distribution's own")
}
