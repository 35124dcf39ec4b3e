package processes

import (
	"testing"

	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// The daemon learns from GetStatus that a reboot is pending, since there may be no further signal.
func TestRebootPendingAtStart(t *testing.T) {
	t.Parallel()
	h := startPending(t, "")
	if call := h.awaitReboot(); call.Interactive {
		t.Error("logind may ask a user for a password")
	}
}

func TestOnlyUpdatedNeedRebootMeansThatARebootIsPending(t *testing.T) {
	t.Parallel()
	h := startHost(t, "")
	h.awaitIdle()
	for _, operation := range []string{
		"UPDATE_STATUS_CHECKING_FOR_UPDATE", "UPDATE_STATUS_UPDATE_AVAILABLE", "UPDATE_STATUS_DOWNLOADING",
		"UPDATE_STATUS_VERIFYING", "UPDATE_STATUS_FINALIZING", "UPDATE_STATUS_REPORTING_ERROR_EVENT",
		"UPDATE_STATUS_IDLE", "NEED_REBOOT", "UPDATE_STATUS_UPDATED_NEED_REBOOT ",
	} {
		must.Do(t, h.Engine.Announce(bustest.Status{Operation: operation, Progress: 0.5, NewVersion: "4081.2.0"}))
	}
	must.Do(t, h.Engine.Announce(bustest.Status{Operation: "UPDATE_STATUS_UPDATED_NEED_REBOOT", NewVersion: "the-last"}))
	h.awaitReboot()
	h.awaitStatus("for version the-last")
	if n := h.logged("from=idle"); n != 1 {
		t.Errorf("left idle %d times:\n%s", n, h.Log())
	}
}

// GetStatus still answers idle, which withdraws nothing.
func TestSendNeedRebootCountsWhileUpdateEngineIsIdle(t *testing.T) {
	t.Parallel()
	forOldestAndNewestEtcd(t, func(t *testing.T, s *etcdtest.Server) {
		g := newGroup(t, s)
		h := startHost(t, g.conf())
		h.awaitIdle()
		h.ctl("send-need-reboot")
		h.awaitReboot()
		g.awaitHolders(h.id)
		h.awaitLog("asked for", "by=", "uid 0")
	})
}

// send-need-reboot of 0.7 emits this, from a connection of its own.
func TestNeedRebootSignalWithZerosAndEmptyStringsCounts(t *testing.T) {
	t.Parallel()
	h := startHost(t, "")
	h.awaitIdle()
	conn := bustest.For(t).Connect(h.Bus)
	must.Do(t, conn.Emit("/com/coreos/update1", "com.coreos.update1.Manager.StatusUpdate",
		int64(0), float64(0), "UPDATE_STATUS_UPDATED_NEED_REBOOT", "", int64(0)))
	h.awaitReboot()
}

// Only update_engine, root and the configured groups are trusted.
func TestSignalOfAnotherUserIsIgnored(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.write("etc/group", "root:x:0:\nwheel:x:4711:\nsudo:x:4712:nobody\nusers:x:100:\n")
	h.start()
	h.awaitIdle()
	stranger := bustest.For(t).Stranger(h.Bus, bustest.Nobody, bustest.Nobody, 100)
	must.Do(t, stranger.EmitStatus(needReboot))
	h.awaitLog("level=WARN", "ignoring a status signal", "uid 65534")
	// To these two connections, past their match rules. They are the third and fourth on the bus.
	const signals, calls = ":1.2", ":1.3"
	must.Do(t, stranger.SendStatus(signals, needReboot))
	must.Do(t, stranger.SendStatus(calls, needReboot))
	must.Do(t, stranger.EmitStatus(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: "forged"}))
	// A trusted signal later shows that these had no effect.
	must.Do(t, h.Engine.Announce(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: "genuine"}))
	if call := h.awaitReboot(); call.Sender != calls {
		t.Errorf("locksmithd calls from connection %s, want %s", call.Sender, calls)
	}
	h.awaitStatus("for version genuine")
	if h.logged("from=idle") != 1 || h.logged("from=idle", "genuine") != 1 {
		t.Error("the daemon left idle for another signal than the trusted one")
	}
}

