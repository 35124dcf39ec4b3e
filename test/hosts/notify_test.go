package hosts

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// webhook is a web hook that hosts reach.
type webhook struct {
	url string
	mu  sync.Mutex
	got []string // "EVENT VERSION" of what it got, in order
}

func startWebhook(t testing.TB) *webhook {
	t.Helper()
	listener, err := net.Listen("tcp", network+".0.1:0")
	must.Do(t, err)
	w := &webhook{url: "http://" + listener.Addr().String() + "/services/geh3im"}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n struct{ Event, Version string }
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &n)
		}
		if err != nil {
			n.Event = err.Error()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.got = append(w.got, strings.TrimSpace(n.Event+" "+n.Version))
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return w
}

// events returns what has arrived, without what has arrived again.
func (w *webhook) events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Compact(slices.Clone(w.got))
}

// The daemon has its own sandbox, and systemd the unit of the scripts: what the web hook is told over a real
// reboot, the scripts are told as well, also one that fails at first.
func TestWebHookAndScriptsAreToldOfAReboot(t *testing.T) {
	oncePerRelease(t)
	t.Parallel()
	hook := startWebhook(t)
	f, h := startOne(t, "LOCKSMITHD_NOTIFY_URL="+hook.url)
	h.script("notify", "10-log", `[ "$(grep -c . -)" = 1 ] && echo "$LOCKSMITH_EVENT $LOCKSMITH_VERSION" >> /var/log/notified`)
	h.script("notify", "20-flaky", `[ -e /var/lib/flaky ] && echo "$LOCKSMITH_EVENT" >> /var/log/flaky || { touch /var/lib/flaky; echo not yet; exit 1; }`)
	before := h.awaitUp()
	h.announce("4081.2.0")
	h.awaitReboot(before)
	h.awaitStatus("idle")
	f.awaitHolders()
	want := []string{"reboot-begins 4081.2.0", "back-and-well 4081.2.0"}
	arrived := func(what string, got func() []string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s to be told %q", what, want), func() bool { return slices.Equal(got(), want) })
	}
	arrived("the web hook", hook.events)
	lines := func(path string) func() []string {
		return func() []string {
			data, err := os.ReadFile(filepath.Join(h.root, path))
			if err != nil {
				return nil
			}
			return slices.Compact(strings.Split(strings.TrimSpace(string(data)), "\n"))
		}
	}
	arrived("the script", lines("/var/log/notified"))
	want = []string{"reboot-begins", "back-and-well"}
	arrived("the script that failed", lines("/var/log/flaky"))

	// An operator tries it, and stops the fleet.
	if r := h.run("locksmithctl", "notify", "test"); r.status != 0 || !strings.Contains(r.stdout, "/(hidden): 200 OK\n") || !strings.Contains(r.stdout, "notify.d: all scripts have succeeded\n") {
		t.Errorf("notify test: %+v", r)
	}
	h.do("locksmithctl", "pause")
	h.do("locksmithctl", "resume")
	want = []string{"reboot-begins 4081.2.0", "back-and-well 4081.2.0", "test", "rollout-stopped", "resumed"}
	arrived("the web hook", hook.events)
	arrived("the script", func() []string {
		got := lines("/var/log/notified")()
		for i := range got {
			got[i] = strings.TrimSpace(got[i])
		}
		return got
	})
	if r := h.run("systemctl", "--failed", "--no-legend", "--plain"); strings.Contains(r.stdout, "locksmith") {
		t.Errorf("units have failed: %s", r.stdout)
	}
	if r := h.run("sh", "-c", "journalctl --no-pager | grep -c geh3im"); strings.TrimSpace(r.stdout) != "0" {
		t.Errorf("the journal shows the secret: %+v", r)
	}
}
