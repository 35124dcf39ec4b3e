package processes

import (
	"encoding/json"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/updateconf"
)

// said returns the record of a host, and whether there is one.
func (g *group) said(h *host) (r inventory.Host, found bool) {
	g.t.Helper()
	response, err := g.client.Get(soon(g.t), g.prefix+"/fleet/"+h.id)
	must.Do(g.t, err)
	if len(response.Kvs) == 0 {
		return r, false
	}
	must.Do(g.t, json.Unmarshal(response.Kvs[0].Value, &r))
	return r, true
}

// awaitRecord waits for a record in a state. A host writes it up to ten seconds after a change.
func (g *group) awaitRecord(h *host, state inventory.State, waitsFor string) (r inventory.Host) {
	g.t.Helper()
	must.Eventually(g.t, patience, fmt.Sprintf("a record that is %s (%s)", state, waitsFor), func() bool {
		var found bool
		r, found = g.said(h)
		return found && r.State == state && r.WaitsFor == waitsFor
	})
	return r
}

// awaitNoRecord waits until a group has no record of a host.
func (g *group) awaitNoRecord(h *host) {
	g.t.Helper()
	must.Eventually(g.t, patience, "the end of a record", func() bool { _, found := g.said(h); return !found })
}

func TestHostSaysInEtcdWhatItDoes(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	g := newGroup(t, s)
	g.lock("other")
	p := etcdtest.MustProxy(t, s)
	h := newHost(t, g.confAt(p.Endpoint(), "LOCKSMITHD_INVENTORY=true", updateconf.ShutWindow()))
	must.Do(t, h.SetOSVersion("4080.0.0"))
	h.start()
	r := g.awaitRecord(h, inventory.Idle, "")
	if r.OSVersion != "4080.0.0" || r.Hostname == "" || r.Locksmith == "" || r.Booted.IsZero() || r.Need != nil || r.Last != nil || r.Window == nil || r.Opens.IsZero() {
		t.Errorf("the record of an idle host is %+v", r)
	}
	disconnected(t, p)

	h.announce()
	if r = g.awaitRecord(h, inventory.Waiting, "window"); r.Need == nil || r.Need.Version != needReboot.NewVersion {
		t.Errorf("the record of a host that waits for its window is %+v", r)
	}
	h.reload(g.confAt(p.Endpoint(), "LOCKSMITHD_INVENTORY=true", updateconf.OpenWindow()))
	g.awaitRecord(h, inventory.Locking, "slot")
	must.Do(t, h.Logind.SetSessions(someUser))
	g.unlock("other")
	h.awaitStatus("users are logged in")
	g.awaitRecord(h, inventory.Preparing, "users")
	must.Do(t, h.Logind.SetSessions())
	h.awaitReboot()

	h.Engine.Set(idle)
	must.Do(t, h.SetOSVersion(needReboot.NewVersion))
	h.reboot()
	g.awaitHolders()
	r = g.awaitRecord(h, inventory.Idle, "")
	if l := r.Last; l == nil || !l.Well || l.Version != needReboot.NewVersion || l.Took <= 0 || r.OSVersion != needReboot.NewVersion || r.Need != nil {
		t.Errorf("after the reboot the record is %+v, the last reboot %+v", r, r.Last)
	}
	disconnected(t, p)
}

// A reload moves the record, or removes it.
func TestReloadMovesAndRemovesTheRecord(t *testing.T) {
	t.Parallel()
	s := sharedEtcd(t, etcdtest.Newest)
	g, other := newGroup(t, s), newGroup(t, s)
	h := startHost(t, g.conf())
	g.awaitRecord(h, inventory.Idle, "")
	h.reload(other.conf())
	other.awaitRecord(h, inventory.Idle, "")
	g.awaitNoRecord(h)
	h.reload(other.conf("LOCKSMITHD_INVENTORY=false"))
	other.awaitNoRecord(h)
	elsewhere := newGroup(t, etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{}))
	h.reload(elsewhere.conf())
	elsewhere.awaitRecord(h, inventory.Idle, "")
	h.reload("REBOOT_STRATEGY=reboot\n")
	elsewhere.awaitNoRecord(h)
	if n := h.logged("level=WARN"); n > 0 {
		t.Errorf("%d warnings", n)
	}
}

// A host that may use the lock and write no record says so once, and reboots.
func TestHostThatMayNotWriteItsRecordReboots(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	readWrite := clientv3.PermissionType(clientv3.PermReadWrite)
	name := groupName()
	prefix := "coreos.com/updateengine/rebootlock/groups/" + name
	must.Do(t, s.EnableAuth(soon(t), etcdtest.User{Name: "locksmith", Password: "sesame", Prefix: prefix + "/semaphore", Permission: readWrite}))
	root, err := s.Client()
	must.Do(t, err)
	grants, err := root.UserGet(soon(t), "locksmith")
	must.Do(t, err)
	grant := func(key, end string) {
		t.Helper()
		_, err := root.RoleGrantPermission(soon(t), grants.Roles[0], key, end, readWrite)
		must.Do(t, err)
	}
	for _, below := range []string{"/holders/", "/alive/", "/queue/", "/order/", "/unwell/", "/pause", "/imported"} {
		grant(prefix+below, clientv3.GetPrefixRangeEnd(prefix+below))
	}
	grant("coreos.com/updateengine/rebootlock/pause-all", "")
	g := watchGroup(t, s, name)
	h := startHost(t, g.conf("LOCKSMITHD_ETCD_USERNAME=locksmith", "LOCKSMITHD_ETCD_PASSWORD=sesame"))
	h.awaitLog("the inventory of the fleet does not know what this host does", "LOCKSMITHD_INVENTORY=false")
	h.announce()
	h.awaitReboot()
	if n := h.logged("the inventory of the fleet"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}
