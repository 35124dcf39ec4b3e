package gates

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/promtest"
)

// becomes waits until the answer is an obstacle with this text, or none for "".
func becomes(t *testing.T, a Alerts, want string) {
	t.Helper()
	var got *policy.Obstacle
	defer func() {
		if t.Failed() {
			t.Logf("held back by %+v", got)
		}
	}()
	must.Eventually(t, promtest.Patience, fmt.Sprintf("the answer %q", want), func() bool {
		got = ask(t, a)
		return got == nil && want == "" || got != nil && got.Text == want
	})
}

// Prometheus watches a host, on which things break and are repaired.
func TestAlertsOfTheRealPrometheus(t *testing.T) {
	t.Parallel()
	var broken atomic.Value
	broken.Store("")
	host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for what := range strings.FieldsSeq(broken.Load().(string)) {
			fmt.Fprintf(w, "broken{what=%q} 1\n", what)
		}
	})
	a := Alerts{Ignore: regexp.MustCompile("^(?:Watchdog)$")}
	a.PrometheusURL = promtest.Start(t, "prometheus", map[string]string{
		"prometheus.yml": fmt.Sprintf(`
global: {scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 100ms}
rule_files: [rules.yml]
scrape_configs:
- job_name: host
  static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(host.URL, "http://")),
		"rules.yml": `
groups:
- name: hosts
  rules:
  - {alert: Watchdog, expr: vector(1)}
  - {alert: DiskFull, expr: 'broken{what="disk"} > 0'}
  - {alert: CPUHot, expr: 'broken{what="cpu"} > 0'}
  - {alert: Slow, expr: 'broken{what="net"} > 0', for: 1h}
`,
	}, "--config.file=prometheus.yml", "--storage.tsdb.path=data")

	every := a
	every.Ignore = nil
	becomes(t, every, "alerts in Prometheus (Watchdog)")
	becomes(t, a, "")
	broken.Store("disk cpu net")
	becomes(t, a, "alerts in Prometheus (CPUHot, DiskFull)") // the third one is pending
	broken.Store("net")
	becomes(t, a, "")

	other := a
	other.Query = `broken{what="net"}`
	becomes(t, other, "alerts in Prometheus (broken)")
	other.Query = "sum("
	const begin = "Prometheus, which does not say whether alerts are firing: "
	becomes(t, other, begin+a.PrometheusURL+"/api/v1/query: status 400 Bad Request (bad_data: invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis)")
	for query, kind := range map[string]string{"1": "scalar", `"x"`: "string", "broken[1m]": "matrix"} {
		other.Query = query
		becomes(t, other, begin+a.PrometheusURL+"/api/v1/query: the query has a result of type "+kind+"; LOCKSMITHD_PROMETHEUS_QUERY has to ask for an instant vector, which is empty if this host may reboot")
	}
	// It is not an Alertmanager.
	becomes(t, Alerts{AlertmanagerURL: a.PrometheusURL}, "Alertmanager, which does not say whether alerts are firing: "+a.PrometheusURL+
		"/api/v2/alerts: status 404 Not Found (404 page not found)"+noAlertmanager)
}

// Alertmanager gets alerts, as Prometheus sends them, which end, are silenced, or inhibited.
func TestAlertsOfTheRealAlertmanager(t *testing.T) {
	t.Parallel()
	a := Alerts{Ignore: regexp.MustCompile("^(?:Watchdog)$")}
	a.AlertmanagerURL = promtest.Start(t, "prometheus-alertmanager", map[string]string{"alertmanager.yml": `
route: {receiver: nobody}
receivers: [{name: nobody}]
inhibit_rules:
- source_matchers: [severity = critical]
  target_matchers: [severity = warning]
`}, "--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=")

	post := func(method, path string, body any) (answer []byte) {
		t.Helper()
		data, err := json.Marshal(body)
		must.Do(t, err)
		request, err := http.NewRequestWithContext(t.Context(), method, a.AlertmanagerURL+"/api/v2/"+path, bytes.NewReader(data))
		must.Do(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		must.Do(t, err)
		defer response.Body.Close()
		answer, err = io.ReadAll(response.Body)
		if must.Do(t, err); response.StatusCode != 200 {
			t.Fatalf("%s: %s %s", path, response.Status, answer)
		}
		return answer
	}
	alert := func(name, severity string, lasts time.Duration) {
		t.Helper()
		now := time.Now()
		post("POST", "alerts", []any{map[string]any{"labels": labels{"alertname": name, "severity": severity}, "startsAt": now.Add(-time.Minute), "endsAt": now.Add(lasts)}})
	}
	becomes(t, a, "")
	alert("DiskFull", "warning", time.Hour)
	alert("Watchdog", "none", time.Hour)
	becomes(t, a, "alerts in Alertmanager (DiskFull)")

	var silence struct{ SilenceID string }
	must.Do(t, json.Unmarshal(post("POST", "silences", map[string]any{
		"matchers":  []any{map[string]any{"name": "alertname", "value": "DiskFull", "isRegex": false, "isEqual": true}},
		"startsAt":  time.Now(),
		"endsAt":    time.Now().Add(time.Hour),
		"createdBy": "ann", "comment": "known",
	}), &silence))
	becomes(t, a, "")
	post("DELETE", "silence/"+silence.SilenceID, nil)
	becomes(t, a, "alerts in Alertmanager (DiskFull)")

	alert("HostDown", "critical", time.Hour) // inhibits the other one
	becomes(t, a, "alerts in Alertmanager (HostDown)")
	alert("HostDown", "critical", -time.Second)
	becomes(t, a, "alerts in Alertmanager (DiskFull)")
	alert("DiskFull", "warning", -time.Second)
	becomes(t, a, "")

	// It is not a Prometheus.
	becomes(t, Alerts{PrometheusURL: a.AlertmanagerURL}, "Prometheus, which does not say whether alerts are firing: "+a.AlertmanagerURL+
		"/api/v1/query: status 404 Not Found (404 page not found)"+noPrometheus)
}
