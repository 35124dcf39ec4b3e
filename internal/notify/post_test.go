package notify

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
	"github.com/locksmithd/locksmith/test/must"
)

// The test servers' certificate is one that the system trusts, as far as this process knows.
func TestMain(m *testing.M) {
	os.Exit(trusting(m))
}

func trusting(m *testing.M) int {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		panic(err)
	}
	for name, value := range map[string]string{"SSL_CERT_FILE": file, "SSL_CERT_DIR": dir, "HTTP_PROXY": "", "HTTPS_PROXY": "", "http_proxy": "", "https_proxy": ""} {
		os.Setenv(name, value)
	}
	return m.Run()
}

// secretPath is the part of a URL that must not be shown.
const secretPath = "/services/T0001/B0002/geh3im"

// hook returns a server with TLS, and its URL with a secret.
func hook(t *testing.T, answer http.HandlerFunc) URL {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return URL(server.URL + secretPath)
}

func answers(status int, header, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if name, value, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		io.WriteString(w, text)
	}
}

func TestServerGetsOneBodyThatIsACloudEvent(t *testing.T) {
	for _, e := range hostileEvents() {
		var got *http.Request
		var sent []byte
		u := hook(t, func(w http.ResponseWriter, r *http.Request) {
			got = r
			sent, _ = io.ReadAll(r.Body)
			io.WriteString(w, "ok")
		})
		answer, err := u.Post(t.Context(), e)
		if err != nil || answer != "200 OK (ok)" {
			t.Fatalf("the server answers %q (%v)", answer, err)
		}
		if got.Method != "POST" || got.URL.Path != secretPath || got.Header.Get("Content-Type") != "application/json" || string(sent) != string(e.Body()) {
			t.Errorf("the server got %s %s as %s: %s", got.Method, got.URL.Path, got.Header.Get("Content-Type"), sent)
		}
		for _, a := range e.attributes() {
			// The HTTP binding of CloudEvents: percent-encoded, printable ASCII.
			value, err := url.PathUnescape(got.Header.Get("ce-" + a.name))
			if err != nil || value != a.value {
				t.Errorf("the attribute %s arrives as %q (%v), want %q", a.name, value, err, a.value)
			}
		}
		if e.Type == RebootBegins && e.Host == "" {
			break // one type is enough for the way there
		}
	}
}

func TestUserOfTheURLIsSent(t *testing.T) {
	user, password := "", ""
	u := hook(t, func(_ http.ResponseWriter, r *http.Request) { user, password, _ = r.BasicAuth() })
	_, err := URL(strings.Replace(string(u), "https://", "https://ann:geh3im@", 1)).Post(t.Context(), Event{Type: Test}.Complete(t0))
	if err != nil || user != "ann" || password != "geh3im" {
		t.Errorf("the server got %s:%s (%v)", user, password, err)
	}
}

