package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// probeTimeout bounds the search for the cause of a failure. Tests set it.
var probeTimeout = 2 * time.Second

// greetingTime is how long a probe waits for a server that speaks first.
const greetingTime = 200 * time.Millisecond

// causes say why etcd cannot be reached, and what to change: a sentence for each endpoint, empty
// where an etcd seems to answer.
type causes struct{ endpoints, sentences []string }

// startProbe searches for the causes at all endpoints at once. It takes no longer than probeTimeout, and
// always sends a result.
//
// gRPC reports only how a failed connection ended, which is "EOF" for several causes, and nothing about
// one that hangs. So each endpoint is asked again without gRPC, with one TCP connection, or two where it
// may need the other scheme.
func (c Config) startProbe(ctx context.Context) <-chan causes {
	found := make(chan causes, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		found <- c.probe(ctx)
	}()
	return found
}

func (c Config) probe(ctx context.Context) causes {
	use, wrong := c.target()
	if len(wrong) > 0 {
		return causes{} // the failure at hand says so already
	}
	sentences := make([]string, len(use.endpoints))
	var probes sync.WaitGroup
	for i, endpoint := range use.endpoints {
		probes.Go(func() {
			cause := c.cause(ctx, endpoint, use.tls)
			if !errors.Is(ctx.Err(), context.Canceled) {
				sentences[i] = cause
			}
		})
	}
	probes.Wait()
	return causes{use.endpoints, sentences}
}

// explain adds the causes to a failure, or replaces its text by them where no endpoint answers.
func (c causes) explain(failed error) error {
	var said []string
	for i, sentence := range c.sentences {
		if sentence == "" || slices.Contains(c.sentences[:i], sentence) {
			continue
		}
		var at []string
		for j, other := range c.sentences {
			if other == sentence {
				at = append(at, c.endpoints[j])
			}
		}
		said = append(said, fmt.Sprintf("etcd at %s: %s", strings.Join(at, ", "), sentence))
	}
	if len(said) == 0 {
		return failed
	}
	text := strings.Join(said, "; ")
	if slices.Contains(c.sentences, "") {
		text = failed.Error() + "; " + text
	}
	return &causedError{text, failed}
}

// causedError is a failure whose cause is known.
type causedError struct {
	text   string
	failed error
}

func (e *causedError) Error() string { return e.text }

func (e *causedError) Unwrap() error { return e.failed }

// cause is the sentence for one endpoint.
func (c Config) cause(ctx context.Context, endpoint string, tlsConfig *tls.Config) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: u.Host}}); err == nil && proxy != nil {
		return fmt.Sprintf("no connection through the proxy %s, which HTTPS_PROXY in the environment sets: if etcd can be reached without it, name %s in NO_PROXY there", proxy.Redacted(), u.Hostname())
	}
	p := probe{Config: c, host: u.Hostname(), port: u.Port(), tls: tlsConfig}
	conn, err := p.dial(ctx)
	switch {
	case err != nil:
		return p.unreachable(err)
	case secure(endpoint):
		return p.encrypted(ctx, conn)
	}
	return p.plain(ctx, conn)
}

// probe is the search for the cause at one endpoint.
type probe struct {
	Config
	host, port string
	tls        *tls.Config
}

// plain says what is wrong with an http endpoint.
func (p probe) plain(ctx context.Context, conn net.Conn) string {
	defer conn.Close()
	heard, err := greet(ctx, conn)
	if isHTTP2(heard) {
		return ""
	}
	if p.speaksTLS(ctx) {
		return "the server speaks TLS: write https in " + p.name(OptionEndpoint)
	}
	return p.notEtcd(heard, err)
}

