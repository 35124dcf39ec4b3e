package processes

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// untouchable returns an endpoint that counts the connections to it.
func untouchable(t *testing.T) (endpoint string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	connections = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "http://" + l.Addr().String(), connections
}

func TestStrategyRebootRebootsAndNeverContactsEtcd(t *testing.T) {
	t.Parallel()
	endpoint, connections := untouchable(t)
	h := startHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_ENDPOINT="+endpoint+"\n")
	h.awaitIdle()
	h.announce()
	h.awaitReboot()
	h.reboot()
	h.awaitIdle()
	h.terminate()
	if n := connections.Load(); n > 0 {
		t.Errorf("etcd was contacted %d times", n)
	}
}

func TestStrategyUnsetOrEmptyMeansReboot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		conf string
		env  []string
	}{
		"unset":                {conf: "GROUP=stable\n"},
		"empty":                {conf: "REBOOT_STRATEGY=\n"},
		"empty in quotes":      {conf: "REBOOT_STRATEGY=\"\"\n"},
		"empty in environment": {conf: "REBOOT_STRATEGY=etcd-lock\n", env: []string{"REBOOT_STRATEGY="}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint, connections := untouchable(t)
			h := startHost(t, test.conf+"LOCKSMITHD_ENDPOINT="+endpoint+"\n", withEnv(test.env...))
			h.announce()
			h.awaitReboot()
			h.wantCoordinator("reboot", "rebooting")
			if n := connections.Load(); n > 0 {
				t.Errorf("etcd was contacted %d times", n)
			}
		})
	}
}

// For systemd (Type=notify) the unit finishes cleanly only if it was ready before.
func TestStrategyOffIsACleanFinish(t *testing.T) {
	t.Parallel()
	endpoint, connections := untouchable(t)
	h := startPending(t, "REBOOT_STRATEGY=off\nLOCKSMITHD_ENDPOINT="+endpoint+"\n")
	h.wantExit(0)
	h.await("READY=1", func() bool { return h.noticed("READY=1") > 0 })
	h.awaitStatus("off: this host is not rebooted, REBOOT_STRATEGY is off")
	if strings.Contains(h.Status(), "as installed") {
		t.Errorf("the status takes the host's own strategy for the package's: %q", h.Status())
	}
	h.awaitLog("strategy is off")
	h.wantCoordinator("off", "disabled")
	h.wantNoReboot()
	if n := connections.Load(); n > 0 {
		t.Errorf("etcd was contacted %d times", n)
	}
}

// Whoever has just installed the package looks at the status.
func TestStrategyOffOfThePackageSaysWhereToSetIt(t *testing.T) {
	t.Parallel()
	const status = "off: this host is not rebooted, REBOOT_STRATEGY is off, as installed; set it in /etc/locksmith/locksmith.conf, and restart locksmithd"
	h := newHost(t, "")
	h.write("usr/lib/locksmith/locksmith.conf", "REBOOT_STRATEGY=off\n")
	h.start()
	h.wantExit(0)
	h.awaitStatus(status)
	h.wantNoReboot()

	// The strategy of the package counts again once the host's own is removed.
	h = newHost(t, "REBOOT_STRATEGY=reboot\n")
	h.write("usr/lib/locksmith/locksmith.conf", "REBOOT_STRATEGY=off\n")
	h.start()
	h.awaitIdle()
	h.reload("LOCKSMITHD_DEBUG=true\n")
	h.wantExit(0)
	h.awaitStatus(status)
	h.wantNoReboot()
}

// Another coordinator may be the reason for the strategy off.
func TestStrategyOffLeavesAnotherCoordinatorAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t, "REBOOT_STRATEGY=off\n")
	const content = "NAME=other\nSTRATEGY=own\nSTATE=running\n"
	h.write("run/update-engine/coordinator.conf", content)
	other, err := os.Open(h.coordinatorPath())
	must.Do(t, err)
	defer other.Close()
	must.Do(t, syscall.Flock(int(other.Fd()), syscall.LOCK_EX))
	h.start()
	h.wantExit(0)
	h.await("READY=1", func() bool { return h.noticed("READY=1") > 0 })
	got, err := os.ReadFile(h.coordinatorPath())
	must.Do(t, err)
	if string(got) != content {
		t.Errorf("the coordinator file is now\n%s", got)
	}
}

