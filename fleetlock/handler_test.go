package fleetlock_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
)

// functions is a server made of two functions.
type functions struct {
	preReboot, steadyState func(context.Context, fleetlock.Caller, fleetlock.Params) error
}

func (f functions) PreReboot(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
	return f.preReboot(ctx, c, p)
}

func (f functions) SteadyState(ctx context.Context, c fleetlock.Caller, p fleetlock.Params) error {
	return f.steadyState(ctx, c, p)
}

// pipes is a listener whose connections are in memory, as a bubble of fake time needs them.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// dial connects to the server.
func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// servePipes starts a server on a listener in memory.
func servePipes(t *testing.T, handler http.Handler) *pipes {
	t.Helper()
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	server := fleetlock.NewHTTPServer(handler)
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(p) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

const head = "POST /v1/pre-reboot HTTP/1.1\r\nHost: a\r\nFleet-Lock-Protocol: true\r\nContent-Length: 50\r\n\r\n"

// A body that nobody reads, for a handler of somebody else, is bounded as well.
func TestBodyThatNobodyReadsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		conn := servePipes(t, http.NotFoundHandler()).dial()
		defer conn.Close()
		_, err := io.WriteString(conn, head)
		must.Do(t, err)
		if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(start) > 21*time.Second {
			t.Errorf("the connection ended after %s: %v", time.Since(start), err)
		}
	})
}

// A server may let a client wait for far longer than its request may take to arrive.
func TestServerMayLetTheClientWait(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := servePipes(t, &fleetlock.Handler{Server: functions{preReboot: func(ctx context.Context, _ fleetlock.Caller, _ fleetlock.Params) error {
				select {
				case <-ctx.Done():
					return errors.New("the context has ended")
				case <-time.After(25 * time.Minute):
					return nil
				}
			}}})
			transport := &http.Transport{
				DialContext: func(context.Context, string, string) (net.Conn, error) { return p.dial(), nil },
				Protocols:   new(http.Protocols),
			}
			defer transport.CloseIdleConnections()
			transport.Protocols.SetHTTP1(!http2)
			transport.Protocols.SetUnencryptedHTTP2(http2)
			must.Do(t, newClient(t, "http://a/", fleetlock.ClientOptions{HTTP: &http.Client{Transport: transport}}).PreReboot(t.Context(), web1))
		})
	}
}

// The usual bounds, in fake time: a body has ten seconds, headers have ten seconds, and a connection may be idle for a
// minute.
func TestSlowClientsAreBounded(t *testing.T) {
	for _, test := range []struct {
		name, sends, want string
		after             time.Duration
	}{
		{"half a body", head + `{"client_params"`, "408 Request Timeout", 10 * time.Second},
		{"no body", head, "408 Request Timeout", 10 * time.Second},
		{"no body, for another path", strings.Replace(head, "pre-reboot", "reboot", 1), "404 Not Found", 10 * time.Second},
		{"no body, too long", strings.Replace(head, "50", "65537", 1), "413 Request Entity Too Large", 10 * time.Second},
		{"half a head", "POST /v1/pre-reboot HTTP/1.1\r\nHost: a\r\n", "", 10 * time.Second},
		{"nothing", "", "", 10 * time.Second},
		{"one request, and then nothing", head + string(web1.Encode()), "200 OK", time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				conn := servePipes(t, &fleetlock.Handler{Server: &scripted{}}).dial()
				defer conn.Close()
				_, err := io.WriteString(conn, test.sends)
				must.Do(t, err)
				reader := bufio.NewReader(conn)
				resp, err := http.ReadResponse(reader, nil)
				switch {
				case test.want == "" && err == nil:
					t.Errorf("there is an answer, %s", resp.Status)
				case test.want != "" && err != nil:
					t.Error(err)
				case test.want != "":
					if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Status != test.want {
						t.Errorf("the answer is %s, %v, want %s", resp.Status, err, test.want)
					}
				}
				_, _ = io.Copy(io.Discard, reader) // until the server ends the connection
				// The server lingers for half a second where the client may still be sending.
				if took := time.Since(start); took < test.after || took > test.after+time.Second {
					t.Errorf("the connection ended after %s, want %s", took, test.after)
				}
			})
		})
	}
}

