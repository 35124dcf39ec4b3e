package permit_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/internal/permit"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
)

// A host without a file gives back what it may have, takes a slot, reboots, and gives it back.
func TestSlotFromTheFirstStartToTheEndOfTheReboot(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		s := h.start()
		h.wantInspect(s, policy.HeldUnknown)
		must.Do(t, s.Release(t.Context()))
		h.wantCalls("steady-state")
		h.wantState(permit.None)

		s = h.start()
		h.wantInspect(s, policy.NotHeld)
		h.wantCalls()
		h.acquire(s)
		h.wantHolders(appID)
		h.wantState(permit.Granted)
		h.wantStillHeld(s, true)
		h.wantCalls("pre-reboot", "pre-reboot")
		h.wantInspect(h.start(), policy.HeldThisBoot)

		h.boot("boot 2")
		s = h.start()
		if got, want := h.wantInspect(s, policy.HeldSinceBefore), (policy.Purpose{Version: "2.0", OSVersion: "1.0"}); got != want {
			t.Errorf("the slot was taken for %+v, want %+v", got, want)
		}
		h.wantStillHeld(s, true)
		h.wantCalls()
		must.Do(t, s.Release(t.Context()))
		h.wantHolders()
		h.wantState(permit.None)
		h.wantInspect(h.start(), policy.NotHeld)
	})
}

// What is remembered of a slot in another boot, or of another one, decides whom the host believes.
func TestInspectSaysOnlyWhatIsKnown(t *testing.T) {
	another := func(change func(*permit.Memory)) permit.Memory {
		m := memory(permit.Granted, "boot 1")
		change(&m)
		return m
	}
	for what, test := range map[string]struct {
		file permit.Memory
		want policy.Holding
	}{
		"granted":                  {memory(permit.Granted, "boot 1"), policy.HeldThisBoot},
		"granted before this boot": {memory(permit.Granted, "boot 0"), policy.HeldSinceBefore},
		"asked":                    {memory(permit.Asked, "boot 1"), policy.HeldUnknown},
		"asked before this boot":   {memory(permit.Asked, "boot 0"), policy.HeldUnknown},
		"none":                     {memory(permit.None, "boot 1"), policy.NotHeld},
		"none before this boot":    {memory(permit.None, "boot 0"), policy.HeldUnknown},
		"no file":                  {permit.Memory{}, policy.HeldUnknown},
		"another server":           {another(func(m *permit.Memory) { m.URL = "http://old.example/" }), policy.HeldUnknown},
		"another group":            {another(func(m *permit.Memory) { m.Group = "workers" }), policy.HeldUnknown},
		"another id":               {another(func(m *permit.Memory) { m.ID = machineID }), policy.HeldUnknown},
		"none of another server":   {another(func(m *permit.Memory) { m.URL, m.Slot = "http://old.example/", permit.None }), policy.HeldUnknown},
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				if test.file != (permit.Memory{}) {
					h.remembers(test.file)
				}
				h.wantInspect(h.start(), test.want)
				if h.log.Len() > 0 {
					t.Errorf("it logs %s", h.log.String())
				}
				h.wantCalls()
			})
		})
	}
}

// A file that cannot be read is kept for the operator, and the host goes on as without one.
func TestFileThatCannotBeUnderstoodIsSetAside(t *testing.T) {
	for what, content := range map[string]string{
		"nonsense": "nonsense", "empty": "", "huge": strings.Repeat(" ", 1<<20), "another document": `{"version":"1"}`,
		"another state": `{"slots":[{"slot":"none"},{"slot":"perhaps"}]}`, "a list": "[]",
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				h.write(permit.DefaultPath, content)
				s := h.start()
				h.wantInspect(s, policy.HeldUnknown)
				h.wantLog("is kept under another name; if this host has had a slot of another server or group, that may still be held there")
				kept, err := os.ReadFile(h.path() + ".broken")
				if must.Do(t, err); string(kept) != content {
					t.Errorf("what is kept is %.100q", kept)
				}
				must.Do(t, s.Release(t.Context()))
				h.wantState(permit.None)

				// locksmithctl does not inspect before it takes a slot.
				must.Do(t, os.Remove(h.path()+".broken"))
				h.write(permit.DefaultPath, content)
				h.acquire(h.start())
				kept, err = os.ReadFile(h.path() + ".broken")
				if must.Do(t, err); string(kept) != content {
					t.Errorf("what is kept is %.100q", kept)
				}
			})
		})
	}
}

// The request that takes a slot is sent only after the file says so.
func TestFileSaysThatASlotMayBeHeldBeforeItIs(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		var states []permit.State
		h.server.Break(func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
			states = append(states, h.state())
			handler.ServeHTTP(w, r)
		})
		s := h.start()
		h.acquire(s)
		must.Do(t, s.Release(t.Context()))
		if want := []permit.State{permit.Asked, permit.Granted}; !slices.Equal(states, want) {
			t.Errorf("the file says %q when the requests arrive, want %q", states, want)
		}
		h.wantState(permit.None)
	})
}

// A disk that is full, or read-only, does not keep the host from rebooting, and loses no slot.
func TestWithoutTheFileNothingIsLost(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.write("var/lib/locksmith", "not a folder")
		s := h.start()
		h.wantInspect(s, policy.HeldUnknown)
		h.acquire(s)
		h.wantLog("the next start will not know whether this host has a slot, and will give back what it may have")
		h.wantInspect(s, policy.HeldThisBoot) // this process knows
		h.wantStillHeld(s, true)
		h.boot("boot 2")
		s = h.start()
		h.wantInspect(s, policy.HeldUnknown)
		must.Do(t, s.Release(t.Context()))
		h.wantHolders()
	})
}

