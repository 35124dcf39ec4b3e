package processes

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmithd/locksmith/test/contains"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// SIGHUP makes the daemon read the configuration again and continue with it.
func TestSIGHUPMovesToTheNewGroup(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		old, new := newGroup(t, s), newGroup(t, s)
		h := startWaiting(t, old, old.conf())
		h.reload(new.conf())
		h.awaitReboot()
		new.awaitHolders(h.id)
		old.wantNever("the host took a slot of the old group", holds(h.id))
		h.await("RELOADING=1, then READY=1 again", func() bool { return h.noticed("RELOADING=1") == 1 && h.noticed("READY=1") == 2 })
	})
}

// The daemon releases a slot of the old group before it takes one of the new group.
func TestSIGHUPReleasesTheOldGroupsSlot(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		old, new := newGroup(t, s), newGroup(t, s)
		h := startHolding(t, old, old.conf())
		h.reload(new.conf())
		old.awaitHolders()
		new.awaitHolders(h.id)
		h.awaitStatus("users are logged in")
		h.wantNoReboot()
	})
}

// A request by hand survives, because nobody repeats it.
func TestSIGHUPKeepsARequestByHand(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	for name, conf := range map[string]string{"another window": updateconf.OpenWindow(), "another strategy": g.conf()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, updateconf.ShutWindow())
			h.awaitIdle()
			h.ctl("send-need-reboot")
			h.awaitStatus("for the reboot window")
			h.reload(conf)
			h.awaitReboot()
		})
	}
}

// A bad new configuration is refused as a whole, with one sentence, and the old one is kept.
func TestSIGHUPWithABadConfigurationKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	old, new := newGroup(t, s), newGroup(t, s)
	h := startWaiting(t, old, old.conf())
	for _, bad := range []struct{ conf, names string }{
		{new.conf("REBOOT_STRATEGY=sometimes"), "REBOOT_STRATEGY"},
		{new.conf("LOCKSMITHD_REBOOT_WINDOW_START=04:00"), "LOCKSMITHD_REBOOT_WINDOW_LENGTH"},
		{new.conf("LOCKSMITHD_ETCD_CERTFILE=/nowhere"), "LOCKSMITHD_ETCD_KEYFILE"},
	} {
		h.reload(bad.conf)
		h.awaitLog("level=ERROR", "the new configuration is refused", bad.names)
	}
	h.await("READY=1 after each RELOADING=1", func() bool { return h.noticed("RELOADING=1") == 3 && h.noticed("READY=1") == 4 })
	if !contains.All(h.Status(), "waiting for a slot", "held by other") {
		t.Errorf("the status is %q", h.Status())
	}
	h.awaitStatus("waiting for a slot", "the new configuration is refused", "LOCKSMITHD_ETCD_KEYFILE")
	old.unlock("other")
	h.awaitReboot()
	old.awaitHolders(h.id)
	if keys := new.keys(); len(keys) > 0 {
		t.Errorf("the refused group was used: %v", keys)
	}
}

// A host that waits for the lock does not switch to strategy reboot because its update.conf is missing or half
// written. Only the file's own setting does that.
func TestSIGHUPWithoutUpdateConfKeepsTheLock(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	for name, spoil := range map[string]func(path string) error{
		"gone":      os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 0) },
		"cut off":   func(path string) error { return os.WriteFile(path, []byte("GROUP=stable\n"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, s)
			h := startWaiting(t, g, g.conf())
			must.Do(t, spoil(h.Path("etc/flatcar/update.conf")))
			h.signal(syscall.SIGHUP)
			h.awaitLog("level=ERROR", "the new configuration is refused", "REBOOT_STRATEGY=reboot")
			h.awaitStatus("waiting for a slot", "held by other", "the new configuration is refused", "REBOOT_STRATEGY=reboot")
			h.wantNoReboot()
			h.reload("REBOOT_STRATEGY=reboot\n")
			h.awaitReboot()
			if strings.Contains(h.Status(), "refused") {
				t.Errorf("the status is %q after a reload that was accepted", h.Status())
			}
			g.wantNever("the host took a slot", holds(h.id))
		})
	}
}

// systemd copies update.conf into the environment, which then does not change. A setting that came from the file
// follows the file; a setting from a drop-in still has precedence.
func TestSIGHUPFollowsTheFileWhereTheEnvironmentCameFromIt(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	for name, fromFile := range map[string]bool{"from the file": true, "from a drop-in": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second, dropIn := newGroup(t, s), newGroup(t, s), newGroup(t, s)
			environment := dropIn
			if fromFile {
				environment = first
			}
			h := startHost(t, first.conf(updateconf.ShutWindow()), withEnv("LOCKSMITHD_GROUP="+environment.name))
			h.announce()
			h.awaitStatus("for the reboot window")
			h.reload(second.conf(updateconf.OpenWindow()))
			h.awaitReboot()
			if fromFile {
				second.awaitHolders(h.id)
			} else {
				dropIn.awaitHolders(h.id)
			}
		})
	}
}

// The strategy off ends the daemon cleanly after SIGHUP too, and releases the slot.
func TestSIGHUPToOffFinishesCleanlyAndReleasesTheLock(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHolding(t, g, g.conf())
		h.reload("REBOOT_STRATEGY=off\n")
		h.wantExit(0)
		g.awaitHolders()
		h.wantCoordinator("off", "disabled")
		h.awaitStatus("off")
		h.wantNoReboot()
	})
}

// SIGHUP changes the strategy, and changes it back.
func TestSIGHUPChangesTheStrategy(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	g.lock("other")
	h := startHost(t, "REBOOT_STRATEGY=reboot\n"+updateconf.ShutWindow())
	h.announce()
	h.awaitStatus("for the reboot window")
	h.wantCoordinator("reboot", "reboot-planned")
	h.reload(g.conf())
	h.awaitStatus("waiting for a slot", "held by other")
	h.wantCoordinator("etcd-lock", "reboot-planned")
	h.reload("REBOOT_STRATEGY=reboot\n")
	h.awaitReboot()
	g.wantNever("the host took a slot", holds(h.id))
}

// SIGHUP turns debug output on.
func TestSIGHUPChangesDebugOutput(t *testing.T) {
	t.Parallel()
	h := startHost(t, "")
	h.awaitIdle()
	if strings.Contains(h.Log(), "level=DEBUG") {
		t.Error("there is debug output without LOCKSMITHD_DEBUG")
	}
	h.reload("LOCKSMITHD_DEBUG=true\n")
	h.awaitLog("the new configuration is in force")
	must.Do(t, h.Engine.Announce(idle))
	h.awaitLog("level=DEBUG")
}
