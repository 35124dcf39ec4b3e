package hosts

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/must"
)

// provision applies a Butane file to the disk of a host that has not booted yet, with Butane and Ignition
// themselves. Ignition refuses to change a running machine, so $container says that it is one for a container.
func (h *host) provision(file string) {
	h.t.Helper()
	butane := exec.Command("../../bin/butane", "--strict")
	butane.Stdin = strings.NewReader(file)
	var stderr bytes.Buffer
	butane.Stderr = &stderr
	config, err := butane.Output()
	if err != nil {
		h.t.Fatalf("butane: %v\n%s", err, stderr.Bytes())
	}
	path := filepath.Join(h.dir, "config.ign")
	must.Do(h.t, os.WriteFile(path, config, 0o600))
	ignition := exec.Command("../../bin/ignition-apply", "--root="+h.root, "--offline", path)
	ignition.Env = append(os.Environ(), "container=systemd-nspawn")
	if out, err := ignition.CombinedOutput(); err != nil {
		h.t.Fatalf("ignition-apply: %v\n%s", err, out)
	}
}

func TestAHostThatIgnitionProvisionedRebootsWithALock(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	f := newFleet(t)
	h := newHost(t, "")
	f.hosts = append(f.hosts, h)
	must.Do(t, os.Remove(filepath.Join(h.root, "etc/flatcar/update.conf")))
	h.provision(`variant: flatcar
version: 1.0.0
storage:
  files:
    - path: /etc/flatcar/update.conf
      mode: 0644
      contents:
        inline: |
          GROUP=stable
          SERVER=disabled
          REBOOT_STRATEGY="etcd-lock"
systemd:
  units:
    - name: locksmithd.service
      enabled: true
      dropins:
        - name: 10-etcd.conf
          contents: |
            [Service]
            Environment=LOCKSMITHD_ENDPOINT=` + strings.Join(f.endpoints, ",") + `
            Environment=LOCKSMITHD_GROUP=` + f.group + `
`)
	h.powerOn()
	h.awaitUp()
	h.awaitStatus("idle")
	if got := h.do("locksmithctl", "config"); !contains.All(got, "etcd-lock", "/etc/flatcar/update.conf:3", f.group, "drop-in 10-etcd.conf") {
		t.Errorf("locksmithctl config prints\n%s", got)
	}
	w := f.oneAtATime(nil)
	f.roll()
	w.check(t, 1)

	h.do("systemctl", "mask", "--runtime", "--now", "locksmithd")
	if r := h.run("locksmithctl", "config"); r.status != 0 || !strings.Contains(r.stderr, "locksmithd.service is masked") {
		t.Errorf("with a masked unit locksmithctl config says %+v", r)
	}
}
