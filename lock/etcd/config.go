package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/lock"
)

// Config says how to reach etcd. The options are named as the command line names them.
type Config struct {
	// Endpoints are client URLs of members of the cluster: http or https, the same for all of them.
	// Without a port it is the one of the scheme, 80 or 443.
	Endpoints []string
	// CAFile has the certificates that vouch for the servers; the system's roots when it is empty. Neither
	// it nor the next two files are read where the endpoints are http.
	CAFile string
	// CertFile and KeyFile identify this client, if both are set.
	CertFile, KeyFile string
	// Username and Password identify this client, if both are set. PasswordFile has the password, and
	// maybe a line break after it, where Password is empty.
	Username, Password, PasswordFile string

	// Names are what messages call the options, such as "LOCKSMITHD_ENDPOINT in /etc/flatcar/update.conf" for
	// OptionEndpoint. One that is not here is called as on the command line.
	Names map[string]string
	// DefaultEndpoint says that nobody has set Endpoints, which is worth a word when they do not work.
	DefaultEndpoint bool
}

// wrong says what is wrong with an option.
func (c Config) wrong(option string, err error) error {
	return &OptionError{Option: option, Name: c.name(option), Err: err}
}

// name is what messages call an option.
func (c Config) name(option string) string {
	if name := c.Names[option]; name != "" {
		return name
	}
	return "-" + option
}

// names names two options that belong together, and where both are set only once.
func (c Config) names(a, b string) string {
	first, second := c.name(a), c.name(b)
	if i := strings.Index(first, " in "); i > 0 && strings.HasSuffix(second, first[i:]) {
		first = first[:i]
	}
	return first + " and " + second
}

// The options of [Config], as [OptionError] names them.
const (
	OptionEndpoint     = "endpoint"
	OptionCAFile       = "etcd-cafile"
	OptionCertFile     = "etcd-certfile"
	OptionKeyFile      = "etcd-keyfile"
	OptionUsername     = "etcd-username"
	OptionPassword     = "etcd-password"
	OptionPasswordFile = "etcd-password-file"
)

// OptionError says which option for etcd is wrong, or missing. errors.Is reports [lock.ErrRefused] for
// it: nothing was sent to etcd.
type OptionError struct {
	Option string // one of the Option constants
	Name   string // what the configuration calls it
	Err    error  // what is wrong and would be right, without the name of the option
}

func (e *OptionError) Error() string { return e.Name + ": " + e.Err.Error() }

func (e *OptionError) Unwrap() error { return e.Err }

// Is makes the error count as lock.ErrRefused.
func (e *OptionError) Is(target error) bool { return target == lock.ErrRefused }

// maxFile is more than certificates, keys and passwords take: the authorities that a host trusts come to
// a few hundred KiB, and to more than 1 MiB with those of a company.
const maxFile = 8 << 20

// Validate reads the files and reports the first thing that is wrong, as an [*OptionError]. It does
// not connect.
func (c Config) Validate() error {
	endpoints, err := c.endpoints()
	if err != nil {
		return err
	}
	if err := c.pairs(); err != nil {
		return err
	}
	if _, err := c.tlsConfig(endpoints); err != nil {
		return err
	}
	_, err = c.password()
	return err
}

// pairs refuses halves of what only works in pairs.
func (c Config) pairs() error {
	if c.Password != "" && c.PasswordFile != "" {
		return c.wrong(OptionPasswordFile, fmt.Errorf("is set though -%s is set; set one of them", OptionPassword))
	}
	for _, pair := range []struct{ given, missing, option, other string }{
		{c.CertFile, c.KeyFile, OptionKeyFile, OptionCertFile},
		{c.KeyFile, c.CertFile, OptionCertFile, OptionKeyFile},
		{c.Username, c.Password + c.PasswordFile, OptionPassword, OptionUsername},
		{c.Password, c.Username, OptionUsername, OptionPassword},
		{c.PasswordFile, c.Username, OptionUsername, OptionPasswordFile},
	} {
		if pair.given != "" && pair.missing == "" {
			return c.wrong(pair.option, fmt.Errorf("is missing though -%s is set; set both or neither", pair.other))
		}
	}
	return nil
}

// endpoints returns the endpoints as scheme://host:port, without repetition.
func (c Config) endpoints() ([]string, error) {
	var endpoints []string
	for _, given := range c.Endpoints {
		endpoint, err := normalize(given)
		if err != nil {
			return nil, c.wrong(OptionEndpoint, err)
		}
		if len(endpoints) > 0 && secure(endpoint) != secure(endpoints[0]) {
			// The etcd client speaks to all of them as it does to the first.
			return nil, c.wrong(OptionEndpoint, fmt.Errorf("%q and %q mix http and https; use the same for all", c.Endpoints[0], given))
		}
		if !slices.Contains(endpoints, endpoint) {
			endpoints = append(endpoints, endpoint)
		}
	}
	if len(endpoints) == 0 {
		return nil, c.wrong(OptionEndpoint, errors.New("is missing; give the URL of an etcd member, such as http://127.0.0.1:2379"))
	}
	return endpoints, nil
}

