package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/storetest"
)

// The keys of the default group.
const (
	root       = "coreos.com/updateengine/rebootlock/"
	defaultKey = root + "semaphore"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// eachEtcd runs a test against every etcd that hosts meet.
func eachEtcd(t *testing.T, test func(*testing.T, etcdtest.Version)) {
	t.Parallel()
	for _, v := range etcdtest.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// connect returns a store that is closed with the test.
func connect(t testing.TB, c etcd.Config) *etcd.Store {
	t.Helper()
	if err := validate(c); err != nil {
		t.Fatal(err)
	}
	e := etcd.New(c)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func at(endpoints ...string) etcd.Config { return etcd.Config{Endpoints: strings.Join(endpoints, ",")} }

func newLock(t testing.TB, s lock.Store, group string) *lock.Lock {
	t.Helper()
	l, err := lock.New(s, group, 1)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// holders returns who holds a slot of the default group, as seen from the outside.
func holders(t testing.TB, s *etcdtest.Server) []string {
	t.Helper()
	client, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(bounded(t), defaultKey)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatal(resp, err)
	}
	sem, err := lock.ParseSemaphore(resp.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return sem.Holders
}

func wantHolders(t testing.TB, s *etcdtest.Server, want ...string) {
	t.Helper()
	if got := holders(t, s); !slices.Equal(got, want) {
		t.Errorf("held by %v, want %v", got, want)
	}
}

// wait is an Acquire that goes on.
type wait struct {
	told chan error // nil for a semaphore, else the trouble
	done chan error
}

// startWaiting has id wait for the slot, and returns when it knows that the slot is not free.
func startAcquire(ctx context.Context, l *lock.Lock, id string) wait {
	w := wait{told: make(chan error, 1000), done: make(chan error, 1)}
	go func() {
		w.done <- l.Acquire(ctx, id, lock.Record{}, func(_ lock.WaitStatus, err error) { w.told <- err })
	}()
	return w
}

// startWaiting returns once the wait has begun, without trouble.
func startWaiting(ctx context.Context, t testing.TB, l *lock.Lock, id string) wait {
	t.Helper()
	w := startAcquire(ctx, l, id)
	select {
	case err := <-w.told:
		if err != nil {
			t.Fatal(err)
		}
	case err := <-w.done:
		t.Fatalf("acquire did not wait: %v", err)
	}
	return w
}

func (w wait) mustGet(t testing.TB) {
	t.Helper()
	if err := <-w.done; err != nil {
		t.Error(err)
	}
}

func (w wait) mustReportTrouble(t testing.TB) {
	t.Helper()
	for {
		select {
		case err := <-w.told:
			if err != nil {
				return
			}
		case err := <-w.done:
			t.Fatalf("acquire ended: %v", err)
		}
	}
}

func lockFor(ctx context.Context, t testing.TB, l *lock.Lock, id string) {
	t.Helper()
	if already, err := l.TryAcquire(ctx, id, lock.Record{}); err != nil || already {
		t.Fatal(already, err)
	}
}

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

func TestLostReplyFromEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		for name, fault := range map[string]etcdtest.Fault{
			"the reply is lost":        etcdtest.LoseReply,
			"the reply never comes":    etcdtest.WithholdReply,
			"the request is lost":      etcdtest.LoseRequest,
			"the request never comes":  etcdtest.Hang,
			"the request is late":      etcdtest.Delay(3500 * time.Millisecond),
			"etcd loses its leader":    etcdtest.Fail(rpctypes.ErrGRPCLeaderChanged),
			"etcd times out":           etcdtest.Fail(rpctypes.ErrGRPCTimeout),
			"the database is full now": etcdtest.Fail(rpctypes.ErrGRPCNoSpace),
			// The etcd client would send these once more, and take the failed comparison for an answer.
			"done, and said to be canceled":  forwardAndAnswer(codes.Canceled),
			"done, and said to be timed out": forwardAndAnswer(codes.DeadlineExceeded),
			"done, and the database is full": forwardAndAnswer(codes.ResourceExhausted),
		} {
			t.Run(name, func(t *testing.T) {
				ctx := bounded(t)
				l := newLock(t, connect(t, at(p.Endpoint())), "")
				caught := p.Next(etcdtest.Writes, fault)
				lockFor(ctx, t, l, "a")
				<-caught.Arrived
				wantHolders(t, s, "a")
				caught = p.Next(etcdtest.Writes, fault)
				must.Do(t, l.Release(ctx, "a"))
				<-caught.Arrived
				wantHolders(t, s)
			})
		}
	})
}

// forwardAndAnswer has etcd do as asked and the client get an error of that code.
func forwardAndAnswer(code codes.Code) etcdtest.Fault {
	return func(_ context.Context, c *etcdtest.Call) error {
		if err := c.Forward(); err != nil {
			return err
		}
		return status.Error(code, "injected")
	}
}

func TestLockThatIsStillOnItsWayToEtcdCanBeReleased(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		if _, err := l.Status(ctx); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		p.Every(etcdtest.Writes, etcdtest.LoseRequest)
		short, cancel := context.WithCancel(ctx)
		go func() { <-late.Arrived; cancel() }()
		if _, err := l.TryAcquire(short, "a", lock.Record{}); !errors.Is(err, lock.ErrUnknown) {
			t.Fatalf("lock returned %v", err)
		}
		p.Clear()
		must.Do(t, l.Release(ctx, "a"))
		close(release)
		<-late.Forwarded
		wantHolders(t, s)
	})
}

