package permit_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/internal/permit"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/replacefile"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
)

// moved is a host whose settings name another server than before.
type moved struct {
	*host
	old  *fleetlocktest.Server
	pipe *fleetlocktest.Pipe // to it
}

// inMoved runs a test with a host that has a slot of its old server, taken with a user and a password.
func inMoved(t *testing.T, test func(*testing.T, *moved)) {
	in(t, func(t *testing.T, h *host) {
		m := &moved{h, fleetlocktest.New(1), &fleetlocktest.Pipe{}}
		t.Cleanup(m.pipe.Serve(m.old))
		h.write("etc/password", "sesame\n")
		config := permit.Config{Server: fleetclient.Config{URL: "http://old.example", Username: "web", PasswordFile: filepath.Join(h.root, "etc/password")}}
		s, err := permit.New(config, h.root, h.thisBoot(), h.logger())
		must.Do(t, err)
		s.SetDial(m.dial)
		h.acquire(s)
		m.wantOld(appID)
		test(t, m)
	})
}

func (h *host) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&h.log, nil)) }

func (m *moved) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(address, "old.") {
		return m.pipe.Dial(ctx, network, address)
	}
	return m.net.Dial(ctx, network, address)
}

func (m *moved) start() *permit.Slot {
	s := m.host.start()
	s.SetDial(m.dial)
	return s
}

// leftover is what the host has left for settings that name no server.
func (m *moved) leftover() *permit.Leftover {
	l := permit.NewLeftover(m.root, m.logger())
	l.SetDial(m.dial)
	return l
}

// giveBack gives back the slots with an id.
func (m *moved) giveBack(id string) []permit.Memory {
	m.t.Helper()
	given, err := m.leftover().GiveBack(m.t.Context(), id, time.Minute)
	must.Do(m.t, err)
	return given
}

func (m *moved) wantOld(want ...string) {
	m.t.Helper()
	if got := m.old.Holders(); !slices.Equal(got, want) {
		m.t.Errorf("the old server's slot is held by %q, want %q", got, want)
	}
}

// wantLeft expects how many slots there are that the settings do not name.
func (m *moved) wantLeft(l *permit.Leftover, want int) {
	m.t.Helper()
	slots, err := l.Slots()
	if must.Do(m.t, err); len(slots) != want {
		m.t.Errorf("left are %v, want %d", slots, want)
	}
}

var unavailable = fleetlocktest.Raw(http.StatusServiceUnavailable, "text/plain", "down")

// The slot of a server that the settings do not name any more is given back there, as it was taken.
func TestSlotOfAnotherServerIsGivenBackThere(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		s := m.start()
		m.wantInspect(s, policy.HeldUnknown)
		m.wantLeft(s.Leftover(), 1)
		must.Do(t, s.Release(t.Context()))
		m.wantOld()
		if users := m.old.Users(); users[len(users)-1] != "web:sesame" {
			t.Errorf("it was given back by %q", users)
		}
		m.wantState(permit.None)
		m.wantLeft(s.Leftover(), 0)
	})
}

// It is not forgotten while the old server does not answer, whatever becomes of the new slot, and does not keep the
// host from rebooting.
func TestSlotOfAServerThatIsDownIsNotForgotten(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		m.old.Break(unavailable)
		s := m.start()
		m.wantInspect(s, policy.HeldUnknown)
		must.Do(t, s.Release(t.Context()))
		m.wantLog("the slot of " + appID + " at the FleetLock server http://old.example/, group default may still be held, and could not be given back: ")
		m.wantLog("if that server is gone for good, stop locksmithd and remove " + m.path())
		m.acquire(s)
		m.wantHolders(appID)
		m.boot("boot 2")
		s = m.start()
		m.wantInspect(s, policy.HeldSinceBefore)
		m.wantLeft(s.Leftover(), 1)

		// Only together with its own slot: the old server could be the new one under another name.
		m.old.Break(nil)
		m.wantStillHeld(s, true)
		m.wantOld(appID)
		must.Do(t, s.Release(t.Context()))
		m.wantOld()
		m.wantHolders()
		m.wantLeft(s.Leftover(), 0)
	})
}

