package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/internal/inventory"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// addRole adds a role with the grants of docs/operations.md, and a user of that name.
func addRole(ctx context.Context, t *testing.T, root *clientv3.Client, role string) {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	must.Do(t, err)
	command := regexp.MustCompile(`(?m)^    etcdctl role grant-permission ` + role + `( --prefix=true)? (read|readwrite) (\S+)$`)
	grants := command.FindAllStringSubmatch(string(text), -1)
	if len(grants) == 0 {
		t.Fatalf("nothing is granted to %s", role)
	}
	_, err = root.RoleAdd(ctx, role)
	for _, g := range grants {
		end := ""
		if g[1] != "" {
			end = clientv3.GetPrefixRangeEnd(g[3])
		}
		permission := clientv3.PermissionType(clientv3.PermRead)
		if g[2] == "readwrite" {
			permission = clientv3.PermissionType(clientv3.PermReadWrite)
		}
		_, failed := root.RoleGrantPermission(ctx, role, g[3], end, permission)
		err = errors.Join(err, failed)
	}
	_, failed := root.UserAdd(ctx, role, "sesame")
	err = errors.Join(err, failed)
	_, failed = root.UserGrantRole(ctx, role, role)
	must.Do(t, errors.Join(err, failed))
}

// protectedEtcd is an etcd that asks for passwords, with the users that docs/operations.md describes.
type protectedEtcd struct {
	*testing.T
	server   *etcdtest.Server
	root     *clientv3.Client
	password string // the file with the password of all users
}

// as returns a function that adds a user to the arguments of a command.
func (p *protectedEtcd) as(user string) func(args ...string) []string {
	return func(args ...string) []string {
		return append([]string{"-etcd-username=" + user, "-etcd-password-file=" + p.password}, args...)
	}
}

// can runs a command that must succeed and print want.
func (p *protectedEtcd) can(args []string, want string) {
	p.Helper()
	if r := runOne(p.T, p.server, args...); r.code != 0 || !strings.Contains(r.stdout, want) {
		p.Errorf("%v exits with %d, prints %q and says %q; want %q", args, r.code, r.stdout, r.stderr, want)
	}
}

// cannot runs a command that must be refused, for a reason.
func (p *protectedEtcd) cannot(args []string, reason string) {
	p.Helper()
	if r := runOne(p.T, p.server, args...); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, reason) {
		p.Errorf("%v exits with %d, prints %q and says %q; want %q", args, r.code, r.stdout, r.stderr, reason)
	}
}

// viewerMayNot is why a viewer's command is refused.
const viewerMayNot = `user "locksmith-viewer" needs permission to read and write all keys below coreos.com/updateengine/rebootlock/`

// TestWholeProtocolNeedsOnlyTheRoleThatIsDocumented does all that hosts and operators do as a user who may read and
// write only the keys that docs/operations.md names, and all that changes nothing as a user who may only read them.
func TestWholeProtocolNeedsOnlyTheRoleThatIsDocumented(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, v, etcdtest.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			must.Do(t, server.EnableAuth(ctx))
			p := &protectedEtcd{t, server, clientOf(t, server), passwordFile(t)}
			for _, role := range []string{"locksmith", "locksmith-viewer", "locksmith-lb"} {
				addRole(ctx, t, p.root, role)
			}
			p.testHostsAndOperators(ctx)
			p.testHostOfOneGroup()
			p.testServerOfOneGroup()
			p.testViewer()
			must.Do(t, awaitQueue(p.root, nil))
			if s := semaphore(t, server); s.Max != 1 || len(s.Holders) != 0 {
				t.Errorf("left is %+v", s)
			}
		})
	}
}

