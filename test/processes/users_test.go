package processes

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// logind tells logged-in users, who then have time. Once they have left, the host reboots.
func TestLoggedInUsersAreToldAndTheHostRebootsOnceTheyHaveLeft(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	must.Do(t, h.Logind.SetSessions(
		bustest.Session{ID: "1", UID: 1000, Name: "ann", TTY: "pts/0"},
		bustest.Session{ID: "2", UID: 1000, Name: "ann", TTY: "pts/1"},
		bustest.Session{ID: "c1", UID: 0, Name: "gdm", TTY: "tty1", Class: "greeter"},
	))
	h.startPending()
	before := time.Now()
	s := h.awaitSchedule()
	h.awaitStatus("users are logged in (ann) and know since", "or once they have left, unless they cancel it with shutdown -c")
	g.awaitHolders(h.id)
	h.wantCoordinator("etcd-lock", "reboot-planned")
	if d := s.At.Sub(before); s.Type != "reboot" || d < 5*time.Minute+30*time.Second || d > 5*time.Minute+30*time.Second+patience {
		t.Errorf("a %s is scheduled for %v after the start", s.Type, d)
	}
	for _, part := range []string{"System reboot in 5 minutes! ", "locksmithd", "version 4081.2.0", "shutdown -c", "systemctl reboot"} {
		if !strings.Contains(s.Message, part) {
			t.Errorf("users are told %q, want something with %q", s.Message, part)
		}
	}
	h.wantNoReboot()
	left := time.Now()
	must.Do(t, h.Logind.SetSessions())
	if call := h.awaitReboot(); call.At.Before(left) {
		t.Error("the host did not wait for the users to leave")
	}
	g.wantHeldThroughout(h.id)
}

func TestUsersHaveTheConfiguredDelay(t *testing.T) {
	t.Parallel()
	h := newHost(t, "LOCKSMITHD_LOGIN_DELAY=2s\n")
	must.Do(t, h.Logind.SetSessions(someUser))
	h.startPending()
	s := h.awaitSchedule()
	if !strings.HasPrefix(s.Message, "System reboot in 2 seconds!") {
		t.Errorf("users are told %q", s.Message)
	}
	if call := h.awaitReboot(); call.At.Before(s.At.Add(-30 * time.Second)) {
		t.Errorf("rebooted at %v, scheduled for %v", call.At, s.At)
	}
}

// A user runs "shutdown -c", or schedules something else: the host releases its slot and tries again later.
func TestCancelledRebootReleasesTheLockAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, instead := range map[string]bustest.Shutdown{
		"cancelled": {},
		"replaced":  {Type: "poweroff", At: time.Now().Add(9 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := newHost(t, g.conf()+"LOCKSMITHD_LOGIN_RETRY=1m\nLOCKSMITHD_LOGIN_DELAY=30m\n")
			must.Do(t, h.Logind.SetSessions(someUser))
			h.startPending()
			h.awaitSchedule()
			g.awaitHolders(h.id)
			h.Logind.SetShutdown(instead)
			h.awaitStatus("held back by a user, who cancelled it", "trying again")
			g.awaitHolders()
			h.awaitLog("level=INFO", "a user has cancelled the reboot")
			if got := h.Logind.Shutdown(); got.Type != instead.Type {
				t.Errorf("%+v is scheduled, want %+v", got, instead)
			}
			if name == "cancelled" {
				h.awaitSchedule()
				g.awaitHolders(h.id)
			} else {
				h.awaitStatus("held back by a poweroff that is scheduled")
				g.awaitHolders()
			}
			h.wantNoReboot()
		})
	}
}

