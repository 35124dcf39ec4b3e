package processes

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/internal/sentinel"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/simhost"
)

// withUnits gives the host units that really run locksmithctl.
func withUnits(o *simhost.Options) { o.Locksmithctl = locksmithctl() }

// asking returns settings for a command that runs the file "say" of the host. Another period has it asked at once.
func (h *host) asking(period int) string {
	return fmt.Sprintf("LOCKSMITHD_REBOOT_SENTINEL_COMMAND=\"exec sh %s\"\nLOCKSMITHD_REBOOT_SENTINEL_PERIOD=%dm\n", h.Path("say"), period)
}

// says replaces what the command does.
func (h *host) says(script string) {
	h.t.Helper()
	must.Do(h.t, os.WriteFile(h.Path("say"), []byte(script), 0o644))
}

// asked returns how often the command was asked.
func (h *host) asked() int {
	started := h.Logind.Started()
	return len(slices.DeleteFunc(started, func(unit string) bool { return unit != sentinel.Unit }))
}

func TestCommandNeedsAReboot(t *testing.T) {
	t.Parallel()
	const conf = "REBOOT_STRATEGY=reboot\n"
	h := newHost(t, "", withUnits)
	h.Logind.Refuse("Reboot", accessDenied, "not now")
	h.says("exit 1")
	must.Do(t, h.Configure(conf+h.asking(60)))
	h.start()
	must.Eventually(t, patience, "the first question", func() bool { return h.asked() == 1 && h.Logind.UnitState(sentinel.Unit) == "inactive" })
	h.awaitIdle()

	h.says("echo a new kernel; echo more")
	h.reload(conf + h.asking(61))
	h.awaitReboot()
	h.awaitStatus("reboot needed since", "(a new kernel)", "not now")

	// Without an answer the last one counts.
	h.says("echo no network; exit 3")
	h.reload(conf + h.asking(62))
	h.awaitStatus("reboot needed since", "(a new kernel)", "; the command gives no answer: exit status 3: no network")
	h.says("kill -9 $$")
	h.reload(conf + h.asking(63))
	h.awaitStatus("reboot needed since", "(a new kernel)", "; the command gives no answer: killed by SIGKILL")
	must.Eventually(t, patience, "a unit that has not failed", func() bool { return h.Logind.UnitState(sentinel.Unit) == "inactive" })

	h.says("echo not any more; exit 1")
	h.reload(conf + h.asking(64))
	h.awaitIdle()

	// What another command has said does not count.
	h.says("echo a new kernel")
	h.reload(conf + h.asking(65))
	h.awaitReboot()
	h.reload(conf + "LOCKSMITHD_REBOOT_SENTINEL_COMMAND=sysupdate\n")
	h.awaitStatus("idle: no reboot is needed", "; systemd-sysupdate is not installed: install it with systemd 251 or newer")
	h.reload(conf + h.asking(65))
	h.awaitReboot()
	h.reload(conf)
	h.awaitIdle()
	n := h.asked()
	h.reload(conf)
	if h.asked() != n {
		t.Error("it is asked without a command")
	}
}

// A command that hangs is stopped when another one replaces it, and does not hold up the reload.
func TestReloadStopsACommandThatHangs(t *testing.T) {
	t.Parallel()
	const conf = "REBOOT_STRATEGY=reboot\n"
	h := newHost(t, "", withUnits)
	h.says("touch " + h.Path("begun") + "; exec sleep 1000")
	must.Do(t, h.Configure(conf+h.asking(60)))
	h.start()
	must.Eventually(t, patience, "the question", func() bool { _, err := os.Stat(h.Path("begun")); return err == nil })
	h.reload(conf + "LOCKSMITHD_REBOOT_SENTINEL_COMMAND=\"echo a new kernel\"\n")
	h.awaitReboot()
	h.awaitStatus("(a new kernel)")
}

// A daemon that is killed between slot and reboot goes on with the slot: the next one asks the command before it
// decides.
func TestSlotTakenForACommandIsKeptOverARestart(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, "", withUnits)
	must.Do(t, h.Logind.SetSessions(someUser))
	h.says("echo a new kernel")
	must.Do(t, h.Configure(g.conf()+h.asking(60)))
	h.start()
	h.awaitStatus("users are logged in")
	g.awaitHolders(h.id)
	h.signal(syscall.SIGKILL)
	must.Eventually(t, patience, "the end of locksmithd", func() bool { return !h.Daemon().Running() })
	h.start()
	h.awaitLog("a slot taken during this boot is still held, and the reboot may go ahead")
	h.awaitStatus("(a new kernel)", "users are logged in")
	g.awaitHolders(h.id)
}
