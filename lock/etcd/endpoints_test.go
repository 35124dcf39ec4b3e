package etcd_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// silent returns an endpoint that accepts connections and never sends anything.
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

func TestMemberThatCannotServeIsLeft(t *testing.T) {
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
				for err := error(lock.ErrUnknown); err != nil; { // several time-outs in a row are failures that do not end it
					err = <-w.reports
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
		w.mustReportFailure(t) // although the member that it watches is well and connected
		must.Do(t, members[1].Restart(ctx))
		must.Do(t, a.Release(ctx, "a"))
		w.mustGet(t)
	})
}