func TestFailuresSayWhatIsWrongAndNoSecret(t *testing.T) {
	var visited atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited.Store(true) }))
	t.Cleanup(elsewhere.Close)
	plain := httptest.NewServer(answers(200, "", ""))
	t.Cleanup(plain.Close)
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, "no hook %s, nor geh3im\x1b[2J%s", r.URL.Path, strings.Repeat("x", 1<<20))
		}
	}
	for _, test := range []struct {
		name  string
		url   URL
		want  string // what the error begins with
		final bool
		after time.Duration
	}{
		{"an error of the server", hook(t, answers(500, "", "rollup_error")), "500 Internal Server Error (rollup_error)", false, 0},
		{"a busy server", hook(t, answers(429, "Retry-After: 90", "")), "429 Too Many Requests", false, 90 * time.Second},
		{"one that is busy for long", hook(t, answers(503, "Retry-After: 99999999", "")), "503 Service Unavailable", false, time.Hour},
		{"one that was busy", hook(t, answers(429, "Retry-After: Mon, 30 Nov 2020 00:00:00 GMT", "")), "429 Too Many Requests", false, 0},
		{"one that says nonsense", hook(t, answers(429, "Retry-After: -5", "")), "429 Too Many Requests", false, 0},
		{"a timeout of the server", hook(t, answers(408, "", "")), "408 Request Timeout", false, 0},
		{"too early", hook(t, answers(425, "", "")), "425 Too Early", false, 0},
		{"no such hook", hook(t, answers(404, "", "no_service")), "404 Not Found (no_service)", true, 0},
		{"a hook that is gone", hook(t, answers(410, "", "channel_is_archived")), "410 Gone (channel_is_archived)", true, 0},
		{"a secret in the answer", hook(t, echo(403)), "403 Forbidden (no hook (hidden), nor (hidden)", true, 0},
		{"a redirect to another server", hook(t, answers(307, "Location: "+elsewhere.URL+"/geh3im", "")), "a redirect to " + elsewhere.URL + ", which is not followed: write the address", false, 0},
		{"a redirect to the same server", hook(t, answers(301, "Location: /geh3im", "")), "a redirect to https://127.0.0.1:", false, 0},
		{"a redirect to nowhere", hook(t, answers(302, "", "")), "a redirect, which is not followed", false, 0},
		{"no answer", hook(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "the server closed the connection without an answer", false, 0},
		{"not HTTP", URL("http://" + talking(t, "220 mail.example ESMTP\r\n") + secretPath), `net/http: HTTP/1.x transport connection broken: malformed HTTP`, false, 0},
		{"no TLS", URL(strings.Replace(plain.URL, "http:", "https:", 1) + secretPath), "http: server gave HTTP response to HTTPS client: write http:// in LOCKSMITHD_NOTIFY_URL", false, 0},
		{"nobody listens", URL("http://127.0.0.1:1" + secretPath), "dial tcp 127.0.0.1:1: connect: connection refused", false, 0},
		{"another certificate", URL(strings.Replace(string(hook(t, answers(200, "", ""))), "127.0.0.1", "localhost", 1)), "tls: failed to verify certificate: x509: certificate is valid for ", false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.url.Post(t.Context(), Event{Type: Unwell}.Complete(t0))
			var failure *DeliveryError
			if !errors.As(err, &failure) || !strings.HasPrefix(err.Error(), test.want) || failure.Final != test.final || failure.After != test.after {
				t.Errorf("the failure is %+v, want %s", failure, test.want)
			}
			for _, secret := range []string{"geh3im", "T0001", "\x1b"} {
				if text := fmt.Sprintf("%v %+v", err, failure); strings.Contains(text, secret) {
					t.Errorf("the error shows a secret: %s", text)
				}
			}
			if len(err.Error()) > maxReason+20 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if visited.Load() {
		t.Error("the redirect to another server was followed")
	}
}

// A server may answer with what it got, as one does that shows people what is sent to it.
func TestAnswersShowNoSecret(t *testing.T) {
	for name, echo := range map[string]func(r *http.Request) string{
		"all at once":               func(r *http.Request) string { return r.RequestURI + " " + r.Header.Get("Authorization") },
		"one secret begins another": func(r *http.Request) string { return "you asked for geh3imer" },
		"a value of the query":      func(r *http.Request) string { return "the key is geh%33im%2Fgeheimnis" },
		"cut within a secret": func(r *http.Request) string {
			return strings.Repeat("x", maxSaid-len("geh3")) + "geh3imer"
		},
	} {
		for _, status := range []int{200, 404} {
			u := hook(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status); io.WriteString(w, echo(r)) })
			u = URL(strings.Replace(string(u), "https://", "https://ann:geheimnis@", 1) + "/geh3imer?key=geh%33im%2Fgeheimnis&a=b")
			answer, err := u.Post(t.Context(), Event{Type: Test}.Complete(t0))
			text := fmt.Sprint(answer, err)
			for _, secret := range []string{"T0001", "geh3", "imer", "geh%33", "geheim", "YW5uOmdlaGVpbW5pcw"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %s is shown: %s", name, secret, text)
				}
			}
			if !strings.Contains(text, safetext.Hidden) && name != "cut within a secret" {
				t.Errorf("%s: the answer is %s", name, text)
			}
		}
	}
}

// talking returns the address of a server that answers every first line with a text.
func talking(t *testing.T, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = bufio.NewReader(conn).ReadString('\n')
				io.WriteString(conn, text)
			}()
		}
	}()
	return listener.Addr().String()
}

// selfSigned returns a certificate that nobody has heard of.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.Do(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must.Do(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestUnknownAuthorityIsNamed(t *testing.T) {
	server := httptest.NewUnstartedServer(answers(200, "", ""))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, err := URL(server.URL+secretPath).Post(t.Context(), Event{Type: Test}.Complete(t0))
	if err == nil || !strings.HasSuffix(err.Error(), ": the system of this host has to trust the authority") {
		t.Errorf("the error is %v", err)
	}
}

// An answer that never ends, and one that never begins.
func TestServerThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	endless := hook(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		for r.Context().Err() == nil {
			io.WriteString(w, strings.Repeat("x", 1<<10))
		}
	})
	if answer, err := endless.Post(t.Context(), Event{Type: Test}.Complete(t0)); err != nil || !strings.HasPrefix(answer, "200 OK (xxx") || len(answer) > 200 {
		t.Errorf("the endless answer is %q (%v)", answer, err)
	}
	silent := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // the connection is gone, and no answer may overtake that
	})
	if _, err := silent.Post(t.Context(), Event{Type: Test}.Complete(t0)); err == nil || err.Error() != "no answer within 10s" {
		t.Errorf("the error of a silent server is %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the daemon ends"))
	if _, err := silent.Post(ctx, Event{Type: Test}.Complete(t0)); err == nil || err.Error() != "the daemon ends" {
		t.Errorf("the error at the end is %v", err)
	}
}