func secure(endpoint string) bool { return strings.HasPrefix(endpoint, "https:") }

func normalize(endpoint string) (string, error) {
	if endpoint == "" {
		return "", errors.New("is empty; write it like http://10.0.0.1:2379")
	}
	if !strings.Contains(endpoint, "://") {
		return "", fmt.Errorf("%q has no scheme; write http://%[1]s or https://%[1]s", endpoint)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("%q is not a URL such as http://10.0.0.1:2379: %w", redact(endpoint), errors.Unwrap(err))
	}
	u.Scheme = strings.ToLower(u.Scheme)
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("%q has scheme %q; it must be http or https", u.Redacted(), u.Scheme)
	case u.User != nil:
		return "", fmt.Errorf("%q has a user in it; use -%s and -%s", u.Redacted(), OptionUsername, OptionPassword)
	case u.Hostname() == "":
		return "", fmt.Errorf("%q has no host; write it like http://10.0.0.1:2379", endpoint)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("%q has more than scheme, host and port; write it like http://10.0.0.1:2379", endpoint)
	case port == "" && u.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has port %s; it must be from 1 to 65535", endpoint, port)
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port), nil
}

// redact hides what may be a password in a URL that cannot be parsed.
func redact(endpoint string) string {
	if i := strings.LastIndexByte(endpoint, '@'); i >= 0 {
		return "..." + endpoint[i:]
	}
	return endpoint
}

// tlsConfig reads the files; nil where the endpoints, as returned by the method endpoints, are http.
func (c Config) tlsConfig(endpoints []string) (*tls.Config, error) {
	if !secure(endpoints[0]) {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		data, err := readFile(c.CAFile)
		if err != nil {
			return nil, c.wrong(OptionCAFile, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, c.wrong(OptionCAFile, fmt.Errorf("%s has no certificate in it; it must be in PEM format", c.CAFile))
		}
	} else {
		config.RootCAs = systemRoots()
	}
	if c.CertFile == "" {
		return config, nil
	}
	cert, err := readFile(c.CertFile)
	if err != nil {
		return nil, c.wrong(OptionCertFile, err)
	}
	key, err := readFile(c.KeyFile)
	if err != nil {
		return nil, c.wrong(OptionKeyFile, err)
	}
	switch has := blocks(key); {
	case !slices.Contains(blocks(cert), "CERTIFICATE"):
		return nil, c.wrong(OptionCertFile, fmt.Errorf("%s has no certificate in it; it must be in PEM format", c.CertFile))
	case slices.ContainsFunc(has, func(kind string) bool { return strings.Contains(kind, "ENCRYPTED") }):
		return nil, c.wrong(OptionKeyFile, fmt.Errorf("the key in %s has a passphrase, which nobody can be asked for; it must be without one, as openssl pkey writes it", c.KeyFile))
	case !slices.ContainsFunc(has, func(kind string) bool { return strings.HasSuffix(kind, "PRIVATE KEY") }):
		return nil, c.wrong(OptionKeyFile, fmt.Errorf("%s has no private key in it, for the certificate in %s; it must be in PEM format", c.KeyFile, c.CertFile))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, c.wrong(OptionCertFile, fmt.Errorf("%s with the key %s: %s", c.CertFile, c.KeyFile, strings.TrimPrefix(err.Error(), "tls: ")))
	}
	now, from, until := time.Now(), pair.Leaf.NotBefore, pair.Leaf.NotAfter
	switch {
	case now.After(until):
		return nil, c.wrong(OptionCertFile, fmt.Errorf("the certificate in %s expired at %s", c.CertFile, until.Format(time.RFC3339)))
	case now.Before(from):
		return nil, c.wrong(OptionCertFile, fmt.Errorf("the certificate in %s is not valid before %s; is this host's clock right?", c.CertFile, from.Format(time.RFC3339)))
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// blocks returns what kinds of things a PEM file has in it; "ENCRYPTED" among them where a passphrase
// protects one.
func blocks(data []byte) (kinds []string) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return kinds
		}
		kinds = append(kinds, block.Type)
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") { // RFC 1421, as openssl rsa -des writes
			kinds = append(kinds, "ENCRYPTED")
		}
	}
}

// password reads the file, if there is one.
func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	data, err := readFile(c.PasswordFile)
	if err != nil {
		return "", c.wrong(OptionPasswordFile, err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case password == "":
		return "", c.wrong(OptionPasswordFile, fmt.Errorf("%s is empty; it must have a password in it", c.PasswordFile))
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return "", c.wrong(OptionPasswordFile, fmt.Errorf("%s has more than a line of text in it; it must have a password only", c.PasswordFile))
	}
	return password, nil
}

// readFile reads a regular file of a size that such a file may have.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name) // first, as opening a pipe would wait for its writer
	if err != nil {
		return nil, fmt.Errorf("cannot read it: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read it: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read it: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes, too large for certificates, keys and passwords", name, maxFile)
	}
	return data, nil
}
