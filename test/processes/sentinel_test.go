package processes

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// The file by which packages say that a reboot is needed, as it is when it has settled.
func (h *host) requireReboot(text, packages string) {
	h.t.Helper()
	path := h.Path("/run/reboot-required")
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	long := time.Now().Add(-time.Hour)
	for path, text := range map[string]string{path + ".pkgs": packages, path: text} {
		must.Do(h.t, os.WriteFile(path+".new", []byte(text), 0o644))
		must.Do(h.t, os.Chtimes(path+".new", long, long))
		must.Do(h.t, os.Rename(path+".new", path))
	}
}

func TestFileOfPackagesNeedsAReboot(t *testing.T) {
	t.Parallel()
	h := startHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_REBOOT_SENTINEL=/run/reboot-required\n")
	h.awaitIdle()
	h.Logind.Refuse("Reboot", accessDenied, "not now")
	h.requireReboot("*** System restart required ***\n", "linux-image-6.1.0-28-amd64\nlibc6\n")
	h.awaitReboot()
	h.awaitStatus("reboot needed since", "reboot-required: *** System restart required *** (linux-image-6.1.0-28-amd64, libc6)", "not now")
	must.Do(t, os.Remove(h.Path("/run/reboot-required")))
	h.awaitIdle()

	// Another kind of file says nothing, and is named.
	must.Do(t, syscall.Mkfifo(h.Path("/run/reboot-required"), 0o644))
	h.awaitStatus("idle: no reboot is needed", "reboot-required is not a regular file: it does not say that the host needs a reboot")
	must.Do(t, os.Remove(h.Path("/run/reboot-required")))

	// A reload looks elsewhere, and then nowhere.
	h.requireReboot("", "")
	h.awaitReboot()
	h.reload("REBOOT_STRATEGY=reboot\nLOCKSMITHD_REBOOT_SENTINEL=/run/reboot-needed\n")
	h.awaitIdle()
}
