package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/crypto/bcrypt"

	"github.com/locksmithd/locksmith/fleetlock"
	"github.com/locksmithd/locksmith/internal/config"
	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// serving is a process of `locksmithctl serve`.
type serving struct {
	*running
	root string // of its files
	url  string
	told atomic.Value // what it has told systemd
}

// endpoint is an etcd, or a proxy before it.
type endpoint interface{ Endpoint() string }

// notified returns what the server has told systemd, a line for each.
func (s *serving) notified() string {
	told, _ := s.told.Load().(string)
	return told
}

// serve starts a server with groups: files of groups.d and their content.
func serve(t *testing.T, etcd endpoint, groups map[string]string, args ...string) *serving {
	t.Helper()
	s := &serving{root: t.TempDir()}
	for name, content := range groups {
		s.write(t, name, content)
	}
	s.start(t, etcd, nil, append([]string{"-listen=127.0.0.1:0"}, args...)...)
	return s
}

// start starts the program, by wrapper if that is given.
func (s *serving) start(t *testing.T, etcd endpoint, wrapper []string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("locksmithctl")
	must.Do(t, err)
	command := append(slices.Clone(wrapper), path, "serve", "--root="+s.root, "-endpoint="+etcd.Endpoint())
	command = append(command, args...)
	read, write := pipe(t)
	cmd := exec.Command(command[0], command[1:]...)
	notify := filepath.Join(s.root, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	must.Do(t, err)
	t.Cleanup(func() { manager.Close() })
	go func() {
		for message := make([]byte, 1<<12); ; {
			n, err := manager.Read(message)
			if err != nil {
				return
			}
			s.told.Store(s.notified() + string(message[:n]) + "\n")
		}
	}()
	cmd.Env = []string{"TZ=UTC", "NOTIFY_SOCKET=" + notify}
	s.running = follow(t, cmd, nil, read, write)
	line := s.expect(`msg="serves the lock" at=\S+ `)
	s.url = strings.TrimSpace(line[strings.LastIndex(line, "at=")+len("at="):])
}

// write writes a file of groups.d, as an editor does.
func (s *serving) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(s.root, config.GroupsDir, name)
	must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(t, os.WriteFile(path+"~", []byte(content), 0o600))
	must.Do(t, os.Rename(path+"~", path))
}

// ask makes a request, and returns the code and the kind of the answer.
func (s *serving) ask(t *testing.T, client *http.Client, operation, group, id string, change ...func(*http.Request)) (code int, kind string) {
	t.Helper()
	body := fleetlock.Params{ID: id, Group: group}.Encode()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/"+operation, strings.NewReader(string(body)))
	must.Do(t, err)
	r.Header.Set("fleet-lock-protocol", "true")
	for _, f := range change {
		f(r)
	}
	return do(t, client, r)
}

func do(t *testing.T, client *http.Client, r *http.Request) (code int, kind string) {
	t.Helper()
	resp, err := client.Do(r)
	must.Do(t, err)
	defer resp.Body.Close()
	var answer struct{ Kind, Value string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: the answer is not JSON: %v, %v", r.URL, err, resp.Header)
	}
	return resp.StatusCode, answer.Kind
}

// get asks for a path.
func (s *serving) get(t *testing.T, client *http.Client, path string) (code int, kind string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	must.Do(t, err)
	return do(t, client, r)
}

// newClient returns a client that connects for each request.
func newClient(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ExpectContinueTimeout: patience}, Timeout: patience}
}

func want(t *testing.T, what string, code int, kind string, wantCode int, wantKind string) {
	t.Helper()
	if code != wantCode || kind != wantKind {
		t.Errorf("%s: %d %q, want %d %q", what, code, kind, wantCode, wantKind)
	}
}