// testHostsAndOperators does all that hosts and operators do, while a viewer watches.
func (p *protectedEtcd) testHostsAndOperators(ctx context.Context) {
	t, user, viewer := p.T, p.as("locksmith"), p.as("locksmith-viewer")
	store := etcd.New(etcd.Config{Endpoints: p.server.Endpoint(), Username: "locksmith", Password: "sesame"})
	defer store.Close()
	host := func() *lock.Lock {
		l, err := lock.New(store, "", 1)
		must.Do(t, err)
		return l
	}

	// The first host takes a slot with a time-to-live, and others queue.
	dead := lock.Record{Hostname: "web-1", BootID: "1", Since: time.Now(), By: "locksmithd", TTL: time.Minute}
	must.Do(t, host().Acquire(ctx, "dead", dead, nil))
	b := start(t, p.server, user("lock", "-wait", "b")...)
	b.expect("first in the queue")
	c := start(t, p.server, user("lock", "-wait", "c")...)
	c.expect("behind b")
	watched := start(t, p.server, viewer("status", "-watch")...)
	watched.expect("0 of 1 available; 2 waiting")
	p.can(user("status", "-o", "wide"), "\n2      c  ")
	p.can(viewer("status", "-o", "wide"), "\n2      c  ")
	p.can(viewer("status"), "Available: 0\nMax: 1\n\nMACHINE ID\ndead\n")
	p.can(viewer("status", "-all-groups"), "\n(default)  0 ")

	// Each host keeps a record, which others see.
	own, err := inventory.New(store, "")
	must.Do(t, err)
	must.Do(t, own.Put(ctx, inventory.Host{ID: "b", Hostname: "web-2", State: inventory.Locking}))
	must.Do(t, own.Put(ctx, inventory.Host{ID: "gone", Hostname: "web-9", State: inventory.Idle}))
	p.can(viewer("hosts"), "\nweb-2 ")
	p.can(viewer("hosts", "-all-groups", "-o=json"), `"hostname": "web-2"`)
	seen := start(t, p.server, viewer("hosts", "-watch")...)
	seen.expect("web-9")
	if r := runOne(t, p.server, viewer("hosts", "forget", "gone")...); r.code != 1 || !strings.Contains(r.stderr, viewerMayNot) {
		t.Errorf("%+v", r)
	}
	p.can(user("hosts", "forget", "gone"), "Forgotten: gone")
	seen.expect("not among these hosts any more")
	seen.interrupt()
	seen.exit(0)

	// The time is over: the head of the queue takes the slot away.
	alive, err := p.root.Get(ctx, keys+"/alive/dead")
	if err != nil || len(alive.Kvs) != 1 {
		t.Fatal(alive, err)
	}
	_, err = p.root.Revoke(ctx, clientv3.LeaseID(alive.Kvs[0].Lease))
	must.Do(t, err)
	if b.exit(0); t.Failed() {
		t.FailNow()
	}

	// While the lock is paused, nobody takes a slot. Those who wait can leave.
	p.can(user("pause", "-for=1h", "-reason=why"), ": why\n")
	p.can(user("unlock", "b"), "")
	c.expect("paused by .*: why")
	p.can(user("resume"), "Was paused: ")
	c.exit(0)
	d := start(t, p.server, user("lock", "-wait", "d")...)
	d.expect("first in the queue")
	d.interrupt()
	d.exit(1)
	p.can(user("pause", "-all-groups"), "Paused: all groups")
	p.cannot(viewer("resume", "-all-groups"), viewerMayNot)
	p.can(user("resume", "-all-groups"), "Was paused: ")
	p.can(user("-group=prod/database", "set-max", "3"), "Old: 1\nNew: 3\n")
	p.can(viewer("status", "-all-groups", "-o=json"), `"group": "prod/database"`)

	// What airlock has can be read, to be taken over.
	_, err = p.root.Put(ctx, "com.coreos.airlock/groups/spare/v1/semaphore", `{"total_slots":2,"holders":[]}`)
	must.Do(t, err)
	p.can(user("import", "airlock"), "create the lock, with max 2")
	p.cannot(viewer("import", "airlock"), "needs permission")

	// A lease is kept alive, and revoked with the keys attached to it.
	lease, err := store.Grant(ctx, time.Minute)
	must.Do(t, err)
	key := keys + "/queue/kept"
	if ok, _, err := store.Commit(ctx, nil, []lock.Op{{Key: key, Value: []byte("{}"), Lease: lease}}); !ok {
		t.Fatal(err)
	}
	if err := store.KeepAlive(ctx, lease); err != nil {
		t.Error(err)
	}
	if err := store.Revoke(ctx, lease); err != nil {
		t.Error(err)
	}
	if err := store.KeepAlive(ctx, lease); !errors.Is(err, lock.ErrNoLease) {
		t.Errorf("a revoked lease can be kept alive: %v", err)
	}
	must.Do(t, awaitQueue(p.root, nil))

	// Operators free expired slots, and wait until all hosts are done.
	p.can(user("unlock", "c"), "")
	_, err = host().TryAcquire(ctx, "dead", dead)
	must.Do(t, err)
	if _, err := p.root.Delete(ctx, keys+"/alive/dead"); err != nil {
		t.Fatal(err)
	}
	unlocked := runOne(t, p.server, viewer("unlock", "-expired", "-yes")...)
	if unlocked.code != 1 || !strings.Contains(unlocked.stdout, "\ndead ") {
		t.Errorf("%+v", unlocked)
	}
	done := start(t, p.server, viewer("wait")...)
	p.can(user("unlock", "-expired", "-yes"), "\ndead ")
	if got := done.exit(0); got != "" {
		t.Errorf("wait says %q", got)
	}
	watched.expect("1 of 1 available; 0 waiting; reboots: ")
}

