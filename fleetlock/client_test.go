package fleetlock_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
)

func newClient(t *testing.T, base string, options fleetlock.ClientOptions) *fleetlock.Client {
	t.Helper()
	c, err := fleetlock.NewClient(base, options)
	must.Do(t, err)
	return c
}

// The client and the handler, over TLS, with HTTP/1.1 and HTTP/2.
func TestClientAndHandlerUnderstandEachOther(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s := &scripted{}
		h := &fleetlock.Handler{Server: s, Log: s.log, Prefix: "/reboots"}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoAtLeast(2, 0) != http2 {
				t.Errorf("the protocol is %s", r.Proto)
			}
			h.ServeHTTP(w, r)
		}))
		server.EnableHTTP2 = http2
		server.StartTLS()
		t.Cleanup(server.Close)
		c := newClient(t, server.URL+"/reboots", fleetlock.ClientOptions{HTTP: server.Client(), User: "ann", Password: "secret"})
		must.Do(t, c.PreReboot(bounded(t), web1))
		must.Do(t, c.SteadyState(bounded(t), web1))
		var e *fleetlock.Error
		err := c.PreReboot(bounded(t), fleetlock.Params{ID: "waiting", Group: "workers"})
		if want := (fleetlock.Error{Kind: fleetlock.KindLockHeld, Value: "no slot is free: max is 1, held by web-1", Status: 423}); !errors.As(err, &e) || *e != want || errors.Is(err, fleetlock.ErrUnknown) {
			t.Errorf("the error is %v, want %v", err, want)
		}
		if err := c.PreReboot(bounded(t), fleetlock.Params{ID: "broken", Group: "workers"}); !errors.Is(err, fleetlock.ErrUnknown) {
			t.Errorf("after a failure of the server: %v", err)
		}
		calls, _ := s.take()
		if want := "pre-reboot of web-1 in group workers, user ann, password secret"; len(calls) != 4 || calls[0] != want {
			t.Errorf("the calls are %q, want %s", calls, want)
		}
	}
}

// A slash at the end of the base URL makes no difference, and user and password are not part of the path or of
// messages.
func TestBaseURL(t *testing.T) {
	t.Parallel()
	address, requests := answerWith(t, []byte("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n"), true)
	for _, test := range []struct {
		base           string
		options        fleetlock.ClientOptions
		path           string
		user, password string
	}{
		{base: "http://SERVER", path: "/v1/steady-state"},
		{base: "http://SERVER/", path: "/v1/steady-state"},
		{base: "http://SERVER/reboots", path: "/reboots/v1/steady-state"},
		{base: "http://SERVER/reboots/", path: "/reboots/v1/steady-state"},
		{base: "http://SERVER/reboots//", path: "/reboots/v1/steady-state"},
		{base: "HTTP://SERVER/two%20words", path: "/two%20words/v1/steady-state"},
		{base: "http://ann:hunter2@SERVER/", path: "/v1/steady-state", user: "ann", password: "hunter2"},
		{base: "http://ann:hunter2@SERVER/", options: fleetlock.ClientOptions{User: "bob", Password: "hunter3"}, path: "/v1/steady-state", user: "bob", password: "hunter3"},
		{base: "http://SERVER/", options: fleetlock.ClientOptions{User: "bob", Password: "hunter3"}, path: "/v1/steady-state", user: "bob", password: "hunter3"},
	} {
		err := newClient(t, strings.Replace(test.base, "SERVER", address, 1), test.options).SteadyState(bounded(t), web1)
		if want := "http://" + address + test.path + ": the server answered 418 I'm a teapot with an empty body, which is not an answer of FleetLock"; err == nil || err.Error() != want {
			t.Errorf("%s: the error is %v, want %s", test.base, err, want)
		}
		r := must.Receive(t, patience, "the request", requests)
		user, password, _ := r.BasicAuth()
		if got := r.URL.EscapedPath(); got != test.path || user != test.user || password != test.password {
			t.Errorf("%s: the path is %s, the user %q, the password %q", test.base, got, user, password)
		}
	}
}