func TestServeSpeaksWithCurlAndSharesTheLock(t *testing.T) {
	t.Parallel()
	realpart.Must(t, realpart.Tool("curl", "curl"))
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, nil, "-hold=1s")
	curl := func(operation, id string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "curl", "-sS", "-w", "%{http_code}", "-H", "fleet-lock-protocol: true",
			"-d", fmt.Sprintf(`{"client_params":{"id":%q,"group":"default"}}`, id), s.url+"//v1/"+operation).CombinedOutput()
		must.Do(t, err)
		return string(out)
	}
	for range 2 {
		if got := curl("pre-reboot", "web-1"); got != "{}\n200" {
			t.Errorf("web-1 gets %s", got)
		}
	}
	if got := curl("pre-reboot", "web-2"); !strings.HasPrefix(got, `{"kind":"lock_held","value":"first in the queue; no slot is free: max is 1, held by web-1 (127.0.0.1) since `) || !strings.HasSuffix(got, "423") {
		t.Errorf("web-2 gets %s", got)
	}
	r := runOne(t, etcd, "status", "-o", "wide")
	for _, line := range []string{`web-1 +127.0.0.1 +- +\d+s +fleetlock`, `1 +web-2 +127.0.0.1 +- +`} {
		if wantSuccess(t, r); !regexp.MustCompile(line).MatchString(r.stdout) {
			t.Errorf("status says\n%s", r.stdout)
		}
	}
	// A host that waits by itself is behind web-2.
	host := start(t, etcd, "lock", "web-3", "-wait")
	host.expect("in the queue behind web-2")
	if got := curl("steady-state", "web-1"); got != "{}\n200" {
		t.Errorf("web-1 gets %s", got)
	}
	if got := curl("pre-reboot", "web-2"); got != "{}\n200" {
		t.Errorf("web-2 gets %s", got)
	}
	mustRun(t, etcd, "unlock", "web-2")
	host.exit(0)
	mustRun(t, etcd, "unlock", "web-3")
	mustRun(t, etcd, "pause", "-reason=migration")
	if got := curl("pre-reboot", "web-1"); !strings.Contains(got, `"kind":"paused"`) || !strings.Contains(got, "migration") {
		t.Errorf("web-1 gets %s", got)
	}
}

// A request that is held open is answered as soon as the slot is free, or the server stops.
func TestServeHoldsRequestsOpenAndStops(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, nil, "-hold=25m")
	must.Eventually(t, patience, "systemd to be told", func() bool {
		return s.notified() == "READY=1\nSTATUS=serves 1 group at "+s.url+"; 0 hosts wait\n"
	})
	client := newClient(nil)
	code, kind := s.ask(t, client, "pre-reboot", "default", "web-1")
	want(t, "web-1", code, kind, 200, "")
	type answer struct {
		code int
		kind string
	}
	answers := make(chan answer, 2)
	hold := func(id string) {
		go func() {
			code, kind := s.ask(t, client, "pre-reboot", "default", id)
			answers <- answer{code, kind}
		}()
		must.Eventually(t, patience, id+" in the queue", func() bool {
			return strings.Contains(runOne(t, etcd, "status", "-o=wide").stdout, id)
		})
	}
	hold("web-2")
	code, kind = s.ask(t, client, "steady-state", "default", "web-1")
	want(t, "web-1", code, kind, 200, "")
	if a := must.Receive(t, patience, "the answer to web-2", answers); a != (answer{200, ""}) {
		t.Errorf("web-2 gets %v", a)
	}
	hold("web-3")
	must.Eventually(t, patience, "systemd to be told", func() bool { return strings.Contains(s.notified(), "; 1 host waits\n") })
	must.Do(t, s.Signal(syscall.SIGTERM))
	if a := must.Receive(t, patience, "the answer to web-3", answers); a != (answer{503, "unavailable"}) {
		t.Errorf("web-3 gets %v", a)
	}
	if out := s.exit(0); !strings.Contains(out, `level=INFO msg=stops`) {
		t.Errorf("it says %s", out)
	}
	must.Eventually(t, patience, "systemd to be told", func() bool { return strings.Contains(s.notified(), "STOPPING=1") })
	if out := runOne(t, etcd, "status", "-o=wide").stdout; !strings.Contains(out, "web-3") {
		t.Errorf("web-3 has lost its place: %s", out)
	}
}

// Somebody has to look at the host that did not come back.
func TestServeTellsWhoseExpiredSlotItHasFreed(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	events := make(chan notify.Event, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e notify.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		events <- e
	}))
	t.Cleanup(hook.Close)
	s := &serving{root: t.TempDir()}
	conf := filepath.Join(s.root, "etc/locksmith/locksmith.conf")
	must.Do(t, os.MkdirAll(filepath.Dir(conf), 0o755))
	must.Do(t, os.WriteFile(conf, []byte("LOCKSMITHD_NOTIFY_URL="+hook.URL+"\n"), 0o600))
	s.start(t, etcd, nil, "-listen=127.0.0.1:0", "-hold=25m")
	putKey(t, etcd, semaphoreKey, `{"semaphore":0,"max":1,"holders":["dead"]}`)
	putKey(t, etcd, keys+"/holders/dead", `{"hostname":"web-2","version":"4081.2.0","ttl":"1h0m0s"}`)
	code, kind := s.ask(t, newClient(nil), "pre-reboot", "default", "web-1")
	want(t, "web-1", code, kind, 200, "")
	e := must.Receive(t, patience, "the event", events)
	if e.Type != notify.SlotExpired || e.By != "locksmithctl serve" || e.Holder != "web-2" || e.Version != "4081.2.0" {
		t.Errorf("told is %+v", e)
	}
	s.expect(`msg="freed an expired slot" group=default id=dead host=web-2`)
	must.Do(t, s.Signal(syscall.SIGTERM))
	s.exit(0)
	if len(events) > 0 {
		t.Errorf("and %+v", <-events)
	}
}

