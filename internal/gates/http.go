package gates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
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
}

// said quotes the beginning of the body, for an error; "" for an empty one.
func (a answer) said() string {
	line := strings.Join(strings.Fields(string(a.body[:min(len(a.body), 4*maxSaid)])), " ")
	if line == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", safetext.Cut(line, maxSaid))
}

// content says of which type the answer is, if it says so.
func (a answer) content() string {
	kind, _, err := mime.ParseMediaType(a.kind)
	if err != nil {
		return ""
	}
	return " of type " + safetext.Cut(kind, maxSaid)
}

// get asks for u, with a connection that is closed afterwards. Errors do not name u.
func (a Alerts) get(ctx context.Context, u *url.URL) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer{}, errors.New("not a valid address")
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "locksmith")
	if a.TokenFile != "" {
		token, err := a.token()
		if err != nil {
			return answer{}, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	// Proxy is left out: what is in the environment is not for servers of the fleet.
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader}
	if a.CAFile != "" {
		roots, err := a.authorities()
		if err != nil {
			return answer{}, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	client := http.Client{Transport: transport, CheckRedirect: sameHost}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, plain(ctx, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("read the answer: %w", plain(ctx, err))
	case len(body) > maxBody:
		return answer{}, fmt.Errorf("an answer of more than %d bytes", maxBody)
	}
	return answer{response.StatusCode, safetext.Clean(response.Status), response.Header.Get("Content-Type"), body}, nil
}

// sameHost lets a server redirect to itself only, and not to one without TLS.
func sameHost(next *http.Request, before []*http.Request) error {
	from := before[len(before)-1].URL
	switch {
	case next.URL.Scheme == "https" && from.Scheme == "http" && next.URL.Hostname() == from.Hostname(): // on another port
	case next.URL.Host != from.Host || next.URL.Scheme != from.Scheme:
		return fmt.Errorf("a redirect to %s, which is not followed; set that address if it is the right one", shown(&url.URL{Scheme: next.URL.Scheme, Host: next.URL.Host}))
	}
	if len(before) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return nil
}

// plain returns err without the address, which may have secrets in it, and with the reason why ctx has ended.
func plain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("the server does not speak TLS: write http:// instead of https://")
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; LOCKSMITHD_ALERT_CAFILE names the file of a certificate authority", err)
	}
	return err
}

func (a Alerts) token() (string, error) {
	const setting = "LOCKSMITHD_ALERT_TOKEN_FILE"
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