func TestUnlockThatIsStillOnItsWayToEtcdDoesNotUndoALaterLock(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		lockFor(ctx, t, l, "a")
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		short, cancel := context.WithCancel(ctx)
		go func() { <-late.Arrived; cancel() }()
		if err := l.Release(short, "a"); !errors.Is(err, lock.ErrUnknown) {
			t.Fatalf("release returned %v", err)
		}
		if _, err := l.TryAcquire(ctx, "a", lock.Record{}); err != nil {
			t.Fatal(err)
		}
		close(release)
		<-late.Forwarded
		wantHolders(t, s, "a")
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

// silent returns an endpoint that accepts connections and never says anything.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		var all []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			all = append(all, c)
		}
		for _, c := range all {
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return "http://" + l.Addr().String()
}

// closed returns an endpoint where nobody listens.
func closed(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestUnreachableEndpointFailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	tlsWeb := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsWeb.EnableHTTP2 = true
	tlsWeb.StartTLS()
	t.Cleanup(tlsWeb.Close)
	hole, shut := silent(t), closed(t)
	for name, test := range map[string]struct {
		endpoints []string
		username  string
		says      []string
	}{
		"closed":                      {endpoints: []string{shut}, says: []string{shut, "connection refused"}},
		"silent":                      {endpoints: []string{hole}, says: []string{hole, "no answer in time"}},
		"closed, with a user":         {endpoints: []string{shut}, username: "u", says: []string{shut, "connection refused"}},
		"silent, with a user":         {endpoints: []string{hole}, username: "u", says: []string{hole, "no answer in time"}},
		"silent and closed":           {endpoints: []string{hole, shut}, says: []string{hole, shut, "no answer in time", "connection refused"}},
		"a name that nobody has":      {endpoints: []string{"http://no-such-host.invalid:2379"}, says: []string{"no-such-host.invalid"}},
		"a web server":                {endpoints: []string{web.URL}, says: []string{web.URL}},
		"a web server of an other CA": {endpoints: []string{tlsWeb.URL}, says: []string{tlsWeb.URL, "x509"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := at(test.endpoints...)
			if test.username != "" {
				c.Username, c.Password = test.username, "password"
			}
			e := connect(t, c)
			// No deadline is given: the calls have their own.
			_, getErr := e.Get(t.Context(), lock.Read{Key: "k"})
			_, _, commitErr := e.Commit(t.Context(), nil, []lock.Op{{Key: "k"}})
			_, waitErr := e.Wait(t.Context(), lock.Watch{Key: "k", After: 1})
			_, lockErr := newLock(t, e, "").TryAcquire(t.Context(), "a", lock.Record{})
			for i, err := range []error{getErr, commitErr, waitErr, lockErr} {
				if err == nil || errors.Is(err, lock.ErrUnknown) || strings.Contains(err.Error(), "\n") {
					t.Errorf("call %d returned %v", i, err)
					continue
				}
				for _, part := range test.says {
					// A commit is one try, with what the tries before have left.
					if i != 1 && !strings.Contains(err.Error(), part) {
						t.Errorf("call %d returned %q, without %q", i, err, part)
					}
				}
			}
		})
	}
}