// A call of etcd that fails does not end the watches by which requests wait.
func TestServeWaitsAreNotDisturbedByACall(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	proxy := etcdtest.MustRPCProxy(t, etcd)
	s := serve(t, proxy, nil, "-hold=25m")
	client := newClient(nil)
	code, kind := s.ask(t, client, "pre-reboot", "default", "holder")
	want(t, "holder", code, kind, 200, "")
	codes := make(chan int, 30)
	for i := range 30 {
		go func() {
			code, _ := s.ask(t, client, "pre-reboot", "default", fmt.Sprint("web-", i))
			codes <- code
		}()
	}
	must.Eventually(t, patience, "30 hosts to wait", func() bool { return strings.Contains(s.notified(), "; 30 hosts wait\n") })
	must.Eventually(t, patience, "30 hosts in the queue", func() bool {
		return strings.Count(runOne(t, etcd, "status", "-o=wide").stdout, "web-") == 30
	})
	must.Eventually(t, patience, "30 hosts to watch", func() bool { return proxy.Calls(etcdtest.Watch) >= 30 })
	watches := proxy.Calls(etcdtest.Watch)
	failed := proxy.Every(etcdtest.Reads, etcdtest.Fail(rpctypes.ErrGRPCNoLeader))
	must.Eventually(t, patience, "the server not to be ready", func() bool {
		code, _ := s.get(t, client, "/-/ready")
		return code == 503
	})
	must.Receive(t, patience, "a call that fails", failed.Arrived)
	proxy.Clear()
	must.Eventually(t, patience, "the server to be ready", func() bool {
		code, _ := s.get(t, client, "/-/ready")
		return code == 200
	})
	if n := proxy.Calls(etcdtest.Watch) - watches; n > 0 || len(codes) > 0 {
		t.Errorf("there are %d more watches, and %d requests have ended", n, len(codes))
	}
	code, kind = s.ask(t, client, "steady-state", "default", "holder")
	want(t, "holder", code, kind, 200, "")
	if code := must.Receive(t, patience, "an answer", codes); code != 200 {
		t.Errorf("the first host gets %d", code)
	}
	must.Do(t, s.Signal(syscall.SIGTERM))
	for range 29 {
		if code := must.Receive(t, patience, "an answer", codes); code != 503 {
			t.Errorf("one of the others gets %d", code)
		}
	}
}

func TestServeAnswersEveryErrorInJSON(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, nil)
	client := newClient(nil)
	for path, c := range map[string]struct {
		code int
		kind string
	}{
		"/-/healthy": {200, ""}, "/-/ready": {200, ""}, "/-/metrics": {404, "not_found"},
		"/index.html": {404, "not_found"}, "/api/v1/nothing": {404, "not_found"}, "/v1/pre-reboot": {405, "method_not_allowed"},
	} {
		code, kind := s.get(t, client, path)
		want(t, path, code, kind, c.code, c.kind)
	}
	code, kind := s.ask(t, client, "pre-reboot", "typo", "web-1")
	want(t, "an unknown group", code, kind, 400, "unknown_group")
	code, kind = s.ask(t, client, "pre-reboot", "default", "web-1", func(r *http.Request) { r.Method = http.MethodDelete })
	want(t, "DELETE", code, kind, 405, "method_not_allowed")
	code, kind = s.ask(t, client, "pre-reboot", "default", "web-1", func(r *http.Request) { r.URL.Path = "/-/healthy" })
	want(t, "POST /-/healthy", code, kind, 405, "method_not_allowed")
	code, kind = s.ask(t, client, "pre-reboot", "default", strings.Repeat("x", 1<<20), func(r *http.Request) {
		r.Header.Set("Expect", "100-continue") // as curl does; otherwise the answer may come while it still sends
	})
	want(t, "an id of 1 MB", code, kind, 413, "request_too_large")
	code, kind = s.ask(t, client, "pre-reboot", "default", "a\x1b]0;b")
	want(t, "an id with control characters", code, kind, 400, "bad_request")

	etcd.Kill()
	must.Eventually(t, patience, "the server not to be ready", func() bool {
		code, kind := s.get(t, client, "/-/ready")
		return code == 503 && kind == "unavailable"
	})
	code, kind = s.get(t, client, "/-/healthy")
	want(t, "/-/healthy", code, kind, 200, "")
	s.expect("the server is not ready")
	must.Do(t, etcd.Restart(t.Context()))
	must.Eventually(t, patience, "the server to be ready", func() bool {
		code, _ := s.get(t, client, "/-/ready")
		return code == 200
	})
	s.expect("the server is ready")
}

