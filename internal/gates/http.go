package gates

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	maxBody   = 1 << 20  // of an answer, in bytes
	maxHeader = 64 << 10 // of an answer, in bytes
	maxToken  = 64 << 10
	maxCAs    = 8 << 20

	maxRedirects = 5
	// maxSaid is how much of an answer that is wrong is shown, in bytes.
	maxSaid = 120
)

// answer is that of a server.
type answer struct {
	status int
	text   string // of the status, such as "404 Not Found"
	kind   string // its Content-Type
	body   []byte
	token  string // that was sent, and may be repeated in the answer; "" for none
}

// said quotes the beginning of the body, for an error; "" for an empty one.
func (a answer) said() string {
	body := safetext.Hide(string(a.body), a.token)
	line := strings.Join(strings.Fields(body[:min(len(body), 4*maxSaid)]), " ")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", safetext.Cut(line, maxSaid))
}

// content says of which type the answer is, if it says so.
func (a answer) content() string {
	kind, _, err := mime.ParseMediaType(safetext.Hide(a.kind, a.token))
	if err != nil {
		return ""
	}
	return " of type " + safetext.Cut(kind, maxSaid)
}

// get asks for u, with a token if that is not "", and follows redirects to the same host. Errors do not name u, and may
// have the token in them.
//
// It does without http.Client, which would make the daemon on every host larger by more than half a megabyte.
func (a Alerts) get(ctx context.Context, u *url.URL, token string) (answer, error) {
	for range maxRedirects + 1 {
		got, location, err := a.getOnce(ctx, u, token)
		if err != nil || location == "" {
			return got, plain(ctx, err)
		}
		next, err := u.Parse(location)
		if err != nil {
			return answer{}, errors.New("a redirect to something that is not an address")
		}
		if !sameHost(u, next) {
			return answer{}, fmt.Errorf("a redirect to %s, which is not followed; set that address if it is the right one", shown(&url.URL{Scheme: next.Scheme, Host: next.Host}))
		}
		u = next
	}
	return answer{}, fmt.Errorf("more than %d redirects", maxRedirects)
}

// notHTTP is the error of an answer that does not begin as one of HTTP does.
type notHTTP struct{ error }

// sameHost reports whether a redirect leads to the same server, and not to one without TLS.
func sameHost(from, to *url.URL) bool {
	if from.Scheme == "http" && to.Scheme == "https" { // on another port
		return from.Hostname() == to.Hostname()
	}
	return from.Scheme == to.Scheme && from.Host == to.Host
}

// getOnce asks for u on a connection of its own. location is not empty if the answer is a redirect.
func (a Alerts) getOnce(ctx context.Context, u *url.URL, token string) (got answer, location string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer{}, "", errors.New("not a valid address")
	}
	request.Close = true // the server closes the connection, too
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "locksmith")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	conn, err := a.connect(ctx, u)
	if err != nil {
		return answer{}, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := request.Write(conn); err != nil {
		return answer{}, "", fmt.Errorf("ask: %w", err)
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxHeader+2*maxBody)) // chunks need some bytes more than they carry
	response, err := http.ReadResponse(reader, request)
	for err == nil && response.StatusCode < 200 && response.StatusCode != http.StatusSwitchingProtocols {
		response, err = http.ReadResponse(reader, request)
	}
	if err != nil {
		return answer{}, "", notHTTP{err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return answer{}, "", fmt.Errorf("read the answer: %w", err)
	case len(body) > maxBody:
		return answer{}, "", fmt.Errorf("an answer of more than %d bytes", maxBody)
	}
	if response.StatusCode/100 == 3 {
		location = response.Header.Get("Location")
	}
	return answer{response.StatusCode, safetext.Clean(safetext.Hide(response.Status, token)), response.Header.Get("Content-Type"), body, token}, location, nil
}

// connect connects to the server of u.
func (a Alerts) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = u.Scheme // which has the port's name
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "https" {
		return conn, err
	}
	secure := &tls.Config{ServerName: u.Hostname()}
	if a.CAFile != "" {
		secure.RootCAs, err = a.authorities()
	}
	session := tls.Client(conn, secure)
	if err == nil {
		err = session.HandshakeContext(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return session, nil
}

// plain returns err with what to do about it, or the reason why ctx has ended.
func plain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &record):
		return errors.New("the server does not speak TLS: write http:// instead of https://")
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; LOCKSMITHD_ALERT_CAFILE names the file of a certificate authority", err)
	}
	return err
}

// token returns the token that is sent, "" for none.
func (a Alerts) token() (string, error) {
	const setting = "LOCKSMITHD_ALERT_TOKEN_FILE"
	if a.TokenFile == "" {
		return "", nil
	}
	data, err := readfile.Read(a.TokenFile, maxToken)
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s: %s has to have a token in one line, and nothing else", setting, a.TokenFile)
	}
	return token, nil
}

func (a Alerts) authorities() (*x509.CertPool, error) {
	const setting = "LOCKSMITHD_ALERT_CAFILE"
	data, err := readfile.Read(a.CAFile, maxCAs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: %s has no certificate in it", setting, a.CAFile)
	}
	return roots, nil
}
