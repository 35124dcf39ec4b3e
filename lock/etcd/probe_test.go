package etcd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// server returns the address of a server that does the same with every connection.
func server(t *testing.T, serve func(net.Conn)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// tlsFront returns the address of a server that decrypts, and passes on to an etcd without TLS.
func tlsFront(t *testing.T, etcd *etcdtest.Server, config *tls.Config) (address string) {
	config.NextProtos = []string{"h2"}
	return server(t, func(conn net.Conn) {
		in := tls.Server(conn, config)
		if in.HandshakeContext(t.Context()) != nil {
			return
		}
		out, err := net.Dial("tcp", strings.TrimPrefix(etcd.Endpoint(), "http://"))
		if err != nil {
			return
		}
		defer out.Close()
		go func() { io.Copy(out, in); out.Close() }()
		io.Copy(in, out)
	})
}

// issued returns a certificate of ca.
func issued(t *testing.T, ca *etcdtest.CA, c etcdtest.Certificate) []tls.Certificate {
	pair := ca.MustIssue(t, c)
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	must.Do(t, err)
	return []tls.Certificate{cert}
}

// names are what these tests have messages call the options.
func names() etcd.Names {
	return etcd.Names{etcd.OptionEndpoint: "ENDPOINT", etcd.OptionCAFile: "CAFILE", etcd.OptionCertFile: "CERTFILE", etcd.OptionKeyFile: "KEYFILE"}
}

func TestFailedConnectionNamesItsCauseAndWhatToChange(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
		client, stranger := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"}), other.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		plain := etcdtest.MustStart(t, v, etcdtest.Options{})
		encrypted := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
		mutual := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca, ClientCA: ca}})
		hung := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, hung.Pause(bounded(t)))

		here := []string{"127.0.0.1"}
		hour := func(n time.Duration) time.Time { return time.Now().Add(n * time.Hour) }
		expired := tlsFront(t, plain, &tls.Config{Certificates: issued(t, ca, etcdtest.Certificate{Hosts: here, NotBefore: hour(-9), NotAfter: hour(-8)})})
		early := tlsFront(t, plain, &tls.Config{Certificates: issued(t, ca, etcdtest.Certificate{Hosts: here, NotBefore: hour(8), NotAfter: hour(9)})})
		elsewhere := tlsFront(t, plain, &tls.Config{Certificates: issued(t, ca, etcdtest.Certificate{Hosts: []string{"etcd.example.com"}})})
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(contentOf(t, ca.File()))
		older := tlsFront(t, plain, &tls.Config{Certificates: issued(t, ca, etcdtest.Certificate{Hosts: here}), MaxVersion: tls.VersionTLS12,
			ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})

		web := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(web.Close)
		secureWeb := httptest.NewUnstartedServer(http.NotFoundHandler())
		secureWeb.TLS = &tls.Config{Certificates: issued(t, ca, etcdtest.Certificate{Hosts: here})}
		secureWeb.StartTLS()
		t.Cleanup(secureWeb.Close)
		newWeb := httptest.NewUnstartedServer(http.NotFoundHandler())
		newWeb.TLS = &tls.Config{Certificates: issued(t, ca, etcdtest.Certificate{Hosts: here})}
		newWeb.EnableHTTP2 = true
		newWeb.StartTLS()
		t.Cleanup(newWeb.Close)
		ssh := server(t, func(conn net.Conn) { io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n"); io.Copy(io.Discard, conn) })
		silence := server(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
		shuts := server(t, func(net.Conn) {})
		noOne := strings.TrimPrefix(closed(t), "http://")

		tlsOf := func(s *etcdtest.Server) string { return strings.Replace(s.Endpoint(), "http:", "https:", 1) }
		const notEtcd = "check host and port in ENDPOINT"
		for name, test := range map[string]struct {
			endpoint string
			config   etcd.Config
			says     []string
		}{
			"http to an etcd with TLS":               {strings.Replace(encrypted.Endpoint(), "https:", "http:", 1), etcd.Config{}, []string{"the server speaks TLS: write https in ENDPOINT"}},
			"http to one that wants a certificate":   {strings.Replace(mutual.Endpoint(), "https:", "http:", 1), etcd.Config{}, []string{"the server speaks TLS: write https in ENDPOINT"}},
			"https to an etcd without TLS":           {tlsOf(plain), etcd.Config{CAFile: ca.File()}, []string{"the server does not speak TLS: write http in ENDPOINT"}},
			"a web server":                           {web.URL, etcd.Config{}, []string{"a web server answers, and not etcd", notEtcd}},
			"a web server, by https":                 {strings.Replace(web.URL, "http:", "https:", 1), etcd.Config{}, []string{"a web server answers, and not etcd", notEtcd}},
			"a web server with TLS":                  {secureWeb.URL, etcd.Config{CAFile: ca.File()}, []string{"a TLS server answers, and not etcd", notEtcd}},
			"a web server with TLS, by http":         {strings.Replace(secureWeb.URL, "https:", "http:", 1), etcd.Config{}, []string{"the server speaks TLS: write https in ENDPOINT"}},
			"a web server with HTTP/2":               {newWeb.URL, etcd.Config{CAFile: ca.File()}, []string{"is not etcd", "404", notEtcd}},
			"an SSH server":                          {"http://" + ssh, etcd.Config{}, []string{`it begins with "SSH-2.0-OpenSSH_9.2"`, notEtcd}},
			"an SSH server, by https":                {"https://" + ssh, etcd.Config{}, []string{`it begins with "SSH-2.0-OpenSSH_9.2"`, notEtcd}},
			"silence":                                {"http://" + silence, etcd.Config{}, []string{"no answer in time, though a connection is accepted", "etcd hangs", notEtcd}},
			"silence, by https":                      {"https://" + silence, etcd.Config{}, []string{"no answer in time, though a connection is accepted", "etcd hangs", notEtcd}},
			"an etcd that hangs":                     {hung.Endpoint(), etcd.Config{}, []string{"no answer in time, though a connection is accepted", "etcd hangs"}},
			"one that ends connections":              {"http://" + shuts, etcd.Config{}, []string{"the connection is ended without an answer", notEtcd}},
			"one that ends connections, by https":    {"https://" + shuts, etcd.Config{}, []string{"the connection is ended without an answer", notEtcd}},
			"nothing listens":                        {"http://" + noOne, etcd.Config{}, []string{"connection refused", "check that etcd runs there", notEtcd}},
			"nothing listens, by https":              {"https://" + noOne, etcd.Config{}, []string{"connection refused", "check that etcd runs there", notEtcd}},
			"nothing at the default":                 {"http://" + noOne, etcd.Config{DefaultEndpoint: true}, []string{"connection refused", "no endpoint is set, and this is only the default: set ENDPOINT"}},
			"a name that is not in DNS":              {"http://no-such-host.invalid:2379", etcd.Config{}, []string{`"no-such-host.invalid"`, "DNS"}},
			"a server of another authority":          {encrypted.Endpoint(), etcd.Config{CAFile: other.File()}, []string{"which is not in " + other.File(), "CAFILE"}},
			"a server that the system does not know": {encrypted.Endpoint(), etcd.Config{}, []string{"which this system does not trust", "set CAFILE"}},
			"a name not in the certificate":          {"https://" + elsewhere, etcd.Config{CAFile: ca.File()}, []string{`not for "127.0.0.1"`, "ENDPOINT"}},
			"an expired certificate":                 {"https://" + expired, etcd.Config{CAFile: ca.File()}, []string{"expired at " + hour(-8).UTC().Format(time.DateOnly), "renew the certificate of the server"}},
			"a certificate that is not valid yet":    {"https://" + early, etcd.Config{CAFile: ca.File()}, []string{"not valid before " + hour(8).UTC().Format(time.DateOnly), "check the clock of this host"}},
			"no client certificate":                  {mutual.Endpoint(), etcd.Config{CAFile: ca.File()}, []string{"demands a client certificate", "set CERTFILE and KEYFILE"}},
			"no client certificate, TLS 1.2":         {"https://" + older, etcd.Config{CAFile: ca.File()}, []string{"demands a client certificate", "set CERTFILE and KEYFILE"}},
			"an unknown client certificate":          {mutual.Endpoint(), etcd.Config{CAFile: ca.File(), CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, []string{"does not accept the client certificate in " + stranger.CertFile, "CERTFILE"}},
			"an unknown client certificate, TLS 1.2": {"https://" + older, etcd.Config{CAFile: ca.File(), CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, []string{"does not accept the client certificate in " + stranger.CertFile, "CERTFILE"}},
			"none":                                   {mutual.Endpoint(), etcd.Config{CAFile: ca.File(), CertFile: client.CertFile, KeyFile: client.KeyFile}, nil},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test.config.Endpoints, test.config.Names = test.endpoint, names()
				_, err := connect(t, test.config).Get(bounded(t), lock.Read{Key: "k"})
				if (err != nil) != (test.says != nil) {
					t.Fatalf("get returned %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "\n") {
					t.Errorf("the error is more than a line: %q", err)
				}
				for _, part := range test.says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error is %q, without %q", err, part)
					}
				}
				if err != nil && strings.Contains(err.Error(), "client certificate") && !strings.Contains(name, "client certificate") {
					t.Errorf("the error is %q, which leads astray", err)
				}
			})
		}
	})
}

