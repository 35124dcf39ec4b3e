package listen

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

func TestFilesOfTLSThatCannotBeUsed(t *testing.T) {
	ca := etcdtest.MustCA(t)
	a, b := ca.MustIssue(t, etcdtest.Certificate{CommonName: "a"}), ca.MustIssue(t, etcdtest.Certificate{CommonName: "b"})
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for want, files := range map[string]Files{
		"certificate " + a.CertFile + " with key " + b.KeyFile + ": private key does not match public key": {Cert: a.CertFile, Key: b.KeyFile},
		"read " + missing + ": no such file or directory":                                                  {Cert: missing, Key: a.KeyFile},
		"read " + missing + ": no such file or directory\n":                                                {Cert: a.CertFile, Key: missing},
		a.KeyFile + " has no certificate in it; it must be in PEM format":                                  {Cert: a.CertFile, Key: a.KeyFile, ClientCA: a.KeyFile},
	} {
		if _, err := NewTLS(files, nil); err == nil || err.Error() != strings.TrimSpace(want) {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}

func TestReloadReadsFilesThatHaveChanged(t *testing.T) {
	ca, other := etcdtest.MustCA(t), etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "a"})
	synctest.Test(t, func(t *testing.T) {
		c, err := NewTLS(Files{pair.CertFile, pair.KeyFile, ca.File()}, slog.New(slog.DiscardHandler))
		must.Do(t, err)
		was := c.current()
		if c.later() != was {
			t.Error("the files have not changed, and are read")
		}
		if c.Reload(); c.current() == was {
			t.Error("the files are not read on request")
		}
		was = c.current()
		must.Do(t, os.WriteFile(ca.File(), nil, 0o600))
		c.Reload()
		if c.current() != was {
			t.Error("a file that cannot be used is used")
		}
		must.Do(t, os.Rename(other.File(), ca.File()))
		if now := c.later(); now == was || now.ClientCAs.Equal(was.ClientCAs) {
			t.Error("a new authority is not used")
		}
	})
}

// later returns the configuration a second later.
func (t *TLS) later() *tls.Config {
	time.Sleep(time.Second)
	return t.current()
}

// The process has no file descriptor left for a moment, after files were replaced.
func TestFilesOfTLSThatCannotBeReadForAMoment(t *testing.T) {
	ca := etcdtest.MustCA(t)
	pair, next := ca.MustIssue(t, etcdtest.Certificate{CommonName: "a"}), ca.MustIssue(t, etcdtest.Certificate{CommonName: "b"})
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c, err := NewTLS(Files{Cert: pair.CertFile, Key: pair.KeyFile}, slog.New(slog.NewTextHandler(&log, nil)))
		must.Do(t, err)
		was := c.current()
		must.Do(t, os.Rename(next.CertFile, pair.CertFile))
		must.Do(t, os.Rename(next.KeyFile, pair.KeyFile))
		var limit syscall.Rlimit
		must.Do(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
		must.Do(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: limit.Max}))
		meanwhile := []*tls.Config{c.later(), c.later()}
		must.Do(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
		if meanwhile[0] != was || meanwhile[1] != was || strings.Count(log.String(), "too many open files") != 1 {
			t.Errorf("the log is %s", log.String())
		}
		if c.later() == was {
			t.Error("the files are not read again")
		}
	})
}

// A client that does not trust the certificate, or speaks no TLS, is named in the log, once.
func TestHandshakesThatFailAreLogged(t *testing.T) {
	pair := etcdtest.MustCA(t).MustIssue(t, etcdtest.Certificate{CommonName: "a", Hosts: []string{"127.0.0.1"}})
	c, err := NewTLS(Files{Cert: pair.CertFile, Key: pair.KeyFile}, slog.New(slog.DiscardHandler))
	must.Do(t, err)
	l, err := Open(t.Context(), "127.0.0.1:0")
	must.Do(t, err)
	lines := make(lineWriter, 100)
	server := &http.Server{TLSConfig: c.Config(), ErrorLog: ErrorLog(slog.New(slog.NewTextHandler(lines, nil)))}
	go func() { _ = server.ServeTLS(NewLimit(100).Listener(l), "", "") }()
	defer server.Close()
	for range 10 {
		if conn, err := tls.Dial("tcp", l.Addr().String(), nil); err == nil {
			conn.Close()
			t.Error("the certificate is trusted")
		}
	}
	line := must.Receive(t, patience, "a line", lines)
	if !strings.Contains(line, `msg="a TLS handshake has failed" address=127.0.0.1 error="remote error: tls: `) {
		t.Errorf("logged is %s", line)
	}
	resp, err := http.Get("http://" + l.Addr().String()) // it waits for the answer, and so for the line
	must.Do(t, err)
	resp.Body.Close()
	line = must.Receive(t, patience, "a line", lines)
	if !strings.Contains(line, `error="client sent an HTTP request to an HTTPS server"`) || len(lines) > 0 {
		t.Errorf("logged is %s, and %d lines more", line, len(lines))
	}
}

// lineWriter sends what is written.
type lineWriter chan string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)
	return len(line), nil
}
