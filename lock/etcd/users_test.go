package etcd_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

const readWrite = clientv3.PermissionType(clientv3.PermReadWrite)

// startWithUser starts an etcd with a user who may use the keys of the lock, and a proxy before it, and returns how that
// user connects by the proxy.
func startWithUser(ctx context.Context, t *testing.T, v etcdtest.Version) (*etcdtest.Server, *etcdtest.RPCProxy, etcd.Config) {
	t.Helper()
	s := etcdtest.MustStart(t, v, etcdtest.Options{})
	p := etcdtest.MustRPCProxy(t, s)
	must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite}))
	c := at(p.Endpoint())
	c.Username, c.Password = "locksmith", "secret"
	return s, p, c
}

func TestUsersOfEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx,
			etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite},
			etcdtest.User{Name: "reader", Password: "secret", Prefix: root, Permission: clientv3.PermissionType(clientv3.PermRead)},
			etcdtest.User{Name: "nobody", Password: "secret"}))
		for _, test := range []struct{ name, password, says string }{
			{"locksmith", "secret", ""},
			{"root", etcdtest.RootPassword, ""},
			{"locksmith", "wrong", `the user name or password of user "locksmith" is wrong`},
			{"stranger", "secret", `the user name or password of user "stranger" is wrong`},
			{"reader", "secret", `user "reader" needs permission to read and write all keys below ` + root},
			{"nobody", "secret", `user "nobody" needs permission to read and write all keys below ` + root},
			{"", "", "set -etcd-username and -etcd-password"},
		} {
			t.Run(test.name+" "+test.password, func(t *testing.T) {
				c := at(s.Endpoint())
				c.Username, c.Password = test.name, test.password
				e := connect(t, c)
				l := newLock(t, e, test.name)
				_, err := l.TryAcquire(ctx, "a", lock.Record{})
				if test.says == "" {
					if err != nil {
						t.Fatal(err)
					}
					w := startWaiting(ctx, t, newLock(t, e, test.name), "b")
					must.Do(t, l.Release(ctx, "a"))
					w.mustGet(t)
					return
				}
				if !errors.Is(err, lock.ErrRefused) || errors.Is(err, lock.ErrUnknown) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("lock returned %v", err)
				}
				if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong/") {
					t.Errorf("the error has the password: %v", err)
				}
			})
		}
	})
}

func TestWaitSurvivesALostLogIn(t *testing.T) {
	// A restarted etcd does not know the tokens that it gave out.
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s, p, c := startWithUser(ctx, t, v) // the proxy keeps the connections, and so the tokens in use
		a, b := newLock(t, connect(t, c), ""), newLock(t, connect(t, c), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		must.Do(t, s.Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		if n := p.Calls(etcdtest.Authenticate); n > 20 {
			t.Errorf("it took %d log-ins", n)
		}
	})
}

// Another call has given the connection up, and is logging in by a new one.
func TestEventDoesNotWaitForALogIn(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s, p, c := startWithUser(ctx, t, etcdtest.Newest)
	store := connect(t, c)
	const key = root + "k"
	snap, err := store.Get(ctx, lock.Read{Key: key})
	must.Do(t, err)
	changed := make(chan error, 1)
	go func() {
		_, err := store.Wait(ctx, lock.Watch{Key: key, After: snap.Revision})
		changed <- err
	}()
	must.Eventually(t, patience, "a watch", func() bool { return p.Calls(etcdtest.Watch) == 1 })
	p.Next(etcdtest.Writes, etcdtest.Fail(rpctypes.ErrGRPCTimeout))
	if _, _, err := store.Commit(ctx, nil, []lock.Op{{Key: root + "other"}}); err == nil {
		t.Fatal("the call has not failed")
	}

	release := make(chan struct{})
	login := p.Next(etcdtest.Method(etcdtest.Authenticate), etcdtest.Late(release))
	written := make(chan error, 1)
	go func() {
		_, _, err := store.Commit(ctx, nil, []lock.Op{{Key: root + "other"}})
		written <- err
	}()
	must.Receive(t, patience, "the log-in", login.Arrived)
	client, err := s.Client()
	must.Do(t, err)
	_, err = client.Put(ctx, key, "x")
	must.Do(t, err)
	must.Do(t, must.Receive(t, patience, "the change", changed))
	close(release)
	if err := must.Receive(t, patience, "the call", written); err != nil {
		t.Errorf("the change came only after the log-in was given up: %v", err)
	}
}

