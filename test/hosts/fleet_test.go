package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/test/must"
)

// fleet is a group of hosts with one lock, seen from outside.
type fleet struct {
	t         testing.TB
	group     string
	endpoints []string
	client    *clientv3.Client
	hosts     []*host
}

// newFleet returns a fleet without hosts, whose lock is in the etcd that the tests share.
func newFleet(t testing.TB) *fleet {
	t.Helper()
	shared.Do(func() { shared.endpoint = startEtcd(t, "http", 2379) })
	return newFleetAt(t, shared.endpoint)
}

func newFleetAt(t testing.TB, endpoints ...string) *fleet {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	must.Do(t, err)
	t.Cleanup(func() { client.Close() })
	return &fleet{t: t, group: "fleet-" + machineID()[:12], endpoints: endpoints, client: client}
}

// startFleet makes a fleet of n hosts, and waits until they are up and idle.
func startFleet(t testing.TB, n int, more ...string) *fleet {
	t.Helper()
	f := newFleet(t)
	f.add(n, more...)
	f.start()
	return f
}

// startOne makes a fleet of one host, and waits until it is up and idle.
func startOne(t testing.TB, more ...string) (*fleet, *host) {
	t.Helper()
	f := startFleet(t, 1, more...)
	return f, f.hosts[0]
}

// startQueued makes a fleet of two hosts that wait for the slot of other: first, and second behind it.
func startQueued(t testing.TB) (f *fleet, first, second *host, other string) {
	t.Helper()
	f = startFleet(t, 2)
	first, second, other = f.hosts[0], f.hosts[1], machineID()
	first.do("locksmithctl", "lock", other)
	first.announce("4081.2.0")
	first.awaitStatus("waiting for a slot", "held by "+other)
	second.announce("4081.2.0")
	second.awaitStatus("waiting for a slot", "in the queue behind "+first.id)
	return f, first, second, other
}

// holdForUser makes a host of the fleet hold a slot and wait for a user, op, who is logged in.
func (f *fleet) holdForUser(h *host) {
	h.t.Helper()
	h.login("op")
	h.announce("4081.2.0")
	h.awaitStatus("users are logged in (op)")
	f.awaitHolders(h)
}

// conf returns an update.conf for the hosts of the fleet.
func (f *fleet) conf(more ...string) string {
	return fmt.Sprintf("REBOOT_STRATEGY=etcd-lock\nLOCKSMITHD_GROUP=%s\nLOCKSMITHD_ENDPOINT=%s\n%s\n",
		f.group, strings.Join(f.endpoints, ","), strings.Join(more, "\n"))
}

// add makes hosts of the fleet, which are off.
func (f *fleet) add(n int, more ...string) {
	f.t.Helper()
	for range n {
		f.hosts = append(f.hosts, newHost(f.t, f.conf(more...)))
	}
}

// start switches all hosts on, and waits until they are up and idle.
func (f *fleet) start() {
	f.t.Helper()
	for _, h := range f.hosts {
		h.powerOn()
	}
	for _, h := range f.hosts {
		h.awaitUp()
		h.awaitStatus("idle")
	}
}

// semaphore is the document in etcd.
type semaphore struct {
	Free    int      `json:"semaphore"`
	Max     int      `json:"max"`
	Holders []string `json:"holders"`
}

// read returns the document, or the zero one if there is none.
func (f *fleet) read() (semaphore, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	r, err := f.client.Get(ctx, "coreos.com/updateengine/rebootlock/groups/"+f.group+"/semaphore")
	if err != nil || len(r.Kvs) == 0 {
		return semaphore{}, err
	}
	var s semaphore
	return s, json.Unmarshal(r.Kvs[0].Value, &s)
}

// awaitHolders waits until exactly these hosts hold a slot.
func (f *fleet) awaitHolders(holders ...*host) {
	f.t.Helper()
	var want []string
	for _, h := range holders {
		want = append(want, h.id)
	}
	slices.Sort(want)
	var got semaphore
	must.Eventually(f.t, patience, fmt.Sprintf("the holders %v", want), func() bool {
		var err error
		got, err = f.read()
		must.Do(f.t, err)
		return slices.Equal(got.Holders, want)
	})
}

// others returns the other hosts of the fleet.
func (f *fleet) others(but *host) []*host {
	return slices.DeleteFunc(slices.Clone(f.hosts), func(h *host) bool { return h == but })
}

// roll makes every host need a reboot, and waits until all have rebooted and no slot is held.
func (f *fleet) roll() {
	f.t.Helper()
	var before []*boot
	for _, h := range f.hosts {
		before = append(before, h.awaitUp())
	}
	for _, h := range f.hosts {
		h.announce("4081.2.0")
	}
	for i, h := range f.hosts {
		h.awaitReboot(before[i])
	}
	f.awaitHolders()
}
