package hosts

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// alerting is a server with the API of Prometheus. The real ones are tried in internal/gates.
type alerting struct {
	url    string
	firing atomic.Bool
}

// startAlerting starts a server that hosts reach, with an alert that fires.
func startAlerting(t testing.TB) *alerting {
	t.Helper()
	listener, err := net.Listen("tcp", network+".0.1:0")
	must.Do(t, err)
	a := &alerting{url: "http://" + listener.Addr().String()}
	a.firing.Store(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/query", func(w http.ResponseWriter, r *http.Request) {
		result := ""
		if a.firing.Load() && r.FormValue("query") == `ALERTS{alertstate="firing"}` {
			result = `{"metric":{"__name__":"ALERTS","alertname":"DiskFull"},"value":[1,"1"]}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[%s]}}`, result))
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return a
}

func TestHoldsAndAlertsKeepAHostFromQueueing(t *testing.T) {
	inOneSuite(t)
	t.Parallel()
	alerts := startAlerting(t)
	f, h := startOne(t, "LOCKSMITHD_PROMETHEUS_URL="+alerts.url)
	boot := h.awaitUp()
	shut := func(parts ...string) {
		t.Helper()
		h.awaitStatus(append([]string{"reboot needed since", "held back by "}, parts...)...)
		h.wantRefused(parts...)
		f.awaitHolders()
		h.wantNoReboot(boot)
	}
	h.do("locksmithctl", "hold", "-reason", "disks are swapped")
	h.announce("4081.2.0")
	shut("the file /etc/locksmith/hold", "disks are swapped", `"locksmithctl unhold" ends that`)
	h.do("locksmithctl", "unhold")
	shut("alerts in Prometheus (DiskFull)")
	f.wantHeldWhileDown(h)
	alerts.firing.Store(false)
	boot = h.awaitReboot(boot)
	h.awaitStatus("idle")
	f.awaitHolders()

	// Another tool writes this file. It is forgotten at the boot.
	h.do("sh", "-c", "echo a backup runs > /run/locksmith/hold")
	h.announce("4081.2.1")
	shut("the file /run/locksmith/hold", "a backup runs")
	h.run("locksmithctl", "reboot", "-force") // the reboot may end it
	boot = h.awaitReboot(boot)
	h.awaitStatus("idle")
	h.announce("4081.2.1")
	h.awaitReboot(boot)
	h.awaitStatus("idle")
	f.awaitHolders()
}
