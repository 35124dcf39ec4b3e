package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// CA is a certificate authority that keeps the certificates it issues as PEM files in one folder. It is safe for
// concurrent use.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	serial int64
}

// Certificate describes a certificate to issue.
type Certificate struct {
	// CommonName is also the user name, where etcd takes users from client certificates.
	CommonName string
	// Organizations are also the groups of the user, where Kubernetes takes users from client certificates.
	Organizations []string
	// Hosts are the IP addresses and DNS names that a server answers for.
	Hosts []string
	// NotBefore and NotAfter default to an hour ago and a day from now.
	NotBefore, NotAfter time.Time
}

// KeyPair holds the paths of the PEM files of a certificate and its key.
type KeyPair struct{ CertFile, KeyFile string }

// NewCA makes an authority with a new key. The folder dir must exist and must not be used for anything else.
func NewCA(dir string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "etcdtest CA " + filepath.Base(dir)},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(7 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	ca := &CA{dir: dir, cert: cert, key: key, serial: 1}
	if err := writePEM(ca.File(), "CERTIFICATE", der); err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	return ca, nil
}

// File is the path of the authority's own certificate.
func (ca *CA) File() string { return filepath.Join(ca.dir, "ca.pem") }

// Issue makes a certificate for servers and clients, with a key of its own. It keeps the files of earlier
// certificates.
func (ca *CA) Issue(c Certificate) (KeyPair, error) {
	ca.mu.Lock()
	ca.serial++
	serial := ca.serial
	ca.mu.Unlock()

	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: c.CommonName, Organization: c.Organizations},
		NotBefore:    c.NotBefore,
		NotAfter:     c.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range c.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("issue certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("issue certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("issue certificate: %w", err)
	}
	pair := KeyPair{
		CertFile: filepath.Join(ca.dir, fmt.Sprintf("%d.pem", serial)),
		KeyFile:  filepath.Join(ca.dir, fmt.Sprintf("%d-key.pem", serial)),
	}
	if err := writePEM(pair.CertFile, "CERTIFICATE", der); err != nil {
		return KeyPair{}, fmt.Errorf("issue certificate: %w", err)
	}
	if err := writePEM(pair.KeyFile, "PRIVATE KEY", keyDER); err != nil {
		return KeyPair{}, fmt.Errorf("issue certificate: %w", err)
	}
	return pair, nil
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
