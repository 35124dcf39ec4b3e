package etcd

import (
	"cmp"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// Where distributions keep the certificate authorities that they trust: the first file that
// can be read, and every file of the directories. SSL_CERT_FILE and SSL_CERT_DIR replace them, as for
// crypto/x509, which looks in the same places.
const (
	rootFiles = "/etc/ssl/certs/ca-certificates.crt:/etc/pki/tls/certs/ca-bundle.crt:/etc/ssl/ca-bundle.pem:" +
		"/etc/pki/tls/cacert.pem:/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem:/etc/ssl/cert.pem"
	rootDirs = "/etc/ssl/certs:/etc/pki/tls/certs"
)

// systemRoots returns the certificate authorities that the system trusts now. crypto/x509 reads them
// once per process, and this process may outlive an authority.
func systemRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	files := strings.Split(rootFiles, ":")
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		files = []string{file}
	}
	for _, file := range files {
		if data, err := readfile.Read(file, maxFile); err == nil {
			pool.AppendCertsFromPEM(data)
			break
		}
	}
	for dir := range strings.SplitSeq(cmp.Or(os.Getenv("SSL_CERT_DIR"), rootDirs), ":") {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			if target, err := os.Readlink(path); err == nil && !strings.Contains(target, "/") {
				continue // another name, by c_rehash, of a file that is read anyway
			}
			if data, err := readfile.Read(path, maxFile); err == nil {
				pool.AppendCertsFromPEM(data)
			}
		}
	}
	return pool
}