func TestBaseURLsThatAreRefused(t *testing.T) {
	t.Parallel()
	const like = ": it has to be like https://reboots.example.net:8443/"
	for base, want := range map[string]string{
		"":                                  `the base URL "" does not begin with http:// or https:// and a host`,
		"reboots.example.net:8443":          `the base URL "reboots.example.net:8443" does not begin with http:// or https:// and a host`,
		"10.0.0.7:8443":                     `the base URL "10.0.0.7:8443" cannot be parsed`,
		"ftp://reboots.example.net/":        `the base URL "ftp://reboots.example.net/" does not begin with http:// or https:// and a host`,
		"http:///v1":                        `the base URL "http:///v1" does not begin with http:// or https:// and a host`,
		"http://:8443/":                     `the base URL "http://:8443/" does not begin with http:// or https:// and a host`,
		"http://reboots.example.net:84x43/": `the base URL "http://reboots.example.net:84x43/" cannot be parsed`,
		"http://\x1b/":                      `the base URL "http://�/" cannot be parsed`,
		"http://h/?token=hunter2":           "the base URL has a query or a fragment",
		"http://h/?":                        "the base URL has a query or a fragment",
		"http://h/#hunter2":                 "the base URL has a query or a fragment",
		"http://ann:hun/ter2@h/":            "the base URL cannot be parsed",
		"ann:hunter2@h":                     "the base URL does not begin with http:// or https:// and a host",
		"https:ann:hunter2@h":               "the base URL does not begin with http:// or https:// and a host",
	} {
		if _, err := fleetlock.NewClient(base, fleetlock.ClientOptions{}); err == nil || err.Error() != want+like {
			t.Errorf("%q: %v, want %s", base, err, want+like)
		}
	}
}

// A server may repeat the password that it was sent.
func TestErrorsDoNotShowThePassword(t *testing.T) {
	for _, said := range []string{
		"HTTP/1.1 401 x\r\nContent-Type: application/json\r\n\r\n{\"kind\":\"k\",\"value\":\"you sent %s, which is ann:<geheim\\\\>\"}",
		"HTTP/1.1 401 x\r\nContent-Type: application/json\r\n\r\n{\"kind\":\"k\",\"value\":\"%s is ann:\\u003cgeheim\\\\\\u003e\"}",
		"HTTP/1.1 404 x\r\nContent-Type: text/plain\r\n\r\n%s <geheim\\>", "HTTP/1.1 302 x\r\nLocation: /%s/<geheim\\>\r\n\r\n",
		"HTTP/1.1 200 OK\r\nbroken %s\r\n\r\n", "%s <geheim\\>\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbroken %s <geheim\\>\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				fmt.Fprintf(conn, said, r.Header.Get("Authorization"))
				conn.Close()
			}
		}))
		client := newClient(t, server.URL, fleetlock.ClientOptions{User: "ann", Password: `<geheim\>`})
		err := client.PreReboot(t.Context(), fleetlock.Params{ID: "1", Group: "default"})
		server.Close()
		if text := fmt.Sprint(err); !strings.Contains(text, "(hidden)") || strings.Contains(text, "geheim") || strings.Contains(text, "YW5uOjxnZWhlaW1c") {
			t.Errorf("%q becomes %v", said, err)
		}
		var answer *fleetlock.Error
		if errors.As(err, &answer) && strings.Contains(answer.Value, "geheim") {
			t.Errorf("the answer has %q", answer.Value)
		}
	}
}

