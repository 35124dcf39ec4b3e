package gates

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
)

const (
	quiet          = `{"status":"success","data":{"resultType":"vector","result":[]}}`
	noPrometheus   = "; LOCKSMITHD_PROMETHEUS_URL has to be the address of Prometheus"
	noAlertmanager = "; LOCKSMITHD_ALERTMANAGER_URL has to be the address of Alertmanager"
)

// serve starts a server.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// says answers every request.
func says(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// firing is an answer of Prometheus with alerts of these names.
func firing(names ...string) string {
	series := make([]string, len(names))
	for i, name := range names {
		quoted, _ := json.Marshal(name)
		series[i] = fmt.Sprintf(`{"metric":{"__name__":"ALERTS","alertname":%s},"value":[1,"1"]}`, quoted)
	}
	return fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[%s]}}`, strings.Join(series, ","))
}

func ask(t *testing.T, a Alerts) *policy.Obstacle {
	t.Helper()
	g := Gates{Root: t.TempDir(), Alerts: a}
	return g.Ask(t.Context(), policy.Need{})
}

func TestAnswersOfPrometheus(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		kind, body string
		want       string // after the address; "alerts..." for alerts, "" for none
	}{
		"quiet":              {200, "application/json", quiet, ""},
		"alerts":             {200, "application/json", firing("Disk", "CPU", "Disk"), "alerts in Prometheus (CPU, Disk)"},
		"many alerts":        {200, "application/json", firing("a", "b", "c", "d", "e", "f", "g"), "alerts in Prometheus (a, b, c, d, e, and 2 more)"},
		"a terminal's code":  {200, "application/json", firing("\x1b[2J"), `alerts in Prometheus (\x1b[2J)`},
		"long names":         {200, "application/json", firing(strings.Repeat("x", 1000)), "alerts in Prometheus (" + strings.Repeat("x", 64) + "...)"},
		"another query":      {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[1,"0"]},{"metric":{},"value":[1,"3"]}]}}`, "alerts in Prometheus (up, without a name)"},
		"a number":           {200, "application/json", `{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}`, "the query has a result of type scalar; LOCKSMITHD_PROMETHEUS_QUERY has to ask for an instant vector, which is empty if this host may reboot"},
		"a wrong query":      {400, "application/json", `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:1: parse error"}`, `status 400 Bad Request (bad_data: invalid parameter "query": 1:1: parse error)`},
		"an error":           {200, "application/json", `{"status":"error","errorType":"timeout","error":"query timed out"}`, "timeout: query timed out"},
		"incomplete":         {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["store-3 is down"]}`, "an answer that may be incomplete: store-3 is down"},
		"a remark":           {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["PromQL info: metric might not be a counter"]}`, ""},
		"HTML":               {200, "text/html; charset=utf-8", "<html>\n  <title>Log in</title>", "an answer of type text/html that is not Prometheus's (<html> <title>Log in</title>)" + noPrometheus},
		"nothing":            {200, "application/json", "", "an empty answer" + noPrometheus},
		"null":               {200, "application/json", "null", "an answer of type application/json that is not Prometheus's (null)" + noPrometheus},
		"another JSON":       {200, "", "[]", "an answer that is not Prometheus's ([])" + noPrometheus},
		"no result":          {200, "application/json", `{"status":"success","data":{"resultType":"vector"}}`, `an answer of type application/json that is not Prometheus's ({"status":"success","data":{"resultType":"vector"}})` + noPrometheus},
		"a null result":      {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":null}}`, `an answer of type application/json that is not *`},
		"cut":                {200, "application/json", quiet[:len(quiet)-1], "an answer of type application/json that is not *"},
		"two answers":        {200, "application/json", quiet + quiet, "an answer of type application/json that is not *"},
		"broken":             {500, "text/plain", "oh\x1b[31m no", `status 500 Internal Server Error (oh\x1b[31m no)`},
		"not there":          {404, "text/plain", "404 page not found\n", "status 404 Not Found (404 page not found)" + noPrometheus},
		"a token is missing": {401, "text/plain", "", "status 401 Unauthorized; LOCKSMITHD_ALERT_TOKEN_FILE names the file of a token"},
		"a token is wrong":   {403, "text/plain", "no", "status 403 Forbidden (no); LOCKSMITHD_ALERT_TOKEN_FILE names the file of a token"},
		"no content":         {204, "", "", "status 204 No Content"},
		"2 MB":               {200, "application/json", quiet + strings.Repeat(" ", 2<<20), "an answer of more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, says(c.status, c.kind, c.body))
			want := c.want
			if want != "" && !strings.HasPrefix(want, "alerts") {
				want = "Prometheus, which does not say whether alerts are firing: " + s.URL + "/api/v1/query: " + want
			}
			expect(t, ask(t, Alerts{PrometheusURL: s.URL}), policy.Alerts, want)
		})
	}
}

