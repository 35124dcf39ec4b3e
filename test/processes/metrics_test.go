package processes

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/promtest"
)

// metrics is the file with the metrics of a host.
type metrics struct {
	*host
	path string
}

// await waits until the file has each of these lines.
func (m metrics) await(lines ...string) {
	m.t.Helper()
	must.Eventually(m.t, patience, "the metrics "+strings.Join(lines, ", "), func() bool {
		text, err := os.ReadFile(m.path)
		return err == nil && !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(string(text), "\n"+line+"\n") })
	})
}

func (m metrics) awaitGone() {
	m.t.Helper()
	must.Eventually(m.t, patience, "no metrics", func() bool { _, err := os.Stat(m.path); return os.IsNotExist(err) })
}

// The file follows a host through its reboot, and is there only while somebody keeps it.
func TestMetricsFileFollowsTheHost(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	dir := t.TempDir()
	setting := func(name string) string { return "LOCKSMITHD_METRICS_FILE=" + filepath.Join(dir, name) }
	m := metrics{newHost(t, g.conf(setting("a.prom"))), filepath.Join(dir, "a.prom")}
	m.start()
	m.awaitIdle()
	m.await(`locksmith_state{state="idle"} 1`, "locksmith_slot_held 0", "locksmith_reboots_total 0")
	g.lock("other")
	m.announce()
	m.await(`locksmith_state{state="locking"} 1`, "locksmith_reboot_needed 1", `locksmith_blocked{reason="slot"} 1`)
	g.put(`{"semaphore":1,"max":1,"holders":[]}`)
	m.awaitReboot()
	m.reboot()
	m.awaitIdle()
	m.await(`locksmith_state{state="idle"} 1`, "locksmith_reboots_total 1", "locksmith_failed_attempts 0", "locksmith_healthy 1")
	text, err := os.ReadFile(m.path)
	must.Do(t, err)
	promtest.CheckMetrics(t, string(text))
	if info, err := os.Stat(m.path); err != nil || info.Mode() != fs.FileMode(0o644) {
		t.Errorf("the file is %v, %v", info, err)
	}

	m.reload(g.conf(setting("b.prom")))
	m.awaitGone()
	m.path = filepath.Join(dir, "b.prom")
	m.await(`locksmith_state{state="idle"} 1`)
	m.reload(g.conf())
	m.awaitGone()
	m.reload(g.conf(setting("b.prom")))
	m.await(`locksmith_state{state="idle"} 1`)
	m.terminate()
	m.awaitGone()

	// A daemon that was killed leaves it. The next one removes it if it does nothing itself.
	must.Do(t, os.WriteFile(m.path, []byte("left 1\n"), 0o644))
	must.Do(t, m.Configure("REBOOT_STRATEGY=off\n"+setting("b.prom")+"\n"))
	m.start()
	m.wantExit(0)
	m.awaitGone()
}
