package etcd_test

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// validate returns what is wrong with the options as one error.
func validate(c etcd.Config) error {
	var errs []error
	for _, err := range c.Validate() {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wantOptionError checks that err names the option and says why, in a sentence.
func wantOptionError(t *testing.T, err error, option etcd.Option, says ...string) {
	t.Helper()
	var o *etcd.OptionError
	if !errors.As(err, &o) || o.Option != option || !errors.Is(err, lock.ErrRefused) {
		t.Errorf("the error is %v, want one of option %s", err, option)
		return
	}
	for _, part := range append(says, "-"+option.String()) {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %q, without %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is more than a sentence: %q", err)
	}
}

func TestEndpointsThatWork(t *testing.T) {
	for _, endpoints := range [][]string{
		{"http://127.0.0.1:2379"},
		{"http://127.0.0.1:2379/"},
		{"https://10.0.0.1:2379", "https://10.0.0.2:2379"},
		{"http://10.0.0.1:2379,http://10.0.0.2:2379"},
		{"https://etcd.example.com"},
		{"HTTP://etcd.example.com:2379"},
		{"http://[::1]:2379", "http://[fe80::1%25eth0]:2379"},
		{"http://a:1", "http://a:1"},
	} {
		if err := validate(at(endpoints...)); err != nil {
			t.Errorf("%q: %v", endpoints, err)
		}
	}
}

func TestEndpointsThatCannotWorkAreRefused(t *testing.T) {
	for _, test := range []struct {
		endpoints []string
		says      string
	}{
		{nil, "such as http://127.0.0.1:2379"},
		{[]string{"http://a:1", ""}, "is empty"},
		{[]string{"127.0.0.1:2379"}, "write http://127.0.0.1:2379 or https://127.0.0.1:2379"},
		{[]string{"localhost"}, "no scheme"},
		{[]string{"unix:///run/etcd.sock"}, "must be http or https"},
		{[]string{"ftp://10.0.0.1"}, "must be http or https"},
		{[]string{"http://"}, "has no host"},
		{[]string{"http://:2379"}, "has no host"},
		{[]string{"http://10.0.0.1:2379/v2/keys"}, "more than scheme, host and port"},
		{[]string{"http://10.0.0.1:2379?x=1"}, "more than scheme, host and port"},
		{[]string{"http://10.0.0.1:2379#x"}, "more than scheme, host and port"},
		{[]string{"http://10.0.0.1:http"}, "is not a URL"},
		{[]string{"http://10.0.0.1:0"}, "from 1 to 65535"},
		{[]string{"http://10.0.0.1:70000"}, "from 1 to 65535"},
		{[]string{"http://10.0.0.1:2379 "}, "is not a URL"},
		{[]string{"http://\x00"}, "is not a URL"},
		{[]string{"http://user:secret@10.0.0.1:2379"}, "use -etcd-username and -etcd-password"},
		{[]string{"http://user:secret@10.0.0.1:x"}, "use -etcd-username and -etcd-password"},
		{[]string{"http://:secret,@10.0.0.1:2379"}, "use -etcd-username and -etcd-password"},
		{[]string{"http://", "localhost"}, `"http://" has no host; write it like http://10.0.0.1:2379, and "localhost" has no scheme`},
		{[]string{"http://10.0.0.1:2379", "https://10.0.0.2:2379"}, "mix http and https"},
	} {
		err := validate(at(test.endpoints...))
		wantOptionError(t, err, etcd.OptionEndpoint, test.says)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
		if _, err := etcd.New(at(test.endpoints...)).Get(t.Context(), lock.Read{Key: "k"}); !errors.Is(err, lock.ErrRefused) {
			t.Errorf("%q is used: %v", test.endpoints, err)
		}
	}
}

// files makes files in a folder of the test's own.
func files(t *testing.T, content map[string][]byte) func(name string) string {
	dir := t.TempDir()
	for name, data := range content {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHalfAPairNamesTheMissingOption(t *testing.T) {
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
	for _, test := range []struct {
		set            func(*etcd.Config)
		given, missing etcd.Option
	}{
		{func(c *etcd.Config) { c.CertFile = pair.CertFile }, etcd.OptionCertFile, etcd.OptionKeyFile},
		{func(c *etcd.Config) { c.KeyFile = pair.KeyFile }, etcd.OptionKeyFile, etcd.OptionCertFile},
		{func(c *etcd.Config) { c.CAFile, c.KeyFile = ca.File(), pair.KeyFile }, etcd.OptionKeyFile, etcd.OptionCertFile},
		{func(c *etcd.Config) { c.Username = "u" }, etcd.OptionUsername, etcd.OptionPassword},
		{func(c *etcd.Config) { c.Password = "secret" }, etcd.OptionPassword, etcd.OptionUsername},
		{func(c *etcd.Config) { c.PasswordFile = "/secret" }, etcd.OptionPasswordFile, etcd.OptionUsername},
	} {
		c := at("https://127.0.0.1:2379")
		test.set(&c)
		wantOptionError(t, validate(c), test.given, "is set without -"+test.missing.String())
	}
}

func TestAllWrongOptionsAreReportedAtOnce(t *testing.T) {
	got := validate(etcd.Config{
		Endpoints: "ftp://a", CAFile: "/missing/ca", CertFile: "/missing/cert", KeyFile: "/missing/key\n", Username: "u", Password: "secret",
		PasswordFile: "/missing/password", Names: etcd.Names{etcd.OptionCertFile: "CERTFILE"},
	})
	want := []string{
		`-endpoint: "ftp://a" has scheme "ftp"; it must be http or https`,
		"-etcd-keyfile: it has characters that cannot be printed",
		"-etcd-password-file: is set though -etcd-password is set; set one of them",
		"-etcd-cafile: read /missing/ca: no such file or directory",
		"CERTFILE: read /missing/cert: no such file or directory",
	}
	if got == nil || got.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestAnyWholeSetOfTLSOptionsIsValid(t *testing.T) {
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
	for _, c := range []etcd.Config{
		{},
		{CAFile: ca.File()},
		{CertFile: pair.CertFile, KeyFile: pair.KeyFile},
		{CAFile: ca.File(), CertFile: pair.CertFile, KeyFile: pair.KeyFile},
	} {
		for _, endpoint := range []string{"http://127.0.0.1:2379", "https://127.0.0.1:2379"} {
			c.Endpoints = endpoint
			if err := validate(c); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		}
	}
}

func TestFilesThatCannotWorkAreRefused(t *testing.T) {
	ca := etcdtest.MustCA(t)
	good, other := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host"}), ca.MustIssue(t, etcdtest.Certificate{CommonName: "other"})
	longAgo := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	farOff := time.Date(2120, 2, 3, 4, 5, 6, 0, time.UTC)
	expired := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host", NotBefore: longAgo.AddDate(-1, 0, 0), NotAfter: longAgo})
	early := ca.MustIssue(t, etcdtest.Certificate{CommonName: "host", NotBefore: farOff, NotAfter: farOff.AddDate(1, 0, 0)})
	path := files(t, map[string][]byte{
		"empty":  nil,
		"text":   []byte("hello"),
		"broken": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"huge":   nil,

		"broken key":     []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"passphrase":     []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
		"old passphrase": []byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"),
	})
	must.Do(t, os.Truncate(path("huge"), 100<<20))
	must.Do(t, os.Mkdir(path("folder"), 0o700))
	must.Do(t, syscall.Mkfifo(path("pipe"), 0o600))
	for _, test := range []struct {
		ca, cert, key string
		option        etcd.Option
		says          []string
	}{
		{path("missing"), "", "", etcd.OptionCAFile, []string{path("missing"), "no such file"}},
		{path("folder"), "", "", etcd.OptionCAFile, []string{path("folder"), "a directory, not a file"}},
		{path("pipe"), "", "", etcd.OptionCAFile, []string{path("pipe"), "not a regular file"}},
		{path("huge"), "", "", etcd.OptionCAFile, []string{path("huge"), "larger than 8388608 bytes"}},
		{path("empty"), "", "", etcd.OptionCAFile, []string{path("empty"), "no certificate"}},
		{path("text"), "", "", etcd.OptionCAFile, []string{path("text"), "no certificate"}},
		{path("broken"), "", "", etcd.OptionCAFile, []string{path("broken"), "no certificate"}},
		{good.KeyFile, "", "", etcd.OptionCAFile, []string{good.KeyFile, "no certificate"}},
		{"", path("missing"), good.KeyFile, etcd.OptionCertFile, []string{path("missing"), "no such file"}},
		{"", good.CertFile, path("missing"), etcd.OptionKeyFile, []string{path("missing"), "no such file"}},
		{"", path("text"), good.KeyFile, etcd.OptionCertFile, []string{path("text")}},
		{"", good.KeyFile, good.CertFile, etcd.OptionCertFile, []string{good.KeyFile, "no certificate"}},
		{"", good.CertFile, path("text"), etcd.OptionKeyFile, []string{path("text"), "no private key", good.CertFile}},
		{"", good.CertFile, good.CertFile, etcd.OptionKeyFile, []string{good.CertFile, "no private key"}},
		{"", good.CertFile, path("passphrase"), etcd.OptionKeyFile, []string{path("passphrase"), "passphrase", "openssl pkey"}},
		{"", good.CertFile, path("old passphrase"), etcd.OptionKeyFile, []string{path("old passphrase"), "passphrase"}},
		{"", good.CertFile, path("broken key"), etcd.OptionCertFile, []string{path("broken key"), good.CertFile}},
		{"", good.CertFile, other.KeyFile, etcd.OptionCertFile, []string{good.CertFile, other.KeyFile, "does not match"}},
		{"", expired.CertFile, expired.KeyFile, etcd.OptionCertFile, []string{expired.CertFile, "expired at 2020-02-03T04:05:06Z"}},
		{"", early.CertFile, early.KeyFile, etcd.OptionCertFile, []string{early.CertFile, "not valid before 2120-02-03T04:05:06Z"}},
	} {
		c := at("https://127.0.0.1:2379")
		c.CAFile, c.CertFile, c.KeyFile = test.ca, test.cert, test.key
		wantOptionError(t, validate(c), test.option, test.says...)
		c.Endpoints = "http://127.0.0.1:2379"
		if err := validate(c); err != nil {
			t.Errorf("files that http does not use are refused: %v", err)
		}
	}
}

func TestChainAndSeveralAuthoritiesInAFileWork(t *testing.T) {
	ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
	path := files(t, map[string][]byte{"both": append(contentOf(t, other.File()), contentOf(t, ca.File())...)})
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{TLS: &etcdtest.TLS{CA: ca}})
	c := etcd.Config{Endpoints: s.Endpoint(), CAFile: path("both")}
	lockFor(bounded(t), t, newLock(t, connect(t, c), ""), "a")
}

func TestFilesAreNotReadForHTTP(t *testing.T) {
	t.Parallel()
	s := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	c := at(s.Endpoint())
	c.CAFile, c.CertFile, c.KeyFile = "/missing/ca", "/missing/cert", "/missing/key"
	lockFor(bounded(t), t, newLock(t, connect(t, c), ""), "a")
}

func TestPasswordFileHasOneLine(t *testing.T) {
	path := files(t, map[string][]byte{
		"bare":      []byte("se cret"),
		"line":      []byte("secret\n"),
		"crlf":      []byte("secret\r\n"),
		"empty":     nil,
		"blank":     []byte("\n"),
		"two lines": []byte("secret\nsecret\n"),
		"binary":    []byte("sec\xffret"),
		"huge":      nil,
	})
	must.Do(t, os.Truncate(path("huge"), 100<<20))
	must.Do(t, syscall.Mkfifo(path("pipe"), 0o600))
	for _, name := range []string{"bare", "line", "crlf"} {
		c := at("https://127.0.0.1:2379")
		c.Username, c.PasswordFile = "u", path(name)
		if err := validate(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, says := range map[string]string{
		"missing": "no such file", "empty": "is empty", "blank": "is empty", "two lines": "more than a line of text",
		"binary": "more than a line of text", "huge": "larger than 8388608 bytes", "pipe": "not a regular file",
	} {
		c := at("https://127.0.0.1:2379")
		c.Username, c.PasswordFile = "u", path(name)
		err := validate(c)
		wantOptionError(t, err, etcd.OptionPasswordFile, path(name), says)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	c := at("https://127.0.0.1:2379")
	c.Username, c.Password, c.PasswordFile = "u", "secret", path("line")
	wantOptionError(t, validate(c), etcd.OptionPasswordFile, "-etcd-password is set", "set one of them")
}

func TestPasswordFileIsReadAgainAtEachConnect(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{})
		must.Do(t, s.EnableAuth(ctx, etcdtest.User{Name: "locksmith", Password: "first", Prefix: root, Permission: readWrite}))
		c := at(s.Endpoint())
		c.Username, c.PasswordFile = "locksmith", files(t, map[string][]byte{"password": []byte("first\n")})("password")
		e := connect(t, c)
		l := newLock(t, e, "")
		lockFor(ctx, t, l, "a")
		client, err := s.Client()
		must.Do(t, err)
		_, err = client.UserChangePassword(ctx, "locksmith", "second")
		must.Do(t, err)
		must.Do(t, e.Close())
		if _, err := l.Status(ctx); !errors.Is(err, lock.ErrRefused) || !strings.Contains(err.Error(), "password in "+c.PasswordFile) {
			t.Errorf("with the old password, status returned %v", err)
		}
		must.Do(t, os.WriteFile(c.PasswordFile, []byte("second"), 0o600))
		must.Do(t, l.Release(ctx, "a"))
	})
}

// renewable are files whose content is replaced.
func renewable(t *testing.T, endpoints ...string) (c etcd.Config, install func(server, client *etcdtest.CA)) {
	dir := t.TempDir()
	c = etcd.Config{Endpoints: strings.Join(endpoints, ","), CAFile: dir + "/ca", CertFile: dir + "/cert", KeyFile: dir + "/key"}
	return c, func(server, client *etcdtest.CA) {
		t.Helper()
		pair := client.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		for to, from := range map[string]string{c.CAFile: server.File(), c.CertFile: pair.CertFile, c.KeyFile: pair.KeyFile} {
			must.Do(t, os.WriteFile(to, contentOf(t, from), 0o600))
		}
	}
}

// The host waits in the queue on one connection while everything else changes: etcd comes back with
// certificates of other authorities, the host's files are renewed, and are half written for a while.
func TestWaitSurvivesRenewedCertificates(t *testing.T) {
	eachEtcd(t, func(t *testing.T, v etcdtest.Version) {
		ctx := bounded(t)
		oldServer, oldClient, newServer, newClient := etcdtest.MustCA(t), etcdtest.MustCA(t), etcdtest.MustCA(t), etcdtest.MustCA(t)
		s := etcdtest.MustStart(t, v, etcdtest.Options{TLS: &etcdtest.TLS{CA: oldServer, ClientCA: oldClient}})
		c, install := renewable(t, s.Endpoint())
		install(oldServer, oldClient)
		holder := newLock(t, connect(t, c), "")
		lockFor(ctx, t, holder, "a")
		w := startWaiting(ctx, t, newLock(t, connect(t, c), ""), "b")

		pair := newClient.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
		must.Do(t, os.WriteFile(c.CertFile, contentOf(t, pair.CertFile), 0o600)) // but not its key yet
		must.Do(t, s.Renew(ctx, etcdtest.TLS{CA: newServer, ClientCA: newClient}))
		w.mustReport(t, "does not match")
		must.Do(t, os.Remove(c.KeyFile))
		w.mustReport(t, c.KeyFile)
		must.Do(t, os.WriteFile(c.CAFile, nil, 0o600))
		w.mustReport(t, "etcd at "+s.Endpoint()+": -etcd-cafile: "+c.CAFile+" has no certificate")

		install(newServer, newClient)
		must.Do(t, newLock(t, connect(t, c), "").Release(ctx, "a"))
		w.mustGet(t)
	})
}

// mustReport waits for a failure that says something.
func (w wait) mustReport(t *testing.T, says string) {
	t.Helper()
	for {
		select {
		case err := <-w.reports:
			if err != nil && strings.Contains(err.Error(), says) {
				return
			}
		case err := <-w.done:
			t.Fatalf("acquire ended before it reported %q: %v", says, err)
		}
	}
}

// A client refuses a server that supports nothing newer than TLS 1.1.
func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	t.Parallel()
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "etcd", Hosts: []string{"127.0.0.1"}})
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	must.Do(t, err)
	for _, version := range []uint16{tls.VersionTLS11, tls.VersionTLS12} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2"},
		})
		must.Do(t, err)
		t.Cleanup(func() { l.Close() })
		shaken := make(chan error, 100)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				shaken <- conn.(*tls.Conn).HandshakeContext(t.Context())
				conn.Close()
			}
		}()
		c := at("https://" + l.Addr().String())
		c.CAFile = ca.File()
		_, err = connect(t, c).Get(bounded(t), lock.Read{Key: "k"})
		if err == nil || <-shaken == nil != (version == tls.VersionTLS12) {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if old := version < tls.VersionTLS12; old != strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("%s: the error is %v", tls.VersionName(version), err)
		}
	}
}
