package processes

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/race"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// reloadAll gives all hosts an update.conf, and waits until it is in force.
func reloadAll(fleet []*host, conf string) {
	const inForce = "the new configuration is in force"
	before := make([]int, len(fleet))
	for i, h := range fleet {
		before[i] = h.logged(inForce)
		h.reload(conf)
	}
	for i, h := range fleet {
		h.await(inForce, func() bool { return h.logged(inForce) > before[i] })
	}
}

// shutByTheClock gives all hosts, which are in the queue, a window that shuts soon, and returns before it shuts.
func shutByTheClock(t testing.TB, g *group, fleet []*host) {
	t.Helper()
	for notice := 5 * time.Second; ; notice *= 2 {
		shuts := time.Now().Add(notice).Truncate(time.Second)
		open := func() bool { return time.Now().Before(shuts) }
		reloadAll(fleet, g.conf(updateconf.WindowUntil(shuts)))
		must.Eventually(t, patience, "the whole fleet in the queue", func() bool { return len(g.queued()) == len(fleet) || !open() })
		if len(g.queued()) == len(fleet) && open() {
			return
		}
		t.Logf("%s is too short for %d hosts on this machine", notice, len(fleet))
	}
}

// wantLeases checks the number of leases in etcd, and that every lease that is gone was revoked and none has
// expired.
func wantLeases(t testing.TB, s *etcdtest.Server, g *group, n int) {
	t.Helper()
	leases, err := g.client.Leases(soon(t))
	must.Do(t, err)
	if got := len(leases.Leases); got != n {
		t.Errorf("etcd has %d leases, want %d", got, n)
	}
	response, err := http.Get(s.Endpoint() + "/metrics")
	must.Do(t, err)
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	must.Do(t, err)
	const expired = "\netcd_debugging_server_lease_expired_total "
	if !strings.Contains(string(metrics), expired+"0\n") {
		_, after, _ := strings.Cut(string(metrics), expired)
		count, _, _ := strings.Cut(after, "\n")
		t.Errorf("expired leases: %q, want 0", count)
	}
}

// A whole fleet leaves the queue when its window shuts: hosts leave together with those ahead of and behind them.
// (A window opens at a whole minute, so here a change of the configuration opens it.) The test is not parallel,
// because it would slow others down.
func TestHundredsOfHostsLeaveTheQueueWhenTheWindowShutsAndQueueAgainWhenItIsOpened(t *testing.T) {
	n := 200
	if race.Enabled {
		n = 40 // the programs take many times as much memory
	}
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	g := newGroup(t, s)
	if !g.lock("other") {
		t.Fatal("no slot is free")
	}
	var fleet []*host
	byID := map[string]*host{}
	for len(fleet) < n {
		for range 20 {
			h := startPending(t, g.conf(updateconf.OpenWindow()))
			fleet = append(fleet, h)
			byID[h.id] = h
		}
		g.awaitQueue(len(fleet))
	}
	for _, h := range fleet {
		h.awaitStatus("waiting for a slot")
	}

	shutByTheClock(t, g, fleet)
	g.awaitQueue(0)
	for _, h := range fleet {
		h.awaitStatus("for the reboot window, which opens")
	}
	wantLeases(t, s, g, 0)

	// The slot is free now. No host that had waited takes it, though a new host has time to.
	g.unlock("other")
	canary := startPending(t, g.conf(updateconf.OpenWindow()))
	canary.awaitReboot()
	g.awaitHolders(canary.id)
	canary.reboot()
	g.wantEmpty()
	g.wantOrder("other", canary.id)

	if !g.lock("other") {
		t.Fatal("the slot is not free")
	}
	reloadAll(fleet, g.conf(updateconf.OpenWindow()))
	g.awaitQueue(n)
	for _, h := range fleet {
		h.awaitStatus("waiting for a slot")
	}
	wantLeases(t, s, g, n)

	// The queue still works.
	queue := g.queued()
	g.unlock("other")
	byID[queue[0]].awaitReboot()
	byID[queue[1]].awaitStatus("first in the queue", "held by "+queue[0])
	if now := g.queued(); !slices.Equal(now, queue[1:]) {
		t.Errorf("the queue is %v, want %v", now, queue[1:])
	}
	g.wantOrder("other", canary.id, "other", queue[0])
	for _, h := range fleet {
		h.wantNoReboot() // that of the first host was received above
		for _, level := range []string{"level=WARN", "level=ERROR"} {
			if h.logged(level) > 0 {
				t.Errorf("host %s has %s in its log:\n%s", h.id, level, h.Log())
			}
		}
	}
	must.Do(t, s.WaitHealthy(soon(t)))
	alarms, err := g.client.AlarmList(soon(t))
	must.Do(t, err)
	if len(alarms.Alarms) > 0 {
		t.Errorf("alarms of etcd: %v", alarms.Alarms)
	}
}

// The same for three hosts, without a change of the configuration: the window is open for the first half of every
// minute.
func TestHostsLeaveAndEnterTheQueueByTheClock(t *testing.T) {
	t.Parallel()
	g := newGroup(t, sharedEtcd(t, etcdtest.Newest))
	if !g.lock("other") {
		t.Fatal("no slot is free")
	}
	var fleet []*host
	for range 3 {
		fleet = append(fleet, startPending(t, g.conf("LOCKSMITHD_REBOOT_WINDOW_START=\"* * * * *\"", "LOCKSMITHD_REBOOT_WINDOW_LENGTH=30s")))
	}
	g.awaitQueue(len(fleet))
	for _, h := range fleet {
		h.awaitStatus("waiting for a slot", "until the reboot window shuts")
	}
	g.awaitQueue(0)
	for _, h := range fleet {
		h.awaitStatus("for the reboot window, which opens")
	}
	g.awaitQueue(len(fleet))
	g.wantOrder("other")
}
