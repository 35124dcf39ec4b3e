package packaging

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/hooks"
	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/realpart"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// example is a ready example, with the settings that a user would change in it.
type example struct {
	testing.TB
	name    string
	environ []string
}

// result is what an example printed, and whether it succeeded.
type result struct {
	output string
	ok     bool
}

// run runs the example in a phase as the unit does.
func (e example) run(p hooks.Phase, more ...string) result {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./"+e.name)
	cmd.Dir = "examples"
	cmd.Env = append(slices.Concat(os.Environ(), e.environ, more), "LOCKSMITH_PHASE="+string(p))
	out, err := cmd.CombinedOutput()
	if proc.ExitStatus(err) < 0 {
		e.Fatalf("%s: %v\n%s", e.name, err, out)
	}
	return result{string(out), err == nil}
}

// succeeds checks that the example succeeds, and prints a text.
func (e example) succeeds(p hooks.Phase, want string, more ...string) {
	e.Helper()
	if r := e.run(p, more...); !r.ok || r.output != want {
		e.Errorf("%s in %s: success %v, and it prints %q, want %q", e.name, p, r.ok, r.output, want)
	}
}

// fails checks that the example fails, and that the first line that it prints begins with a text.
func (e example) fails(p hooks.Phase, want string, more ...string) {
	e.Helper()
	if r := e.run(p, more...); r.ok || !strings.HasPrefix(r.output, want) {
		e.Errorf("%s in %s: success %v, and it prints %q, want %q", e.name, p, r.ok, r.output, want)
	}
}

func TestExampleOfAnEtcdMemberWithARealOne(t *testing.T) {
	realpart.Must(t, realpart.Tool("etcdctl", "etcd-client"))
	members := etcdtest.MustStartCluster(t, etcdtest.Newest, 3, etcdtest.Options{})
	e := example{t, "etcd-member", []string{"ETCDCTL_ENDPOINTS=" + members[0].Endpoint()}}
	e.succeeds(hooks.AfterReboot, "")
	e.succeeds(hooks.MayReboot, "")

	// Another member is down: that of this host is well, and must not go down, too.
	members[1].Kill()
	e.succeeds(hooks.AfterReboot, "")
	e.fails(hooks.MayReboot, members[1].Endpoint()+" is unhealthy: ")

	members[0].Kill()
	e.fails(hooks.AfterReboot, members[0].Endpoint()+" is unhealthy: ")
}

func TestExampleOfAnHTTPCheckWithARealServer(t *testing.T) {
	realpart.Must(t, realpart.Tool("curl", "curl"))
	code := http.StatusNoContent
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	e := example{t, "http-check", []string{"URLS=" + s.URL + " " + s.URL + "/second"}}
	e.succeeds(hooks.AfterReboot, "")
	for _, code = range []int{http.StatusServiceUnavailable, http.StatusFound, http.StatusNotFound} {
		e.fails(hooks.AfterReboot, fmt.Sprintf("%s: the answer is HTTP %d\n", s.URL, code))
	}
	s.Close()
	e.fails(hooks.AfterReboot, s.URL+": curl: (7) Failed to connect to 127.0.0.1 port ")
}

// haproxy is where distributions put it. Not every user has its folder in the search path.
const haproxy = "/usr/sbin/haproxy"