func TestAnswersOfAlertmanager(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		kind, body string
		want       string
	}{
		"quiet":     {200, "application/json", "[]\n", ""},
		"alerts":    {200, "application/json", `[{"labels":{"alertname":"CPU"}},{"labels":{}}]`, "alerts in Alertmanager (CPU, without a name)"},
		"null":      {200, "application/json", "null", "an answer of type application/json that is not Alertmanager's (null)" + noAlertmanager},
		"an object": {200, "application/json", quiet, "an answer of type application/json that is not *"},
		"HTML":      {200, "text/html", "<html>", "an answer of type text/html that is not Alertmanager's (<html>)" + noAlertmanager},
		"a refusal": {400, "application/json", `"bad matcher format"`, `status 400 Bad Request ("bad matcher format")`},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, says(c.status, c.kind, c.body))
			want := c.want
			if want != "" && !strings.HasPrefix(want, "alerts") {
				want = "Alertmanager, which does not say whether alerts are firing: " + s.URL + "/api/v2/alerts: " + want
			}
			expect(t, ask(t, Alerts{AlertmanagerURL: s.URL}), policy.Alerts, want)
		})
	}
}

func TestQuestions(t *testing.T) {
	requests := make(chan *http.Request, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		says(200, "application/json", map[bool]string{true: "[]", false: quiet}[strings.HasSuffix(r.URL.Path, "alerts")])(w, r)
	})
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	must.Do(t, os.WriteFile(token, []byte(" one\n"), 0o600))
	asked := func(a Alerts, path string, query map[string]string, authorization string) {
		t.Helper()
		expect(t, ask(t, a), "", "")
		r := must.Receive(t, time.Minute, "the request", requests)
		if r.Method != "GET" || r.URL.Path != path || len(r.URL.Query()) != len(query) || r.Header.Get("Authorization") != authorization {
			t.Errorf("asked %s %s, %q", r.Method, r.URL, r.Header)
		}
		for key, want := range query {
			if got := r.URL.Query()[key]; len(got) != 1 || got[0] != want {
				t.Errorf("asked %s, want %s=%q", r.URL, key, want)
			}
		}
	}
	asked(Alerts{PrometheusURL: s.URL}, "/api/v1/query", map[string]string{"query": `ALERTS{alertstate="firing"}`}, "")
	asked(Alerts{PrometheusURL: s.URL + "/prom/?tenant=a", Query: "up == 0"}, "/prom/api/v1/query", map[string]string{"query": "up == 0", "tenant": "a"}, "")
	active := map[string]string{"active": "true", "silenced": "false", "inhibited": "false"}
	asked(Alerts{AlertmanagerURL: s.URL + "/"}, "/api/v2/alerts", active, "")

	// The token is read at each request.
	asked(Alerts{AlertmanagerURL: s.URL, TokenFile: token}, "/api/v2/alerts", active, "Bearer one")
	must.Do(t, os.WriteFile(token, []byte("two"), 0o600))
	asked(Alerts{AlertmanagerURL: s.URL, TokenFile: token}, "/api/v2/alerts", active, "Bearer two")
}