func TestAnotherEndpointIsTried(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		hole, shut := silent(t), closed(t)
		for name, endpoints := range map[string][]string{
			"after one that is silent":           {hole, s.Endpoint()},
			"after one that is closed":           {shut, s.Endpoint()},
			"after a silent and a closed one":    {hole, shut, s.Endpoint()},
			"before one that is silent":          {s.Endpoint(), hole},
			"with the default user names absent": {shut, hole, s.Endpoint() + "/"},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := bounded(t)
				l := newLock(t, connect(t, at(endpoints...)), name)
				for range 5 {
					lockFor(ctx, t, l, "a")
					must.Do(t, l.Release(ctx, "a"))
				}
			})
		}
	})
}

func TestEndpointThatFallsSilentIsLeft(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		proxies := []*etcdtest.Proxy{etcdtest.MustProxy(t, s), etcdtest.MustProxy(t, s)}
		l := newLock(t, connect(t, at(proxies[0].Endpoint(), proxies[1].Endpoint())), "")
		lockFor(ctx, t, l, "a")
		must.Eventually(t, patience, "both connections", func() bool { return proxies[0].Connections() > 0 && proxies[1].Connections() > 0 })
		for _, p := range proxies {
			must.Do(t, p.BlackHole())
			for range 4 {
				must.Do(t, l.Release(ctx, "a"))
				lockFor(ctx, t, l, "a")
			}
			must.Do(t, p.Pass())
		}
	})
}

func TestWaitSurvivesTheSilenceOfTheMemberItWatches(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		members := etcdtest.MustStartCluster(t, v, 3, etcdtest.Options{})
		var endpoints []string
		for _, m := range members {
			endpoints = append(endpoints, m.Endpoint())
		}
		b := newLock(t, connect(t, at(endpoints...)), "")
		a := newLock(t, connect(t, at(endpoints...)), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		watched := -1
		must.Eventually(t, patience, "the watch", func() bool {
			watched = slices.IndexFunc(members, func(m *etcdtest.Server) bool { return watchers(ctx, t, m.Endpoint()) == headWatches })
			return watched >= 0
		})
		must.Do(t, members[watched].Pause(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		must.Do(t, members[watched].Resume(ctx))
	})
}

func TestMemberThatIsOfNoUseIsLeft(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		idle, good := etcdtest.MustRPCProxy(t, s), etcdtest.MustRPCProxy(t, s)
		idle.Every(func(string, []byte) bool { return true }, etcdtest.Hang) // and the connection is fine
		for i, endpoints := range [][]string{{idle.Endpoint(), good.Endpoint()}, {good.Endpoint(), idle.Endpoint()}} {
			l := newLock(t, connect(t, at(endpoints...)), fmt.Sprint("group", i))
			for range 3 {
				lockFor(ctx, t, l, "a")
				w := startAcquire(ctx, newLock(t, connect(t, at(endpoints...)), fmt.Sprint("group", i)), "b")
				for err := error(lock.ErrUnknown); err != nil; { // several time-outs in a row are trouble, and no end
					err = <-w.told
				}
				must.Do(t, l.Release(ctx, "a"))
				w.mustGet(t)
				must.Do(t, l.Release(ctx, "b"))
			}
		}
	})
}

func TestWaitNoticesThatTheClusterHasNoLeader(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		members := etcdtest.MustStartCluster(t, v, 3, etcdtest.Options{})
		a, b := newLock(t, connect(t, at(members[0].Endpoint())), ""), newLock(t, connect(t, at(members[0].Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		must.Eventually(t, patience, "the watch", func() bool { return watchers(ctx, t, members[0].Endpoint()) == headWatches })
		members[1].Kill()
		members[2].Kill()
		w.mustReportTrouble(t) // although the member that it watches is well and connected
		must.Do(t, members[1].Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
	})
}

func TestWaitSurvivesAKilledEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		s.Kill()
		w.mustReportTrouble(t)
		must.Do(t, s.Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		wantHolders(t, s, "b")
	})
}

func TestWaitSurvivesAPausedEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(s.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		must.Do(t, s.Pause(ctx))
		w.mustReportTrouble(t)
		must.Do(t, s.Resume(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		wantHolders(t, s, "b")
	})
}

func TestLockSurvivesAKilledEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		got := make(chan error, 1)
		go func() {
			_, err := l.TryAcquire(ctx, "a", lock.Record{})
			got <- err
		}()
		<-late.Arrived // the host knows that the slot is free and has asked for it
		s.Kill()
		close(release)
		<-late.Forwarded
		must.Do(t, s.Restart(ctx))
		must.Do(t, <-got)
		wantHolders(t, s, "a")
	})
}

func TestLockSurvivesAPausedEtcd(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		l := newLock(t, connect(t, at(p.Endpoint())), "")
		release := make(chan struct{})
		late := p.Next(etcdtest.Writes, etcdtest.Late(release))
		got := make(chan error, 1)
		go func() {
			_, err := l.TryAcquire(ctx, "a", lock.Record{})
			got <- err
		}()
		<-late.Arrived
		must.Do(t, s.Pause(ctx))
		close(release) // the transaction is in the paused etcd's hands now
		again := p.Next(etcdtest.Reads, etcdtest.Delay(0))
		<-again.Arrived // and the host has given it up
		must.Do(t, s.Resume(ctx))
		must.Do(t, <-got)
		wantHolders(t, s, "a")
	})
}

func TestWaitSurvivesCompaction(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(p.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		w := startWaiting(ctx, t, b, "b")
		p.Refuse() // the watch ends, and what it would have seen is compacted before it is back
		must.Do(t, a.Release(ctx, "a"))
		client, err := s.Client()
		must.Do(t, err)
		resp, err := client.Put(ctx, "other", "x")
		must.Do(t, err)
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		must.Do(t, p.Pass())
		w.mustGet(t)
		wantHolders(t, s, "b")
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

func TestOldDocumentAndCompactionDoNotMakeAWaitSpin(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s)
		a, b := newLock(t, connect(t, at(s.Endpoint())), ""), newLock(t, connect(t, at(p.Endpoint())), "")
		lockFor(ctx, t, a, "a")
		client, err := s.Client()
		must.Do(t, err)
		var resp *clientv3.PutResponse
		for range 3 { // so that the semaphore's last change is compacted, and what came next
			resp, err = client.Put(ctx, "other", "x")
			must.Do(t, err)
		}
		_, err = client.Compact(ctx, resp.Header.Revision)
		must.Do(t, err)
		w := startWaiting(ctx, t, b, "b")
		must.Eventually(t, patience, "the watch", func() bool { return watchers(ctx, t, s.Endpoint()) == headWatches })
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
		if n := p.Calls(etcdtest.Watch); n != 1 {
			t.Errorf("it took %d watches", n)
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

func TestContendersOfAllKindsNeverExceedMax(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		const max, hosts, rounds = 2, 5, 3
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		client, err := s.Client()
		must.Do(t, err)
		first := newLock(t, connect(t, at(s.Endpoint())), "")
		_, _, err = first.SetMax(ctx, max)
		must.Do(t, err)

		// Every revision of the document is looked at from the outside.
		watching, stop := context.WithCancel(ctx)
		events := client.Watch(watching, defaultKey, clientv3.WithRev(1))
		var outside sync.WaitGroup
		var documents atomic.Int64
		outside.Go(func() {
			for resp := range events {
				for _, ev := range resp.Events {
					documents.Add(1)
					sem, err := lock.ParseSemaphore(ev.Kv.Value)
					if err != nil || len(sem.Holders) > max {
						t.Errorf("revision %d is %s: %v", ev.Kv.ModRevision, ev.Kv.Value, err)
					}
				}
			}
		})

		var contenders sync.WaitGroup
		for i := range hosts {
			l, id := newLock(t, connect(t, at(s.Endpoint())), ""), fmt.Sprint("host", i)
			contenders.Go(func() {
				for range rounds {
					if err := l.Acquire(ctx, id, lock.Record{}, nil); err != nil {
						t.Error(err)
						return
					}
					if err := l.Release(ctx, id); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 2 { // clients that know the document and nothing of us
			id := fmt.Sprint("older", i)
			contenders.Go(func() {
				for round := 0; round < 2*rounds; {
					ok, err := oldClient(ctx, client, id)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						round++
					}
				}
			})
		}
		contenders.Wait()
		wantHolders(t, s)
		resp, err := client.Get(ctx, defaultKey)
		must.Do(t, err)
		if want := int64(1 + 2*rounds*(hosts+2)); resp.Kvs[0].Version != want {
			t.Errorf("there were %d documents, want %d: somebody took what it did for something else", resp.Kvs[0].Version, want)
		}
		must.Eventually(t, patience, "the watch to see it all", func() bool { return documents.Load() == resp.Kvs[0].Version })
		stop()
		outside.Wait()
	})
}

// oldClient makes one try to take the slot of id, or to give it back if it has one.
func oldClient(ctx context.Context, client *clientv3.Client, id string) (bool, error) {
	resp, err := client.Get(ctx, defaultKey)
	if err != nil {
		return false, err
	}
	sem, err := lock.ParseSemaphore(resp.Kvs[0].Value)
	if err != nil {
		return false, err
	}
	var next lock.Semaphore
	if sem.Holds(id) {
		next, err = sem.Release(id)
	} else {
		next, err = sem.Acquire(id)
	}
	var full *lock.FullError
	if errors.As(err, &full) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(defaultKey), "=", resp.Kvs[0].ModRevision)).
		Then(clientv3.OpPut(defaultKey, string(next.Encode()))).Commit()
	if err != nil {
		return false, err
	}
	return txn.Succeeded, nil
}

const (
	readWrite = clientv3.PermissionType(clientv3.PermReadWrite)
)

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
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustRPCProxy(t, s) // which keeps the connections, and so the tokens in use
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite}))
		c := at(p.Endpoint())
		c.Username, c.Password = "locksmith", "secret"
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