// A block inhibitor holds the reboot back before the host takes a slot, and in the queue.
func TestInhibitorHoldsTheRebootBackWithoutTheLock(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := newHost(t, g.conf())
		h.Logind.SetInhibitors(someBackup)
		h.startPending()
		h.awaitStatus("reboot needed since", "for version 4081.2.0", `held back by "unattended backup" (rsync, root): block inhibitor`)
		h.awaitLog("held back", "unattended backup")
		g.awaitHolders()
		h.wantCoordinator("etcd-lock", "reboot-planned")

		if !g.lock("other") {
			t.Fatal("no slot is free")
		}
		h.Logind.SetInhibitors(bustest.Inhibitor{Who: "modem", Why: "hangs up", Mode: "delay"})
		h.awaitStatus("waiting for a slot", "held by other")
		h.Logind.SetInhibitors(someBackup)
		h.awaitStatus("held back by", "unattended backup")
		g.awaitKey(g.queueKey(h.id), false)

		h.Logind.SetInhibitors()
		h.awaitStatus("waiting for a slot", "held by other")
		g.unlock("other")
		h.awaitReboot()
		g.wantHeldThroughout(h.id)
	})
}

// An inhibitor that appears during the login delay calls the reboot off.
func TestInhibitorDuringTheUsersDelayCallsTheRebootOff(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := startHolding(t, g, g.conf())
	h.Logind.SetInhibitors(someBackup)
	h.awaitLog("the last attempt failed", "unattended backup")
	g.awaitHolders()
	if s := h.Logind.Shutdown(); s.Type != "" {
		t.Errorf("%+v is still scheduled", s)
	}
	h.wantNoReboot()
}

// After the deadline neither inhibitors nor users hold the reboot back. Users are told by logind or, if logind
// schedules nothing because of the inhibitor, by locksmithd.
func TestUsersAndInhibitorsHoldTheRebootBackOnlyUntilTheDeadline(t *testing.T) {
	t.Parallel()
	for _, version := range []int{252, 257, 262} {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := newHost(t, g.conf()+"LOCKSMITHD_MAX_POSTPONE=10s\nLOCKSMITHD_LOGIN_DELAY=2s\n")
			must.Do(t, h.Logind.SetVersion(version))
			h.Logind.SetInhibitors(someBackup)
			must.Do(t, h.Logind.SetSessions(someUser))
			h.startPending()
			h.awaitStatus("held back by", "unattended backup", "users and inhibitors can postpone it until")
			h.wantNoReboot()
			const told = "System reboot in 2 seconds!"
			if version < 257 {
				if s := h.awaitSchedule(); !strings.HasPrefix(s.Message, told) {
					t.Errorf("users are told %q", s.Message)
				}
			}
			call := h.awaitReboot()
			for !call.Accepted { // logind refuses, then systemd is asked
				call = h.awaitReboot()
			}
			if bySystemd := call.Unit != ""; bySystemd != (version >= 257) {
				t.Errorf("the reboot is %+v", call)
			}
			g.wantHeldThroughout(h.id)
			h.awaitLog(told, "cannot be cancelled any more")
			if announced := strings.Contains(h.Log(), "\n"+told); announced != (version >= 257) {
				t.Errorf("users are told without logind: %v", announced)
			}
		})
	}
}

// Any local user can make logind's list of inhibitors too long to read. That hides who holds the inhibitor, but
// the inhibitor does not hold the host back past the deadline.
func TestHiddenInhibitorHoldsTheRebootBackOnlyUntilTheDeadline(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf()+"LOCKSMITHD_MAX_POSTPONE=20s\n")
	crowd := make([]bustest.Inhibitor, 200)
	for i := range crowd {
		crowd[i] = bustest.Inhibitor{Who: "mallory", Why: strings.Repeat("x", 2000), Mode: "delay", UID: 1000}
	}
	h.Logind.SetInhibitors(append(crowd, someBackup)...)
	h.startPending()
	h.awaitStatus("held back by", "logind does not list who", "block inhibitor", "users and inhibitors can postpone it until")
	h.wantNoReboot()
	h.awaitReboot()
	g.wantHeldThroughout(h.id)
}
