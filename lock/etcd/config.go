package etcd

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/lock"
)

// Config says how to reach etcd. Two that are equal reach it in the same way.
type Config struct {
	// Endpoints are client URLs of members of the cluster, separated by commas: http or https, the same for all
	// of them. Without a port it is the one of the scheme, 80 or 443.
	Endpoints string
	// CAFile has the certificates that vouch for the servers; the system's roots when it is empty. Neither
	// it nor the next two files are read where the endpoints are http.
	CAFile string
	// CertFile and KeyFile identify this client, if both are set.
	CertFile, KeyFile string
	// Username and Password identify this client, if both are set. PasswordFile has the password, and
	// maybe a line break after it, where Password is empty.
	Username, Password, PasswordFile string

	Names Names
	// DefaultEndpoint says that nobody has set Endpoints, which is worth a word when they do not work.
	DefaultEndpoint bool
}

// Names are what messages call the options, such as "LOCKSMITHD_ENDPOINT in /etc/locksmith/locksmith.conf" for
// OptionEndpoint. An option without a name is called as on the command line.
type Names [options]string

// Option is an option of a [Config].
type Option int

// The options.
const (
	OptionEndpoint Option = iota + 1
	OptionCAFile
	OptionCertFile
	OptionKeyFile
	OptionUsername
	OptionPassword
	OptionPasswordFile

	options int = iota + 1
)

// String returns the name of the option on the command line, without the dash.
func (o Option) String() string {
	return [options]string{"", "endpoint", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "etcd-username", "etcd-password", "etcd-password-file"}[o]
}

// Set sets the value of an option, and what messages call it.
func (c *Config) Set(o Option, value, name string) { *c.option(o), c.Names[o] = value, name }

func (c *Config) option(o Option) *string {
	return [options]*string{nil, &c.Endpoints, &c.CAFile, &c.CertFile, &c.KeyFile, &c.Username, &c.Password, &c.PasswordFile}[o]
}

// name is what messages call an option.
func (c Config) name(o Option) string { return cmp.Or(c.Names[o], "-"+o.String()) }

// names names two options that belong together, and where both are set only once.
func (c Config) names(a, b Option) string {
	first, second := c.name(a), c.name(b)
	if i := strings.Index(first, " in "); i > 0 && strings.HasSuffix(second, first[i:]) {
		first = first[:i]
	}
	return first + " and " + second
}

// OptionError says which option for etcd is wrong. errors.Is reports [lock.ErrRefused] for it: nothing was
// sent to etcd.
type OptionError struct {
	Option Option
	Name   string // what the configuration calls it
	// Missing is another option that must be set with this one, Conflicting one that must not, where that is
	// what is wrong.
	Missing, Conflicting Option
	Err                  error // what is wrong and would be right, without the name of the option
}

func (e *OptionError) Error() string { return e.Name + ": " + e.Err.Error() }

func (e *OptionError) Unwrap() error { return e.Err }

// Is makes the error count as lock.ErrRefused.
func (e *OptionError) Is(target error) bool { return target == lock.ErrRefused }

// maxFile is more than certificates, keys and passwords take: the authorities that a host trusts come to
// a few hundred KiB, and to more than 1 MiB with those of a company.
const maxFile = 8 << 20

// Validate reads the files and returns an error for each option that is wrong. It does not connect.
func (c Config) Validate() []*OptionError {
	_, wrong := c.target()
	return wrong
}

// target is what a client connects to, and how it identifies itself.
type target struct {
	endpoints []string    // as scheme://host:port, without repetition
	tls       *tls.Config // nil where the endpoints are http
	password  string
}

// target reads the files, and returns an error for each option that is wrong.
func (c Config) target() (t target, wrong []*OptionError) {
	v := validation{Config: c}
	t.endpoints = v.endpoints()
	for o := OptionCAFile; o < Option(options); o++ {
		if value := *c.option(o); !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			v.refuse(o, "it has characters that cannot be printed")
		}
	}
	v.bothOrNeither(OptionCertFile, OptionKeyFile)
	switch {
	case c.Password != "" && c.PasswordFile != "":
		v.add(OptionError{Option: OptionPasswordFile, Conflicting: OptionPassword, Err: fmt.Errorf("is set though %s is set; set one of them", c.name(OptionPassword))})
	case c.PasswordFile != "":
		v.bothOrNeither(OptionUsername, OptionPasswordFile)
	default:
		v.bothOrNeither(OptionUsername, OptionPassword)
	}
	if c.Encrypted() {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: v.authorities(), Certificates: v.certificates()}
	}
	t.password = v.password()
	return t, v.wrong
}

// Encrypted reports whether connections use TLS.
func (c Config) Encrypted() bool { return !strings.HasPrefix(strings.ToLower(c.Endpoints), "http:") }

// validation collects what is wrong with a Config.
type validation struct {
	Config
	refused [options]bool
	wrong   []*OptionError
}

// refuse adds what is wrong with an option.
func (v *validation) refuse(o Option, format string, args ...any) {
	v.add(OptionError{Option: o, Err: fmt.Errorf(format, args...)})
}

