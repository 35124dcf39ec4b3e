package processes

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

const stateFile = "run/locksmith/state.json"

// callOff does what systemd does once the daemon has ended.
func (h *host) callOff() result {
	h.t.Helper()
	return h.run(locksmithd(), "--call-off")
}

// logind is started anew while users have their time, and the daemon dies: the reboot of the
// daemon before is called off, or gone, and had its slot until then.
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
			h.Engine.Set(needReboot)
			h.start()
			h.awaitStatus("users are logged in")
			first := h.awaitSchedule()
			c.order(h)
			must.Do(t, h.Engine.Announce(idle))
			h.start()
			h.awaitIdle()
			g.awaitHolders()
			if s := h.Logind.Shutdown(); s.Type != "" {
				t.Errorf("%+v is scheduled, and no slot is held; before it was %+v", s, first)
			}
		})
	}
}

// Nobody knows any more what the daemon before has scheduled: the slot is for what stands, and
// that may be somebody else's.
func TestRebootThatMayBeOursKeepsItsSlot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		logs string
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
				t.Error("the log does not say once what is wrong with the file")
			}
			// Nor does one that is started then know better.
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

// A reboot of somebody else's is told from ours after a restart as well.
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

// What people want outlives the daemon.
func TestNextDaemonKnowsWhatPeopleWanted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*host){
		"restarted": func(h *host) { h.terminate() },
		"killed":    func(h *host) { h.Daemon().Kill() },
	} {
		t.Run("request, "+name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, shutWindow())
			h.awaitIdle()
			h.ctl("send-need-reboot")
			h.awaitStatus("for the reboot window")
			end(h)
			h.start()
			h.awaitStatus("reboot needed since", "for the reboot window")
			end(h)
			must.Do(t, h.Configure(openWindow()))
			h.start()
			h.awaitReboot()
			// After the boot it is done.
			must.Do(t, h.Configure(shutWindow()))
			h.reboot()
			h.awaitIdle()
		})
		t.Run("cancel, "+name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			must.Do(t, h.Logind.SetSessions(someUser))
			h.Engine.Set(needReboot)
			h.start()
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

// A logind that is started anew and has lost what was scheduled is no user who cancels.
func TestScheduleThatLogindLosesIsMadeAgain(t *testing.T) {
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

// However a daemon ends, it leaves no reboot behind.
func TestWhatAnEndedDaemonHasScheduledIsCalledOff(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*host){
		"killed": func(h *host) { h.Daemon().Kill() },
		"stopped while logind is silent": func(h *host) {
			h.Logind.Hang("ScheduledShutdown")
			h.terminate()
			h.Logind.Heal("ScheduledShutdown")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startHolding(t, g, g.conf())
			h.awaitSchedule()
			end(h)
			if s := h.Logind.Shutdown(); s.Type == "" {
				t.Fatal("it is called off already")
			}
			if r := h.callOff(); r.status != 0 || !strings.Contains(r.stderr, "is called off") {
				t.Errorf("%+v", r)
			}
			if s := h.Logind.Shutdown(); s.Type != "" {
				t.Errorf("%+v is still scheduled", s)
			}
			g.wantHeldThroughout(h.id)
			// That was no user.
			h.start()
			h.awaitSchedule()
			h.awaitStatus("users are logged in")
		})
	}
	t.Run("nothing is scheduled", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, "")
		if r := h.callOff(); r != (result{}) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the host goes down", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
		h := startHolding(t, g, g.conf())
		h.awaitSchedule()
		h.Daemon().Kill()
		h.Logind.SetStopping(true) // by Ctrl-Alt-Del
		if r := h.callOff(); r != (result{}) {
			t.Errorf("%+v", r)
		}
		if s := h.Logind.Shutdown(); s.Type == "" {
			t.Error("it is called off")
		}
	})
	t.Run("another daemon runs", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
		h := startHolding(t, g, g.conf())
		h.awaitSchedule()
		if r := h.callOff(); r.status != 0 || !strings.Contains(r.stderr, "is left alone") {
			t.Errorf("%+v", r)
		}
		if s := h.Logind.Shutdown(); s.Type == "" {
			t.Error("its reboot is called off")
		}
	})
	t.Run("logind refuses", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
		h := startHolding(t, g, g.conf())
		h.awaitSchedule()
		h.Daemon().Kill()
		h.Logind.Refuse("CancelScheduledShutdown", accessDenied, "not today")
		if r := h.callOff(); r.status != 1 || !contains.All(r.stderr, "may still stand", "a slot is kept for it", "not today") {
			t.Errorf("%+v", r)
		}
		h.Logind.Heal("CancelScheduledShutdown")
		h.start()
		h.awaitSchedule() // the next daemon calls it off
	})
	// A failure would have systemd start the daemon for ever, also with the strategy "off".
	t.Run("the file cannot be understood", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, "")
		path := h.Path(stateFile)
		must.Do(t, os.MkdirAll(h.Path("run/locksmith"), 0o755))
		must.Do(t, os.WriteFile(path, []byte("{"), 0o600))
		if r := h.callOff(); r.status != 0 || !contains.All(r.stderr, "level=WARN", "it is not known", "state.json", "shutdown -c") {
			t.Errorf("%+v", r)
		}
	})
}

// systemctl restart, and a daemon that is killed, keep the place in the queue; systemctl stop
// gives it up at once.
func TestRestartedDaemonKeepsItsPlaceInTheQueue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end   func(*host)
		keeps bool
	}{
		"restarted":           {func(h *host) { h.Logind.SetUnitJob("restart"); h.terminate() }, true},
		"killed":              {func(h *host) { h.Daemon().Kill() }, true},
		"stopped":             {func(h *host) { h.Logind.SetUnitJob("stop"); h.terminate() }, false},
		"asked to end":        {func(h *host) { h.terminate() }, false},
		"systemd is silent":   {func(h *host) { h.Logind.Hang("GetUnitByPID"); h.terminate() }, false},
		"restarted, and goes": {func(h *host) { h.Logind.SetUnitJob("restart"); h.Logind.SetStopping(true); h.terminate() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			first := startWaiting(t, g, g.conf())
			second := startHost(t, g.conf())
			second.announce()
			second.awaitStatus("in the queue behind " + first.id)
			c.end(first)
			if (g.get(g.queueKey(first.id)) != "") != c.keeps {
				t.Errorf("the place is kept: %v, want %v", !c.keeps, c.keeps)
			}
			first.start()
			if c.keeps {
				first.awaitStatus("waiting for a slot", "held by other")
				second.awaitStatus("in the queue behind " + first.id)
				return
			}
			first.awaitStatus("in the queue behind " + second.id)
		})
	}
}
