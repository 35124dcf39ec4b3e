package fleetclient_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/fleetclient"
	"github.com/locksmithd/locksmith/test/fleetlocktest"
	"github.com/locksmithd/locksmith/test/must"
)

var params = fleetlock.Params{ID: "a", Group: "default"}

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	var der []byte
	der, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	var err error
	a.cert, err = x509.ParseCertificate(der)
	must.Do(t, err)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// sign returns a certificate, signed by the authority or, for its own, by itself.
func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.Do(a.t, err)
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must.Do(a.t, err)
	return der, key
}

// client writes a client certificate and its key into files.
func (a *authority) client(certFile, keyFile string) {
	der, key := a.sign(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must.Do(a.t, err)
	writePEM(a.t, certFile, "CERTIFICATE", der)
	writePEM(a.t, keyFile, "PRIVATE KEY", private)
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	must.Do(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// serveTLS starts a server that wants client certificates of an authority.
func serveTLS(t *testing.T, a *authority, handler http.Handler) (url string) {
	der, key := a.sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// Certificates and passwords that are renewed on the disk count from the next request on.
func TestFilesAreReadWithEachRequest(t *testing.T) {
	old, renewed := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	c := fleetclient.Config{CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), Username: "web", PasswordFile: filepath.Join(dir, "password")}
	server := fleetlocktest.New(1)
	install := func(a *authority, password string) {
		ca, err := os.ReadFile(a.file)
		must.Do(t, err)
		must.Do(t, os.WriteFile(c.CAFile, ca, 0o600))
		a.client(c.CertFile, c.KeyFile)
		must.Do(t, os.WriteFile(c.PasswordFile, []byte(password), 0o600))
	}
	install(old, "one\n")
	c.URL = serveTLS(t, old, server)
	must.Do(t, c.Validate())
	must.Do(t, c.PreReboot(t.Context(), nil, params))

	c.URL = serveTLS(t, renewed, server)
	err := c.PreReboot(t.Context(), nil, params)
	if err == nil || errors.Is(err, fleetlock.ErrUnknown) || !strings.Contains(err.Error(), "LOCKSMITHD_FLEETLOCK_CAFILE names the file of a certificate authority") {
		t.Errorf("with another authority: %v", err)
	}
	install(renewed, "two\r\n")
	must.Do(t, c.SteadyState(t.Context(), nil, params))
	if got, want := server.Users(), []string{"web:one", "web:two"}; !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}

	// A file that cannot be used for a moment is named, and nothing is sent.
	for file, option := range map[string]string{c.CAFile: "_CAFILE", c.CertFile: "_CERTFILE", c.KeyFile: "_KEYFILE", c.PasswordFile: "_PASSWORD_FILE"} {
		install(renewed, "two\n")
		must.Do(t, os.Remove(file))
		err := c.PreReboot(t.Context(), nil, params)
		if err == nil || errors.Is(err, fleetlock.ErrUnknown) || !strings.HasPrefix(err.Error(), "LOCKSMITHD_FLEETLOCK"+option+": read "+file) || err.Error() != c.Validate().Error() {
			t.Errorf("without %s: %v, and the check says %v", file, err, c.Validate())
		}
	}
	if n := len(server.Users()); n != 2 {
		t.Errorf("the server got %d requests", n)
	}
}

// With http:// nothing is read that is only for https://.
func TestFilesForTLSAreNotReadWithoutIt(t *testing.T) {
	server := fleetlocktest.New(1)
	c := fleetclient.Config{URL: server.Start(t), CAFile: "/no/such/file", CertFile: "/no/such/file", KeyFile: "/no/such/file"}
	must.Do(t, c.Validate())
	must.Do(t, c.PreReboot(t.Context(), nil, params))
}

// What is wrong with a setting is said where a user can hardly guess it.
func TestErrorsNameTheSetting(t *testing.T) {
	server := fleetlocktest.New(1)
	url := server.Start(t)
	c := fleetclient.Config{URL: strings.Replace(url, "http:", "https:", 1)}
	if err := c.PreReboot(t.Context(), nil, params); err == nil || !strings.Contains(err.Error(), "write http:// in LOCKSMITHD_FLEETLOCK_URL") {
		t.Errorf("TLS with a server that does not speak it: %v", err)
	}
	server.Break(fleetlocktest.Raw(401, "application/json", `{"kind":"unauthorized","value":"who are you?"}`))
	c.URL = url
	err := c.PreReboot(t.Context(), nil, params)
	var answer *fleetlock.Error
	if !errors.As(err, &answer) || !strings.Contains(err.Error(), "LOCKSMITHD_FLEETLOCK_USERNAME and LOCKSMITHD_FLEETLOCK_PASSWORD_FILE say who asks") {
		t.Errorf("another user: %v", err)
	}
}