// Servers that do not answer at all cost three seconds, however many there are, and nothing else stays held for them.
func TestServersThatDoNotAnswerCostSeconds(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		all := m.remembered()
		for _, group := range []string{"a", "b"} {
			another := all[0]
			another.Group = group
			all = append(all, another)
		}
		answers := memory(permit.Granted, "boot 1")
		answers.URL = "http://answers.example/"
		m.remembers(append(all, answers)...)
		m.old.Break(fleetlocktest.Hang)
		s := m.start()
		m.wantInspect(s, policy.HeldUnknown)
		begin := time.Now()
		must.Do(t, s.Release(t.Context()))
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
		m.wantLeft(s.Leftover(), 3)
	})
}

// What the file says is used as it is written, however long it is or whatever a terminal would make of it.
func TestSlotIsGivenBackAsTheFileSays(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		long := strings.Repeat("a", 200)
		password := filepath.Join(long, long, "a\u202eb")
		h.write(password, "sesame")
		base := "/" + long + "/" + long
		h.server.Break(func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
			http.StripPrefix(base, handler).ServeHTTP(w, r)
		})
		config := permit.Config{Group: strings.Repeat("g", 256), Server: fleetclient.Config{
			URL: "http://reboots.example" + base, Username: long + long, PasswordFile: filepath.Join(h.root, password),
		}}
		s, err := permit.New(config, h.root, h.thisBoot(), h.logger())
		must.Do(t, err)
		s.SetDial(h.net.Dial)
		h.acquire(s)
		l := permit.NewLeftover(h.root, h.logger())
		l.SetDial(h.net.Dial)
		_, err = l.GiveBack(t.Context(), "", time.Minute)
		must.Do(t, err)
		h.wantHolders()
		if users := h.server.Users(); users[len(users)-1] != long+long+":sesame" {
			t.Errorf("it was given back by %q", users)
		}
	})
}

// What another process has written of the slot meanwhile is not forgotten.
func TestSlotThatIsTakenAgainIsNotForgotten(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		again := m.remembered()[0]
		again.Since = again.Since.Add(time.Minute)
		m.old.Break(func(w http.ResponseWriter, r *http.Request, handler http.Handler) {
			handler.ServeHTTP(w, r)
			m.old.Take(appID)
			m.remembers(again)
		})
		m.giveBack("")
		if got := m.remembered(); !slices.Equal(got, []permit.Memory{again}) {
			t.Errorf("left are %v", got)
		}
		m.old.Break(nil)
		m.giveBack("")
		m.wantLeft(m.leftover(), 0)
	})
}

// What others have written is shown so that no terminal acts upon it.
func TestSlotIsNamedSafely(t *testing.T) {
	m := memory(permit.Granted, "boot 1")
	m.URL, m.Group, m.ID = "\x1b[1m", "\x1b[2m", "\x1b[3m"
	if got := m.String(); strings.Contains(got, "\x1b") {
		t.Errorf("it is called %q", got)
	}
}

// A host that does not ask a FleetLock server any more gives its slot back, as soon as the server answers.
func TestSlotIsGivenBackUnderAnotherStrategy(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		m.old.Break(unavailable)
		ctx, cancel := context.WithCancel(t.Context())
		go m.leftover().Try(ctx)
		after(time.Hour)
		m.wantOld(appID)
		if n := strings.Count(m.log.String(), "may still be held"); n != 1 {
			t.Errorf("the log says it %d times:\n%s", n, m.log.String())
		}
		m.wantLeft(m.leftover(), 1)
		m.old.Break(nil)
		after(5 * time.Minute)
		m.wantOld()
		m.wantLeft(m.leftover(), 0)
		m.leftover().Try(ctx) // has nothing to do
		cancel()
		synctest.Wait()
	})
}

// A copy of a host does not give the slot of that host back.
func TestSlotOfAnotherHostIsLeftAlone(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		m.write("etc/machine-id", strings.Repeat("a", 32)+"\n")
		if _, err := m.leftover().GiveBack(t.Context(), "", time.Second); err == nil || !strings.Contains(err.Error(), `this host has another id and may be a copy of that one: "locksmithctl unlock `+appID+`" gives it back`) {
			t.Errorf("it ends with %v", err)
		}
		m.wantOld(appID)
		if given := m.giveBack("another id"); len(given) > 0 {
			t.Errorf("it gave back %v", given)
		}
		m.wantOld(appID)
		if given := m.giveBack(appID); len(given) != 1 || given[0].URL != "http://old.example/" {
			t.Errorf("it gave back %v", given)
		}
		m.wantOld()
		m.wantLeft(m.leftover(), 0)
	})
}

