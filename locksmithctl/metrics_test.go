package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/metricsfile"
	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/promtest"
)

var updateDocs = flag.Bool("update-docs", false, "write the tables of docs/metrics.md")

const metricsPage = "../docs/metrics.md"

// scrape returns the code and the text of /metrics.
func (s *serving) scrape(t *testing.T, client *http.Client, change ...func(*http.Request)) (code int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/metrics", nil)
	must.Do(t, err)
	for _, f := range change {
		f(r)
	}
	resp, err := client.Do(r)
	must.Do(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must.Do(t, err)
	return resp.StatusCode, string(data)
}

// as sends a user and a password.
func as(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

// trusting returns a client that trusts an authority.
func trusting(t *testing.T, ca *etcdtest.CA) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	data, err := os.ReadFile(ca.File())
	must.Do(t, err)
	roots.AppendCertsFromPEM(data)
	return newClient(&tls.Config{RootCAs: roots})
}

// record writes the record of a host, as any client of etcd can.
func record(t *testing.T, etcd *etcdtest.Server, id, document string) {
	t.Helper()
	client, err := etcd.Client()
	must.Do(t, err)
	_, err = client.Put(t.Context(), lock.Folder("")+"/fleet/"+url.QueryEscape(id), document)
	must.Do(t, err)
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("the metrics do not have %s:\n%s", line, text)
		}
	}
}

// row is a line of a table in the document.
func row(name, kind string, labels []string, help string) string {
	shown := ""
	if len(labels) > 0 {
		shown = "`" + strings.Join(labels, "`, `") + "` "
	}
	return fmt.Sprintf("| `%s` | %s | %s| %s |\n", name, kind, shown, help)
}

// wantTable checks that the table below a heading of the document has these rows.
func wantTable(t *testing.T, heading, rows string) {
	t.Helper()
	page, err := os.ReadFile(metricsPage)
	must.Do(t, err)
	before, after, _ := strings.Cut(string(page), heading+"\n")
	const head = "| metric | type | labels | |\n| --- | --- | --- | --- |\n"
	text, rest, _ := strings.Cut(after, head)
	table, end, _ := strings.Cut(rest, "\n\n")
	if table += "\n"; table == rows {
		return
	}
	if *updateDocs {
		must.Do(t, os.WriteFile(metricsPage, []byte(before+heading+"\n"+text+head+rows+"\n"+end), 0o644))
		return
	}
	t.Errorf("%s has\n%s\nwant\n%s(go test ./locksmithctl -run MetricsAreDocumented -update-docs)", heading, table, rows)
}

func TestMetricsAreDocumented(t *testing.T) {
	var rows strings.Builder
	for _, m := range metricsfile.Metrics {
		kind := "gauge"
		if strings.HasSuffix(m.Name, "_total") {
			kind = "counter"
		}
		rows.WriteString(row(m.Name, kind, m.Labels, m.Help))
	}
	wantTable(t, "## Of a host", rows.String())

	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	s := serve(t, etcd, nil, "-hold=25m")
	client := newClient(nil)
	record(t, etcd, "db-1", `{"hostname":"db-1","state":"idle","need":{"since":"2026-01-01T00:00:00Z"}}`)
	code, kind := s.ask(t, client, "pre-reboot", "default", "web-1")
	want(t, "web-1", code, kind, 200, "")
	answered := make(chan int, 1)
	go func() {
		code, _ := s.ask(t, client, "pre-reboot", "default", "web-2")
		answered <- code
	}()
	must.Eventually(t, patience, "web-2 to be first in the queue", func() bool {
		_, text := s.scrape(t, client)
		return strings.Contains(text, "locksmith_fleet_queue_hosts{group=\"default\"} 1\n") && strings.Contains(text, "locksmith_fleetlock_requests_waiting 1\n")
	})
	code, kind = s.ask(t, client, "steady-state", "default", "web-1")
	want(t, "web-1", code, kind, 200, "")
	if code := must.Receive(t, patience, "the hand-over", answered); code != 200 {
		t.Errorf("web-2 gets %d", code)
	}
	_, text := s.scrape(t, client)
	wantLines(t, text, `locksmith_hand_over_seconds_count{group="default"} 1`, `locksmith_fleetlock_requests_total{group="default",operation="pre-reboot",result="ok"} 2`)
	promtest.CheckMetrics(t, text)

	rows.Reset()
	for _, m := range regexp.MustCompile(`(?m)^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)\n\w+(?:\{(.*)\})? `).FindAllStringSubmatch(text, -1) {
		var labels []string
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[4], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		rows.WriteString(row(m[1], m[3], labels, m[2]))
	}
	wantTable(t, "## Of the fleet", rows.String())
}