// Clients that send slowly, too much, or nothing do not hinder one that behaves.
func TestServeBesideHostileClients(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, nil, "-connections=64", "-hold=1s")
	address := strings.TrimPrefix(s.url, "http://")
	hostile := func(from, send string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(t.Context(), "tcp", address)
		must.Do(t, err)
		t.Cleanup(func() { c.Close() })
		_, _ = io.WriteString(c, send)
		return c
	}
	const head = "POST /v1/pre-reboot HTTP/1.1\r\nHost: x\r\nfleet-lock-protocol: true\r\n"
	var last net.Conn
	for i := range 200 {
		from := fmt.Sprintf("127.0.9.%d", 1+i%2) // 32 connections of the 64 in all
		switch i % 4 {
		case 0:
			hostile(from, "")
		case 1:
			hostile(from, "POST /v1/pre-reboot HTTP/1.1\r\nHo")
		case 2:
			hostile(from, head+"Content-Length: 100\r\n\r\n{")
		case 3:
			last = hostile(from, head+"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
		}
	}
	// A connection that is one too many is closed. The others are told in time that their body is late.
	if answer, _ := io.ReadAll(last); len(answer) > 0 {
		t.Errorf("one of too many connections gets %q", answer)
	}
	client := newClient(nil)
	for range 3 {
		code, kind := s.ask(t, client, "pre-reboot", "default", "good")
		want(t, "the good one", code, kind, 200, "")
	}
	big := hostile("127.0.9.3", head+"Content-Length: 1000000000\r\n\r\n")
	go func() { _, _ = io.Copy(big, zeros{}) }()
	answer, _ := io.ReadAll(big)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
		t.Errorf("a body of 1 GB gets %q", answer)
	}
	long := hostile("127.0.9.3", "GET / HTTP/1.1\r\n"+strings.Repeat("X: y\r\n", 1<<14))
	if answer, _ := io.ReadAll(long); !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
		t.Errorf("100 KB of headers get %q", answer)
	}
	code, kind := s.ask(t, client, "steady-state", "default", "good")
	want(t, "the good one", code, kind, 200, "")
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestServeWithTLSThatIsRenewed(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	ca, clients := etcdtest.MustCA(t), etcdtest.MustCA(t)
	issue := func(name string) etcdtest.KeyPair {
		return ca.MustIssue(t, etcdtest.Certificate{CommonName: name, Hosts: []string{"127.0.0.1"}})
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	install := func(pair etcdtest.KeyPair) {
		must.Do(t, os.Rename(pair.KeyFile, key))
		must.Do(t, os.Rename(pair.CertFile, cert))
	}
	install(issue("first"))
	s := serve(t, etcd, nil, "-tls-cert="+cert, "-tls-key="+key, "-tls-client-ca="+clients.File())
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("the URL is %s", s.url)
	}
	roots := x509.NewCertPool()
	data, err := os.ReadFile(ca.File())
	must.Do(t, err)
	roots.AppendCertsFromPEM(data)
	with := func(signer *etcdtest.CA) *http.Client {
		c := &tls.Config{RootCAs: roots}
		if signer != nil {
			pair := signer.MustIssue(t, etcdtest.Certificate{CommonName: "host"})
			loaded, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
			must.Do(t, err)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &loaded, nil }
		}
		return newClient(c)
	}
	good := with(clients)
	code, kind := s.ask(t, good, "pre-reboot", "default", "web-1")
	want(t, "with a certificate", code, kind, 200, "")
	code, kind = s.ask(t, with(nil), "steady-state", "default", "web-1")
	want(t, "without a certificate", code, kind, 403, "forbidden")
	code, kind = s.get(t, with(nil), "/-/ready")
	want(t, "a probe without a certificate", code, kind, 200, "")
	if resp, err := with(ca).Get(s.url); err == nil {
		resp.Body.Close()
		t.Error("a certificate of another authority is accepted")
	}
	name := func() string {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: roots})
		must.Do(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "first" {
		t.Errorf("the certificate is %s", got)
	}
	must.Do(t, os.WriteFile(cert, []byte("half a file"), 0o600))
	must.Eventually(t, patience, "the broken file to be noticed", func() bool { return name() == "first" && s.has("those before stay in use") })
	install(issue("second"))
	must.Eventually(t, patience, "the new certificate", func() bool { return name() == "second" })
	code, kind = s.ask(t, good, "steady-state", "default", "web-1")
	want(t, "with a certificate", code, kind, 200, "")
}