// encrypted says what is wrong with an https endpoint.
func (p probe) encrypted(ctx context.Context, conn net.Conn) string {
	defer conn.Close()
	asked := false // for a client certificate
	config := p.tls.Clone()
	config.ServerName = p.host
	config.NextProtos = []string{"h2"}
	config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		for _, cert := range config.Certificates {
			if r.SupportsCertificate(&cert) == nil {
				return &cert, nil
			}
		}
		return new(tls.Certificate), nil
	}
	secured := tls.Client(conn, config)
	var alert *net.OpError
	var verification *tls.CertificateVerificationError
	switch err := secured.HandshakeContext(ctx); {
	case err == nil:
	case errors.As(err, &verification):
		return p.notTrusted(verification)
	case errors.As(err, &alert) && alert.Op == "remote error":
		return p.alerted(alert.Err.Error(), asked)
	default:
		return p.noHandshake(ctx, err)
	}
	// In TLS 1.3 a server refuses a client's certificate only after the handshake.
	heard, err := greet(ctx, secured)
	switch {
	case isHTTP2(heard):
		return ""
	case errors.As(err, &alert) && alert.Op == "remote error":
		return p.alerted(alert.Err.Error(), asked)
	}
	return p.notEtcd(heard, err)
}

// dial connects. The connection is closed, at the latest, when ctx ends.
func (p probe) dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(p.host, p.port))
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
	}
	return conn, err
}

// greet returns the first bytes that a server sends, by itself or in answer to the start of HTTP/2.
func greet(ctx context.Context, conn net.Conn) ([]byte, error) {
	heard := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(greetingTime)); err != nil {
		return nil, err
	}
	n, err := io.ReadAtLeast(conn, heard, frameHeader)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		emptySettings := string([]byte{0, 0, 0, frameSettings, 0, 0, 0, 0, 0})
		if _, err := io.WriteString(conn, preface+emptySettings); err != nil {
			return nil, err
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
		n, err = io.ReadAtLeast(conn, heard, frameHeader)
	}
	return heard[:n], err
}

// The head of an HTTP/2 frame, see RFC 9113, section 4.1. A server's first one has its settings.
const (
	frameHeader   = 9 // bytes
	frameSettings = 4
)

func isHTTP2(heard []byte) bool {
	return len(heard) >= frameHeader && heard[3] == frameSettings && heard[4] == 0 && binary.BigEndian.Uint32(heard[5:]) == 0
}

// speaksTLS reports whether the server answers a TLS handshake, with any certificate.
func (p probe) speaksTLS(ctx context.Context) bool {
	conn, err := p.dial(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()
	certified := false
	err = tls.Client(conn, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         p.host,
		InsecureSkipVerify: true, // nothing is sent to it
		VerifyConnection:   func(tls.ConnectionState) error { certified = true; return nil },
	}).HandshakeContext(ctx)
	var alert *net.OpError
	return certified || errors.As(err, &alert) && alert.Op == "remote error"
}

// unreachable words a connection that could not be made.
func (p probe) unreachable(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("the name %q is not found: check the DNS of this host; %s", p.host, p.check("the name"))
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %q cannot be resolved, because no DNS server of this host answers: check its DNS (%v)", p.host, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused, so nothing listens on port %s: check that etcd runs there; %s", p.port, p.check("host and port"))
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("it cannot be reached from this host (%v): check the network; %s", lastOf(err), p.check("the host"))
	case timedOut(err):
		return "no answer in time to the attempt to connect: check that the host is up, and no firewall in between; " + p.check("host and port")
	}
	return fmt.Sprintf("cannot connect: %v; %s", lastOf(err), p.check("host and port"))
}

// notEtcd words what a server that is not etcd says.
func (p probe) notEtcd(heard []byte, err error) string {
	is := ""
	switch first, _, _ := strings.Cut(string(heard), "\n"); {
	case strings.HasPrefix(first, "HTTP/"):
		is = "a web server answers, and not etcd (its client port is 2379 by default)"
	case len(heard) > 0:
		is = fmt.Sprintf("what answers is not etcd (it begins with %s)", strconv.QuoteToASCII(strings.TrimSpace(first)))
	case timedOut(err):
		return "no answer in time, though a connection is accepted: either etcd hangs, or it is not etcd that listens there; " + p.check("host and port")
	default:
		is = "the connection is ended without an answer, so what listens there is not etcd, or a proxy without one behind it"
	}
	return is + ": " + p.check("host and port")
}

