package etcdtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// TestMain is also the parent process of TestServerDiesWithItsParent.
func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		beParent()
		return
	}
	os.Exit(m.Run())
}

// brief is how long a test waits for a call that is to have no answer.
const brief = 150 * time.Millisecond

func forEachVersion(t *testing.T, f func(ctx context.Context, t *testing.T, v etcdtest.Version)) {
	t.Helper()
	for _, v := range etcdtest.OldestAndNewest() {
		t.Run(v.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			f(ctx, t, v)
		})
	}
}

func newClient(t *testing.T, c clientv3.Config) *clientv3.Client {
	t.Helper()
	c.Logger = zap.NewNop()
	c.DialTimeout = 10 * time.Second
	c.DialOptions = []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})}
	client, err := clientv3.New(c)
	must.Do(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func clientOf(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	return newClient(t, clientv3.Config{Endpoints: []string{endpoint}})
}

func outside(t *testing.T, s *etcdtest.Server) *clientv3.Client {
	t.Helper()
	c, err := s.Client()
	must.Do(t, err)
	return c
}

func put(ctx context.Context, t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := c.Put(ctx, key, value); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// value returns the value of key, "" if the key is missing.
func value(ctx context.Context, t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	r, err := c.Get(ctx, key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func wantValue(ctx context.Context, t *testing.T, c *clientv3.Client, key, want string) {
	t.Helper()
	if got := value(ctx, t, c, key); got != want {
		t.Errorf("%s = %q, want %q", key, got, want)
	}
}

// wantSilence checks that f gets no answer.
func wantSilence(ctx context.Context, t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, brief)
	defer cancel()
	err := f(ctx)
	if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error is %v, want none before the deadline", err)
	}
}

func wantClosed(ctx context.Context, t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("%s: %v", what, ctx.Err())
	}
}

func tlsConfig(t *testing.T, ca *etcdtest.CA, pair *etcdtest.KeyPair) *tls.Config {
	t.Helper()
	pool, err := poolOf(ca)
	must.Do(t, err)
	conf := &tls.Config{RootCAs: pool}
	if pair != nil {
		cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
		must.Do(t, err)
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf
}

func poolOf(ca *etcdtest.CA) (*x509.CertPool, error) {
	data, err := os.ReadFile(ca.File())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read %s: no certificate", ca.File())
	}
	return pool, nil
}
