package hosts

import (
	"strings"
	"testing"
)

// In the sandbox of the unit the file is written where the documents say, and everybody reads it.
func TestMetricsFileIsReadableForEverybody(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	const path = "/run/locksmith/locksmith.prom"
	h := startHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_METRICS_FILE="+path+"\n")
	h.awaitStatus("idle")
	eventually(t, "the metrics", func() bool {
		r := h.runAs("daemon", "cat", path)
		return r.status == 0 && strings.Contains(r.stdout, "\nlocksmith_state{state=\"idle\"} 1\n")
	})

	// Elsewhere the sandbox shuts it out, and a drop-in lets it in.
	const other = "/var/lib/metrics/locksmith.prom"
	h.do("mkdir", "-m", "755", "/var/lib/metrics")
	h.write("/etc/flatcar/update.conf", "REBOOT_STRATEGY=reboot\nLOCKSMITHD_METRICS_FILE="+other+"\n")
	h.do("systemctl", "reload", "locksmithd")
	h.awaitJournal("there are no new metrics of this host", "read-only file system", "ReadWritePaths=/var/lib/metrics")
	h.withUnit("ReadWritePaths=/var/lib/metrics")
	h.do("systemctl", "restart", "locksmithd")
	eventually(t, "the metrics in the other folder", func() bool {
		r := h.runAs("daemon", "cat", other)
		return r.status == 0 && strings.Contains(r.stdout, "\nlocksmith_state{state=\"idle\"} 1\n")
	})
	h.do("systemctl", "stop", "locksmithd")
	if r := h.run("test", "-e", other); r.status == 0 {
		t.Error("the metrics are still there, and nobody keeps them")
	}
}
