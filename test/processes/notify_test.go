package processes

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/test/bustest"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/simhost"
)

// hookSecret is a part of the path of a web hook.
const hookSecret = "geh3im-T0001"

// notification is what a web hook gets.
type notification struct {
	Text, ID, Event, Host, Group, Version, Reason, Hook, By string
	Time                                                    time.Time
}

// webhook is a web hook that notes what it gets.
type webhook struct {
	testing.TB
	url string

	mu      sync.Mutex
	status  int
	hangs   chan struct{} // closed when it answers again; nil: it answers at once
	got     []notification
	changed chan struct{}
}

func newWebhook(t testing.TB) *webhook {
	w := &webhook{TB: t, status: http.StatusOK, changed: make(chan struct{})}
	server := httptest.NewServer(w)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	w.url = server.URL + "/services/" + hookSecret
	return w
}

func (w *webhook) conf() string { return "LOCKSMITHD_NOTIFY_URL=" + w.url + "\n" }

func (w *webhook) ServeHTTP(answer http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var n notification
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err != nil || r.URL.Path != "/services/"+hookSecret {
		w.Errorf("the web hook got %s at %s (%v)", body, r.URL.Path, err)
	}
	w.mu.Lock()
	w.got = append(w.got, n)
	close(w.changed)
	w.changed = make(chan struct{})
	status, hangs := w.status, w.hangs
	w.mu.Unlock()
	if hangs != nil {
		select {
		case <-hangs:
		case <-r.Context().Done():
		}
	}
	answer.WriteHeader(status)
	fmt.Fprint(answer, "you asked for ", r.URL.Path)
}

// set sets the status of answers.
func (w *webhook) set(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

// await waits for an event, and returns all of its type so far.
func (w *webhook) await(event string) (all []notification) {
	w.Helper()
	must.Await(w, patience, event, func() (<-chan struct{}, bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		all = slices.DeleteFunc(slices.Clone(w.got), func(n notification) bool { return n.Event != event })
		return w.changed, len(all) > 0
	})
	return all
}

// events returns the types of what arrived, in order, those in succession once.
func (w *webhook) events() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.got {
		all = append(all, n.Event)
	}
	return slices.Compact(all)
}

// wantNoSecret fails if the log or the status shows the secret of a web hook.
func (h *host) wantNoSecret() {
	h.t.Helper()
	for _, text := range []string{h.Log(), h.Status()} {
		if strings.Contains(text, hookSecret) {
			h.t.Errorf("a secret is shown:\n%s", text)
		}
	}
}

// A bad update, as a channel of the chat sees it.
func TestWebHookIsToldOfABadUpdateAndItsFix(t *testing.T) {
	t.Parallel()
	g, w := newGroup(t, sharedEtcd(t, etcdtest.Newest)), newWebhook(t)
	h := newHost(t, g.conf()+"LOCKSMITHD_HEALTH_TIMEOUT=10s\n"+w.conf(), func(o *simhost.Options) { o.Locksmithctl = locksmithctl() })
	must.Do(t, h.AddScript(hooks.AfterReboot, "10-smoke", `#!/bin/sh
. "${0%/*}/../../os-release"
[ "$VERSION_ID" = 4081.2.1 ] || { echo "the service answers 503"; exit 1; }
`))
	must.Do(t, h.SetOSVersion("4081.1.0"))
	h.startPending()
	h.awaitReboot()
	must.Do(t, h.Halt())
	must.Do(t, h.SetOSVersion("4081.2.0"))
	must.Do(t, h.Boot())
	stopped := w.await("rollout-stopped")[0]
	if stopped.Group != g.name || stopped.Version != "4081.2.0" || !strings.Contains(stopped.Reason, "the service answers 503") ||
		stopped.Text != "the rollout of version 4081.2.0 (group "+g.name+") has stopped, since "+stopped.Host+" is unwell: "+stopped.Reason {
		t.Errorf("that the rollout has stopped is told as %+v", stopped)
	}
	h.ctl("resume")
	resumed := w.await("resumed")[0]
	if resumed.By == "" || resumed.Group != g.name || resumed.Version != "4081.2.0" {
		t.Errorf("that it is resumed is told as %+v", resumed)
	}
	must.Do(t, h.Engine.Announce(bustest.Status{Operation: bustest.OperationNeedReboot, NewVersion: "4081.2.1"}))
	h.awaitReboot()
	must.Do(t, h.Halt())
	must.Do(t, h.SetOSVersion("4081.2.1"))
	must.Do(t, h.Boot())
	h.awaitIdle()
	if well := w.await("back-and-well")[0]; well.Version != "4081.2.1" {
		t.Errorf("that it is well is told as %+v", well)
	}
	if got, want := w.events(), []string{"reboot-begins", "unwell", "rollout-stopped", "resumed", "reboot-begins", "back-and-well"}; !slices.Equal(got, want) {
		t.Errorf("told were %q, want %q", got, want)
	}
	h.wantNoSecret()
}