// It is said if the host does not know its own ids, which does not make it another host.
func TestSlotOfAHostWithoutAnIDStays(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		must.Do(t, os.Remove(filepath.Join(m.root, "etc/machine-id")))
		_, err := m.leftover().GiveBack(t.Context(), "", time.Second)
		if err == nil || !strings.Contains(err.Error(), "it is not known whether it is this host's: ") {
			t.Errorf("it ends with %v", err)
		}
		m.wantOld(appID)
		m.giveBack(appID)
		m.wantOld()
	})
}

// A full disk does not lose the slot of another server, which only the file knows.
func TestSlotOfAnotherServerSurvivesAFullDisk(t *testing.T) {
	inMoved(t, func(t *testing.T, m *moved) {
		s := m.start()
		s.FillDisk()
		m.acquire(s)
		m.wantLog("at the first start in the next boot the host gives back what it may have")
		m.wantLog(m.path() + " stays, because it also says that the slot of " + appID +
			" at the FleetLock server http://old.example/, group default may be held")
		m.wantLeft(m.leftover(), 1)
		m.wantInspect(s, policy.HeldThisBoot)

		m.boot("boot 2")
		s = m.start()
		m.wantInspect(s, policy.HeldUnknown)
		must.Do(t, s.Release(t.Context()))
		m.wantHolders()
		m.wantOld()
	})
}

// The daemon and locksmithctl do not overwrite what the other has just written, nor remove it.
func TestWriterWaitsForAnother(t *testing.T) {
	for what, write := range map[string]func(*moved) error{
		"remember": func(m *moved) error { return m.start().Release(m.t.Context()) },
		"forget": func(m *moved) error {
			_, err := m.leftover().GiveBack(m.t.Context(), "", time.Minute)
			return err
		},
		"remove": func(m *moved) error {
			err := m.start().RemoveFile(m.t.Context())
			if err == nil || !strings.Contains(err.Error(), "group added may be held") {
				return fmt.Errorf("it ends with %v", err)
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			inMoved(t, func(t *testing.T, m *moved) {
				slots := []permit.Memory{memory(permit.None, "boot 1")} // alone, the file may be removed
				if what == "forget" {
					slots = append(slots, m.remembered()...)
				}
				m.remembers(slots...)
				unlock, err := replacefile.Lock(t.Context(), m.path(), 0o700)
				must.Do(t, err)
				ended := make(chan error, 1)
				go func() { ended <- write(m) }()
				after(time.Second)
				select {
				case err := <-ended:
					t.Errorf("it did not wait, and ended with %v", err)
				default:
				}
				added := memory(permit.Granted, "boot 1")
				added.Group = "added"
				m.remembers(append(m.remembered(), added)...)
				unlock()
				must.Do(t, <-ended)
				if !slices.ContainsFunc(m.remembered(), func(r permit.Memory) bool { return r.Group == "added" }) {
					t.Errorf("left are %v", m.remembered())
				}
			})
		})
	}
}

// With its plain machine id the host is another one at the server, and gives back what it had by the other id.
func TestSlotOfAnotherIDIsGivenBack(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.acquire(h.start())
		s, err := permit.New(permit.Config{Server: fleetclient.Config{URL: "http://reboots.example/"}, MachineID: true}, h.root, h.thisBoot(), h.logger())
		must.Do(t, err)
		s.SetDial(h.net.Dial)
		h.wantInspect(s, policy.HeldUnknown)
		must.Do(t, s.Release(t.Context()))
		h.wantHolders()
		h.acquire(s)
		h.wantHolders(machineID)
	})
}

// Nothing is left of what was given back, so that the file does not grow.
func TestFileHasOnlyWhatMayBeHeld(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		for _, group := range []string{"a", "b", "c"} {
			s := h.startAt("http://reboots.example/", group)
			h.acquire(s)
			must.Do(t, s.Release(t.Context()))
		}
		if all := h.remembered(); len(all) != 1 || all[0].Group != "c" {
			t.Errorf("it has %v", all)
		}
		must.Do(t, os.Remove(h.path()))
		h.acquire(h.startAt("http://reboots.example/", "a"))
		h.server.Free(appID)
		h.acquire(h.startAt("http://reboots.example/", "b"))
		if all := h.remembered(); len(all) != 2 {
			t.Errorf("it has %v", all)
		}
	})
}