// balancer is a HAProxy in front of two servers, which answer with their names.
type balancer struct {
	testing.TB
	dir  string
	busy chan struct{} // a request for /busy lasts until this is closed
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	realpart.Must(t, realpart.Tool(haproxy, "haproxy"), realpart.Tool("socat", "socat"))
	dir, err := os.MkdirTemp("", "") // a socket's path has to be short
	must.Do(t, err)
	t.Cleanup(func() { must.Do(t, os.RemoveAll(dir)) })
	b := &balancer{t, dir, make(chan struct{})}
	for _, name := range []string{"web-1", "web-2"} {
		listener, err := net.Listen("unix", filepath.Join(dir, name))
		must.Do(t, err)
		s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, name)
			if r.URL.Path == "/busy" {
				must.Do(t, http.NewResponseController(w).Flush())
				<-b.busy
			}
		})}}
		s.Start()
		t.Cleanup(s.Close)
	}
	must.Do(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(strings.ReplaceAll(`
global
    stats socket DIR/admin level admin
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend front
    bind unix@DIR/front
    default_backend web
backend web
    server web-1 unix@DIR/web-1
    server web-2 unix@DIR/web-2
`, "DIR", dir)), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	must.Do(t, err)
	defer log.Close()
	cmd := exec.Command(haproxy, "-db", "-f", filepath.Join(dir, "conf"))
	cmd.Stdout, cmd.Stderr = log, log
	p, err := proc.Start(cmd)
	must.Do(t, err)
	t.Cleanup(p.Kill)
	must.Eventually(t, patience, "HAProxy", func() bool {
		if !p.Running() {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("HAProxy has ended: %s", text)
		}
		conn, err := net.Dial("unix", filepath.Join(dir, "admin"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return b
}

func (b *balancer) example() example {
	return example{b, "haproxy-drain", []string{"HAPROXY=UNIX-CONNECT:" + b.dir + "/admin", "SERVERS=web/web-1", "MARK=" + b.mark(), "MAX_WAIT=600"}}
}

func (b *balancer) mark() string { return filepath.Join(b.dir, "state", "mark") }

// admin sends a command to HAProxy.
func (b *balancer) admin(command string) {
	b.Helper()
	conn, err := net.Dial("unix", filepath.Join(b.dir, "admin"))
	must.Do(b, err)
	defer conn.Close()
	_, err = io.WriteString(conn, command+"\n")
	must.Do(b, err)
	if answer, err := io.ReadAll(conn); err != nil || strings.TrimSpace(string(answer)) != "" {
		b.Fatalf("HAProxy answers %q (%v)", answer, err)
	}
}

// get opens a request through HAProxy, whose answer goes on until it is read to its end.
func (b *balancer) get(path string) io.ReadCloser {
	b.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(b.dir, "front"))
	}}}
	response, err := client.Get("http://front" + path)
	must.Do(b, err)
	b.Cleanup(func() { response.Body.Close() })
	return response.Body
}

