// Package program runs programs of operators, which may do anything.
//
// It guarantees that a run ends once its context does, whatever the program does: print without end, leave processes
// behind, ignore signals. It passes on and keeps a bounded part of what the program prints.
package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// MaxOutput is how much of a program's output goes on, in bytes.
	MaxOutput = 1 << 20
	// StopGrace is how long a program may take to clean up after SIGTERM, less than the TimeoutStopSec= of our units.
	StopGrace = 3 * time.Second
	// outputGrace is how long the output of a program is read after its end, if others hold it open.
	outputGrace = time.Second
)

// Program is a program with its arguments.
type Program struct {
	Name           string // for messages
	Args           []string
	Environ        []string // in addition to that of this process, without what is between it and systemd
	Grace          time.Duration
	Stdin          *os.File  // nil: what it reads is empty
	Stdout, Stderr io.Writer // what it prints to both, in the order of its lines; and what there is to say about that
}

// Run runs the program in the root folder, and returns the first line that it prints. The error is an *exec.ExitError
// if it ended by itself with another status than 0, or by a signal.
func (p Program) Run(ctx context.Context) (line string, err error) {
	if ctx.Err() != nil {
		return "", fmt.Errorf("it was not started: %w", context.Cause(ctx))
	}
	out := &output{to: p.Stdout, left: MaxOutput}
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(environ(), p.Environ...)
	if p.Stdin != nil { // a nil pointer in the interface would not be nil
		cmd.Stdin = p.Stdin
	}
	cmd.Stdout, cmd.Stderr = out, out // one pipe, which keeps the order of lines
	cmd.WaitDelay = outputGrace
	// A shell that gets a signal waits for its child first: signals go to the whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("it cannot be started: %w", cmp.Or(errors.Unwrap(err), err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err, stopped := p.await(ctx, cmd.Process.Pid, ended)
	line, dropped := out.close()
	if dropped {
		fmt.Fprintf(p.Stderr, "locksmithctl: %s has printed more than %d KiB: the rest is dropped\n", safetext.Clean(p.Name), MaxOutput>>10)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		fmt.Fprintf(p.Stderr, "locksmithctl: %s has ended, and has left processes that hold its output: they are not waited for\n", safetext.Clean(p.Name))
		err = nil
	}
	if stopped && err != errSurvives {
		err = fmt.Errorf("it was stopped: %w", context.Cause(ctx))
	}
	return line, err
}

// errSurvives means that a program hangs in the kernel, for example on a file system that does not answer.
var errSurvives = errors.New("it was stopped, but has not ended even by SIGKILL")

// await waits for the end of a program, and stops it at the end of ctx: by SIGTERM, and after a while by SIGKILL.
func (p Program) await(ctx context.Context, pid int, ended <-chan error) (err error, stopped bool) {
	select {
	case err := <-ended:
		return err, false
	case <-ctx.Done():
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, p.Grace}, {syscall.SIGKILL, outputGrace + p.Grace}} {
		_ = syscall.Kill(-pid, step.signal) // an error means that all have ended
		select {
		case err := <-ended:
			return err, true
		case <-time.After(step.wait):
		}
	}
	return errSurvives, true
}

// Describe says how a run failed, "" if it did not; line is the first that the program printed.
func Describe(err error, line string) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &exit):
		return err.Error()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		killed := "killed by " + cmp.Or(unix.SignalName(status.Signal()), status.Signal().String())
		if line != "" {
			killed += ", after it had printed: " + line
		}
		return killed
	}
	return cmp.Or(line, fmt.Sprintf("exit status %d", exit.ExitCode()))
}

// environ returns the environment of programs.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}, name)
	})
}
