package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
)

// patience is how long a test waits for something that has to happen. Only a test that fails waits for so long.
const patience = 2 * time.Minute

// binary is the program, built from this tree.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		// The tests spend most of their time waiting.
		if err := flag.Set("test.parallel", "4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "locksmith-kubernetes")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "locksmith-kubernetes")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build locksmith-kubernetes: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// program is a run of locksmith-kubernetes, which ends with the test.
type program struct {
	*proc.Process
	out, err bytes.Buffer // to be read after the end

	mu       sync.Mutex
	statuses []string      // what systemd would show, in order
	ended    bool          // all statuses are there
	changed  chan struct{} // closed when one of these changes
}

// start starts the program as a service manager does: it hears its status.
func start(t *testing.T, kubeconfig string, args ...string) *program {
	t.Helper()
	return startWith(t, nil, kubeconfig, args...)
}

// startWith is start with variables.
func startWith(t *testing.T, environ []string, kubeconfig string, args ...string) *program {
	t.Helper()
	dir, err := os.MkdirTemp("", "k") // the path of a socket is short
	must.Do(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	must.Do(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	p := &program{changed: make(chan struct{})}
	go p.listen(socket)
	cmd := exec.Command(binary, append(args, "--kubeconfig="+kubeconfig)...)
	cmd.Env = append([]string{"NOTIFY_SOCKET=" + socket.LocalAddr().String()}, environ...)
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	p.Process, err = proc.Start(cmd)
	must.Do(t, err)
	go p.sendEnd(socket.LocalAddr().String())
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s: %v\n%s%s\nits status was\n%s", args[0], p.Err(), &p.out, &p.err, strings.Join(p.seen(), "\n"))
		}
	})
	return p
}

// end is what the test itself sends to the program's socket.
const end = "END"

// sendEnd waits for the end of the program and sends end, which comes after all that the program has sent.
func (p *program) sendEnd(socket string) {
	<-p.Done()
	if conn, err := net.Dial("unixgram", socket); err == nil { // otherwise the test has ended
		_, _ = conn.Write([]byte(end))
		_ = conn.Close()
	}
}

func (p *program) listen(socket *net.UnixConn) {
	buffer := make([]byte, 4096)
	for {
		n, err := socket.Read(buffer)
		if err != nil {
			return // the test has ended
		}
		p.mu.Lock()
		if status, ok := strings.CutPrefix(string(buffer[:n]), "STATUS="); ok {
			p.statuses = append(p.statuses, status)
		}
		p.ended = p.ended || string(buffer[:n]) == end
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// seen returns the statuses until now.
func (p *program) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.statuses...)
}

// awaitStatus waits for a status that contains a text, also one that has passed.
func (p *program) awaitStatus(t *testing.T, text string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		p.mu.Lock()
		changed, ended := p.changed, p.ended
		found := slices.ContainsFunc(p.statuses, func(status string) bool { return strings.Contains(status, text) })
		p.mu.Unlock()
		if found {
			return
		}
		if ended {
			t.Fatalf("the program ended without the status %q", text)
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("timed out waiting for the status %q", text)
		}
	}
}

// succeed waits for the end of the program, with exit status 0.
func (p *program) succeed(t *testing.T) {
	t.Helper()
	if status, line := p.end(t); status != 0 || line != "" {
		t.Fatalf("exit status %d, want 0: %s", status, line)
	}
}

// fail waits for the end of the program, with exit status 1 and a line with some texts.
func (p *program) fail(t *testing.T, texts ...string) {
	t.Helper()
	p.failWith(t, 1, texts...)
}

// failWith is fail with another exit status.
func (p *program) failWith(t *testing.T, want int, texts ...string) {
	t.Helper()
	status, line := p.end(t)
	if status != want || strings.Count(line, "\n") != 1 {
		t.Fatalf("exit status %d, want %d with one line:\n%s", status, want, line)
	}
	for _, text := range texts {
		if !strings.Contains(line, text) {
			t.Errorf("the error does not say %q: %s", text, line)
		}
	}
}

// end waits for the end of the program and returns its exit status and what it printed to its standard error.
func (p *program) end(t *testing.T) (status int, stderr string) {
	t.Helper()
	select {
	case <-p.Done():
		return proc.ExitStatus(p.Err()), p.err.String()
	case <-time.After(patience):
		_ = p.Signal(syscall.SIGQUIT)
		t.Fatal("the program does not end")
		panic("unreachable")
	}
}
