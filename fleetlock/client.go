package fleetlock

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
)

// Client asks a server. Its methods may be called concurrently. Their errors do not show a password of four bytes or
// more.
type Client struct {
	base           url.URL // without user and password
	user, password string
	http           http.Client
}

// ClientOptions are what a client may have beside its URL.
type ClientOptions struct {
	// HTTP has the transport, and with it certificates and proxies. Its CheckRedirect is not used. If it is nil, the
	// client has the transport of http.DefaultClient, with bounded headers.
	HTTP *http.Client
	// User and Password are for HTTP basic authentication, in place of those in the URL.
	User, Password string
}

// NewClient returns a client for the server at a base URL, such as "https://reboots.example.net:8443/". The requests go
// to the path of the base URL and then v1/pre-reboot or v1/steady-state, whether or not the base URL ends in a slash.
// (Zincati resolves by RFC 3986: without a slash at the end, the last part of the path is lost there.)
func NewClient(baseURL string, options ClientOptions) (*Client, error) {
	base, err := parseBase(baseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{user: options.User, password: options.Password}
	if base.User != nil && c.user == "" {
		c.user = base.User.Username()
		c.password, _ = base.User.Password()
	}
	base.User = nil
	c.base = *base
	if options.HTTP != nil {
		c.http = *options.HTTP
	} else {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxResponseHeaderBytes = maxBody
		c.http.Transport = transport
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// parseBase parses a base URL. Its errors do not show a text that may contain a password.
func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	wrong := ""
	switch {
	case err != nil:
		wrong = "cannot be parsed"
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "":
		wrong = "does not begin with http:// or https:// and a host"
	case base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		wrong = "has a query or a fragment"
	default:
		return base, nil
	}
	if !strings.ContainsAny(text, "@?#") {
		wrong = fmt.Sprintf("%q %s", printable(text, maxLength), wrong)
	}
	return nil, fmt.Errorf("the base URL %s: it has to be like https://reboots.example.net:8443/", wrong)
}

// PreReboot asks for a slot. The host has one, and may reboot, if and only if the error is nil. See [ErrUnknown] for
// what the other errors say. The context bounds how long the request may take; a server may let it wait for minutes.
func (c *Client) PreReboot(ctx context.Context, params Params) error {
	return c.request(ctx, "pre-reboot", params)
}

// SteadyState gives the slot back. The host has none if the error is nil.
func (c *Client) SteadyState(ctx context.Context, params Params) error {
	return c.request(ctx, "steady-state", params)
}

// request sends a request and reads its answer.
func (c *Client) request(ctx context.Context, operation string, params Params) error {
	if err := params.Check(); err != nil {
		return err
	}
	to := c.base.JoinPath("v1", operation).String()
	if err := ctx.Err(); err != nil {
		return newFailure(to, err, false)
	}
	var traced, connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { traced.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(params.Encode()))
	if err != nil {
		return newFailure(to, err, false)
	}
	req.Header.Set("fleet-lock-protocol", "true")
	req.Header.Set("Content-Type", "application/json")
	if c.user != "" || c.password != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// The error of net/http names the URL, too.
		var named *url.Error
		if errors.As(err, &named) {
			err = named.Err
		}
		err = c.hideIn(err)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the server closed the connection without an answer: %w", err)
		}
		// A transport that does not report its connections may have sent the request.
		return newFailure(to, err, connected.Load() || !traced.Load())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	return c.outcome(to, resp.StatusCode, resp.Header, body, err)
}

// minSecret is the length in bytes from which a password is hidden. A shorter one would take letters out of every word.
const minSecret = 4

// hide takes the password out of what is shown of an answer: a server may repeat what it was sent. What an answer means
// is decided before.
func (c *Client) hide(text string) string {
	if len(c.password) < minSecret {
		return text
	}
	sent := base64.StdEncoding.EncodeToString([]byte(c.user + ":" + c.password))
	quoted, _ := json.Marshal(c.password) // a text can be marshaled
	inJSON := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.password)
	for _, secret := range []string{sent, strings.TrimRight(sent, "="), inJSON, string(quoted[1 : len(quoted)-1]), c.password} {
		text = strings.ReplaceAll(text, secret, "(hidden)")
	}
	return text
}

