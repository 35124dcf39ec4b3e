package listen

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	c, err := NewTLS(Files{pair.CertFile, pair.KeyFile, ca.File()}, slog.New(slog.DiscardHandler))
	must.Do(t, err)
	was := c.current()
	c.Reload()
	if c.current() != was {
		t.Error("the files have not changed, and are read")
	}
	must.Do(t, os.WriteFile(ca.File(), nil, 0o600))
	c.Reload()
	if c.current() != was {
		t.Error("a file that cannot be used is used")
	}
	must.Do(t, os.Rename(other.File(), ca.File()))
	c.Reload()
	if now := c.current(); now == was || now.ClientCAs.Equal(was.ClientCAs) {
		t.Error("a new authority is not used")
	}
}
