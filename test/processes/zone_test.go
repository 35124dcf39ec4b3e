package processes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// setZone changes the host's time zone as timedatectl does, without notifying the daemon.
func (h *host) setZone(name string) {
	h.t.Helper()
	path := h.Path("etc/localtime")
	must.Do(h.t, os.Symlink(filepath.Join("/usr/share/zoneinfo", name), path+".new"))
	must.Do(h.t, os.Rename(path+".new", path))
}

// wantSameWindow checks that locksmithctl and the daemon report the same next opening.
func (h *host) wantSameWindow() {
	h.t.Helper()
	h.await("locksmithctl window and the daemon to agree", func() bool {
		_, daemon, ok := strings.Cut(h.Status(), "which opens ")
		r := h.run(locksmithctl(), "window")
		_, cli, found := strings.Cut(r.stdout, "Open: no, until ")
		return ok && found && strings.HasPrefix(daemon, strings.SplitN(cli, "\n", 2)[0])
	})
}

// The window follows the host's current time zone, not the one at the start of the daemon.
func TestWindowFollowsTheTimeZoneOfTheHost(t *testing.T) {
	t.Parallel()
	// The window is open now in the zone 12 hours ahead of UTC.
	conf := strings.ReplaceAll(updateconf.ShutWindow(), "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC", "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=Local")
	h := newHost(t, conf)
	h.setZone("UTC")
	h.start()
	h.announce()
	h.awaitStatus("for the reboot window, which opens", " UTC")
	h.wantSameWindow()

	h.setZone("Etc/GMT-6")
	h.announce() // causes a step; without one it takes a minute
	h.awaitStatus("for the reboot window, which opens", " +06")
	h.wantSameWindow()

	must.Do(t, os.WriteFile(h.Path("etc/localtime.new"), []byte("no zone"), 0o644))
	must.Do(t, os.Rename(h.Path("etc/localtime.new"), h.Path("etc/localtime")))
	h.announce()
	h.awaitLog("level=WARN", "etc/localtime", "the time zone stays what it was")
	h.awaitStatus("for the reboot window, which opens", " +06")
	h.wantNoReboot()

	h.setZone("Etc/GMT-12")
	h.announce()
	h.awaitReboot()
}

// A time zone in update.conf applies to the daemon and to locksmithctl.
func TestTimeZoneOfUpdateConfIsThatOfBothPrograms(t *testing.T) {
	t.Parallel()
	conf := strings.ReplaceAll(updateconf.ShutWindow(), "LOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC", "TZ=Etc/GMT-3")
	h := startHost(t, conf, withEnv("TZ=Etc/GMT-3"))
	h.announce()
	h.awaitStatus("for the reboot window, which opens", " +03")
	h.wantSameWindow()
	h.reload(strings.ReplaceAll(conf, "Etc/GMT-3", "Etc/GMT-4"))
	h.awaitStatus("for the reboot window, which opens", " +04")
	h.wantSameWindow()
}