// testHostOfOneGroup is about a host that may use only the lock of its group, and see whether all groups are paused.
func (p *protectedEtcd) testHostOfOneGroup() {
	t, user, confined := p.T, p.as("locksmith"), p.as("locksmith-lb")
	p.can(confined("-group=lb", "lock", "a"), "")
	store := etcd.New(etcd.Config{Endpoints: p.server.Endpoint(), Username: "locksmith-lb", Password: "sesame"})
	defer store.Close()
	for group, allowed := range map[string]bool{"lb": true, "": false, "lb2": false} {
		records, err := inventory.New(store, group)
		must.Do(t, err)
		err = records.Put(t.Context(), inventory.Host{ID: "x", Hostname: "lb-1", State: inventory.Idle})
		if allowed && err != nil || !allowed && !errors.Is(err, lock.ErrRefused) {
			t.Errorf("a record in group %q: %v", group, err)
		}
	}
	p.can(confined("-group=lb", "hosts"), "\nlb-1 ")
	p.cannot(confined("hosts"), "needs permission")
	p.can(confined("-group=lb", "hosts", "forget", "x"), "Forgotten: x")
	e := start(t, p.server, confined("-group=lb", "lock", "-wait", "e")...)
	e.expect("first in the queue")
	p.can(user("pause", "-all-groups"), "Paused: all groups")
	e.expect("all groups are paused by ")
	p.can(user("resume", "-all-groups"), "Was paused: ")
	p.can(confined("-group=lb", "pause"), "Paused: ")
	p.can(confined("-group=lb", "resume"), "Was paused: ")
	p.can(confined("-group=lb", "unlock", "a"), "")
	e.exit(0)
	p.can(confined("-group=lb", "unlock", "e"), "")
	p.can(confined("-group=lb", "wait"), "")
	for _, args := range [][]string{{"lock", "x"}, {"status"}, {"-group=l", "status"}, {"-group=lb2", "status"}, {"-group=lb", "pause", "-all-groups"}} {
		p.cannot(confined(args...), "needs permission")
	}
}

// testServerOfOneGroup is about a server that may use only the lock of its group.
func (p *protectedEtcd) testServerOfOneGroup() {
	t, client := p.T, newClient(nil)
	s := serve(t, p.server, map[string]string{"lb.conf": ""}, p.as("locksmith-lb")()...)
	code, _ := s.get(t, client, "/-/ready")
	want(t, "a server of one group", code, "", 200, "")
	for _, operation := range []string{"pre-reboot", "steady-state"} {
		code, kind := s.ask(t, client, operation, "lb", "a")
		want(t, operation, code, kind, 200, "")
	}
	must.Do(t, s.Signal(syscall.SIGTERM))
	s.exit(0)
}

// testViewer is about a user who may change nothing.
func (p *protectedEtcd) testViewer() {
	viewer := p.as("locksmith-viewer")
	for _, args := range [][]string{{"lock", "x"}, {"lock", "-wait", "x"}, {"set-max", "9"}, {"pause"}, {"pause", "-for=1h"}, {"pause", "-all-groups"}} {
		p.cannot(viewer(args...), viewerMayNot)
	}
	if r := runOne(p.T, p.server, viewer("unlock", "x")...); r.code != 1 {
		p.Errorf("%+v", r)
	}
}

// passwordFile returns the path of a file with the password of the users.
func passwordFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(path, []byte("sesame\n"), 0o600))
	return path
}