// net/http reads the environment once in a process, and uses no proxy for 127.0.0.1.
func TestMain(m *testing.M) {
	os.Setenv("http_proxy", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	expect(t, ask(t, Alerts{PrometheusURL: "http://prometheus.invalid"}), policy.Alerts,
		"Prometheus, which does not say whether alerts are firing: http://prometheus.invalid/api/v1/query: dial tcp: lookup prometheus.invalid*")
}

func TestIgnoredAlertsDoNotCount(t *testing.T) {
	s := serve(t, says(200, "application/json", firing("Watchdog", "DiskFull")))
	for pattern, want := range map[string]string{
		"^Watchdog$":              "alerts in Prometheus (DiskFull)",
		"^(?:Watchdog|Disk.*)$":   "",
		"^(?:watchdog|diskfull)$": "alerts in Prometheus (DiskFull, Watchdog)",
	} {
		expect(t, ask(t, Alerts{PrometheusURL: s.URL, Ignore: regexp.MustCompile(pattern)}), policy.Alerts, want)
	}
}

// Whoever says no first counts, and each of them can.
func TestBothAreAsked(t *testing.T) {
	yes, no := serve(t, says(200, "", quiet)), serve(t, says(200, "", firing("CPU")))
	empty, alert := serve(t, says(200, "", "[]")), serve(t, says(200, "", `[{"labels":{"alertname":"Disk"}}]`))
	for _, c := range []struct {
		prometheus, alertmanager *httptest.Server
		want                     string
	}{
		{yes, empty, ""},
		{no, empty, "alerts in Prometheus (CPU)"},
		{yes, alert, "alerts in Alertmanager (Disk)"},
		{no, alert, "alerts in Prometheus (CPU)"},
	} {
		expect(t, ask(t, Alerts{PrometheusURL: c.prometheus.URL, AlertmanagerURL: c.alertmanager.URL}), policy.Alerts, c.want)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	s := serve(t, says(500, "text/plain", ""))
	address := strings.Replace(s.URL, "http://", "http://user:secret@", 1) + "?token=secret"
	for _, a := range []string{address, strings.Replace(address, "127.0.0.1", "nowhere.invalid", 1), address + "%zz", "http://user:secret@[::1", "ftp://user:secret@host"} {
		o := ask(t, Alerts{PrometheusURL: a})
		if o == nil || strings.Contains(o.Text, "secret") || strings.Contains(o.Text, "user") {
			t.Errorf("%s: held back by %+v", a, o)
		}
	}
}

func TestWhatIsNotAnAddressIsNamed(t *testing.T) {
	for _, address := range []string{"127.0.0.1:9090", "prometheus:9090", "http://", "http:///prometheus", "/prometheus"} {
		expect(t, ask(t, Alerts{PrometheusURL: address}), policy.Alerts, "Prometheus, which does not say whether alerts are firing: LOCKSMITHD_PROMETHEUS_URL is not an address such as http://127.0.0.1:9090")
	}
}

func TestRedirectsToOthersAreNotFollowed(t *testing.T) {
	var asked int
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { asked++; says(200, "", quiet)(w, r) })
	for name, target := range map[string]string{
		"another port": other.URL,
		"another host": strings.Replace(other.URL, "127.0.0.1", "localhost", 1),
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target+"/login?secret", http.StatusFound)
		})
		expect(t, ask(t, Alerts{PrometheusURL: s.URL}), policy.Alerts,
			"Prometheus, which does not say whether alerts are firing: "+s.URL+"/api/v1/query: a redirect to "+target+", which is not followed; set that address if it is the right one")
		if asked > 0 {
			t.Errorf("%s: the redirect was followed", name)
		}
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/new" {
			says(200, "", quiet)(w, r)
			return
		}
		http.Redirect(w, r, "/new", http.StatusFound)
	})
	expect(t, ask(t, Alerts{PrometheusURL: s.URL}), "", "")
	s = serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	expect(t, ask(t, Alerts{PrometheusURL: s.URL}), policy.Alerts, "Prometheus, which does not say whether alerts are firing: "+s.URL+"/api/v1/query: more than 5 redirects")
}

// incomplete is an answer of Prometheus with a warning that has a text in it.
const incomplete = `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["store %s is down"]}`