// Another call is logging in, which takes longer than this one may.
func TestCallDoesNotWaitForTheLogInOfAnother(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	_, p, c := startWithUser(ctx, t, etcdtest.Newest)
	store := connect(t, c)
	release := make(chan struct{})
	login := p.Next(etcdtest.Method(etcdtest.Authenticate), etcdtest.Late(release))
	written := make(chan error, 1)
	go func() {
		_, _, err := store.Commit(ctx, nil, []lock.Op{{Key: root + "k"}})
		written <- err
	}()
	must.Receive(t, patience, "the log-in", login.Arrived)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err := store.Get(over, lock.Read{Key: root + "k"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the call ends with %v", err)
	}
	close(release)
	if err := must.Receive(t, patience, "the call", written); err != nil {
		t.Errorf("the other call ended only after the log-in was given up: %v", err)
	}
}

func TestUserForEtcdWithoutUsersWorks(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		c := at(s.Endpoint())
		c.Username, c.Password = "locksmith", "secret"
		ctx := bounded(t)
		l := newLock(t, connect(t, c), "")
		lockFor(ctx, t, l, "a")
		// And it still works when there are users.
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite}))
		must.Do(t, l.Release(ctx, "a"))
	})
}

func TestQueueAndTimeToLiveWorkWithUsers(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite}))
		c := at(s.Endpoint())
		c.Username, c.Password = "locksmith", "secret"
		store := connect(t, c)
		a := newLock(t, store, "")
		if _, err := a.TryAcquire(ctx, "a", lock.Record{TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		bLock := newLock(t, connect(t, c), "")
		b := startWaiting(ctx, t, bLock, "b")
		waiting, stop := context.WithCancel(ctx)
		w := startWaiting(waiting, t, newLock(t, connect(t, c), ""), "c")
		mustPause(t)(a.Pause(ctx, lock.PauseInfo{By: "me"}, time.Hour))
		mustPause(t)(lock.NewGroups(store, 1).Pause(ctx, lock.PauseInfo{By: "me"}, 0))
		groups, err := lock.NewGroups(store, 1).Names(ctx)
		if err != nil || !slices.Equal(groups, []string{""}) {
			t.Errorf("the groups are %q, %v", groups, err)
		}
		client, err := s.Client()
		must.Do(t, err)
		entry, err := client.Get(ctx, root+"queue/b")
		must.Do(t, err)
		must.Do(t, store.KeepAlive(ctx, entry.Kvs[0].Lease))
		_, err = client.Delete(ctx, root+"alive/a") // as when its time is over
		must.Do(t, err)
		stop()
		<-w.done
		_, err = a.Resume(ctx)
		must.Do(t, err)
		_, err = lock.NewGroups(store, 1).Resume(ctx)
		must.Do(t, err)
		b.mustGet(t)
		must.Do(t, bLock.Release(ctx, "b"))
		watching, enough := context.WithCancel(ctx)
		defer enough()
		err = a.WatchOverview(watching, func(o lock.Overview, err error) {
			must.Do(t, err)
			if len(o.Holders)+len(o.Queue) == 0 {
				enough()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// As docs/operations.md says, clients without permission can keep leases alive before 3.6.
func TestLeasesAreNotASignOfLife(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a := connect(t, at(s.Endpoint()))
		lockFor(ctx, t, newLock(t, a, ""), "a")
		startWaiting(ctx, t, newLock(t, a, ""), "b")
		snap, err := a.Get(ctx, lock.Read{Key: root + "queue/b"})
		must.Do(t, err)
		lease := snap.Values[root+"queue/b"].Lease
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "other", Password: "secret", Prefix: "other/", Permission: readWrite}))
		client, err := s.Client()
		must.Do(t, err)
		status, err := client.Status(ctx, s.Endpoint())
		must.Do(t, err)
		open := strings.HasPrefix(status.Version, "3.4.") || strings.HasPrefix(status.Version, "3.5.")
		for _, user := range []string{"", "other"} {
			c := at(s.Endpoint())
			outsider := connect(t, c)
			if user != "" {
				c.Username, c.Password = user, "secret"
				outsider = connect(t, c)
				_, err := outsider.Get(ctx, lock.Read{Key: "other/x"}) // which has more time for the log-in
				must.Do(t, err)
			}
			answer := func(call func(context.Context, int64) error) error {
				for {
					// On a busy machine there may be none in time.
					if err := call(ctx, lease); err == nil || errors.Is(err, lock.ErrRefused) || ctx.Err() != nil {
						return err
					}
				}
			}
			if err := answer(outsider.KeepAlive); (err == nil) != open || ctx.Err() != nil {
				t.Errorf("etcd %s: user %q keeps a lease alive: %v", status.Version, user, err)
			}
			if err := answer(outsider.Revoke); err == nil || ctx.Err() != nil {
				t.Errorf("etcd %s: user %q revokes a lease: %v", status.Version, user, err)
			}
		}
	})
}
