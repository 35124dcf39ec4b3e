package fleetlock

import (
	"bytes"
	"context"
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

// Client asks a server. Its methods may be called concurrently.
type Client struct {
	base           url.URL // without user and password
	user, password string
	http           http.Client
}

// ClientOptions are what a client may have beside its URL.
type ClientOptions struct {
	// HTTP has the transport, and with it certificates and proxies. How it treats redirects is not used. If it is
	// nil, the client is like that of http.DefaultClient, with bounded headers.
	HTTP *http.Client
	// User and Password are for HTTP basic authentication, in place of those in the URL.
	User, Password string
}

// NewClient returns a client for the server at a base URL, such as "https://reboots.example.net:8443/". The requests go to
// the path of the base URL and then v1/pre-reboot or v1/steady-state, whether or not the base URL ends in a slash.
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

// PreReboot asks for a slot. The host has one, and may reboot, if and only if the error is nil. See [ErrUnknown] for what
// the other errors say. The context bounds how long the request may take; a server may let it wait for minutes.
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
		// A transport that does not report its connections may have sent the request.
		return newFailure(to, err, connected.Load() || !traced.Load())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err := outcome(resp.StatusCode, resp.Header, body, err); err != nil {
		return newFailure(to, err, unknown(resp.StatusCode))
	}
	return nil
}

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

// outcome returns what an answer says: nil if the request was granted. The body may be cut after maxBody bytes; incomplete is
// the error of reading it.
func outcome(code int, header http.Header, body []byte, incomplete error) error {
	answered := fmt.Sprintf("the server answered %s", printable(fmt.Sprint(code, " ", http.StatusText(code)), maxKind))
	switch {
	case incomplete != nil:
		return fmt.Errorf("%s, but the rest of the answer was lost: %w", answered, incomplete)
	case len(body) > maxBody:
		return fmt.Errorf("%s with more than %d bytes, which is not an answer of FleetLock", answered, maxBody)
	}
	e := decodeError(code, body)
	switch {
	case code == http.StatusOK && (e == nil || e.Kind == "success"):
		// Servers answer with nothing, a line of text, or JSON. Anything else is some other web server.
		if what := content(header, body); what != "" {
			return fmt.Errorf("%s with %s, which is not an answer of FleetLock: is the base URL right?", answered, what)
		}
		return nil
	case e != nil:
		return e
	case code >= 300 && code <= 399:
		return fmt.Errorf("%s to %q, and redirects are not followed: is the base URL right?", answered, printable(header.Get("Location"), maxLength))
	default:
		what := content(header, body)
		if text := printable(string(body), maxLength); what == "" && text == "" {
			what = "an empty body"
		} else if what == "" {
			what = fmt.Sprintf("%q", text)
		}
		return fmt.Errorf("%s with %s, and FleetLock answers 200, or an error with kind and value", answered, what)
	}
}

// content names what a body contains that is neither text nor JSON, and returns "" if it contains those.
func content(header http.Header, body []byte) string {
	declared, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	detected, _, _ := mime.ParseMediaType(http.DetectContentType(body))
	switch {
	case declared == "text/html" || detected == "text/html":
		return "HTML"
	case detected != "text/plain":
		return printable(detected, maxKind)
	case bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		return "XML or HTML"
	default:
		return ""
	}
}