// noHandshake words a server that does not answer in TLS, or ends the handshake without an alert.
func (p probe) noHandshake(ctx context.Context, failed error) string {
	if conn, err := p.dial(ctx); err == nil {
		defer conn.Close()
		heard, err := greet(ctx, conn)
		switch {
		case isHTTP2(heard):
			return "the server does not speak TLS: write http in " + p.name(OptionEndpoint)
		case len(heard) > 0:
			return p.notEtcd(heard, err)
		}
	}
	if timedOut(failed) || errors.Is(failed, io.EOF) || errors.Is(failed, syscall.ECONNRESET) {
		return p.notEtcd(nil, failed)
	}
	return fmt.Sprintf("no TLS connection: %v", lastOf(failed))
}

// notTrusted words a server's certificate that this host does not accept.
func (p probe) notTrusted(err *tls.CertificateVerificationError) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		issuer := "an unknown authority"
		if certs := err.UnverifiedCertificates; len(certs) > 0 {
			issuer = fmt.Sprintf("%q", certs[len(certs)-1].Issuer)
		}
		if p.CAFile == "" {
			return fmt.Sprintf("the server's certificate is from %s, which this system does not trust (%v): set %s to a file with the certificate of its authority", issuer, err.Err, p.name(OptionCAFile))
		}
		return fmt.Sprintf("the server's certificate is from %s, which is not in %s (%v): put the right authority there, or another file into %s", issuer, p.CAFile, err.Err, p.name(OptionCAFile))
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the server's certificate is not for %q (%v): write a name that it has in %s, or give the server a certificate with this name", p.host, err.Err, p.name(OptionEndpoint))
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if ok && invalid.Reason == x509.Expired && invalid.Cert != nil {
		now := time.Now()
		if now.Before(invalid.Cert.NotBefore) {
			return fmt.Sprintf("the server's certificate, or that of its authority, is not valid before %s, and here it is %s: check the clock of this host, or renew the certificate of the server", stamp(invalid.Cert.NotBefore), stamp(now))
		}
		return fmt.Sprintf("the server's certificate, or that of its authority, expired at %s, and here it is %s: renew the certificate of the server, or check the clock of this host", stamp(invalid.Cert.NotAfter), stamp(now))
	}
	return fmt.Sprintf("the server's certificate cannot be used (%v): give the server another one", err.Err)
}

// alerted words the alert of a server that refuses a TLS connection. asked says whether it has asked for
// a client certificate before.
func (p probe) alerted(alert string, asked bool) string {
	alert = strings.TrimPrefix(alert, "tls: ")
	switch alert {
	case "protocol version not supported":
		return "the server supports TLS only before version 1.2 (" + alert + "), which are not safe: set up TLS 1.2 or newer there"
	case "no application protocol":
		return "a TLS server answers, and not etcd (" + alert + "): " + p.check("host and port")
	}
	if asked {
		if p.CertFile == "" {
			return fmt.Sprintf("the server demands a client certificate (%s): set %s", alert, p.names(OptionCertFile, OptionKeyFile))
		}
		by := ""
		if certs := p.tls.Certificates; len(certs) > 0 && certs[0].Leaf != nil {
			by = fmt.Sprintf(", which is from %q", certs[0].Leaf.Issuer)
		}
		return fmt.Sprintf("the server does not accept the client certificate in %s%s (%s): put one into %s that is from an authority which the server trusts (its --trusted-ca-file)", p.CertFile, by, alert, p.name(OptionCertFile))
	}
	return "the server refuses the TLS connection: " + alert
}

// check asks to check a part of the endpoint, or to set an endpoint where this is only the default.
func (c Config) check(part string) string {
	if c.DefaultEndpoint {
		return "no endpoint is set, and this is only the default: set " + c.name(OptionEndpoint)
	}
	return "check " + part + " in " + c.name(OptionEndpoint)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout()
}

// lastOf returns the innermost error, without the addresses that the outer ones repeat.
func lastOf(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}
