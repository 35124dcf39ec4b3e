package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/notify"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// told is what a web hook was told, in one line.
func told(body []byte) string {
	var e notify.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return err.Error()
	}
	by, _, _ := strings.Cut(e.By, "@")
	return fmt.Sprintf("%s by %s of %q %v %q %q %s", e.Type, by, e.Group, e.All, e.Version, e.Reason, e.Holder)
}

// hookRun is a run of locksmithctl on a host with a web hook.
type hookRun struct {
	t      *testing.T
	server *etcdtest.Server
	conf   string

	mu     sync.Mutex
	answer http.HandlerFunc // nil: 200
	got    []string
}

func newHookRun(t *testing.T, conf string) *hookRun {
	h := &hookRun{t: t, server: etcdtest.MustStart(t, etcdtest.Newest, etcdtest.Options{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.got = append(h.got, told(body))
		answer := h.answer
		h.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	h.conf = conf + "LOCKSMITHD_NOTIFY_URL=" + server.URL + "/geh3im\n"
	return h
}

// run runs a command on a host of its own, as a user.
func (h *hookRun) run(args ...string) result {
	h.t.Helper()
	root := h.t.TempDir()
	path := filepath.Join(root, "etc/flatcar/update.conf")
	must.Do(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(h.t, os.WriteFile(path, []byte(h.conf), 0o600))
	must.Do(h.t, os.WriteFile(filepath.Join(root, "etc/machine-id"), []byte(strings.Repeat("a", 32)), 0o600))
	var stdout, stderr strings.Builder
	code := run(process{
		args: append([]string{"--root=" + root, "-endpoint", h.server.Endpoint()}, args...), environ: []string{"SUDO_USER=ann"},
		stdout: &stdout, stderr: &stderr, euid: 1000, now: time.Now,
	})
	if r := (result{args, code, stdout.String(), stderr.String()}); !strings.Contains(r.stdout+r.stderr, "geh3im") {
		return r
	}
	h.t.Fatalf("%v shows a secret: %s%s", args, stdout.String(), stderr.String())
	return result{}
}

// want fails unless these have arrived since the last call.
func (h *hookRun) want(want ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.got, want) {
		h.t.Errorf("told were\n%q\nwant\n%q", h.got, want)
	}
	h.got = nil
}

func TestCommandsTellWhatTheyDo(t *testing.T) {
	t.Parallel()
	h := newHookRun(t, "")
	mustRun(t, h.server, "lock", "web-1")
	wantSuccess(t, h.run("pause", "-all-groups", "-reason", "incident 7"))
	h.want(`rollout-stopped by ann of "" true "" "incident 7" `)
	if r := h.run("resume", "-all-groups"); r.code != 0 || r.stderr != "" {
		t.Errorf("resume: %+v", r)
	}
	h.mu.Lock()
	resumed := strings.Join(h.got, "\n")
	h.got = nil
	h.mu.Unlock()
	if !strings.HasPrefix(resumed, `resumed by ann of "" true "" "it was `) || !strings.Contains(resumed, "incident 7") {
		t.Errorf("told was %s", resumed)
	}
	if r := h.run("resume"); r.code != 1 { // nothing is paused
		t.Errorf("resume: %+v", r)
	}
	h.want()

	putKey(t, h.server, semaphoreKey, `{"semaphore":0,"max":3,"holders":["dead","gone","web-1"]}`)
	putKey(t, h.server, keys+"/holders/dead", `{"hostname":"web-2","version":"4081.2.0","ttl":"1h0m0s"}`)
	putKey(t, h.server, keys+"/holders/gone", `{"ttl":"1h0m0s"}`)
	if r := h.run("unlock", "-expired", "-yes"); r.code != 0 {
		t.Errorf("unlock: %+v", r)
	}
	h.want(`slot-expired by ann of "" false "4081.2.0" "" web-2`, `slot-expired by ann of "" false "" "" gone`)
}

// The lock is paused, whatever becomes of the notification; and that takes seconds, whatever the server does.
func TestNotificationThatFailsIsANote(t *testing.T) {
	t.Parallel()
	h := newHookRun(t, "")
	for note, answer := range map[string]http.HandlerFunc{
		"404 Not Found (no hook (hidden))": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			fmt.Fprint(w, "no hook ", r.URL.Path)
		},
		"no answer within 5s": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) },
	} {
		h.mu.Lock()
		h.answer = answer
		h.mu.Unlock()
		r := h.run("pause")
		lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
		if last := lines[len(lines)-1]; r.code != 0 || !strings.HasPrefix(r.stdout, "Paused: ") ||
			!strings.HasPrefix(last, "locksmithctl: the notification is not delivered to http://127.0.0.1:") || !strings.HasSuffix(last, "/(hidden): "+note) {
			t.Errorf("pause: %+v, want the note %s", r, note)
		}
	}
	h.conf = "LOCKSMITHD_NOTIFY_URL=nonsense-geh3im\n"
	if r := h.run("pause"); r.code != 0 || !strings.Contains(r.stderr, "locksmithctl: no notification is sent: LOCKSMITHD_NOTIFY_URL=(hidden) (") {
		t.Errorf("pause with a wrong URL: %+v", r)
	}
}

func TestEventsThatAreNotChosenAreNotTold(t *testing.T) {
	t.Parallel()
	h := newHookRun(t, "LOCKSMITHD_NOTIFY_EVENTS=resumed\n")
	wantSuccess(t, h.run("pause"))
	h.want()
}

func TestNotifyTestShowsTheAnswer(t *testing.T) {
	t.Parallel()
	h := newHookRun(t, "LOCKSMITHD_NOTIFY_EVENTS=resumed\n")
	h.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok\x1b[2J") }
	if r := h.run("notify", "test"); r.code != 0 || !strings.HasPrefix(r.stdout, "http://127.0.0.1:") || !strings.HasSuffix(r.stdout, `/(hidden): 200 OK (ok\x1b[2J)`+"\n") {
		t.Errorf("notify test: %+v", r)
	}
	h.want(`test by  of "" false "" "" `)
	h.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }
	if r := h.run("notify", "test"); r.code != 1 || !strings.HasSuffix(r.stderr, "/(hidden): not delivered: 410 Gone\nlocksmithctl: notify: the test was not delivered to all\n") {
		t.Errorf("notify test: %+v", r)
	}
	h.conf = ""
	if r := h.run("notify", "test"); r.code != 1 || !strings.Contains(r.stderr, "there is nobody to notify: set LOCKSMITHD_NOTIFY_URL in /etc/locksmith/locksmith.conf, or put a script into /etc/locksmith/notify.d") {
		t.Errorf("notify test: %+v", r)
	}
	for _, args := range [][]string{{"notify", "tset"}, {"notify", "scripts"}, {"notify", "scripts", "../../etc/passwd"}} {
		if r := h.run(args...); r.code != 2 {
			t.Errorf("%q: %+v", args, r)
		}
	}
}
