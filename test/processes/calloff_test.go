package processes

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// onWrite does something when a text is written.
type onWrite struct {
	text string
	do   func()
}

func (w *onWrite) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.do()
	}
	return len(p), nil
}

// callOff runs the command that systemd runs after the daemon has ended.
func (h *host) callOff() result {
	h.t.Helper()
	return h.run(locksmithd(), "--call-off")
}

// However a daemon ends, it leaves no reboot behind.
func TestRebootScheduledByAnEndedDaemonIsCalledOff(t *testing.T) {
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
				t.Fatal("the reboot is called off already")
			}
			if r := h.callOff(); r.status != 0 || !strings.Contains(r.stderr, "is called off") {
				t.Errorf("%+v", r)
			}
			if s := h.Logind.Shutdown(); s.Type != "" {
				t.Errorf("%+v is still scheduled", s)
			}
			g.wantHeldThroughout(h.id)
			// The next daemon does not take that for a cancellation by a user.
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
			t.Error("the reboot is called off")
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
	t.Run("systemd does not say at first which boot this is", func(t *testing.T) {
		t.Parallel()
		g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
		h := startHolding(t, g, g.conf())
		h.awaitSchedule()
		h.Daemon().Kill()
		must.Do(t, os.MkdirAll(h.Path("/run/systemd/system"), 0o755))
		h.Logind.Refuse("SoftRebootsCount", accessDenied, "not yet")
		stderr := &onWrite{"asking again", func() { h.Logind.Heal("SoftRebootsCount") }}
		cmd := exec.CommandContext(t.Context(), locksmithd(), "--root="+h.Path(""), "--call-off")
		cmd.Env, cmd.Stderr = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + h.Bus.Address()}, stderr
		must.Do(t, cmd.Run())
		if s := h.Logind.Shutdown(); s.Type != "" {
			t.Errorf("%+v is still scheduled", s)
		}
	})
	// A failure would make systemd restart the daemon again and again, even with the strategy "off".
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