func TestUserForEtcdWithoutUsersWorks(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		c := at(s.Endpoint())
		c.Username, c.Password = "locksmith", "secret"
		ctx := bounded(t)
		l := newLock(t, connect(t, c), "")
		lockFor(ctx, t, l, "a")
		// And goes on to work when there are users.
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "secret", Prefix: root, Permission: readWrite}))
		must.Do(t, l.Release(ctx, "a"))
	})
}

func TestTLS(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
		client, stranger := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"}), other.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		plain := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
		mutual := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: ca}})
		for _, test := range []struct {
			name   string
			server *etcdtest.Server
			config etcd.Config
			says   string
		}{
			{"a CA alone", plain, etcd.Config{CAFile: ca.File()}, ""},
			{"a CA and a certificate", plain, etcd.Config{CAFile: ca.File(), CertFile: client.CertFile, KeyFile: client.KeyFile}, ""},
			{"a certificate where one is asked for", mutual, etcd.Config{CAFile: ca.File(), CertFile: client.CertFile, KeyFile: client.KeyFile}, ""},
			{"no certificate where one is asked for", mutual, etcd.Config{CAFile: ca.File()}, "the server demands a client certificate"},
			{"a certificate of another CA", mutual, etcd.Config{CAFile: ca.File(), CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, "the server does not take the client certificate in " + stranger.CertFile},
			{"a server of another CA", plain, etcd.Config{CAFile: other.File()}, "x509: certificate signed by unknown authority"},
			{"a server that the system does not know", plain, etcd.Config{}, "x509: certificate signed by unknown authority"},
		} {
			t.Run(test.name, func(t *testing.T) {
				test.config.Endpoints = test.server.Endpoint()
				_, err := newLock(t, connect(t, test.config), test.name).TryAcquire(bounded(t), "a", lock.Record{})
				if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
					t.Errorf("lock returned %v, want %q", err, test.says)
				}
			})
		}
		t.Run("plain http", func(t *testing.T) {
			_, err := newLock(t, connect(t, at(strings.Replace(plain.Endpoint(), "https", "http", 1))), "").Status(bounded(t))
			if err == nil {
				t.Error("works")
			}
		})
	})
}