// serving returns which servers answer new requests.
func (b *balancer) serving() string {
	b.Helper()
	names := map[string]bool{}
	for range 4 {
		name, err := io.ReadAll(b.get("/"))
		must.Do(b, err)
		names[string(name)] = true
	}
	all := []string{}
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (b *balancer) serves(want string) {
	b.Helper()
	if got := b.serving(); got != want {
		b.Errorf("%s serve, want %s", got, want)
	}
}

func TestExampleOfADrainWithARealHAProxy(t *testing.T) {
	b := newBalancer(t)
	e := b.example()
	b.serves("web-1 web-2")

	// A request that web-1 has begun holds the drain up, while new ones go to web-2 only.
	name := make([]byte, len("web-1"))
	for string(name) != "web-1" {
		_, err := io.ReadFull(b.get("/busy"), name)
		must.Do(t, err)
	}
	drained := make(chan result, 1)
	go func() { drained <- e.run(hooks.BeforeReboot) }()
	must.Eventually(t, patience, "web-1 to get no new requests", func() bool { return b.serving() == "web-2" })
	select {
	case r := <-drained:
		t.Fatalf("the drain has ended although a request is under way: %+v", r)
	default:
	}
	close(b.busy)
	if r := must.Receive(t, patience, "the end of the drain", drained); !r.ok || r.output != "" {
		t.Errorf("the drain: %+v", r)
	}
	// Once more, as after a restart of the daemon.
	e.succeeds(hooks.BeforeReboot, "")
	b.serves("web-2")
	for _, undo := range []hooks.Phase{hooks.AfterReboot, hooks.RebootCancelled} {
		e.succeeds(undo, "")
		b.serves("web-1 web-2")
		e.succeeds(undo, "")
		e.succeeds(hooks.BeforeReboot, "")
		b.serves("web-2")
	}
	e.succeeds(hooks.AfterReboot, "")
}

func TestExampleOfADrainGivesUpWaitingForSessions(t *testing.T) {
	b := newBalancer(t)
	defer close(b.busy)
	name := make([]byte, len("web-1"))
	for string(name) != "web-1" {
		_, err := io.ReadFull(b.get("/busy"), name)
		must.Do(t, err)
	}
	b.example().succeeds(hooks.BeforeReboot, "sessions are left after 1 s: web/web-1 (1)\n", "MAX_WAIT=1")
}

func TestExampleOfADrainLeavesAloneWhatAnAdministratorDrained(t *testing.T) {
	b := newBalancer(t)
	e := b.example()
	for _, state := range []string{"drain", "maint"} {
		b.admin("set server web/web-1 state " + state)
		e.succeeds(hooks.BeforeReboot, "web/web-1 is out of UNIX-CONNECT:"+b.dir+"/admin already, and stays so after the reboot\n")
		e.succeeds(hooks.AfterReboot, "")
		b.serves("web-2")
	}
	b.admin("set server web/web-1 state ready")
	e.succeeds(hooks.BeforeReboot, "")
	b.admin("set server web/web-1 state maint")
	e.succeeds(hooks.RebootCancelled, "web/web-1 is in maintenance in UNIX-CONNECT:"+b.dir+"/admin by now, and stays so\n")
	b.serves("web-2")
}

func TestExampleOfADrainSaysWhatFails(t *testing.T) {
	b := newBalancer(t)
	e := b.example()
	address := "UNIX-CONNECT:" + b.dir + "/admin"
	e.fails(hooks.BeforeReboot, "HAProxy at "+address+" has no server web/web-3\n", "SERVERS=web/web-3")
	e.fails(hooks.BeforeReboot, "HAProxy at "+address+" has no server nobody/web-1\n", "SERVERS=nobody/web-1")
	e.fails(hooks.BeforeReboot, "HAProxy at UNIX-CONNECT:/none does not answer: ", "HAPROXY=UNIX-CONNECT:/none")
	e.fails(hooks.MayReboot, "LOCKSMITH_PHASE is may-reboot: this script is for before-reboot.d, reboot-cancelled.d and after-reboot.d\n")

	// An undo that fails is tried again.
	e.succeeds(hooks.BeforeReboot, "")
	mark, err := os.ReadFile(b.mark())
	must.Do(t, err)
	must.Do(t, os.WriteFile(b.mark(), []byte("UNIX-CONNECT:/none web/web-1\n"), 0o600))
	e.fails(hooks.RebootCancelled, "HAProxy at UNIX-CONNECT:/none does not answer: ")
	must.Do(t, os.WriteFile(b.mark(), mark, 0o600))
	b.serves("web-2")
	e.succeeds(hooks.RebootCancelled, "")
	b.serves("web-1 web-2")
}

// The program nomad of this test is a stand-in, which knows the documented commands, and keeps the state of a client in
// a file. There is no package of the real one.
func TestExampleOfADrainWithAStandInForNomad(t *testing.T) {
	dir := t.TempDir()
	must.Do(t, os.WriteFile(filepath.Join(dir, "nomad"), []byte(`#!/bin/sh
state=$STATE
case "$*" in
"node status -self -t {{.Drain}} {{.SchedulingEligibility}}") cat "$state" ;;
"node drain -enable -self -yes -deadline 5m") echo "true ineligible" > "$state" ;;
"node drain -disable -self -yes") echo "false eligible" > "$state" ;;
"node drain -disable -self -yes -keep-ineligible") echo "false ineligible" > "$state" ;;
*) echo "usage: $*"; exit 1 ;;
esac
`), 0o755))
	state := filepath.Join(dir, "state")
	e := example{t, "nomad-drain", []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "STATE=" + state, "MARK=" + filepath.Join(dir, "marks", "mark")}}
	is := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(state); err != nil || string(got) != want+"\n" {
			t.Errorf("the client is %q (%v), want %q", got, err, want)
		}
	}
	for _, undo := range []hooks.Phase{hooks.RebootCancelled, hooks.AfterReboot} {
		for _, before := range []string{"false eligible", "false ineligible"} {
			must.Do(t, os.WriteFile(state, []byte(before+"\n"), 0o600))
			e.succeeds(hooks.BeforeReboot, "")
			e.succeeds(hooks.BeforeReboot, "") // as after a restart of the daemon
			is("true ineligible")
			e.succeeds(undo, "")
			is(before)
			e.succeeds(undo, "")
			is(before)
		}
		must.Do(t, os.WriteFile(state, []byte("true ineligible\n"), 0o600))
		e.succeeds(hooks.BeforeReboot, "an administrator drains this client: it stays so after the reboot\n")
		e.succeeds(undo, "")
		is("true ineligible")
	}
	must.Do(t, os.Remove(state))
	e.fails(hooks.BeforeReboot, "nomad: cat: ")
	must.Do(t, os.WriteFile(state, []byte("unknown\n"), 0o600))
	e.fails(hooks.BeforeReboot, "nomad: unexpected status: unknown\n")
	e.fails(hooks.BeforeReboot, "nomad: ", "PATH=/usr/bin:/bin")
	e.fails(hooks.MayReboot, "LOCKSMITH_PHASE is may-reboot: ")
}