func TestWrongStrategyIsRefusedAtStartWithSettingValueAndFile(t *testing.T) {
	t.Parallel()
	h := startHost(t, "GROUP=stable\nREBOOT_STRATEGY=best-effort\n")
	h.wantExit(1)
	for _, part := range []string{"REBOOT_STRATEGY", "best-effort", "etc/flatcar/update.conf:2", "etcd-lock, fleet-lock, reboot or off"} {
		if !strings.Contains(h.Log(), part) {
			t.Errorf("the log does not contain %q:\n%s", part, h.Log())
		}
	}
	if h.noticed("READY=1") > 0 {
		t.Error("the daemon reported READY=1 before")
	}
}

// The lock outlives the reboot, and the daemon releases it afterwards. The test checks the default group byte by
// byte.
func TestStrategyEtcdLockHoldsTheLockOverTheReboot(t *testing.T) {
	t.Parallel()
	forEachEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := watchGroup(t, s, "")
		const key = "coreos.com/updateengine/rebootlock/semaphore"
		if g.key() != key {
			t.Fatalf("the key is %s", g.key())
		}
		h := startHost(t, g.conf())
		h.awaitIdle()
		since := time.Now()
		h.announce()
		h.awaitReboot()
		g.wantRecord(g.prefix+"/holders/"+h.id, h, since, "locksmithd")
		taken := `{"semaphore":0,"max":1,"holders":["` + h.id + `"]}`
		g.wantDocument(taken)
		must.Do(t, h.Halt())
		g.wantDocument(taken)
		g.wantHeldThroughout(h.id)
		must.Do(t, h.Boot())
		g.awaitHolders()
		h.awaitIdle()
		g.wantDocument(`{"semaphore":1,"max":1,"holders":null}`)
		if keys := g.keys(); slices.Contains(keys, g.prefix+"/holders/"+h.id) {
			t.Errorf("left behind: %v", keys)
		}
		h.wantNoReboot()
	})
}

// The name is escaped as in the query of a URL (docs/compatibility.md, section 5).
func TestGroupIsEscapedInItsKey(t *testing.T) {
	t.Parallel()
	unique := groupName()
	g := watchGroup(t, sharedEtcd(t, etcdtest.Newest), "prod/data base "+unique)
	if want := "coreos.com/updateengine/rebootlock/groups/prod%2Fdata+base+" + unique + "/semaphore"; g.key() != want {
		t.Fatalf("the key is %s", g.key())
	}
	h := startPending(t, g.conf())
	h.awaitReboot()
	g.awaitHolders(h.id)
}

func TestEveryStrategyWaitsForItsWindow(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"etcd-lock", "reboot"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startHost(t, g.conf("REBOOT_STRATEGY="+strategy, updateconf.ShutWindow()))
			h.awaitIdle()
			h.announce()
			h.awaitStatus("reboot needed since", "for version 4081.2.0", "for the reboot window, which opens")
			h.wantNoReboot()
			h.wantCoordinator(strategy, "reboot-planned")
			g.wantNever("a slot was taken", holds(h.id))
			h.reload(g.conf("REBOOT_STRATEGY="+strategy, updateconf.OpenWindow()))
			h.awaitReboot()
			h.wantCoordinator(strategy, "rebooting")
		})
	}
}

func TestBlackoutHoldsTheRebootBackUntilItIsTakenOut(t *testing.T) {
	t.Parallel()
	for _, window := range []string{"", updateconf.OpenWindow()} {
		t.Run(window, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
			h := startHost(t, g.conf(window, updateconf.Blackout()))
			h.awaitIdle()
			h.announce()
			h.awaitStatus("for the reboot window, which opens", ", after a blackout from ")
			h.wantNoReboot()
			g.wantNever("a slot was taken", holds(h.id))
			h.reload(g.conf(window))
			h.awaitReboot()
		})
	}
}