// has reports whether it has written a text since the last expect.
func (r *running) has(text string) bool {
	for {
		select {
		case more := <-r.output:
			r.unread = append(r.unread, more...)
			continue
		default:
		}
		return strings.Contains(string(r.unread), text)
	}
}

// userLine is a line of a file of users.
func userLine(t *testing.T, name, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must.Do(t, err)
	return name + ":" + string(hash) + "\n"
}

func TestServeGroupsWithUsersAndWindowsThatChange(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, map[string]string{
		"default.conf": "",
		"db.conf":      "LOCKSMITHD_MAX=2\n",
		"db.users":     userLine(t, "db", "sesame"),
	}, "-hold=1s")
	client := newClient(nil)
	as := func(name, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	code, kind := s.ask(t, client, "pre-reboot", "db", "db-1")
	want(t, "nobody", code, kind, 401, "unauthorized")
	code, kind = s.ask(t, client, "pre-reboot", "db", "db-1", as("db", "wrong"))
	want(t, "a wrong password", code, kind, 401, "unauthorized")
	code, kind = s.ask(t, client, "pre-reboot", "db", "db-1", as("db", "sesame"))
	want(t, "db", code, kind, 200, "")
	code, kind = s.ask(t, client, "pre-reboot", "default", "web-1")
	want(t, "the default group", code, kind, 200, "")
	if out := runOne(t, etcd, "-group=db", "status").stdout; !strings.Contains(out, "Max: 2") {
		t.Errorf("the group is %s", out)
	}

	// A file that is wrong changes nothing. SIGHUP has it read at once.
	s.write(t, "db.conf", "LOCKSMITHD_MAX=two\n")
	must.Do(t, s.Signal(syscall.SIGHUP))
	s.expect(`those before stay in use" error="LOCKSMITHD_MAX=.*db.conf:1`)
	s.write(t, "db.conf", "")
	s.write(t, "db.users", "db:plain\n")
	must.Do(t, s.Signal(syscall.SIGHUP))
	s.expect(`those before stay in use" error="\S*db.users:1: the hash of user db is not one of bcrypt`)
	code, kind = s.ask(t, client, "pre-reboot", "db", "db-1", as("db", "sesame"))
	want(t, "db", code, kind, 200, "")

	// One that is right counts without a signal.
	s.write(t, "db.users", userLine(t, "db", "changed"))
	s.write(t, "web.conf", "LOCKSMITHD_REBOOT_WINDOW_START='0 0 1 1 *'\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1m\n")
	must.Eventually(t, patience, "the groups to be read", func() bool {
		code, _ := s.ask(t, client, "pre-reboot", "web", "web-2")
		return code == 423
	})
	s.expect(`the groups were read again, and are in use" groups="db, default, web"`)
	code, kind = s.ask(t, client, "pre-reboot", "web", "web-2")
	want(t, "a group whose window is shut", code, kind, 423, "window_shut")
	code, kind = s.ask(t, client, "steady-state", "db", "db-1", as("db", "sesame"))
	want(t, "the old password", code, kind, 401, "unauthorized")
	code, kind = s.ask(t, client, "steady-state", "db", "db-1", as("db", "changed"))
	want(t, "the new password", code, kind, 200, "")
}