// The groups are wheel and sudo, or those in the configuration.
func TestMemberOfATriggerGroupIsTrusted(t *testing.T) {
	t.Parallel()
	const wheel, sudo, operators = 4711, 4712, 4713
	for name, test := range map[string]struct {
		conf    string
		gid     uint32
		groups  []uint32
		trusted bool
	}{
		"wheel":                      {gid: bustest.Nobody, groups: []uint32{100, wheel}, trusted: true},
		"sudo as primary group":      {gid: sudo, trusted: true},
		"another group":              {gid: bustest.Nobody, groups: []uint32{operators}},
		"another group that is set":  {conf: "LOCKSMITHD_TRIGGER_GROUPS=operators\n", gid: bustest.Nobody, groups: []uint32{operators}, trusted: true},
		"wheel when others are set":  {conf: "LOCKSMITHD_TRIGGER_GROUPS=operators\n", gid: wheel},
		"sudo when only root is set": {conf: "LOCKSMITHD_TRIGGER_GROUPS=root\n", gid: sudo},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, test.conf)
			h.write("etc/group", "root:x:0:\nwheel:x:4711:\nsudo:x:4712:\noperators:x:4713:\nusers:x:100:\n")
			h.start()
			h.awaitIdle()
			stranger := bustest.For(t).Stranger(h.Bus, bustest.Nobody, test.gid, test.groups...)
			must.Do(t, stranger.EmitStatus(needReboot))
			if test.trusted {
				h.awaitReboot()
				return
			}
			h.awaitLog("level=WARN", "ignoring a status signal")
			h.wantNoReboot()
			h.awaitIdle()
		})
	}
}

// A group that SIGHUP adds is trusted from then on.
func TestTriggerGroupsChangeWithTheConfiguration(t *testing.T) {
	t.Parallel()
	h := newHost(t, "LOCKSMITHD_TRIGGER_GROUPS=root\n")
	h.write("etc/group", "operators:x:4713:\n")
	h.start()
	h.awaitIdle()
	stranger := bustest.For(t).Stranger(h.Bus, bustest.Nobody, 4713)
	must.Do(t, stranger.EmitStatus(needReboot))
	h.awaitLog("level=WARN", "ignoring a status signal")
	h.reload("LOCKSMITHD_TRIGGER_GROUPS=operators\n")
	h.awaitLog("the new configuration is in force")
	must.Do(t, stranger.EmitStatus(needReboot))
	h.awaitReboot()
}

func TestMalformedSignalsAreIgnored(t *testing.T) {
	t.Parallel()
	h := startHost(t, "")
	h.awaitIdle()
	const need = bustest.OperationNeedReboot
	for _, values := range [][]any{
		{},
		{need},
		{int64(0), float64(0), need, ""},
		{int64(0), float64(0), need, "", int64(0), int64(0)},
		{int32(0), float64(0), need, "", int64(0)},
		{int64(0), float64(0), []string{need}, "", int64(0)},
		{int64(0), need, float64(0), "", int64(0)},
	} {
		must.Do(t, h.Engine.Emit(values...))
	}
	h.awaitLog("level=WARN", "malformed")
	must.Do(t, h.Engine.Announce(bustest.Status{Operation: need, NewVersion: "well-formed"}))
	h.awaitReboot()
	if h.logged("from=idle") != 1 || h.logged("from=idle", "well-formed") != 1 {
		t.Error("the daemon left idle for another signal than the well-formed one")
	}
}

func TestUpdateEngineAbsentAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	must.Do(t, h.Engine.Leave())
	h.start()
	h.awaitIdle()
	h.wantNoReboot()
	h.Engine.Set(needReboot) // without a signal: the daemon has to ask
	must.Do(t, h.Engine.Appear())
	h.awaitReboot()
}

// The release of a slot does not wait for update_engine endlessly.
func TestUpdateEngineAbsentKeepsNoSlot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	h := newHost(t, g.conf())
	must.Do(t, h.Engine.Leave())
	g.lock(h.id)
	g.record(h.id, h.bootID())
	h.start()
	g.awaitHolders()
	h.awaitIdle()
}

// update_engine does not answer, but its signals count.
func TestSilentUpdateEngineStillSignals(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.Engine.Hang("GetStatus")
	h.start()
	h.awaitIdle()
	h.announce()
	h.awaitReboot()
}
