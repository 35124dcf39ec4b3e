package fleetlock_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// A real curl, in the ways in which people call it, gets the answer as it is and its code.
func TestRealCurl(t *testing.T) {
	t.Parallel()
	realpart.Must(t, realpart.Tool("curl", "curl"))
	s := &scripted{}
	h := &fleetlock.Handler{Server: s, Log: s.log}
	address := serve(t, h)
	secure := httptest.NewUnstartedServer(h)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)

	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(path, data, 0o600))
		return path
	}
	body := write("body.json", []byte("{\n  \"client_params\": {\n    \"group\": \"default\",\n    \"id\": \"web-1\"\n  }\n}\n"))
	waiting := write("waiting.json", fleetlock.Params{ID: "waiting", Group: "default"}.Encode())
	padded := write("padded.json", append(web1.Encode(), strings.Repeat(" ", 50_000)...))
	long := write("long.json", append(web1.Encode(), strings.Repeat(" ", 2_000_000)...))
	ca := write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))

	const header = "fleet-lock-protocol: true"
	const granted, called = "{}\n200 application/json", "pre-reboot of web-1 in group default"
	const notPOST = `{"kind":"method_not_allowed","value":"the method has to be POST"}` + "\n405 application/json"
	for _, test := range []struct {
		name   string
		url    string
		args   []string
		prints string // the body, a line break, the code and the type
		calls  []string
	}{
		{"-d", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-d", "@" + body}, granted, []string{called}},
		{"two slashes", "http://" + address + "//v1/pre-reboot", []string{"-H", header, "-d", "@" + body}, granted, []string{called}},
		{"--data-binary", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "--data-binary", "@" + body}, granted, []string{called}},
		{"JSON as its type", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-H", "Content-Type: application/json", "-d", "@" + body}, granted, []string{called}},
		{"no type", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-H", "Content-Type:", "-d", "@" + body}, granted, []string{called}},
		{"chunks", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-H", "Transfer-Encoding: chunked", "-d", "@" + body}, granted, []string{called}},
		{"a file as the body", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-X", "POST", "-T", body}, granted, []string{called}},
		{"HTTP/1.0", "http://" + address + "/v1/pre-reboot", []string{"-0", "-H", header, "-d", "@" + body}, granted, []string{called}},
		{"an upgrade to HTTP/2 that is not taken", "http://" + address + "/v1/pre-reboot", []string{"--http2", "-H", header, "-d", "@" + body}, granted, []string{called}},
		{"asks before it sends", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-H", "Expect: 100-continue", "--data-binary", "@" + padded}, granted, []string{"pre-reboot of web-1 in group workers"}},
		{"too long, and asks before it sends", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-H", "Expect: 100-continue", "--data-binary", "@" + long},
			`{"kind":"request_too_large","value":"the body has more than 65536 bytes"}` + "\n413 application/json", nil},
		{"user and password", "http://" + address + "/v1/pre-reboot", []string{"-u", "ann:secret", "-H", header, "-d", "@" + body}, granted, []string{called + ", user ann, password secret"}},
		{"TLS and HTTP/2", secure.URL + "/v1/pre-reboot", []string{"--cacert", ca, "--http2", "-H", header, "-d", "@" + body}, granted, []string{called}},
		{"TLS and HTTP/1.1", secure.URL + "/v1/pre-reboot", []string{"--cacert", ca, "--http1.1", "-H", header, "-d", "@" + body}, granted, []string{called}},
		{"steady-state", "http://" + address + "/v1/steady-state", []string{"-H", header, "-d", "@" + body}, granted, []string{"steady-state of web-1 in group default"}},
		{"taken", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-d", "@" + waiting},
			`{"kind":"lock_held","value":"no slot is free: max is 1, held by web-1"}` + "\n423 application/json", []string{"pre-reboot of waiting in group default"}},
		{"no header", "http://" + address + "/v1/pre-reboot", []string{"-d", "@" + body},
			`{"kind":"missing_header","value":"the header fleet-lock-protocol: true is missing, or has another value"}` + "\n400 application/json", nil},
		{"GET", "http://" + address + "/v1/pre-reboot", []string{"-H", header}, notPOST, nil},
		{"PUT", "http://" + address + "/v1/pre-reboot", []string{"-H", header, "-T", body}, notPOST, nil},
		{"another path", "http://" + address + "/", []string{"-H", header, "-d", "@" + body},
			`{"kind":"not_found","value":"there are only /v1/pre-reboot and /v1/steady-state"}` + "\n404 application/json", nil},
	} {
		args := slices.Concat([]string{"--silent", "--show-error", "--max-time", "30", "--noproxy", "*", "-w", "%{http_code} %{content_type}"}, test.args, []string{test.url})
		cmd := exec.CommandContext(t.Context(), "curl", args...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v: %s", test.name, err, stderr.String())
		}
		calls, _ := s.take()
		if string(out) != test.prints || !slices.Equal(calls, test.calls) {
			t.Errorf("%s: curl prints %q, want %q; the calls are %q, want %q", test.name, out, test.prints, calls, test.calls)
		}
	}
}