// A password that is part of an answer does not change what the answer means.
func TestPasswordDoesNotChangeTheOutcome(t *testing.T) {
	t.Parallel()
	const (
		html = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n  <tag>hello</tag>"
		held = "HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n" + `{"kind":"lock_held","value":"held"}`
		word = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\ngranted"
	)
	for _, test := range []struct{ answer, password, want string }{
		{fmt.Sprintf(held, 200), "kind", "unknown: lock_held: held (200)"},
		{fmt.Sprintf(held, 200), `"kind":`, "unknown: lock_held: held (200)"},
		{fmt.Sprintf(held, 200), "value", "unknown: lock_held: held (200)"},
		{fmt.Sprintf(held, 423), "kind", "refused: lock_held: held (423)"},
		{fmt.Sprintf(held, 423), "lock_held", "refused: lock_held: held (423)"},
		{fmt.Sprintf(held, 423), "held", "refused: lock_held: (hidden) (423)"},
		{strings.Replace(fmt.Sprintf(held, 423), "lock_held", "slot_held", 1), "slot", "refused: (hidden)_held: held (423)"},
		{html, "<tag", "unknown: the server answered 200 OK with XML or HTML, which is not an answer of FleetLock: is the base URL right?"},
		{strings.Replace(html, "text/plain", "text/html", 1), "html", "unknown: the server answered 200 OK with HTML, which is not an answer of FleetLock: is the base URL right?"},
		{word, "granted", "granted"},
	} {
		address, _ := answerWith(t, []byte(test.answer), true)
		err := newClient(t, "http://"+address, fleetlock.ClientOptions{User: "ann", Password: test.password}).PreReboot(bounded(t), web1)
		got := "granted"
		if err != nil {
			got = "refused: "
			if errors.Is(err, fleetlock.ErrUnknown) {
				got = "unknown: "
			}
			got += strings.TrimPrefix(err.Error(), "http://"+address+"/v1/pre-reboot: ")
		}
		if got != test.want {
			t.Errorf("password %s: got %q, want %q", test.password, got, test.want)
		}
	}
	ctx, cancel := context.WithCancel(bounded(t))
	address, requests := answerWith(t, nil, false)
	go func() {
		<-requests
		cancel()
	}()
	err := newClient(t, "http://"+address, fleetlock.ClientOptions{Password: "canceled"}).PreReboot(ctx, web1)
	if !errors.Is(err, context.Canceled) || !strings.HasSuffix(err.Error(), "context (hidden)") {
		t.Errorf("the error is %v", err)
	}
}

// Redirects are not followed, whatever the caller's client does with them, and that client is left as it was.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	followed := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed = true
			return
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	own := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	err := newClient(t, server.URL, fleetlock.ClientOptions{HTTP: own}).PreReboot(bounded(t), web1)
	if err == nil || followed || !errors.Is(err, fleetlock.ErrUnknown) {
		t.Errorf("the error is %v; followed: %v", err, followed)
	}
	if err := own.CheckRedirect(nil, nil); err != nil {
		t.Errorf("the caller's client was changed: %v", err)
	}
}

// A request that was not sent has changed nothing.
func TestRequestsThatAreNotSentHaveAKnownOutcome(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	must.Do(t, listener.Close())
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it is to fail
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var unknownAuthority x509.UnknownAuthorityError
	for _, test := range []struct {
		name, base string
		ctx        context.Context
		params     fleetlock.Params
		holds      func(error) bool
	}{
		{"nobody listens", "http://" + listener.Addr().String(), t.Context(), web1, func(err error) bool { return strings.Contains(err.Error(), "connection refused") }},
		{"the certificate is not trusted", secure.URL, t.Context(), web1, func(err error) bool { return errors.As(err, &unknownAuthority) }},
		{"the server does not speak TLS", strings.Replace(plain.URL, "http", "https", 1), t.Context(), web1, func(err error) bool { return strings.Contains(err.Error(), "HTTPS client") }},
		{"the context has ended", plain.URL, ended, web1, func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"a parameter is wrong", plain.URL, t.Context(), fleetlock.Params{ID: "web-1", Group: "a/b"}, func(err error) bool { return strings.HasPrefix(err.Error(), "client_params.group") }},
	} {
		err := newClient(t, test.base, fleetlock.ClientOptions{}).PreReboot(test.ctx, test.params)
		if err == nil || errors.Is(err, fleetlock.ErrUnknown) || !test.holds(err) {
			t.Errorf("%s: the error is %v; unknown: %v", test.name, err, errors.Is(err, fleetlock.ErrUnknown))
		}
	}
}

// A request that was sent and is given up may have been carried out.
func TestRequestThatIsGivenUpHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	address, requests := answerWith(t, nil, false)
	ctx, cancel := context.WithCancel(bounded(t))
	go func() {
		<-requests
		cancel()
	}()
	err := newClient(t, "http://"+address, fleetlock.ClientOptions{}).PreReboot(ctx, web1)
	if !errors.Is(err, fleetlock.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// roundTrip is a transport that does not report its connections.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportThatSaysNothingLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	broken := errors.New("the line\nis broken")
	own := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, broken })}
	err := newClient(t, "http://reboots.example.net/", fleetlock.ClientOptions{HTTP: own}).SteadyState(bounded(t), web1)
	if want := "http://reboots.example.net/v1/steady-state: the line is broken"; !errors.Is(err, fleetlock.ErrUnknown) || !errors.Is(err, broken) || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}