// What could not be told before the reboot is told after it, with its own time, also by a daemon after one that was
// killed; meanwhile the status says so, without the secret.
func TestEventThatCouldNotBeToldIsToldAfterTheReboot(t *testing.T) {
	t.Parallel()
	w := newWebhook(t)
	w.set(http.StatusInternalServerError)
	h := startPending(t, "REBOOT_STRATEGY=reboot\n"+w.conf())
	h.awaitReboot()
	first := w.await("reboot-begins")[0]
	host, _, _ := strings.Cut(w.url, "/services")
	h.awaitStatus("; 1 notification not delivered to "+host+"/(hidden) since ", ": 500 Internal Server Error (you asked for (hidden))")
	h.Daemon().Kill()
	must.Do(t, h.Boot())
	well := func() {
		t.Helper()
		h.await("the status to be clear", func() bool {
			return strings.HasPrefix(h.Status(), "idle") && !strings.Contains(h.Status(), "notification")
		})
	}
	h.awaitStatus("idle", "2 notifications not delivered")
	w.set(http.StatusNoContent)
	h.signal(syscall.SIGHUP) // tries at once
	well()
	if second := w.await("back-and-well"); second[0].Time.Before(first.Time) {
		t.Errorf("back at %v, before %v", second[0].Time, first.Time)
	}
	for _, again := range w.await("reboot-begins") {
		if again != first {
			t.Errorf("told again is %+v, want %+v", again, first)
		}
	}
	if got, want := w.events(), []string{"reboot-begins", "back-and-well"}; !slices.Equal(got, want) {
		t.Errorf("told were %q, want %q", got, want)
	}
	h.wantNoSecret()
}

// A web hook that hangs holds up neither the reboot nor the end of the daemon.
func TestWebHookThatHangsHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newWebhook(t)
	w.hangs = make(chan struct{})
	defer close(w.hangs)
	h := startPending(t, "REBOOT_STRATEGY=reboot\n"+w.conf())
	h.awaitReboot()
	w.await("reboot-begins")
	h.terminate()
}

func TestWebHookIsToldOnceOfHooksThatFailAndOfAttemptsThatAreUsedUp(t *testing.T) {
	t.Parallel()
	w := newWebhook(t)
	h := newHost(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_MAX_ATTEMPTS=1\nLOCKSMITHD_NOTIFY_EVENTS=hook-failed,attempts-used-up\n"+w.conf(),
		func(o *simhost.Options) { o.Locksmithctl = locksmithctl() })
	h.write("etc/os-release", "VERSION_ID=4000.0.0\n")
	must.Do(t, h.AddScript(hooks.BeforeReboot, "50-drain", "#!/bin/sh\n[ -e "+h.Path("/lb")+" ] || { echo 'the load balancer is <!channel> away'; exit 1; }\n"))
	h.startPending()
	failed := w.await("hook-failed")[0]
	if failed.Hook != "before-reboot" || failed.Version != "4081.2.0" || !strings.HasSuffix(failed.Text, "50-drain: the load balancer is ‹!channel› away") {
		t.Errorf("the failure is told as %+v", failed)
	}
	h.write("lb", "")
	h.awaitReboot()
	must.Do(t, h.Halt())
	must.Do(t, h.Boot())
	h.awaitStatus("idle: ", "; the last reboot failed: ")
	h.announce()
	used := w.await("attempts-used-up")[0]
	if used.Version != "4081.2.0" || !strings.Contains(used.Reason, "1 reboots that did not bring up version 4081.2.0") {
		t.Errorf("that attempts are used up is told as %+v", used)
	}
	h.terminate()
	h.startPending()
	h.awaitStatus("held back by 1 reboots that did not bring up version 4081.2.0")
	h.terminate()
	if got, want := w.events(), []string{"hook-failed", "attempts-used-up"}; !slices.Equal(got, want) {
		t.Errorf("told were %q, want %q", got, want)
	}
	for _, again := range w.await("attempts-used-up") { // the daemon that ended may not have read the answer
		if again != used {
			t.Errorf("told again was %+v after %+v", again, used)
		}
	}
}

func TestWebHookThatIsGoneIsSaid(t *testing.T) {
	t.Parallel()
	w := newWebhook(t)
	w.set(http.StatusGone)
	h := startPending(t, "REBOOT_STRATEGY=reboot\n"+w.conf())
	h.awaitReboot()
	h.awaitStatus("; 1 notification lost on the way to http://", "/(hidden), the last because 410 Gone (you asked for (hidden))")
	h.awaitLog("a notification is lost", "event=reboot-begins") // the status tells it first
	if n := h.logged("a notification is lost", "event=reboot-begins"); n != 1 {
		t.Errorf("the log says %d times that it is lost", n)
	}
	h.wantNoSecret()
}

func TestWebHookIsReachedThroughTheProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWebhook(t) // the proxy
	proxy, _, _ := strings.Cut(w.url, "/services")
	h := startPending(t, "REBOOT_STRATEGY=reboot\nLOCKSMITHD_NOTIFY_URL=http://hooks.example/services/"+hookSecret+"\n", withEnv("HTTP_PROXY="+proxy))
	h.awaitReboot()
	w.await("reboot-begins")
	h.wantNoSecret()
}