// A token that is part of an answer does not change what the answer means.
func TestTokenDoesNotChangeTheAnswer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for _, test := range []struct{ token, body, want string }{
		{"warn", fmt.Sprintf(incomplete, "3"), "Prometheus, which does not say whether alerts are firing: URL: an answer that may be incomplete: store 3 is down"},
		{"success", quiet, ""},
		{`"result":[`, firing("Disk"), "alerts in Prometheus (Disk)"},
		{"alertname", firing("Disk"), "alerts in Prometheus (Disk)"},
		{"Disk", firing("Disk", "DiskFull", "CPU"), "alerts in Prometheus ((hidden)Full, CPU)"}, // without Disk, which is ignored
	} {
		must.Do(t, os.WriteFile(file, []byte(test.token), 0o600))
		s := serve(t, says(200, "application/json", test.body))
		a := Alerts{PrometheusURL: s.URL, TokenFile: file}
		if test.token == "Disk" {
			a.Ignore = regexp.MustCompile("^Disk$")
		}
		expect(t, ask(t, a), policy.Alerts, strings.Replace(test.want, "URL", s.URL+"/api/v1/query", 1))
	}
	must.Do(t, os.WriteFile(file, []byte("elsewhere"), 0o600))
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		says(200, "", quiet)(w, r)
	})
	expect(t, ask(t, Alerts{PrometheusURL: s.URL, TokenFile: file}), "", "")
}

// What a server repeats of the token would be in the status, which everybody may read.
func TestAnswersDoNotShowTheToken(t *testing.T) {
	const token = "geheim-geheim"
	file := filepath.Join(t.TempDir(), "token")
	must.Do(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	for said, want := range map[string]string{
		"HTTP/1.1 401 not %s\r\nContent-Length: 22\r\n\r\nwhat is %[1]s?":                             "status 401 not (hidden) (what is (hidden)",
		"HTTP/1.1 200 OK\r\nContent-Type: text/%s\r\n\r\n<%[1]s>":                                     "an answer that is not Prometheus's (<(hidden)>)",
		"HTTP/1.1 200 OK\r\nbroken %s\r\n\r\n":                                                        "no answer of HTTP (malformed MIME header",
		"%s\r\n":                                                                                      `no answer of HTTP (malformed HTTP response "(hidden)")`,
		"HTTP/1.1 302 Found\r\nLocation: http://%s.example/\r\n\r\n":                                  "a redirect to http://(hidden).example, which is not followed",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbroken %s\r\n\r\n":                 "read the answer: malformed MIME header: missing colon: \"broken (hidden)\"",
		"HTTP/1.1 200 OK\r\n\r\n" + firing("at %s"):                                                   "alerts in Prometheus (at (hidden))",
		"HTTP/1.1 400 Bad Request\r\n\r\n" + `{"status":"error","errorType":"%s","error":"no %[1]s"}`: "status 400 Bad Request ((hidden): no (hidden))",
		"HTTP/1.1 200 OK\r\n\r\n" + incomplete:                                                        "an answer that may be incomplete: store (hidden) is down",
		"HTTP/1.1 500 x\r\n\r\n" + strings.Repeat("\n", 471) + "%s":                                   "status 500 x ((hidden))",
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprintf(conn, said, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
				conn.Close()
			}
		})
		got := ask(t, Alerts{PrometheusURL: s.URL, TokenFile: file})
		if got == nil || !strings.Contains(got.Text, want) || strings.Contains(got.Text, token) {
			t.Errorf("%q becomes %+v", said, got)
		}
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(says(200, "", quiet))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	expect(t, ask(t, Alerts{PrometheusURL: s.URL, CAFile: ca}), "", "")
	begin := "Prometheus, which does not say whether alerts are firing: " + s.URL + "/api/v1/query: "
	for what, c := range map[string]struct {
		Alerts
		want string
	}{
		"no CA":             {Alerts{}, "tls: failed to verify certificate: x509: certificate signed by unknown authority; LOCKSMITHD_ALERT_CAFILE names the file of a certificate authority"},
		"no CA in the file": {Alerts{CAFile: file("empty", "x")}, "LOCKSMITHD_ALERT_CAFILE: " + dir + "/empty has no certificate in it"},
		"a missing CA":      {Alerts{CAFile: "/no/such"}, "LOCKSMITHD_ALERT_CAFILE: read /no/such: no such file or directory"},
		"a missing token":   {Alerts{CAFile: ca, TokenFile: "/no/such"}, "LOCKSMITHD_ALERT_TOKEN_FILE: read /no/such: no such file or directory"},
		"an empty token":    {Alerts{CAFile: ca, TokenFile: file("t1", "\n")}, "LOCKSMITHD_ALERT_TOKEN_FILE: " + dir + "/t1 has to have a token in one line, and nothing else"},
		"two tokens":        {Alerts{CAFile: ca, TokenFile: file("t2", "secret\nsecret\n")}, "LOCKSMITHD_ALERT_TOKEN_FILE: " + dir + "/t2 has to have a token in one line, and nothing else"},
	} {
		c.PrometheusURL = s.URL
		t.Run(what, func(t *testing.T) { expect(t, ask(t, c.Alerts), policy.Alerts, begin+c.want) })
	}
	plain := serve(t, says(200, "", quiet))
	https := strings.Replace(plain.URL, "http:", "https:", 1)
	expect(t, ask(t, Alerts{PrometheusURL: https}), policy.Alerts, "Prometheus, which does not say whether alerts are firing: "+https+"/api/v1/query: the server does not speak TLS: write http:// instead of https://")
	expect(t, ask(t, Alerts{PrometheusURL: strings.Replace(s.URL, "https:", "http:", 1)}), policy.Alerts, "*")
}

