package processes

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

const stateFile = "run/locksmith/state.json"

// logind is restarted during the login delay, and the daemon dies. The reboot that the dead daemon scheduled keeps
// its slot until it is called off or gone.
func TestKilledDaemonAndRestartedLogindLeaveNoRebootWithoutASlot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version int
		order   func(h *host)
	}{
		"252, logind first":     {252, func(h *host) { must.Do(h.t, h.Logind.Restart()); h.Daemon().Kill() }},
		"257, logind first":     {257, func(h *host) { must.Do(h.t, h.Logind.Restart()); h.Daemon().Kill() }},
		"257, the daemon first": {257, func(h *host) { h.Daemon().Kill(); must.Do(h.t, h.Logind.Restart()) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := newHost(t, g.conf())
			must.Do(t, h.Logind.SetVersion(c.version))
			must.Do(t, h.Logind.SetSessions(someUser))
			h.startPending()
			h.awaitStatus("users are logged in")
			first := h.awaitSchedule()
			c.order(h)
			must.Do(t, h.Engine.Announce(idle))
			h.start()
			h.awaitIdle()
			g.awaitHolders()
			if s := h.Logind.Shutdown(); s.Type != "" {
				t.Errorf("%+v is scheduled, but no slot is held; before, %+v was scheduled", s, first)
			}
		})
	}
}

// It is unknown whether the last daemon or somebody else scheduled the reboot, so the daemon keeps the slot for
// it.
func TestRebootThatMayBeOursKeepsItsSlot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		logs string // in the log, exactly once
	}{
		"wiped":      {"", ""},
		"broken":     {`{"boot_id":`, "unexpected end of JSON input"},
		"huge":       {strings.Repeat("x", 1<<20), "larger than 65536 bytes"},
		"other boot": {`{"boot_id":"x"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startHolding(t, g, g.conf())
			first := h.awaitSchedule()
			h.Daemon().Kill()
			if must.Do(t, os.Remove(h.Path(stateFile))); c.file != "" {
				h.write(stateFile, c.file)
			}
			must.Do(t, h.Engine.Announce(idle))
			h.start()
			h.awaitStatus("a reboot is scheduled for", "nobody knows whether locksmithd has scheduled it", "shutdown -c")
			if c.logs != "" && h.logged("level=WARN", "a reboot that is scheduled may be its own", "state.json", c.logs) != 1 {
				t.Error("the log does not name the problem of the file exactly once")
			}
			// The next daemon does not know either.
			h.Daemon().Kill()
			h.start()
			h.awaitStatus("nobody knows whether locksmithd has scheduled it")
			g.wantHeldThroughout(h.id)
			if got := h.Logind.Shutdown(); got.Type != first.Type || !got.At.Equal(first.At) {
				t.Errorf("%+v is scheduled, want %+v", got, first)
			}
			h.Logind.SetShutdown(bustest.Shutdown{})
			h.awaitIdle()
			g.awaitHolders()
		})
	}
}

// After a restart the daemon still tells its own reboot from that of somebody else.
func TestNextDaemonLeavesAnothersRebootAlone(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	ours := h.awaitSchedule()
	h.Daemon().Kill()
	theirs := bustest.Shutdown{Type: "reboot", At: ours.At.Add(time.Microsecond), Message: ours.Message}
	h.Logind.SetShutdown(theirs)
	if r := h.callOff(); r != (result{}) {
		t.Errorf("%+v", r)
	}
	h.start()
	h.awaitStatus("held back by a user, who cancelled it", "a reboot that is scheduled")
	g.awaitHolders()
	if got := h.Logind.Shutdown(); !got.At.Equal(theirs.At) {
		t.Errorf("%+v is scheduled, want %+v", got, theirs)
	}
}

// A request and a cancellation by people survive the daemon.
func TestNextDaemonKeepsRequestsAndCancellations(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*host){
		"restarted": func(h *host) { h.terminate() },
		"killed":    func(h *host) { h.Daemon().Kill() },
	} {
		t.Run("request, "+name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, updateconf.ShutWindow())
			h.awaitIdle()
			h.ctl("send-need-reboot")
			h.awaitStatus("for the reboot window")
			end(h)
			h.start()
			h.awaitStatus("reboot needed since", "for the reboot window")
			end(h)
			must.Do(t, h.Configure(updateconf.OpenWindow()))
			h.start()
			h.awaitReboot()
			// After the boot the request is done.
			must.Do(t, h.Configure(updateconf.ShutWindow()))
			h.reboot()
			h.awaitIdle()
		})
		t.Run("cancel, "+name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			must.Do(t, h.Logind.SetSessions(someUser))
			h.startPending()
			h.awaitSchedule()
			h.awaitStatus("users are logged in")
			h.Logind.SetShutdown(bustest.Shutdown{})
			h.awaitStatus("held back by a user, who cancelled it")
			end(h)
			h.start()
			h.awaitStatus("held back by a user, who cancelled it")
			if n := len(h.Logind.Schedules()); n > 0 {
				t.Errorf("users were told %d more times", n)
			}
		})
	}
}

// A logind that is restarted and has lost the schedule is not a user who cancels.
func TestScheduleThatLogindLosesIsRestored(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	first := h.awaitSchedule()
	must.Do(t, h.Logind.Restart())
	if second := h.awaitSchedule(); !second.At.After(first.At) {
		t.Errorf("scheduled for %v, before for %v", second.At, first.At)
	}
	g.wantHeldThroughout(h.id)
}