// The context of a call ends when the client goes away, and nothing is answered or logged.
func TestClientThatHasGoneAwayIsNotAnswered(t *testing.T) {
	t.Parallel()
	called, ended := make(chan struct{}), make(chan error)
	s := &scripted{}
	h := &fleetlock.Handler{Log: s.log, Server: functions{steadyState: func(ctx context.Context, _ fleetlock.Caller, _ fleetlock.Params) error {
		close(called)
		<-ctx.Done()
		return errors.Join(errors.New("the store did not answer"), ctx.Err())
	}}}
	// Whether the handler answers cannot be seen at the client's side.
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		written := &noting{ResponseWriter: w}
		defer func() {
			if v := recover(); v != http.ErrAbortHandler || written.code != 0 {
				ended <- errors.New("the handler has answered, or not ended the connection")
			}
			close(ended)
			panic(http.ErrAbortHandler)
		}()
		h.ServeHTTP(written, r)
	}))
	conn, err := net.Dial("tcp", address)
	must.Do(t, err)
	_, err = io.WriteString(conn, strings.Replace(head, "pre-reboot", "steady-state", 1)+string(web1.Encode()))
	must.Do(t, err)
	must.Receive(t, patience, "the call", called)
	must.Do(t, conn.Close())
	must.Do(t, must.Receive(t, patience, "the end of the call", ended))
	if _, logs := s.take(); len(logs) > 0 {
		t.Errorf("logged: %q", logs)
	}
}

// noting notes the code of an answer.
type noting struct {
	http.ResponseWriter
	code int
}

func (n *noting) WriteHeader(code int) {
	n.code = code
	n.ResponseWriter.WriteHeader(code)
}

func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// A context that ends by itself is a failure of the server, and not the client's end.
func TestServersOwnTimeoutIsAnswered(t *testing.T) {
	t.Parallel()
	s := &scripted{}
	h := &fleetlock.Handler{Log: s.log, Server: functions{preReboot: func(ctx context.Context, _ fleetlock.Caller, _ fleetlock.Params) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx.Err()
	}}}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(http.MethodPost, "/v1/pre-reboot"))
	if _, logs := s.take(); w.Code != 500 || len(logs) != 1 {
		t.Errorf("the code is %d, and the log %q", w.Code, logs)
	}
}

// request returns a request with the header and a body.
func request(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(string(web1.Encode())))
	r.Header.Set("fleet-lock-protocol", "true")
	return r
}

// The log has what the client does not get.
func TestLogSaysWhatTheClientIsNotTold(t *testing.T) {
	t.Parallel()
	for id, want := range map[string][]string{
		"broken":  {`POST "/v1/pre-reboot" from 192.0.2.1:1234: etcd at 10.0.0.7 refuses the password hunter2`},
		"panics":  {`panic: password hunter2`, "helpers_test.go:"},
		"not-yet": {"waiting_for_node_drain: the node is being drained (202)"},
		"no-code": {"teapot: short and stout (0)"},
	} {
		s := &scripted{}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/v1/pre-reboot", strings.NewReader(string(fleetlock.Params{ID: id, Group: "a"}.Encode())))
		r.Header.Set("fleet-lock-protocol", "true")
		(&fleetlock.Handler{Server: s, Log: s.log}).ServeHTTP(w, r)
		_, logs := s.take()
		for _, part := range want {
			if len(logs) != 1 || !strings.Contains(logs[0], part) {
				t.Errorf("%s: the log is %q, want %q", id, logs, part)
			}
		}
		if body := w.Body.String(); strings.Contains(body, "hunter2") || strings.Contains(body, "10.0.0.7") {
			t.Errorf("%s: the client is told %q", id, body)
		}
	}
}

// The server learns who has sent a request.
func TestCallerIsWhoSentTheRequest(t *testing.T) {
	t.Parallel()
	var got fleetlock.Caller
	h := &fleetlock.Handler{Server: functions{preReboot: func(_ context.Context, c fleetlock.Caller, _ fleetlock.Params) error {
		got = c
		return nil
	}}}
	r := request(http.MethodPost, "/v1/pre-reboot")
	r.TLS = &tls.ConnectionState{ServerName: "reboots.example.net"}
	r.SetBasicAuth("ann", "secret")
	h.ServeHTTP(httptest.NewRecorder(), r)
	if want := (fleetlock.Caller{Address: "192.0.2.1:1234", User: "ann", Password: "secret", TLS: r.TLS}); got != want {
		t.Errorf("the caller is %+v, want %+v", got, want)
	}
}

// The prefix may be written with or without slashes.
func TestPrefixIsWrittenAsOneLikes(t *testing.T) {
	t.Parallel()
	for prefix, path := range map[string]string{
		"": "/v1/pre-reboot", "/": "/v1/pre-reboot", "a": "/a/v1/pre-reboot", "/a/": "/a/v1/pre-reboot", "/a/b": "/a/b/v1/pre-reboot",
	} {
		w := httptest.NewRecorder()
		(&fleetlock.Handler{Server: &scripted{}, Prefix: prefix}).ServeHTTP(w, request(http.MethodPost, path))
		if w.Code != http.StatusOK {
			t.Errorf("with the prefix %q, %s is answered with %d", prefix, path, w.Code)
		}
	}
}