// Somebody sees the groups that it may use, and counters of no others. What others have written harms nothing.
func TestMetricsOfHostileRecordsForTheUsersOfAGroup(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	for i := range 100 {
		record(t, etcd, fmt.Sprintf("many-%d", i), fmt.Sprintf(`{"hostname":"h","state":"state-%d","os_version":"%d","locksmith":"v%d","waits_for":"w%d","need":{"since":"2026-01-01T00:00:00Z"}}`, i, i/2, i, i))
	}
	for i := range 5 {
		record(t, etcd, fmt.Sprintf("evil-%d", i), `{"hostname":"\u001b[31m","state":"idle","os_version":"\"} 1\nlocksmith_evil 1\u202e<script>alert(1)</script>"}`)
	}
	record(t, etcd, "large", `{"os_version":"`+strings.Repeat("x", 1<<20)+`"}`)
	record(t, etcd, "\x00\xff", "\xff\xfe not JSON")
	record(t, etcd, "web-1", `{"hostname":"web-1","state":"waiting","waits_for":"users","os_version":"4230.2.1","locksmith":"0.8.0"}`)
	s := serve(t, etcd, map[string]string{
		"default.conf": "", "default.users": userLine(t, "web", "sesame") + userLine(t, "both", "b"),
		"db.conf": "", "db.users": userLine(t, "db", "open") + userLine(t, "both", "b"),
	})
	client := newClient(nil)
	code, _ := s.ask(t, client, "pre-reboot", "db", "db-1", as("db", "open"))
	want(t, "db-1", code, "", 200, "")
	s.ask(t, client, "pre-reboot", "no-such-group", "db-1")

	code, text := s.scrape(t, client, as("web", "sesame"))
	if code != 200 || strings.Contains(text, `"db"`) || len(text) > 64<<10 || strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("web gets %d:\n%s", code, text)
	}
	promtest.CheckMetrics(t, text)
	wantLines(t, text, `locksmith_etcd_up 1`, `locksmith_fleet_hosts{group="default",state="idle"} 5`, `locksmith_fleet_hosts{group="default",state="other"} 100`,
		`locksmith_fleet_hosts{group="default",state="unreadable"} 2`, `locksmith_fleet_blocked_hosts{group="default",reason="other"} 100`,
		`locksmith_fleet_reboot_needed_hosts{group="default"} 100`,
		`locksmith_fleetlock_requests_total{group="",operation="pre-reboot",result="unknown_group"} 1`)
	for _, name := range []string{"os_version", "locksmithd_version"} {
		if n := strings.Count(text, "\nlocksmith_fleet_"+name+"_hosts{"); n != 21 {
			t.Errorf("there are %d series of %s", n, name)
		}
	}
	if _, text := s.scrape(t, client, as("db", "open")); !strings.Contains(text, `locksmith_fleet_slots_held{group="db"} 1`) || strings.Contains(text, `"default"`) {
		t.Errorf("db gets %s", text)
	}
	if _, text := s.scrape(t, client, as("both", "b")); !strings.Contains(text, `fleet_slots{group="db"}`) || !strings.Contains(text, `fleet_slots{group="default"}`) {
		t.Errorf("both gets %s", text)
	}

	for what, change := range map[string]func(*http.Request){
		"nobody": func(*http.Request) {}, "a wrong password": as("web", "open"), "nobody known": as("eve", "open"),
	} {
		if code, text := s.scrape(t, client, change); code != 401 || strings.Contains(text, "locksmith_") {
			t.Errorf("%s gets %d %s", what, code, text)
		}
	}
	post := func(r *http.Request) { r.Method = http.MethodPost }
	rebound := func(r *http.Request) { r.Host = "evil.example"; r.SetBasicAuth("web", "sesame") }
	if code, _ := s.scrape(t, client, post); code != 405 {
		t.Errorf("POST gets %d", code)
	}
	if code, _ := s.scrape(t, client, rebound); code != 403 {
		t.Errorf("a page of somebody else gets %d", code)
	}

	etcd.Kill()
	must.Eventually(t, patience, "etcd to be missed", func() bool {
		code, text := s.scrape(t, client, as("web", "sesame"))
		return code == 200 && strings.Contains(text, "\nlocksmith_etcd_up 0\n") && strings.Contains(text, `locksmith_fleet_hosts{group="default",state="idle"} 5`)
	})
}

