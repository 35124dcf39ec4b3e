package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock/etcd"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/fleettest"
	"github.com/locksmithd/locksmith/test/must"
)

// read returns the code, the header and the body of an answer.
func (s *serving) read(t *testing.T, client *http.Client, path string, change ...func(*http.Request)) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	must.Do(t, err)
	for _, f := range change {
		f(r)
	}
	resp, err := client.Do(r)
	must.Do(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must.Do(t, err)
	return resp.StatusCode, resp.Header, string(body)
}

// writeFleet writes a small fleet into etcd.
func writeFleet(t *testing.T, server *etcdtest.Server) {
	t.Helper()
	store := etcd.New(etcd.Config{Endpoints: server.Endpoint()})
	defer store.Close()
	must.Do(t, fleettest.Write(t.Context(), store, fleettest.Small(), time.Now()))
}

// The page and its API show each user the groups that the user may use, and are the same as what locksmithctl prints.
func TestServeShowsTheFleet(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	writeFleet(t, server)
	s := serve(t, server, map[string]string{
		"default.conf": "",
		"db.conf":      "", "db.users": userLine(t, "ops", "sesame"),
		"lb.conf": "", "lb.users": userLine(t, "ops", "another"),
	})
	client := newClient(nil)
	as := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("ops", password) }
	}
	code, header, page := s.read(t, client, "/")
	if code != 200 || header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(page, "web-12") || strings.Contains(page, "db-3") {
		t.Errorf("the page for everybody: %d %v\n%s", code, header, page)
	}
	if !strings.Contains(page, `<section id="plan"`) || !strings.Contains(page, "hosts will have rebooted by") {
		t.Errorf("the page has no plan:\n%s", page)
	}
	if code, _, plans := s.read(t, client, "/api/v1/plan"); code != 200 || !strings.Contains(plans, `"outcome": "reboots"`) {
		t.Errorf("the plans: %d %s", code, plans)
	}
	if _, _, page := s.read(t, client, "/", as("sesame")); !strings.Contains(page, "web-12") || !strings.Contains(page, "db-3") || strings.Contains(page, "lb-1") {
		t.Errorf("the page for the user of db:\n%s", page)
	}
	if code, header, _ := s.read(t, client, "/", as("wrong")); code != 401 || header.Get("WWW-Authenticate") == "" {
		t.Errorf("a wrong password: %d %v", code, header)
	}
	s.expect(`msg="a request for the page was rejected" address=127.0.0.1 user=ops reason="a user and a password are needed, those of one of the groups"`)
	_, _, groups := s.read(t, client, "/api/v1/groups")
	var documents []json.RawMessage
	must.Do(t, json.Unmarshal([]byte(groups), &documents))
	var status, group any
	must.Do(t, json.Unmarshal([]byte(runOne(t, server, "status", "-o", "json").stdout), &status))
	must.Do(t, json.Unmarshal(documents[0], &group))
	if a, b := mustJSON(t, status), mustJSON(t, group); len(documents) != 1 || a != b {
		t.Errorf("the group is\n%s\nand status prints\n%s", b, a)
	}
	var printed any
	var served struct{ Hosts any }
	must.Do(t, json.Unmarshal([]byte(runOne(t, server, "hosts", "-o", "json").stdout), &printed))
	_, _, hosts := s.read(t, client, "/api/v1/hosts?per=1000")
	must.Do(t, json.Unmarshal([]byte(hosts), &served))
	if a, b := mustJSON(t, printed), mustJSON(t, served.Hosts); a != b || len(a) < 1000 {
		t.Errorf("the hosts are\n%s\nand hosts prints\n%s", b, a)
	}

	// A change of who may use a group counts for the page as well.
	s.write(t, "lb.users", userLine(t, "ops", "sesame"))
	must.Eventually(t, patience, "group lb to be shown", func() bool {
		_, _, page := s.read(t, client, "/", as("sesame"))
		return strings.Contains(page, "lb-1")
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must.Do(t, err)
	return string(data)
}

// Streams of events are told of changes in etcd, and end with the server.
func TestServeTellsOfChanges(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, server, nil)
	resp, err := http.Get(s.url + "/api/v1/events")
	must.Do(t, err)
	defer resp.Body.Close()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), "data: ") {
				lines <- scanner.Text()
			}
		}
	}()
	if event := must.Receive(t, patience, "the first event", lines); !strings.Contains(event, `"current":true,"changed":[""]`) {
		t.Errorf("the first event is %s", event)
	}
	mustRun(t, server, "lock", "web-1")
	if event := must.Receive(t, patience, "an event", lines); !strings.Contains(event, `"changed":[""]`) {
		t.Errorf("after a change: %s", event)
	}
	if _, _, page := s.read(t, newClient(nil), "/"); !strings.Contains(page, "web-1") {
		t.Errorf("the page: %s", page)
	}
	must.Do(t, s.Signal(syscall.SIGTERM))
	if event := must.Receive(t, patience, "the end of the stream", lines); event != "" {
		t.Errorf("at the end: %s", event)
	}
	s.exit(0)
}

// Certificates and bounds are those of FleetLock's requests.
func TestServeShowsTheFleetOnlyToWhoMayAsk(t *testing.T) {
	t.Parallel()
	server := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "both", Hosts: []string{"127.0.0.1"}})
	s := serve(t, server, nil, "-tls-cert="+pair.CertFile, "-tls-key="+pair.KeyFile, "-tls-client-ca="+ca.File(), "-connections=8")
	roots := x509.NewCertPool()
	data, err := os.ReadFile(ca.File())
	must.Do(t, err)
	roots.AppendCertsFromPEM(data)
	for _, path := range []string{"/", "/api/v1/fleet", "/api/v1/events", "/assets/style.css"} {
		if code, _, body := s.read(t, newClient(&tls.Config{RootCAs: roots}), path); code != 403 || !strings.Contains(body, "a client certificate is needed") {
			t.Errorf("%s without a certificate: %d %s", path, code, body)
		}
	}
	certificate, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	must.Do(t, err)
	client := newClient(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}})
	if code, _, page := s.read(t, client, "/"); code != 200 {
		t.Errorf("with a certificate: %d %s", code, page)
	}
	// 100 at once are allowed, and 100 a minute.
	keep := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}}, Timeout: patience}
	defer keep.CloseIdleConnections()
	for n := 6; ; n++ {
		code, _, body := s.read(t, keep, "/assets/style.css")
		if code == 429 && n > 100 {
			break
		}
		if code != 200 || n > 5000 {
			t.Fatalf("request %d: %d %s", n, code, body)
		}
	}
}
