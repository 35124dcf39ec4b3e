package listen

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// maxFile is more than certificates take, in bytes.
const maxFile = 8 << 20

// Files are the paths of the files for TLS, which are in PEM format.
type Files struct {
	Cert, Key string // of the server
	ClientCA  string // the authorities of its clients; "" if clients need no certificate
}

// TLS is a configuration of TLS whose files may change.
type TLS struct {
	files  Files
	log    *slog.Logger
	config *readfile.Followed[*tls.Config]
}

// NewTLS reads the files.
func NewTLS(files Files, log *slog.Logger) (*TLS, error) {
	t := &TLS{files: files, log: log, config: readfile.Follow[*tls.Config](files.paths()...)}
	config, err := files.read()
	t.config.Use(config)
	return t, err
}

// Config returns what a server needs. A client without a certificate can connect, so that the [Handler] can answer it.
func (t *TLS) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current(), nil },
	}
}

// Reload reads the files again.
func (t *TLS) Reload() { t.config.Reload(t.read) }

// current returns the configuration of the files as they were a second ago at most.
func (t *TLS) current() *tls.Config { return t.config.Current(t.read) }

// read implements [readfile.Reader].
func (t *TLS) read(_ *tls.Config, news func(string) bool) (*tls.Config, error) {
	config, err := t.files.read()
	switch {
	case err == nil:
		t.log.Info("the files of TLS were read again, and are in use", "until", config.Certificates[0].Leaf.NotAfter.Format(time.RFC3339))
	case news(err.Error()):
		t.log.Error("the files of TLS were read again, and cannot be used: those before stay in use", "error", err)
	}
	return config, err
}

func (f Files) paths() []string {
	paths := []string{f.Cert, f.Key}
	if f.ClientCA != "" {
		paths = append(paths, f.ClientCA)
	}
	return paths
}

func (f Files) read() (*tls.Config, error) {
	cert, err := readfile.Read(f.Cert, maxFile)
	if err != nil {
		return nil, err
	}
	key, err := readfile.Read(f.Key, maxFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %s", f.Cert, f.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"},
		// A session would outlive the files.
		SessionTicketsDisabled: true,
	}
	if f.ClientCA == "" {
		return c, nil
	}
	ca, err := readfile.Read(f.ClientCA, maxFile)
	if err != nil {
		return nil, err
	}
	c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate in it; it must be in PEM format", f.ClientCA)
	}
	return c, nil
}
