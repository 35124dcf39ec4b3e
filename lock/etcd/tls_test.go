package etcd_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

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
			{"a certificate of another CA", mutual, etcd.Config{CAFile: ca.File(), CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, "the server does not accept the client certificate in " + stranger.CertFile},
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

// TestSystemRootsVouchForTheServer runs itself again as a separate process, with other roots, which
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
		if c.CertFile != "" { // the probe for the cause of a failure uses them, too
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

func TestFilesAreReadAgainAtEachConnect(t *testing.T) {
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
	install(ca, ca) // without a Close: the next call starts again after a failure
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
