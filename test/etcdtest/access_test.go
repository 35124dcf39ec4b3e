package etcdtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestServerRequiresAClientCertificate(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		ca, clientCA := etcdtest.MustCA(t), etcdtest.MustCA(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: clientCA}})
		put(ctx, t, outside(t, s), "k", "v")

		good := clientCA.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		expired := clientCA.MustIssue(t, etcdtest.Certificate{
			CommonName: "host",
			NotBefore:  time.Now().Add(-2 * time.Hour),
			NotAfter:   time.Now().Add(-time.Hour),
		})
		foreign := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		for _, c := range []struct {
			name string
			pair *etcdtest.KeyPair
			ok   bool
		}{
			{"good", &good, true},
			{"none", nil, false},
			{"expired", &expired, false},
			{"of another authority", &foreign, false},
		} {
			client := newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, TLS: tlsConfig(t, ca, c.pair)})
			get := func(ctx context.Context) error {
				_, err := client.Get(ctx, "k")
				return err
			}
			if c.ok {
				must.Do(t, get(ctx))
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(ctx, brief)
				defer cancel()
				if err := get(ctx); err == nil {
					t.Error("the client has access")
				}
			})
		}
	})
}

func TestServerHasACertificateFromItsAuthorityForItsAddress(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		ca := etcdtest.MustCA(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
		client := newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, TLS: tlsConfig(t, ca, nil)})
		put(ctx, t, client, "k", "v")

		other := newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, TLS: tlsConfig(t, etcdtest.MustCA(t), nil)})
		ctx, cancel := context.WithTimeout(ctx, brief)
		defer cancel()
		if _, err := other.Get(ctx, "k"); err == nil {
			t.Error("a client with another authority accepts the server")
		}
	})
}

func TestUsersHaveThePermissionsThatTheyWereGranted(t *testing.T) {
	forEachVersion(t, func(ctx context.Context, t *testing.T, v etcdtest.Version) {
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx,
			etcdtest.User{Name: "writer", Password: "w", Prefix: "a/", Permission: clientv3.PermissionType(clientv3.PermReadWrite)},
			etcdtest.User{Name: "reader", Password: "r", Prefix: "a/", Permission: clientv3.PermissionType(clientv3.PermRead)},
			etcdtest.User{Name: "nobody", Password: "n"},
		))
		as := func(name, password string) *clientv3.Client {
			return newClient(t, clientv3.Config{Endpoints: []string{s.Endpoint()}, Username: name, Password: password})
		}
		put(ctx, t, as("writer", "w"), "a/k", "v")
		wantValue(ctx, t, as("reader", "r"), "a/k", "v")
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"a reader writes", func() error { _, err := as("reader", "r").Put(ctx, "a/k", "x"); return err }},
			{"a writer writes elsewhere", func() error { _, err := as("writer", "w").Put(ctx, "b/k", "x"); return err }},
			{"a user without permission reads", func() error { _, err := as("nobody", "n").Get(ctx, "a/k"); return err }},
		} {
			if err := c.do(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("%s: %v, want %v", c.name, err, rpctypes.ErrPermissionDenied)
			}
		}
		_, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Username: "writer", Password: "wrong", Logger: zap.NewNop()})
		if !errors.Is(err, rpctypes.ErrAuthFailed) {
			t.Errorf("wrong password: %v, want %v", err, rpctypes.ErrAuthFailed)
		}
		must.Do(t, s.Restart(ctx))
		wantValue(ctx, t, outside(t, s), "a/k", "v")
	})
}