// A group does not become one for everybody because its file of users disappears. A request that waits learns of a
// window that is shut without another request.
func TestServeFollowsItsFilesWhileARequestWaits(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, map[string]string{"default.conf": "", "default.users": userLine(t, "web", "sesame")}, "-hold=25m")
	client := newClient(nil)
	as := func(r *http.Request) { r.SetBasicAuth("web", "sesame") }
	code, kind := s.ask(t, client, "pre-reboot", "default", "web-1", as)
	want(t, "web-1", code, kind, 200, "")
	kinds := make(chan string, 1)
	go func() {
		_, kind := s.ask(t, client, "pre-reboot", "default", "web-2", as)
		kinds <- kind
	}()
	must.Eventually(t, patience, "web-2 in the queue", func() bool {
		return strings.Contains(runOne(t, etcd, "status", "-o=wide").stdout, "web-2")
	})
	must.Do(t, os.Remove(filepath.Join(s.root, config.GroupsDir, "default.users")))
	s.expect(`those before stay in use" error="\S*default.users is gone, without which everybody could use group default`)
	code, kind = s.ask(t, client, "pre-reboot", "default", "web-1")
	want(t, "nobody", code, kind, 401, "unauthorized")
	s.write(t, "default.conf", "LOCKSMITHD_REBOOT_WINDOW_START='0 0 1 1 *'\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1m\n")
	s.write(t, "default.users", userLine(t, "web", "sesame"))
	if kind := must.Receive(t, patience, "the answer to web-2", kinds); kind != "window_shut" {
		t.Errorf("web-2 gets %s", kind)
	}
}

// A server that other hosts can reach stays closed to them when the users of a group disappear.
func TestServeDoesNotOpenAGroupToEverybody(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "server", Hosts: []string{"127.0.0.1"}})
	s := serve(t, etcd, map[string]string{"default.conf": "", "default.users": userLine(t, "web", "sesame")},
		"-listen=0.0.0.0:0", "-tls-cert="+pair.CertFile, "-tls-key="+pair.KeyFile)
	must.Do(t, os.Remove(filepath.Join(s.root, config.GroupsDir, "default.users")))
	must.Do(t, s.Signal(syscall.SIGHUP))
	s.expect(`those before stay in use" error="other hosts can connect to .* whoever does could take every slot of group default`)
	must.Do(t, os.RemoveAll(filepath.Join(s.root, config.GroupsDir)))
	must.Do(t, s.Signal(syscall.SIGHUP))
	s.expect(`the folder of groups is gone`)
}

// systemd passes the socket.
func TestServeOnTheSocketOfSystemd(t *testing.T) {
	t.Parallel()
	realpart.Must(t, realpart.Tool("systemd-socket-activate", "systemd"))
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	address := l.Addr().String()
	must.Do(t, l.Close())
	s := &serving{root: t.TempDir(), url: "http://" + address}
	activated := make(chan struct{})
	go func() { // the first connection starts it
		defer close(activated)
		client := newClient(nil)
		must.Eventually(t, patience, "an answer", func() bool {
			resp, err := client.Get(s.url + "/-/ready")
			if err == nil {
				resp.Body.Close()
			}
			return err == nil && resp.StatusCode == 200
		})
	}()
	s.start(t, etcd, []string{"systemd-socket-activate", "-l", address, "-E", "NOTIFY_SOCKET"})
	must.Receive(t, patience, "an answer", activated)
	code, kind := s.ask(t, newClient(nil), "pre-reboot", "default", "web-1")
	want(t, "web-1", code, kind, 200, "")
	must.Do(t, s.Signal(syscall.SIGTERM))
	s.exit(0)

	// An address of its own would have no effect.
	path, err := exec.LookPath("locksmithctl")
	must.Do(t, err)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh",
		path, "serve", "--root="+s.root, "-endpoint="+etcd.Endpoint(), "-listen=127.0.0.1:0")
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	defer socket.Close()
	passed, err := socket.(*net.TCPListener).File()
	must.Do(t, err)
	defer passed.Close()
	cmd.ExtraFiles = []*os.File{passed} // file descriptor 3
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "-listen has no effect, because systemd passes the socket: set ListenStream=") {
		t.Errorf("with -listen it ends with %v and says %s", err, out)
	}
}

func TestServeThatCannotListen(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Do(t, err)
	defer l.Close()
	r := runOne(t, etcd, "serve", "-listen="+l.Addr().String())
	if r.code != 1 || !strings.Contains(r.stderr, "listen on "+l.Addr().String()) || !strings.Contains(r.stderr, "address already in use") {
		t.Errorf("it exits with %d and says %s", r.code, r.stderr)
	}
}