// A file that cannot be written any more does not say what was true before.
func TestFileThatCannotBeWrittenIsRemoved(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		must.Do(t, h.start().Release(t.Context()))
		h.wantState(permit.None)
		s := h.start()
		s.FillDisk()
		h.acquire(s)
		h.wantState(permit.Unknown)
		h.wantInspect(s, policy.HeldThisBoot)
		h.wantInspect(h.start(), policy.HeldUnknown)
		must.Do(t, s.Release(t.Context()))
		h.wantInspect(s, policy.NotHeld)
	})
	// Of another reboot nothing counts that is not written down.
	in(t, func(t *testing.T, h *host) {
		h.remembers(memory(permit.Granted, "boot 0"))
		s := h.start()
		s.FillDisk()
		if err := s.Report(t.Context(), policy.Report{Phase: policy.Leaving, Again: true, Version: "2.2"}); err == nil {
			t.Error("the report has succeeded")
		}
		h.wantInspect(s, policy.HeldSinceBefore)
		h.wantState(permit.Granted)
	})
}

// An unwell host that takes another update with its slot is judged by that one after the next boot.
func TestReportOfAnotherReboot(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.acquire(h.start())
		h.boot("boot 2")
		h.write("etc/os-release", "VERSION_ID=2.0\n")
		s := h.start()
		h.wantInspect(s, policy.HeldSinceBefore)
		must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Unwell, Pause: true}))
		h.wantInspect(s, policy.HeldSinceBefore)
		h.server.Calls()
		must.Do(t, s.Acquire(t.Context(), policy.Lock{Version: "2.1", NewOS: true}, quiet))
		h.wantInspect(s, policy.HeldSinceBefore) // until it prepares that reboot
		must.Do(t, s.Report(t.Context(), policy.Report{Phase: policy.Leaving, Again: true, Version: "2.1", NewOS: true}))
		h.wantInspect(s, policy.HeldThisBoot)
		h.wantStillHeld(s, true)
		h.wantCalls("pre-reboot", "pre-reboot")
		h.boot("boot 3")
		if got, want := h.wantInspect(h.start(), policy.HeldSinceBefore), (policy.Purpose{Version: "2.1", OSVersion: "2.0"}); got != want {
			t.Errorf("the slot is for %+v, want %+v", got, want)
		}

		// What is not written down would judge the next boot by the wrong version.
		must.Do(t, os.RemoveAll(filepath.Join(h.root, "var")))
		h.write("var", "not a folder")
		if err := s.Report(t.Context(), policy.Report{Phase: policy.Leaving, Again: true, Version: "2.2"}); err == nil || !strings.Contains(err.Error(), "fleetlock.json") {
			t.Errorf("the report says %v", err)
		}
	})
}

// The slot of an unwell host that somebody has freed is not taken again by a check.
func TestSlotOfAnEarlierBootIsNotTakenAgain(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.acquire(h.start())
		h.boot("boot 2")
		h.server.Free(appID)
		s := h.start()
		h.wantStillHeld(s, true)
		h.wantHolders()
	})
}

// A file that cannot be understood and not be moved away stays, and the log says why.
func TestFileThatCannotBeMovedAwayIsNamed(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.write(permit.DefaultPath, "{")
		h.write(permit.DefaultPath+".broken/full", "")
		h.wantInspect(h.start(), policy.HeldUnknown)
		h.wantLog("what this host knows of its slot cannot be read, and stays as it is")
		h.wantLog("and it cannot be moved away: rename ")
	})
}

func TestIDAndGroup(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		config := permit.Config{Server: fleetclient.Config{URL: "http://reboots.example/base/"}, Group: "workers", MachineID: true}
		s, err := permit.New(config, h.root, h.thisBoot(), slog.New(slog.DiscardHandler))
		must.Do(t, err)
		s.SetDial(h.net.Dial)
		h.server.Break(func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
			http.StripPrefix("/base", handler).ServeHTTP(w, r)
		})
		h.acquire(s)
		if got, want := h.server.Calls(), []string{"pre-reboot workers " + machineID}; !slices.Equal(got[:1], want) {
			t.Errorf("the server got %q, want %q", got, want)
		}

		h.write("etc/machine-id", "not-hexadecimal\n")
		config.MachineID = false
		if _, err := permit.New(config, h.root, h.thisBoot(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "LOCKSMITHD_FLEETLOCK_ID=machine-id takes it as it is") {
			t.Errorf("a machine id that is not hexadecimal: %v", err)
		}
		config.MachineID = true
		_, err = permit.New(config, h.root, h.thisBoot(), slog.New(slog.DiscardHandler))
		must.Do(t, err)
	})
}

// Nothing but a full reboot boots another version of the operating system.
func TestSlotSaysWhetherItsVersionCanHaveBeenBooted(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		must.Do(t, h.start().Acquire(t.Context(), policy.Lock{Version: "2.0", NewOS: true}, quiet))
		for boot, unbooted := range map[string]bool{"boot 1+1": true, "boot 2": false, "boot 2+1": false} {
			h.boot(boot)
			if purpose := h.wantInspect(h.start(), policy.HeldSinceBefore); purpose.Unbooted != unbooted {
				t.Errorf("in %s it is %+v", boot, purpose)
			}
		}
	})
}
