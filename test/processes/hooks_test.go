package processes

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/simhost"
)

// Scripts that may refuse a reboot are told what it is for, as all others.
func TestScriptsOfMayRebootAreToldWhatTheRebootIsFor(t *testing.T) {
	t.Parallel()
	h := newHost(t, "REBOOT_STRATEGY=reboot\n")
	must.Do(t, h.AddScript(hooks.MayReboot, "10-backup", "#!/bin/sh\n"))
	told := make(chan string, 100)
	h.Logind.SetUnit("locksmith-may-reboot.service", bustest.Unit{Run: func(context.Context) (int, string) {
		data, err := os.ReadFile(h.Path("/run/locksmith/hooks.env"))
		if err != nil {
			return 1, err.Error()
		}
		told <- string(data)
		return 1, "10-backup: a backup runs"
	}})
	h.startPending()
	want := `LOCKSMITH_PHASE="may-reboot"
LOCKSMITH_GROUP=""
LOCKSMITH_VERSION="4081.2.0"
LOCKSMITH_REASON="a reboot is needed: update_engine"
LOCKSMITH_MACHINE_ID="` + h.id + `"
`
	if got := must.Receive(t, patience, "the question", told); got != want {
		t.Errorf("the scripts are told\n%s\nwant\n%s", got, want)
	}
	h.awaitStatus("may-reboot.d", "10-backup: a backup runs")
	h.wantNoReboot()
}

// The scripts of the host's folders really run, told what the reboot was for, and the status shows the first line of
// one that fails.
func TestHostWhoseScriptFailsAfterTheRebootIsUnwellUntilTheFix(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf()+"LOCKSMITHD_HEALTH_TIMEOUT=5s\n", func(o *simhost.Options) { o.Locksmithctl = locksmithctl() })
	must.Do(t, h.AddScript(hooks.AfterReboot, "10-smoke", `#!/bin/sh
. "${0%/*}/../../os-release"
[ "$VERSION_ID" = 4081.2.1 ] || { echo "$LOCKSMITH_PHASE of $LOCKSMITH_VERSION: the service answers 503"; exit 1; }
`))
	must.Do(t, h.SetOSVersion("4081.1.0"))
	h.startPending()
	h.awaitReboot()
	must.Do(t, h.Halt())
	must.Do(t, h.SetOSVersion("4081.2.0"))
	must.Do(t, h.Boot())
	h.awaitStatus("unwell", "locksmith-after-reboot.service failed with exit status 1: 10-smoke: after-reboot of 4081.2.0: the service answers 503")
	g.awaitHolders(h.id)
	must.Do(t, h.Engine.Announce(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: "4081.2.1"}))
	h.awaitReboot()
	must.Do(t, h.Halt())
	must.Do(t, h.SetOSVersion("4081.2.1"))
	must.Do(t, h.Boot())
	g.awaitHolders()
	h.awaitIdle()
}

// A daemon that is killed while the host is drained leaves that to the next one, which undoes it before anything else,
// with the slot.
func TestDrainOfADaemonThatWasKilledIsUndone(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	ran := make(chan string, 10)
	var hangs atomic.Bool
	hangs.Store(true)
	for _, phase := range []string{"before-reboot", "reboot-cancelled"} {
		service := "locksmith-" + phase + ".service"
		h.Logind.SetUnit(service, bustest.Unit{Run: func(ctx context.Context) (int, string) {
			ran <- phase
			if hangs.Load() {
				<-ctx.Done()
				return 1, "10-drain: it was stopped"
			}
			return 0, ""
		}})
		h.Logind.SetUnit("drain.service", bustest.Unit{})
		h.Logind.SetUnit("locksmith-"+phase+".target", bustest.Unit{Requires: []string{service, "drain.service"}})
	}
	h.startPending()
	next := func(want string) {
		t.Helper()
		if got := must.Receive(t, patience, want, ran); got != want {
			t.Fatalf("%s runs, want %s", got, want)
		}
	}
	next("before-reboot")
	h.Daemon().Kill()
	hangs.Store(false)
	h.start()
	next("reboot-cancelled")
	next("before-reboot")
	h.awaitReboot()
	g.wantHeldThroughout(h.id)
	h.reboot()
	g.awaitHolders()
	h.awaitIdle()
}