// Older versions serve clients there, too.
func TestPortForPeersIsNotForClients(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	_, err := connect(t, at(s.PeerEndpoint())).Get(bounded(t), lock.Read{Key: "k"})
	if err == nil || !strings.Contains(err.Error(), "a web server answers, and not etcd (its client port is 2379 by default): check host and port in -endpoint") {
		t.Errorf("get returned %v", err)
	}
}

// In a network namespace of its own a process reaches nobody.
func TestUnreachableNetworkIsNamed(t *testing.T) {
	t.Parallel()
	const endpoint = "http://192.0.2.1:2379"
	if os.Getenv("LOCKSMITH_TEST_NO_NETWORK") != "" {
		_, err := connect(t, etcd.Config{Endpoints: endpoint, Names: names()}).Get(bounded(t), lock.Read{Key: "k"})
		if err == nil || !strings.Contains(err.Error(), "etcd at "+endpoint+": it cannot be reached from this host (network is unreachable): check the network; check the host in ENDPOINT") {
			t.Errorf("get returned %v", err)
		}
		return
	}
	cmd := exec.CommandContext(bounded(t), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "LOCKSMITH_TEST_NO_NETWORK=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// gRPC uses the proxy of the environment, whatever it is meant for.
func TestProxyOfTheEnvironmentIsNamed(t *testing.T) {
	t.Parallel()
	const endpoint = "http://192.0.2.1:2379"
	if os.Getenv("LOCKSMITH_TEST_PROXY") != "" {
		_, err := connect(t, at(endpoint)).Get(bounded(t), lock.Read{Key: "k"})
		if err == nil || !strings.Contains(err.Error(), "HTTPS_PROXY") || !strings.Contains(err.Error(), "name 192.0.2.1 in NO_PROXY") {
			t.Errorf("get returned %v", err)
		}
		return
	}
	cmd := exec.CommandContext(bounded(t), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "LOCKSMITH_TEST_PROXY=1", "HTTPS_PROXY="+closed(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The caller's time may be over while endpoints are still tried.
func TestCauseIsNamedWhenTheCallersTimeIsOver(t *testing.T) {
	t.Parallel()
	endpoint := closed(t)
	e := connect(t, at(endpoint, silent(t)))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := e.Get(ctx, lock.Read{Key: "k"})
	if !errors.Is(err, ctx.Err()) || !strings.Contains(err.Error(), "etcd at "+endpoint+": connection refused") || !strings.Contains(err.Error(), "though a connection is accepted") {
		t.Errorf("get returned %v", err)
	}
}
