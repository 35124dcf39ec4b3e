package etcd_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

func TestEtcdPassesTheContractOfStores(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		storetest.Contract(t, func(t *testing.T) lock.Store { return connect(t, at(s.Endpoint())) })
	})
}

func TestEtcdConnectsOnlyWhenUsed(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		p := etcdtest.MustProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		e := connect(t, at(p.Endpoint()))
		l := newLock(t, e, "")
		if n := p.Accepted(); n != 0 {
			t.Errorf("there are %d connections before the first use", n)
		}
		for round := range 2 {
			lockFor(ctx, t, l, "a")
			must.Do(t, l.Release(ctx, "a"))
			if n := p.Accepted(); n != round+1 {
				t.Errorf("round %d has made %d connections", round+1, n)
			}
			must.Do(t, e.Close())
			must.Eventually(t, patience, "the connection to end", func() bool { return p.Connections() == 0 })
		}
	})
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	// Not parallel, so that what runs here is known.
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	ctx := bounded(t)
	e := etcd.New(at(s.Endpoint()))
	l := newLock(t, e, "")
	lockFor(ctx, t, l, "a")
	waiting, stop := context.WithCancel(ctx)
	w := startWaiting(waiting, t, newLock(t, e, ""), "b")
	stop()
	<-w.done
	must.Do(t, e.Close())
	s.Close() // the client that the test itself has
	must.Eventually(t, patience, "all goroutines of gRPC to end", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !strings.Contains(string(stacks), "google.golang.org/grpc") && !strings.Contains(string(stacks), "clientv3")
	})
}

func TestWhatEtcdAnswersIsRefusalOrUnknown(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	p := etcdtest.MustRPCProxy(t, s)
	e := connect(t, at(p.Endpoint()))
	for _, test := range []struct {
		answer  error
		refused bool
		says    string
	}{
		{rpctypes.ErrGRPCPermissionDenied, true, "needs permission to read and write all keys below coreos.com/updateengine/rebootlock/"},
		{rpctypes.ErrGRPCUserEmpty, true, "set -etcd-username and -etcd-password"},
		{rpctypes.ErrGRPCAuthFailed, true, "user name or password"},
		{rpctypes.ErrGRPCRequestTooLarge, true, "request is too large"},
		{rpctypes.ErrGRPCTooManyOps, true, "too many operations"},
		{rpctypes.ErrGRPCInvalidAuthToken, false, "log-in has run out"},
		{rpctypes.ErrGRPCAuthOldRevision, false, "revision of auth store is old"},
		{status.Error(codes.Unimplemented, "unknown service etcdserverpb.KV"), true, "is not etcd, or older than version 3"},
		{rpctypes.ErrGRPCNoSpace, false, "database space exceeded"}, // comes with transactions that happened
		{rpctypes.ErrGRPCRequestTooManyRequests, false, "too many requests"},
		{rpctypes.ErrGRPCTimeout, false, "request timed out"},
		{rpctypes.ErrGRPCTimeoutDueToLeaderFail, false, "previous leader failure"},
		{rpctypes.ErrGRPCLeaderChanged, false, "leader changed"},
		{rpctypes.ErrGRPCNoLeader, false, "no leader"},
		{rpctypes.ErrGRPCStopped, false, "server stopped"},
		{rpctypes.ErrGRPCCorrupt, false, "corrupt"},
		{status.Error(codes.Internal, "something"), false, "something"},
		{status.Error(codes.Unknown, "something"), false, "something"},
		{status.Error(codes.Canceled, "something"), false, "something"},
		{status.Error(codes.Aborted, "something"), false, "something"},
		{status.Error(codes.DeadlineExceeded, "something"), false, "no answer in time"},
	} {
		t.Run(strings.ReplaceAll(test.answer.Error(), "/", " "), func(t *testing.T) {
			p.Clear()
			p.Every(etcdtest.Writes, etcdtest.Fail(test.answer))
			_, _, err := e.Commit(bounded(t), nil, []lock.Op{{Key: "k"}})
			if err == nil || errors.Is(err, lock.ErrRefused) != test.refused || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestTransactionTooLargeIsRefused(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		_, _, err := connect(t, at(s.Endpoint())).Commit(bounded(t), nil, []lock.Op{{Key: "k", Value: make([]byte, 1_700_000)}})
		if !errors.Is(err, lock.ErrRefused) {
			t.Errorf("commit returned %v", err)
		}
	})
}

func TestWaitFromACompactedRevisionSaysThatItHasToBeRead(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		client, err := s.Client()
		must.Do(t, err)
		for range 3 {
			_, err = client.Put(ctx, "k", "x")
			must.Do(t, err)
		}
		resp, err := client.Put(ctx, "other", "x")
		must.Do(t, err)
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		snap, err := connect(t, at(s.Endpoint())).Wait(ctx, lock.Watch{Key: "k", After: 1})
		if err != nil || snap.Values != nil {
			t.Errorf("wait returned %v, %v", snap, err)
		}
	})
}

func TestQuietWatchIsLeftAlone(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		p := etcdtest.MustRPCProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		store := connect(t, at(p.Endpoint()))
		_, err := store.Get(bounded(t), lock.Read{Key: "k"}) // it is connected then
		must.Do(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // more than the time-outs of requests
		defer cancel()
		if _, err := store.Wait(ctx, lock.Watch{Key: "k", After: 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait returned %v", err)
		}
		if n := p.Calls(etcdtest.Watch); n != 1 {
			t.Errorf("it took %d watches", n)
		}
	})
}

func TestFailedCallDisturbsNoWait(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	p := etcdtest.MustRPCProxy(t, s)
	store := connect(t, at(p.Endpoint()))
	snap, err := store.Get(ctx, lock.Read{Key: "k"})
	must.Do(t, err)
	changed := make(chan lock.Snapshot, 1)
	go func() {
		snap, err := store.Wait(ctx, lock.Watch{Key: "k", After: snap.Revision})
		if err != nil {
			t.Errorf("wait returned %v", err)
		}
		changed <- snap
	}()
	must.Eventually(t, patience, "a watch", func() bool { return p.Calls(etcdtest.Watch) == 1 })
	p.Next(etcdtest.Writes, etcdtest.Fail(rpctypes.ErrGRPCTimeout))
	if _, _, err := store.Commit(ctx, nil, []lock.Op{{Key: "other"}}); err == nil {
		t.Fatal("the call has not failed")
	}
	_, _, err = store.Commit(ctx, nil, []lock.Op{{Key: "k", Value: []byte("x")}}) // by another connection
	must.Do(t, err)
	if snap := must.Receive(t, patience, "the change", changed); string(snap.Values["k"].Data) != "x" {
		t.Errorf("wait returned %+v", snap)
	}
	if n := p.Calls(etcdtest.Watch); n != 1 {
		t.Errorf("it took %d watches", n)
	}
}
