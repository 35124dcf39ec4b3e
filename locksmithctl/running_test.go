package main

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/ptytest"
)

// running is a process of locksmithctl that a test reads and writes while it runs.
type running struct {
	*proc.Process
	t      *testing.T
	screen *os.File // nil without a terminal
	output chan []byte
	unread []byte // output that expect has not returned yet
}

// start runs locksmithctl with a pipe for its output.
func start(t *testing.T, server *etcdtest.Server, args ...string) *running {
	t.Helper()
	read, write := pipe(t)
	return startOn(t, server, nil, read, write, args)
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	must.Do(t, err)
	t.Cleanup(func() {
		read.Close()
		write.Close()
	})
	return read, write
}

// startOnTerminal runs locksmithctl on a terminal.
func startOnTerminal(t *testing.T, server *etcdtest.Server, args ...string) *running {
	t.Helper()
	program, screen := ptytest.Open(t)
	r := startOn(t, server, program, screen, program, args)
	r.screen = screen
	return r
}

func startOn(t *testing.T, server *etcdtest.Server, stdin, read, write *os.File, args []string) *running {
	t.Helper()
	path, err := exec.LookPath("locksmithctl")
	must.Do(t, err)
	cmd := exec.Command(path, append([]string{"--root=" + t.TempDir(), "-endpoint=" + server.Endpoint()}, args...)...)
	cmd.Env = []string{"TERM=xterm", "TZ=UTC"}
	return follow(t, cmd, stdin, read, write)
}

// follow starts a command, and reads what it writes.
func follow(t *testing.T, cmd *exec.Cmd, stdin, read, write *os.File) *running {
	t.Helper()
	cmd.Stdout, cmd.Stderr = write, write
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var err error
	r := &running{t: t, output: make(chan []byte, 1000)}
	r.Process, err = proc.Start(cmd)
	must.Do(t, err)
	t.Cleanup(r.Kill)
	must.Do(t, write.Close())
	go func() {
		defer close(r.output)
		for {
			buffer := make([]byte, 1<<16)
			n, err := read.Read(buffer)
			if n > 0 {
				r.output <- buffer[:n]
			}
			if err != nil { // EIO from a terminal that nobody has open any more
				return
			}
		}
	}()
	return r
}

// expect waits until what has been written since the last call matches a pattern, and returns it up to the end of
// the match.
func (r *running) expect(pattern string) string {
	r.t.Helper()
	expression := regexp.MustCompile(pattern)
	overdue := time.After(patience)
	for {
		if found := expression.FindIndex(r.unread); found != nil {
			read := string(r.unread[:found[1]])
			r.unread = r.unread[found[1]:]
			return read
		}
		select {
		case more, ok := <-r.output:
			if !ok {
				r.t.Fatalf("it ended without %q: %q", pattern, r.unread)
			}
			r.unread = append(r.unread, more...)
		case <-overdue:
			r.t.Fatalf("timed out waiting for %q: %q", pattern, r.unread)
		}
	}
}

// enter types on the terminal.
func (r *running) enter(text string) {
	r.t.Helper()
	_, err := io.WriteString(r.screen, text)
	must.Do(r.t, err)
}

func (r *running) interrupt() {
	r.t.Helper()
	must.Do(r.t, r.Signal(syscall.SIGINT))
}

// exit waits for the end, which must be with this exit status, and returns what was written since the last expect.
func (r *running) exit(status int) string {
	r.t.Helper()
	must.Receive(r.t, patience, "the end of the command", r.Done())
	for more := range r.output {
		r.unread = append(r.unread, more...)
	}
	if got := proc.ExitStatus(r.Err()); got != status {
		r.t.Errorf("exit status %d (%v), want %d: %q", got, r.Err(), status, r.unread)
	}
	return string(r.unread)
}