func TestServerIsVerifiedForItsName(t *testing.T) {
	t.Parallel()
	ca := etcdtest.MustCA(t)
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
	c := etcd.Config{Endpoints: s.Endpoint(), CAFile: ca.File()}
	lockFor(bounded(t), t, newLock(t, connect(t, c), ""), "a")

	// The same server by a name that its certificate does not have.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(s.Endpoint(), "https://"))
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	c.Endpoints = "https://" + l.Addr().String()
	if _, err := newLock(t, connect(t, c), "").Status(bounded(t)); err == nil || !strings.Contains(err.Error(), "x509: certificate is valid for") {
		t.Errorf("status by another name returned %v", err)
	}
}

// TestSystemRootsVouchForTheServer has itself run once more as a process of its own, with other roots, which
// an update renews while it runs.
func TestSystemRootsVouchForTheServer(t *testing.T) {
	const prefix = "LOCKSMITH_TEST_TLS_"
	if endpoint := os.Getenv(prefix + "ENDPOINT"); endpoint != "" {
		c := at(endpoint)
		c.CAFile, c.CertFile, c.KeyFile = os.Getenv(prefix+"CA"), os.Getenv(prefix+"CERT"), os.Getenv(prefix+"KEY")
		e := connect(t, c)
		l := newLock(t, e, "")
		unknown := func(when string) {
			if _, err := l.Status(bounded(t)); err == nil || !strings.Contains(err.Error(), "x509: certificate signed by unknown authority") {
				t.Errorf("%s: %v", when, err)
			}
		}
		unknown("before the system's roots have it")
		renewed, err := os.ReadFile(os.Getenv(prefix + "ROOTS"))
		must.Do(t, err)
		must.Do(t, os.WriteFile(os.Getenv("SSL_CERT_FILE"), renewed, 0o644))
		if c.CAFile != "" {
			unknown("beside a CA file, the system's roots are asked")
		} else if _, err := l.Status(bounded(t)); err != nil {
			t.Error(err)
		}
		if c.CertFile != "" { // who asks for the cause of a failure knows them, too
			c.CertFile, c.KeyFile = "", ""
			if _, err := newLock(t, connect(t, c), "").Status(bounded(t)); err == nil || !strings.Contains(err.Error(), "the server demands a client certificate") {
				t.Errorf("without a client certificate: %v", err)
			}
		}
		return
	}
	t.Parallel()
	ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
	client := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
	for name, test := range map[string]struct {
		tls  etcdtest.TLS
		pair etcdtest.KeyPair
		ca   string
	}{
		"with a certificate":      {etcdtest.TLS{CA: ca, ClientCA: ca}, client, ""},
		"without":                 {etcdtest.TLS{CA: ca}, etcdtest.KeyPair{}, ""},
		"unless a CA file is set": {etcdtest.TLS{CA: ca}, etcdtest.KeyPair{}, other.File()},
	} {
		t.Run(name, func(t *testing.T) {
			s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &test.tls})
			cmd := exec.CommandContext(bounded(t), os.Args[0], "-test.run=^TestSystemRootsVouchForTheServer$")
			roots := filepath.Join(t.TempDir(), "roots.pem")
			must.Do(t, os.WriteFile(roots, nil, 0o644))
			cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+roots, prefix+"ROOTS="+ca.File(), prefix+"ENDPOINT="+s.Endpoint(),
				prefix+"CA="+test.ca, prefix+"CERT="+test.pair.CertFile, prefix+"KEY="+test.pair.KeyFile)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestFilesAreReadAnewAtEachConnect(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: ca}})
	c, install := renewable(t, s.Endpoint())
	install(other, other)
	e := connect(t, c)
	l := newLock(t, e, "")
	if _, err := l.Status(ctx); err == nil {
		t.Fatal("the wrong certificates work")
	}
	install(ca, ca) // without a Close: a call that failed begins anew
	lockFor(ctx, t, l, "a")
	must.Do(t, os.Remove(c.KeyFile))
	must.Do(t, l.Release(ctx, "a")) // the connection is there
	must.Do(t, e.Close())
	var option *etcd.OptionError
	if _, err := l.Status(ctx); !errors.As(err, &option) || option.Option != etcd.OptionKeyFile || !errors.Is(err, lock.ErrRefused) {
		t.Errorf("without the key, status returned %v", err)
	}
	install(ca, ca)
	lockFor(ctx, t, l, "a")
}