// add adds an error, once for each option.
func (v *validation) add(e OptionError) {
	if !v.refused[e.Option] {
		v.refused[e.Option] = true
		e.Name = v.name(e.Option)
		v.wrong = append(v.wrong, &e)
	}
}

// bothOrNeither checks options that must be set together.
func (v *validation) bothOrNeither(a, b Option) {
	if *v.option(a) == "" {
		a, b = b, a
	}
	if *v.option(a) != "" && *v.option(b) == "" {
		v.add(OptionError{Option: a, Missing: b, Err: fmt.Errorf("is set without %s; set both or neither", v.name(b))})
	}
}

// endpoints returns the endpoints as scheme://host:port, without repetition.
func (v *validation) endpoints() (endpoints []string) {
	switch {
	case v.Endpoints == "":
		v.refuse(OptionEndpoint, "is missing; give the URL of an etcd member, such as http://127.0.0.1:2379")
		return nil
	case strings.Contains(v.Endpoints, "@"): // before anything shows what may be a password
		v.refuse(OptionEndpoint, "has a user in it; use %s and %s", v.name(OptionUsername), v.name(OptionPassword))
		return nil
	}
	var wrong []string
	var first string // of endpoints, as it is written
	for given := range strings.SplitSeq(v.Endpoints, ",") {
		switch endpoint, err := normalize(given); {
		case err != nil:
			wrong = append(wrong, err.Error())
		case len(endpoints) > 0 && secure(endpoint) != secure(endpoints[0]):
			// The etcd client speaks to all of them as it does to the first.
			wrong = append(wrong, fmt.Sprintf("%q and %q mix http and https; use the same for all", first, given))
		case !slices.Contains(endpoints, endpoint):
			first, endpoints = cmp.Or(first, given), append(endpoints, endpoint)
		}
	}
	if len(wrong) > 0 {
		v.refuse(OptionEndpoint, "%s", strings.Join(wrong, ", and "))
		return nil
	}
	return endpoints
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
		return "", fmt.Errorf("%q is not a URL such as http://10.0.0.1:2379: %w", endpoint, errors.Unwrap(err))
	}
	u.Scheme = strings.ToLower(u.Scheme)
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("%q has scheme %q; it must be http or https", endpoint, u.Scheme)
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

// authorities returns those that vouch for the servers.
func (v *validation) authorities() *x509.CertPool {
	if v.CAFile == "" {
		return systemRoots()
	}
	pool := x509.NewCertPool()
	if data, ok := v.read(OptionCAFile); ok && !pool.AppendCertsFromPEM(data) {
		v.refuse(OptionCAFile, "%s has no certificate in it; it must be in PEM format", v.CAFile)
	}
	return pool
}

// certificates returns the one that identifies this client, if there is one.
func (v *validation) certificates() []tls.Certificate {
	cert, certRead := v.read(OptionCertFile)
	key, keyRead := v.read(OptionKeyFile)
	if !certRead || !keyRead {
		return nil
	}
	switch has := blocks(key); {
	case !slices.Contains(blocks(cert), "CERTIFICATE"):
		v.refuse(OptionCertFile, "%s has no certificate in it; it must be in PEM format", v.CertFile)
		return nil
	case slices.ContainsFunc(has, func(kind string) bool { return strings.Contains(kind, "ENCRYPTED") }):
		v.refuse(OptionKeyFile, "the key in %s has a passphrase, which nobody can be asked for; it must be without one, as openssl pkey writes it", v.KeyFile)
		return nil
	case !slices.ContainsFunc(has, func(kind string) bool { return strings.HasSuffix(kind, "PRIVATE KEY") }):
		v.refuse(OptionKeyFile, "%s has no private key in it, for the certificate in %s; it must be in PEM format", v.KeyFile, v.CertFile)
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		v.refuse(OptionCertFile, "%s with the key %s: %s", v.CertFile, v.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	now, from, until := time.Now(), pair.Leaf.NotBefore, pair.Leaf.NotAfter
	switch {
	case now.After(until):
		v.refuse(OptionCertFile, "the certificate in %s expired at %s", v.CertFile, until.Format(time.RFC3339))
	case now.Before(from):
		v.refuse(OptionCertFile, "the certificate in %s is not valid before %s; is this host's clock right?", v.CertFile, from.Format(time.RFC3339))
	}
	return []tls.Certificate{pair}
}

// blocks returns what kinds of things a PEM file has in it; "ENCRYPTED" among them where a passphrase protects one.
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
func (v *validation) password() string {
	data, ok := v.read(OptionPasswordFile)
	if !ok {
		return v.Password
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case password == "":
		v.refuse(OptionPasswordFile, "%s is empty; it must have a password in it", v.PasswordFile)
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		v.refuse(OptionPasswordFile, "%s has more than a line of text in it; it must have a password only", v.PasswordFile)
	}
	return password
}

// read returns the content of the file that an option names, and false if there is none or it cannot be read.
func (v *validation) read(o Option) ([]byte, bool) {
	path := *v.option(o)
	if path == "" || v.refused[o] {
		return nil, false
	}
	data, err := readfile.Read(path, maxFile)
	if err != nil {
		v.refuse(o, "%w", err)
	}
	return data, err == nil
}
