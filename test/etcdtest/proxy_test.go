package etcdtest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func dial(t *testing.T, endpoint string) (net.Conn, error) {
	t.Helper()
	_, address, _ := strings.Cut(endpoint, "://")
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestProxyPasses(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "v")
		wantValue(ctx, t, outside(t, s), "k", "v")
		if open, ever := p.Connections(), p.Accepted(); open != 1 || ever != 1 {
			t.Errorf("%d connections open, %d ever, want 1 and 1", open, ever)
		}
		must.Do(t, c.Close())
		must.Eventually(t, patience, "the end of the connection", func() bool { return p.Connections() == 0 })
	})
}

func TestProxyPassesTLS(t *testing.T) {
	ca := etcdtest.MustCA(t)
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
	p := etcdtest.MustProxy(t, s)
	c := newClient(t, clientv3.Config{Endpoints: []string{p.Endpoint()}, TLS: tlsConfig(t, ca, nil)})
	put(t.Context(), t, c, "k", "v")
}

func TestProxyRefuses(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		p := etcdtest.MustProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "v")
		p.Refuse()
		if n := p.Connections(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if _, err := dial(t, p.Endpoint()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v, want %v", err, syscall.ECONNREFUSED)
		}
		must.Do(t, p.Pass())
		wantValue(ctx, t, c, "k", "v")
	})
}

func TestProxyCutsConnectionsAndTakesNewOnes(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		p := etcdtest.MustProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "v")
		p.Cut()
		wantValue(ctx, t, c, "k", "v")
		if ever := p.Accepted(); ever != 2 {
			t.Errorf("%d connections were made, want 2", ever)
		}
	})
}

func TestProxyBlackHoleIsSilentForOldAndNewConnections(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "v")
		fresh, err := dial(t, p.Endpoint())
		must.Do(t, err)
		must.Eventually(t, patience, "both connections", func() bool { return p.Connections() == 2 })
		must.Do(t, p.BlackHole())
		wantSilence(ctx, t, func(ctx context.Context) error {
			_, err := c.Put(ctx, "k", "lost?")
			return err
		})
		wantValue(ctx, t, outside(t, s), "k", "v")
		// Neither the end of the server nor its absence is visible.
		s.Kill()
		late, err := dial(t, p.Endpoint())
		must.Do(t, err)
		for name, conn := range map[string]net.Conn{"old": fresh, "new": late} {
			must.Do(t, conn.SetReadDeadline(time.Now().Add(brief)))
			if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read from the %s connection: %v, want silence", name, err)
			}
		}
		must.Do(t, s.Restart(ctx))
		must.Do(t, p.Pass())
		wantValue(ctx, t, c, "k", "v") // a read, which the client repeats on a new connection
		put(ctx, t, c, "k", "after")
		wantValue(ctx, t, outside(t, s), "k", "after")
	})
}

func TestProxyDropsRepliesToWhatTheServerHasDone(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "before")
		must.Do(t, p.DropReplies())
		wantSilence(ctx, t, func(ctx context.Context) error {
			_, err := c.Put(ctx, "k", "done")
			return err
		})
		wantValue(ctx, t, outside(t, s), "k", "done")
		must.Do(t, p.Pass())
		// A read is repeated on a new connection: the old one has lost bytes.
		wantValue(ctx, t, c, "k", "done")
		if ever := p.Accepted(); ever < 2 {
			t.Errorf("%d connections were made, want a new one", ever)
		}
	})
}

func TestProxyHoldsRequestsAndDeliversThemLate(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		p := etcdtest.MustProxy(t, s)
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "before")
		must.Do(t, p.HoldRequests())
		answered := make(chan error, 1)
		go func() {
			_, err := c.Put(ctx, "k", "late")
			answered <- err
		}()
		select {
		case err := <-answered:
			t.Fatalf("answered while held: %v", err)
		case <-time.After(brief):
		}
		wantValue(ctx, t, outside(t, s), "k", "before")
		must.Do(t, p.Pass())
		must.Do(t, <-answered)
		wantValue(ctx, t, outside(t, s), "k", "late")
		if ever := p.Accepted(); ever != 1 {
			t.Errorf("%d connections were made, want the one that was held", ever)
		}
	})
}

func TestProxyDelaysEachDirection(t *testing.T) {
	const delay = 50 * time.Millisecond
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		p := etcdtest.MustProxy(t, etcdtest.MustStart(t, v, etcdtest.Options{}))
		c := clientOf(t, p.Endpoint())
		put(ctx, t, c, "k", "v")
		for _, way := range []struct{ toServer, toClient time.Duration }{{delay, 0}, {0, delay}, {delay, delay}} {
			must.Do(t, p.Delay(way.toServer, way.toClient))
			before := time.Now()
			put(ctx, t, c, "k", "v")
			if took := time.Since(before); took < way.toServer+way.toClient {
				t.Errorf("with a delay of %v there and %v back a call took %v", way.toServer, way.toClient, took)
			}
		}
		must.Do(t, p.Pass())
	})
}