// Servers that are not there, or do not answer, cost a bounded time.
func TestSilentServersAreNo(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	t.Cleanup(func() { silent.Close() })
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		for { // a byte now and then
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-time.After(time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	gone.Close()
	for address, want := range map[string]string{
		"http://" + gone.Addr().String():   "dial tcp " + gone.Addr().String() + ": connect: connection refused",
		"http://" + silent.Addr().String(): "context deadline exceeded",
		slow.URL:                           "context deadline exceeded",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		g := Gates{Root: t.TempDir(), Alerts: Alerts{PrometheusURL: address}}
		expect(t, g.Ask(ctx, policy.Need{}), policy.Alerts, "Prometheus, which does not say whether alerts are firing: "+address+"/api/v1/query: "+want)
		cancel()
	}
}

// What listens is not a web server.
func TestOtherProtocolsAreNo(t *testing.T) {
	for said, wrong := range map[string]string{
		"":                              "unexpected EOF",
		"SSH-2.0-OpenSSH_9.2\r\n":       `malformed HTTP response "SSH-2.0-OpenSSH_9.2"`,
		"HTTP/1.1 200 OK\r\nX: ":        "unexpected EOF",
		"HTTP/1.1 100 Continue\r\n\r\n": "unexpected EOF",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must.Do(t, err)
		t.Cleanup(func() { listener.Close() })
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 4096)) // else the client gets a reset
			_, _ = io.WriteString(conn, said)
		}()
		address := "http://" + listener.Addr().String()
		expect(t, ask(t, Alerts{PrometheusURL: address}), policy.Alerts,
			"Prometheus, which does not say whether alerts are firing: "+address+"/api/v1/query: no answer of HTTP ("+wrong+")"+noPrometheus)
	}
}

// Nothing of a question stays: no goroutine, and no connection.
func TestNothingStaysAfterAQuestion(t *testing.T) {
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		must.Do(t, err)
		return len(files)
	}
	s := serve(t, says(200, "", quiet))
	routines, files := runtime.NumGoroutine(), open()
	for range 20 {
		expect(t, ask(t, Alerts{PrometheusURL: s.URL}), "", "")
	}
	must.Eventually(t, time.Minute, "the end of all goroutines and connections", func() bool {
		return runtime.NumGoroutine() <= routines && open() <= files
	})
}
