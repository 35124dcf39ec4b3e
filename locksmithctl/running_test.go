package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/proc"
	"github.com/locksmithd/locksmith/test/ptytest"
)

// running is a command that a test talks with while it runs.
type running struct {
	*proc.Process
	t      *testing.T
	screen *os.File // nil without a terminal
	output chan []byte
	got    []byte // what has been written, and see has not seen
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
	if err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"--root=" + t.TempDir(), "-endpoint=" + server.Endpoint()}, args...)...)
	cmd.Env = []string{"TERM=xterm", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = write, write
	if stdin != nil {
		cmd.Stdin = stdin
	}
	r := &running{t: t, output: make(chan []byte, 1000)}
	if r.Process, err = proc.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
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

// see waits until what has been written since matches a pattern, and returns it up to
// there.
func (r *running) see(pattern string) string {
	r.t.Helper()
	expression := regexp.MustCompile(pattern)
	overdue := time.After(patience)
	for {
		if found := expression.FindIndex(r.got); found != nil {
			seen := string(r.got[:found[1]])
			r.got = r.got[found[1]:]
			return seen
		}
		select {
		case more, ok := <-r.output:
			if !ok {
				r.t.Fatalf("it ended without %q: %q", pattern, r.got)
			}
			r.got = append(r.got, more...)
		case <-overdue:
			r.t.Fatalf("waited in vain for %q: %q", pattern, r.got)
		}
	}
}

// enter types on the terminal.
func (r *running) enter(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.screen, text); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) interrupt() {
	r.t.Helper()
	if err := r.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the end, which must be with this exit status, and returns what was
// written and not seen.
func (r *running) end(status int) string {
	r.t.Helper()
	select {
	case <-r.Done():
	case <-time.After(patience):
		r.t.Fatalf("it does not end: %q", r.got)
	}
	for more := range r.output {
		r.got = append(r.got, more...)
	}
	got := 0
	var exit *exec.ExitError
	switch err := r.Err(); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		r.t.Fatal(err)
	}
	if got != status {
		r.t.Errorf("exit status %d, want %d: %q", got, status, r.got)
	}
	return string(r.got)
}