// A real Prometheus, configured as the document says, scrapes the server over TLS with a password. It loads the alerts, and
// evaluates them and each query of the dashboard.
func TestMetricsInTheRealPrometheus(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})
	ca := etcdtest.MustCA(t)
	pair := ca.MustIssue(t, etcdtest.Certificate{CommonName: "server", Hosts: []string{"127.0.0.1"}})
	users := userLine(t, "prometheus", "sesame")
	record(t, etcd, "web-2", `{"hostname":"web-2","state":"waiting","waits_for":"users","os_version":"4230.2.0","need":{"since":"2026-01-01T00:00:00Z"}}`)
	s := serve(t, etcd, map[string]string{"default.conf": "", "default.users": users}, "-tls-cert="+pair.CertFile, "-tls-key="+pair.KeyFile)
	client := trusting(t, ca)
	code, kind := s.ask(t, client, "pre-reboot", "default", "web-1", as("prometheus", "sesame"))
	want(t, "web-1", code, kind, 200, "")

	page, err := os.ReadFile(metricsPage)
	must.Do(t, err)
	example := regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```\n").FindSubmatch(page)
	if example == nil {
		t.Fatal("the document has no example")
	}
	password := filepath.Join(t.TempDir(), "password")
	must.Do(t, os.WriteFile(password, []byte("sesame\n"), 0o600))
	rules, err := filepath.Abs("../packaging/examples/prometheus-rules.yaml")
	must.Do(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\nrule_files: [%q]\n", rules) + strings.NewReplacer(
		"/etc/prometheus/ca.pem", ca.File(), "/etc/prometheus/locksmith-password", password, "reboots.example.com:3333", strings.TrimPrefix(s.url, "https://"),
	).Replace(string(example[1]))
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	must.Do(t, os.WriteFile(file, []byte(config), 0o600))
	promtest.Promtool(t, "", "check", "config", file)
	prometheus := promtest.Start(t, "prometheus", map[string]string{"prometheus.yml": config}, "--config.file=prometheus.yml", "--storage.tsdb.path=data")
	query := func(text string) []promtest.Sample {
		t.Helper()
		samples, err := promtest.Query(t.Context(), prometheus, text, time.Time{})
		must.Do(t, err)
		return samples
	}
	must.Eventually(t, patience, "the slot in Prometheus", func() bool {
		samples, err := promtest.Query(t.Context(), prometheus, `locksmith_fleet_slots_held{job="locksmith",group="default"}`, time.Time{})
		return err == nil && len(samples) == 1 && samples[0].Value == "1" // at first it is not ready
	})

	// Without hosts that have a file there are these, but no errors.
	without := []string{"locksmith_reboots_total", "locksmith_healthy", "locksmith_reboot_needed_timestamp_seconds", "_bucket"}
	dashboard, err := os.ReadFile("../packaging/examples/grafana-dashboard.json")
	must.Do(t, err)
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	must.Do(t, json.Unmarshal(dashboard, &d))
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("panel %q has the id %d, and is at %+v", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$group", "default").Replace(target.Expr)
			var samples []promtest.Sample
			found := func() bool { samples = query(expr); return len(samples) > 0 }
			if optional := slices.ContainsFunc(without, func(name string) bool { return strings.Contains(expr, name) }); optional {
				found()
			} else {
				must.Eventually(t, patience, "an answer to "+expr, found)
			}
		}
	}
	if len(d.Panels) < 10 {
		t.Errorf("there are %d panels", len(d.Panels))
	}
	etcd.Kill()
	must.Eventually(t, patience, "the alert to be pending", func() bool {
		return len(query(`ALERTS{alertname="LocksmithEtcdUnreachable",alertstate="pending"}`)) == 1
	})
}