// hiddenError is an error whose text is shown without the password.
type hiddenError struct {
	error
	text string
}

func (e hiddenError) Error() string { return e.text }
func (e hiddenError) Unwrap() error { return e.error }

func (c *Client) hideIn(err error) error { return hiddenError{err, c.hide(err.Error())} }

// failure is an error of a client.
type failure struct {
	text    string // one line
	cause   error
	unknown bool
}

func newFailure(url string, cause error, unknown bool) *failure {
	return &failure{printable(url, maxLength) + ": " + printable(cause.Error(), 2*maxValue), cause, unknown}
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Unwrap() error        { return f.cause }
func (f *failure) Is(target error) bool { return target == ErrUnknown && f.unknown }

// outcome returns what an answer says: nil if the request was granted. The body may be cut after more than maxBody
// bytes; incomplete is the error of reading it.
func (c *Client) outcome(url string, code int, header http.Header, body []byte, incomplete error) error {
	if err := c.understand(code, header, body, incomplete); err != nil {
		return newFailure(url, err, unknown(code))
	}
	return nil
}

// understand is outcome without the URL, and without whether the request may have been carried out.
func (c *Client) understand(code int, header http.Header, body []byte, incomplete error) error {
	answered := strings.TrimSpace(fmt.Sprint("the server answered ", code, " ", http.StatusText(code)))
	const foreign = "which is not an answer of FleetLock"
	const hint = ": is the base URL right?"
	switch {
	case incomplete != nil:
		return fmt.Errorf("%s, but the rest of the answer was lost: %w", answered, c.hideIn(incomplete))
	case len(body) > maxBody:
		return fmt.Errorf("%s with more than %d bytes, %s", answered, maxBody, foreign)
	}
	what, plain := c.content(header, body)
	e := c.decodeError(code, body)
	switch {
	case code == http.StatusOK && plain && !hasErrorKind(body):
		// Servers grant with nothing, a line of text, or JSON. HTML comes from some other web server, and the kind of an
		// error contradicts the code.
		return nil
	case e != nil:
		return e
	case code >= 300 && code <= 399:
		return fmt.Errorf("%s to %q, and redirects are not followed%s", answered, printable(c.hide(header.Get("Location")), maxLength), hint)
	case code == http.StatusOK, code == http.StatusNotFound, code == http.StatusMethodNotAllowed:
		return fmt.Errorf("%s with %s, %s%s", answered, what, foreign, hint)
	default:
		return fmt.Errorf("%s with %s, %s", answered, what, foreign)
	}
}

// decodeError reads an error from the body of an answer. It returns nil if the body has another form.
func (c *Client) decodeError(code int, body []byte) *Error {
	var d document
	if json.Unmarshal(body, &d) != nil || printable(d.Kind, maxKind) == "" || printable(d.Value, maxValue) == "" {
		return nil
	}
	if _, ours := codes[d.Kind]; !ours { // one of ours is for programs, and tells nobody a password
		d.Kind = c.hide(d.Kind)
	}
	return &Error{Kind: printable(d.Kind, maxKind), Value: printable(c.hide(d.Value), maxValue), Status: code}
}

// hasErrorKind reports whether a body is JSON with the kind of an error, also without a value. (Heathcliff26's
// fleetlock says "success" with its grants.)
func hasErrorKind(body []byte) bool {
	var d struct{ Kind any }
	return json.Unmarshal(body, &d) == nil && d.Kind != nil && d.Kind != "" && d.Kind != "success"
}

// content describes a body, and reports whether it is text, JSON or nothing.
func (c *Client) content(header http.Header, body []byte) (what string, plain bool) {
	declared, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	detected, _, _ := mime.ParseMediaType(http.DetectContentType(body))
	text := strings.TrimSpace(string(body))
	switch {
	case declared == "text/html" || detected == "text/html":
		return "HTML", false
	case detected != "text/plain":
		return detected, false
	case strings.HasPrefix(text, "<"):
		return "XML or HTML", false
	case text == "":
		return "an empty body", true
	default:
		return fmt.Sprintf("%q", printable(c.hide(text), maxLength)), true
	}
}
