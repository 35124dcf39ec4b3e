package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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

// TestWholeProtocolNeedsOnlyTheRoleThatIsDocumented does all that hosts and operators do as a user who may read and
// write only the keys that docs/operations.md names, and all that changes nothing as a user who may only read them.
func TestWholeProtocolNeedsOnlyTheRoleThatIsDocumented(t *testing.T) {
	t.Parallel()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			server := etcdtest.MustStart(t, v, etcdtest.Options{})
			password := passwordFile(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			must.Do(t, server.EnableAuth(ctx))
			root, err := server.Client()
			must.Do(t, err)
			for _, role := range []string{"locksmith", "locksmith-viewer", "locksmith-lb"} {
				addRole(ctx, t, root, role)
			}
			user := func(args ...string) []string {
				return append([]string{"-etcd-username=locksmith", "-etcd-password-file=" + password}, args...)
			}
			viewer := func(args ...string) []string {
				return append([]string{"-etcd-username=locksmith-viewer", "-etcd-password-file=" + password}, args...)
			}
			// can runs a command that must succeed and print want.
			can := func(args []string, want string) {
				t.Helper()
				if r := runOne(t, server, args...); r.code != 0 || !strings.Contains(r.stdout, want) {
					t.Errorf("%v exits with %d, prints %q and says %q; want %q", args, r.code, r.stdout, r.stderr, want)
				}
			}
			// cannot runs a command of the viewer that must be refused.
			cannot := func(args []string) {
				t.Helper()
				r := runOne(t, server, args...)
				if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, `user "locksmith-viewer" needs permission to read and write all keys below coreos.com/updateengine/rebootlock/`) {
					t.Errorf("%v exits with %d, prints %q and says %q", args, r.code, r.stdout, r.stderr)
				}
			}

			store := etcd.New(etcd.Config{Endpoints: server.Endpoint(), Username: "locksmith", Password: "sesame"})
			defer store.Close()
			host := func() *lock.Lock {
				l, err := lock.New(store, "", 1)
				must.Do(t, err)
				return l
			}

			// The first host takes a slot with a time-to-live, and others queue.
			dead := lock.Record{Hostname: "web-1", BootID: "1", Since: time.Now(), By: "locksmithd", TTL: time.Minute}
			must.Do(t, host().Acquire(ctx, "dead", dead, nil))
			b := start(t, server, user("lock", "-wait", "b")...)
			b.expect("first in the queue")
			c := start(t, server, user("lock", "-wait", "c")...)
			c.expect("behind b")
			watched := start(t, server, viewer("status", "-watch")...)
			watched.expect("0 of 1 available; 2 waiting")
			can(user("status", "-o", "wide"), "\n2      c  ")
			can(viewer("status", "-o", "wide"), "\n2      c  ")
			can(viewer("status"), "Available: 0\nMax: 1\n\nMACHINE ID\ndead\n")
			can(viewer("status", "-all-groups"), "\n(default)  0 ")

			// The time is over: the head of the queue takes the slot away.
			alive, err := root.Get(ctx, keys+"/alive/dead")
			if err != nil || len(alive.Kvs) != 1 {
				t.Fatal(alive, err)
			}
			_, err = root.Revoke(ctx, clientv3.LeaseID(alive.Kvs[0].Lease))
			must.Do(t, err)
			if b.exit(0); t.Failed() {
				return
			}

			// While the lock is paused, nobody takes a slot. Those who wait can leave.
			can(user("pause", "-for=1h", "-reason=why"), ": why\n")
			can(user("unlock", "b"), "")
			c.expect("paused by .*: why")
			can(user("resume"), "Was paused: ")
			c.exit(0)
			d := start(t, server, user("lock", "-wait", "d")...)
			d.expect("first in the queue")
			d.interrupt()
			d.exit(1)
			can(user("pause", "-all-groups"), "Paused: all groups")
			cannot(viewer("resume", "-all-groups"))
			can(user("resume", "-all-groups"), "Was paused: ")
			can(user("-group=prod/database", "set-max", "3"), "Old: 1\nNew: 3\n")
			can(viewer("status", "-all-groups", "-o=json"), `"group": "prod/database"`)

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
			must.Do(t, awaitQueue(root, nil))

			// Operators free expired slots, and wait until all hosts are done.
			can(user("unlock", "c"), "")
			_, err = host().TryAcquire(ctx, "dead", dead)
			must.Do(t, err)
			if _, err := root.Delete(ctx, keys+"/alive/dead"); err != nil {
				t.Fatal(err)
			}
			unlocked := runOne(t, server, viewer("unlock", "-expired", "-yes")...)
			if unlocked.code != 1 || !strings.Contains(unlocked.stdout, "\ndead ") {
				t.Errorf("%+v", unlocked)
			}
			done := start(t, server, viewer("wait")...)
			can(user("unlock", "-expired", "-yes"), "\ndead ")
			if got := done.exit(0); got != "" {
				t.Errorf("wait says %q", got)
			}
			watched.expect("1 of 1 available; 0 waiting; reboots: ")

			// A host that may use only the lock of its group, and see whether all groups are paused.
			confined := func(args ...string) []string {
				return append([]string{"-etcd-username=locksmith-lb", "-etcd-password-file=" + password}, args...)
			}
			can(confined("-group=lb", "lock", "a"), "")
			e := start(t, server, confined("-group=lb", "lock", "-wait", "e")...)
			e.expect("first in the queue")
			can(user("pause", "-all-groups"), "Paused: all groups")
			e.expect("all groups are paused by ")
			can(user("resume", "-all-groups"), "Was paused: ")
			can(confined("-group=lb", "pause"), "Paused: ")
			can(confined("-group=lb", "resume"), "Was paused: ")
			can(confined("-group=lb", "unlock", "a"), "")
			e.exit(0)
			can(confined("-group=lb", "unlock", "e"), "")
			can(confined("-group=lb", "wait"), "")
			for _, args := range [][]string{{"lock", "x"}, {"status"}, {"-group=l", "status"}, {"-group=lb2", "status"}, {"-group=lb", "pause", "-all-groups"}} {
				if r := runOne(t, server, confined(args...)...); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "needs permission") {
					t.Errorf("%v exits with %d, prints %q and says %q", args, r.code, r.stdout, r.stderr)
				}
			}

			// The viewer changes nothing.
			for _, args := range [][]string{{"lock", "x"}, {"lock", "-wait", "x"}, {"set-max", "9"}, {"pause"}, {"pause", "-for=1h"}, {"pause", "-all-groups"}} {
				cannot(viewer(args...))
			}
			if r := runOne(t, server, viewer("unlock", "x")...); r.code != 1 {
				t.Errorf("%+v", r)
			}
			must.Do(t, awaitQueue(root, nil))
			if s := semaphore(t, server); s.Max != 1 || len(s.Holders) != 0 {
				t.Errorf("left is %+v", s)
			}
		})
	}
}

// passwordFile returns the path of a file with the password of the users.
func passwordFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(path, []byte("sesame\n"), 0o600))
	return path
}
