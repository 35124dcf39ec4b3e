package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// certificates are the paths of PEM files.
type certificates struct{ ca, cert, key, expired, expiredKey string }

func newCertificates(t *testing.T) certificates {
	t.Helper()
	dir := t.TempDir()
	c := certificates{
		ca:         filepath.Join(dir, "ca.pem"),
		cert:       filepath.Join(dir, "cert.pem"),
		key:        filepath.Join(dir, "key.pem"),
		expired:    filepath.Join(dir, "expired.pem"),
		expiredKey: filepath.Join(dir, "expired-key.pem"),
	}
	writeCertificate(t, c.cert, c.key, time.Now().Add(time.Hour))
	writeCertificate(t, c.ca, filepath.Join(dir, "ca-key.pem"), time.Now().Add(time.Hour))
	writeCertificate(t, c.expired, c.expiredKey, time.Now().Add(-time.Hour))
	return c
}

func writeCertificate(t *testing.T, certPath, keyPath string, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.Do(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must.Do(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must.Do(t, err)
	writeFile(t, certPath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	must.Do(t, os.Chmod(keyPath, 0o600))
}

func TestCombinationsOfCertificatesAndUser(t *testing.T) {
	c := newCertificates(t)
	tests := []struct {
		name  string
		flags []Flag
		want  string // what the error begins with, "" for none
		then  string
	}{
		{"a CA alone", []Flag{{"etcd-cafile", c.ca}}, "", ""},
		{"a certificate with its key, on the roots of the system", []Flag{{"etcd-certfile", c.cert}, {"etcd-keyfile", c.key}}, "", ""},
		{"all three", []Flag{{"etcd-cafile", c.ca}, {"etcd-certfile", c.cert}, {"etcd-keyfile", c.key}}, "", ""},
		{"all and a user", []Flag{{"etcd-cafile", c.ca}, {"etcd-certfile", c.cert}, {"etcd-keyfile", c.key}, {"etcd-username", "u"}, {"etcd-password", "p"}}, "", ""},
		{"a user alone", []Flag{{"etcd-username", "u"}, {"etcd-password", "p"}}, "", ""},
		{"a CA and a certificate without its key", []Flag{{"etcd-cafile", c.ca}, {"etcd-certfile", c.cert}}, `-etcd-certfile="` + c.cert, "without -etcd-keyfile"},
		{"the key of another certificate", []Flag{{"etcd-certfile", c.cert}, {"etcd-keyfile", c.expiredKey}}, `-etcd-certfile="` + c.cert, c.expiredKey},
		{"an expired certificate", []Flag{{"etcd-certfile", c.expired}, {"etcd-keyfile", c.expiredKey}}, `-etcd-certfile="` + c.expired, "expired"},
		{"a missing key", []Flag{{"etcd-certfile", c.cert}, {"etcd-keyfile", "/missing"}}, `-etcd-keyfile="/missing"`, "no such file"},
		{"a directory", []Flag{{"etcd-cafile", "/etc"}}, `-etcd-cafile="/etc"`, "a directory, not a file"},
		{"a name that spans lines", []Flag{{"etcd-cafile", "/etc/\nca.pem"}}, `-etcd-cafile="/etc/\nca.pem"`, "printed"},
		{"a mix of http and https", []Flag{{"endpoint", "http://a:1"}, {"endpoint", "https://b:1"}}, `-endpoint="http://a:1,https://b:1"`, "mix"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			flags := test.flags
			if flags[0].Name != "endpoint" {
				flags = append([]Flag{{"endpoint", "https://a:1"}}, flags...)
			}
			config, err := Load(Options{Program: CLI, Root: t.TempDir(), Flags: flags})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want) || !strings.Contains(err.Error(), test.then) || strings.Contains(err.Error(), "\n")):
				t.Errorf("error %q, want %q and then %q", err, test.want, test.then)
			}
			if len(config.Warnings) > 0 {
				t.Errorf("warnings %q", config.Warnings)
			}
		})
	}
}

func TestCertificatesWithoutEncryptionAreWarnedAbout(t *testing.T) {
	c := newCertificates(t)
	for _, ca := range []string{c.ca, "/missing", "/etc"} {
		for _, endpoint := range []string{"http://127.0.0.1:2379", " HTTP://127.0.0.1:2379"} {
			config := mustLoad(t, Options{Program: CLI, Root: t.TempDir(), Flags: []Flag{{"endpoint", endpoint}, {"etcd-cafile", ca}, {"etcd-certfile", c.expired}, {"etcd-keyfile", "/missing"}}})
			if w := config.Warnings; len(w) != 3 || !strings.HasPrefix(w[0], `-etcd-cafile="`+ca+`" (command line): it has no effect`) || !strings.Contains(w[0], endpoint) {
				t.Errorf("warnings %q", w)
			}
		}
	}
}
