package processes

import (
	"strconv"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The daemon logs logind's refusal, releases the lock, and tries again later.
func TestRebootRefusedByLogindReleasesTheLockAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		h.Logind.Refuse("Reboot", accessDenied, "not today")
		h.startPending()
		h.awaitReboot()
		h.awaitStatus("waiting", "trying again", "not today")
		h.awaitLog("level=WARN", "not today")
		g.awaitHolders()
		h.wantCoordinator("etcd-lock", "reboot-planned")
		h.awaitReboot() // the next attempt
		h.Logind.Heal("Reboot")
		for !h.awaitReboot().Accepted { // a refused call may precede Heal
		}
		g.awaitHolders(h.id)
	})
}

func TestRebootRefusedByLogindIsTriedAgainWithoutALock(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.Logind.Refuse("Reboot", accessDenied, "not today")
	h.startPending()
	h.awaitReboot()
	h.awaitStatus("waiting", "trying again", "not today")
	h.Logind.Heal("Reboot")
	h.awaitReboot()
	h.awaitStatus("rebooting: logind was asked")
}

// Without an answer logind may or may not reboot the host, so the lock is kept.
func TestRebootThatLogindDoesNotAnswerKeepsTheLock(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		h.Logind.Hang("Reboot")
		h.startPending()
		h.awaitReboot()
		h.awaitStatus("rebooting: logind was asked", "trying again", "deadline exceeded")
		h.terminate()
		g.wantHeldThroughout(h.id)
		h.wantNoReboot()
	})
}

// Without logind it is unknown whether a reboot is scheduled and who is logged in. The host takes no slot
// meanwhile.
func TestLogindAbsentIsWaitedForWithoutTheLock(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		must.Do(t, h.Logind.Leave())
		h.startPending()
		h.awaitStatus("asking logind", "trying again", "login1")
		g.awaitHolders()
		must.Do(t, h.Logind.Appear())
		h.awaitReboot()
		g.awaitHolders(h.id)
	})
}

// logind goes away later, or sends a malformed answer: somebody may be at work.
func TestLogindThatDoesNotSayWhoIsAtWorkHoldsTheRebootBack(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(h *host) error{
		"gone":     func(h *host) error { return h.Logind.Leave() },
		"nonsense": func(h *host) error { return h.Logind.Answer("ListSessions", "none") },
		"refuses": func(h *host) error {
			h.Logind.Refuse("ListSessions", accessDenied, "not you")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startHost(t, g.conf())
			h.awaitIdle()
			must.Do(t, fail(h))
			h.announce()
			h.awaitStatus("waiting", "held back by logind, which does not say who is at work on this host")
			h.awaitLog("level=INFO", "held back", "logind")
			g.awaitHolders()
			h.wantNoReboot()
		})
	}
}

// Users can keep logind from saying who is at work, but only until the deadline. Then all users are told, and the
// host reboots.
func TestUnknownUsersHoldTheRebootBackOnlyUntilTheDeadline(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(h *host) error{
		"nonsense": func(h *host) error { return h.Logind.Answer("ListSessions", "none") },
		"refuses": func(h *host) error {
			h.Logind.Refuse("BlockInhibited", accessDenied, "not you")
			return h.Logind.SetSessions(someUser)
		},
		"hangs": func(h *host) error { h.Logind.Hang("ListSessions"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := newHost(t, g.conf()+"LOCKSMITHD_MAX_POSTPONE=20s\nLOCKSMITHD_LOGIN_DELAY=2s\n")
			must.Do(t, fail(h))
			h.startPending()
			h.awaitStatus("held back by logind, which does not say who is at work on this host", "can postpone it until")
			h.wantNoReboot()
			if s := h.awaitSchedule(); !strings.HasPrefix(s.Message, "System reboot in 2 seconds!") {
				t.Errorf("users are told %q", s.Message)
			}
			h.awaitReboot()
			g.wantHeldThroughout(h.id)
		})
	}
}

// A user makes a session, or the number of sessions, too large to read. That user counts as somebody at work, and
// holds the host back no longer than others.
func TestLongAnswerOfLogindHidesNoUser(t *testing.T) {
	t.Parallel()
	crowd := make([]bustest.Session, 1500)
	for i := range crowd {
		crowd[i] = bustest.Session{ID: strconv.Itoa(i), UID: 1000, Name: strings.Repeat("x", 200)}
	}
	for name, c := range map[string]struct {
		sessions []bustest.Session
		who      string
	}{
		"a session": {[]bustest.Session{{ID: "1", UID: 1000, Name: "mallory", Lies: map[string]any{"Display": strings.Repeat("x", 300<<10)}}}, "mallory"},
		"many":      {crowd, "logind lists too many sessions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := newHost(t, g.conf()+"LOCKSMITHD_LOGIN_DELAY=10s\n")
			must.Do(t, h.Logind.SetSessions(c.sessions...))
			h.startPending()
			h.awaitStatus("users are logged in (", c.who)
			h.awaitReboot()
			g.wantHeldThroughout(h.id)
		})
	}
}
