// Package fleetclient reaches a FleetLock server as the settings say.
//
// Each request has a connection of its own, and reads the files again, so that a renewed certificate or password counts
// from the next request on. The package does not retry, and remembers nothing.
package fleetclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/readfile"
)

// Config says how to reach a server. Two that are equal reach it in the same way. Package permit stores it, by the
// names of its JSON fields.
type Config struct {
	URL string `json:"server"` // base URL, without a user
	// CAFile has the certificates that vouch for the server; those of the system if it is empty. Neither it nor the
	// next two files are read if the URL begins with http://.
	CAFile string `json:"ca_file,omitempty"`
	// CertFile and KeyFile identify this client, if both are set.
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
	// Username and PasswordFile identify this client, if both are set. The file may end with a line break.
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"password_file,omitempty"`
}

// Option is an option of a [Config].
type Option string

// The options, called as the settings for them.
const (
	OptionURL          Option = "LOCKSMITHD_FLEETLOCK_URL"
	OptionCAFile       Option = "LOCKSMITHD_FLEETLOCK_CAFILE"
	OptionCertFile     Option = "LOCKSMITHD_FLEETLOCK_CERTFILE"
	OptionKeyFile      Option = "LOCKSMITHD_FLEETLOCK_KEYFILE"
	OptionUsername     Option = "LOCKSMITHD_FLEETLOCK_USERNAME"
	OptionPasswordFile Option = "LOCKSMITHD_FLEETLOCK_PASSWORD_FILE"
)

// OptionError says which option is wrong.
type OptionError struct {
	Option Option
	Err    error // what is wrong, and what would be right
}

func (e *OptionError) Error() string { return fmt.Sprintf("%s: %v", e.Option, e.Err) }
func (e *OptionError) Unwrap() error { return e.Err }

func refuse(o Option, format string, args ...any) error {
	return &OptionError{o, fmt.Errorf(format, args...)}
}

const (
	maxFile     = 8 << 20  // more than the authorities that a host trusts take, in bytes
	maxPassword = 64 << 10 // in bytes
	maxHeader   = 64 << 10 // of an answer, in bytes

	connectTimeout = 10 * time.Second
)

// Encrypted reports whether connections use TLS.
func (c Config) Encrypted() bool { return strings.HasPrefix(strings.ToLower(c.URL), "https:") }

// Validate reads the files, and returns one [*OptionError] that says what is wrong, joined with others, or nil. It does
// not connect. The caller checks that options that need each other are set together.
func (c Config) Validate() error {
	var errs []error
	if _, err := fleetlock.NewClient(c.URL, fleetlock.ClientOptions{}); err != nil {
		errs = append(errs, refuse(OptionURL, "it is not the URL of a server: write http:// or https://, the host, and a port and a path if it has them, such as https://reboots.example:8443"))
	}
	if c.Encrypted() {
		_, err := c.authorities()
		errs = append(errs, err)
		_, err = c.certificates()
		errs = append(errs, err)
	}
	_, err := c.password()
	return errors.Join(append(errs, err)...)
}

// Dial connects to an address, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// PreReboot asks for a slot, see fleetlock.Client. An error of a file means that nothing was sent. dial may be nil.
func (c Config) PreReboot(ctx context.Context, dial Dial, params fleetlock.Params) error {
	return c.request(ctx, dial, params, (*fleetlock.Client).PreReboot)
}

// SteadyState gives the slot back, see fleetlock.Client. An error of a file means that nothing was sent. dial may be
// nil.
func (c Config) SteadyState(ctx context.Context, dial Dial, params fleetlock.Params) error {
	return c.request(ctx, dial, params, (*fleetlock.Client).SteadyState)
}

func (c Config) request(ctx context.Context, dial Dial, params fleetlock.Params, send func(*fleetlock.Client, context.Context, fleetlock.Params) error) error {
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial,
		TLSHandshakeTimeout:    connectTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableKeepAlives:      true,
	}
	if c.Encrypted() {
		var err error
		if transport.TLSClientConfig, err = c.tls(); err != nil {
			return err
		}
	}
	password, err := c.password()
	if err != nil {
		return err
	}
	client, err := fleetlock.NewClient(c.URL, fleetlock.ClientOptions{HTTP: &http.Client{Transport: transport}, User: c.Username, Password: password})
	if err != nil {
		return err
	}
	return hint(send(client, ctx, params))
}

// hint adds which setting may be wrong, where a user can hardly guess it.
func hint(err error) error {
	var unknown x509.UnknownAuthorityError
	var answer *fleetlock.Error
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; %s names the file of a certificate authority", err, OptionCAFile)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w; the server does not speak TLS: write http:// in %s", err, OptionURL)
	case errors.As(err, &answer) && answer.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w; %s and %s say who asks", err, OptionUsername, OptionPasswordFile)
	}
	return err
}

func (c Config) tls() (*tls.Config, error) {
	authorities, err := c.authorities()
	if err != nil {
		return nil, err
	}
	certificates, err := c.certificates()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities, Certificates: certificates}, nil
}

// authorities returns those that vouch for the server, nil for those of the system.
func (c Config) authorities() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	data, err := readfile.Read(c.CAFile, maxFile)
	if err != nil {
		return nil, &OptionError{OptionCAFile, err}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, refuse(OptionCAFile, "%s has no certificate in it: it has to be in PEM format", c.CAFile)
	}
	return pool, nil
}

// certificates returns the one that identifies this client, if there is one.
func (c Config) certificates() ([]tls.Certificate, error) {
	if c.CertFile == "" || c.KeyFile == "" {
		return nil, nil
	}
	cert, err := readfile.Read(c.CertFile, maxFile)
	if err != nil {
		return nil, &OptionError{OptionCertFile, err}
	}
	key, err := readfile.Read(c.KeyFile, maxFile)
	if err != nil {
		return nil, &OptionError{OptionKeyFile, err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, refuse(OptionCertFile, "%s with the key %s: %s: both have to be in PEM format, the key without a passphrase, and belong together",
			c.CertFile, c.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		return nil, refuse(OptionCertFile, "the certificate in %s expired at %s", c.CertFile, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return []tls.Certificate{pair}, nil
}

// password returns the password, "" if none is set.
func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	data, err := readfile.Read(c.PasswordFile, maxPassword)
	if err != nil {
		return "", &OptionError{OptionPasswordFile, err}
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if password == "" || !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		return "", refuse(OptionPasswordFile, "%s has to have a password in one line, and nothing else", c.PasswordFile)
	}
	return password, nil
}
