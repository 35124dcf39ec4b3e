package hooks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// maxOutput is how much of a script's output goes on, in bytes.
	maxOutput = 1 << 20
	// maxFailure bounds the text of a failure, in bytes, so that it fits into a status line.
	maxFailure = 200
	// stopGrace is how long a script may take to clean up after SIGTERM, less than the TimeoutStopSec= of the units.
	stopGrace = 3 * time.Second
	// outputGrace is how long the output of a script is read after its end, if others hold it open.
	outputGrace = time.Second
)

// RunScripts runs the scripts of a phase, one after another, and tells status which one runs, and what failed. It is
// the body of `locksmithctl hooks scripts`, which the units start. The first failure ends the run; only of
// RebootCancelled every script runs, because each may undo something. What scripts print goes to stdout, and what there
// is to say about that to stderr. The end of ctx stops the script that runs.
func RunScripts(ctx context.Context, root string, p Phase, stdout, stderr io.Writer, status func(string)) error {
	r := runner{phase: p, grace: stopGrace, stdout: stdout, stderr: stderr, status: status}
	return r.runAll(ctx, root)
}

type runner struct {
	phase          Phase
	grace          time.Duration
	stdout, stderr io.Writer
	status         func(string)
}

func (r runner) runAll(ctx context.Context, root string) error {
	scripts, err := Scripts(root, r.phase)
	if err != nil {
		r.status(safetext.Cut(err.Error(), maxFailure))
		return err
	}
	scripts = slices.DeleteFunc(scripts, func(s Script) bool { return s.Masked })
	var failures []string
	for i, s := range scripts {
		r.status(fmt.Sprintf("%s is running, %d of %d", safetext.Cut(s.Name, maxFailure), i+1, len(scripts)))
		failure := r.run(ctx, s)
		if failure == "" {
			continue
		}
		failures = append(failures, s.Name+": "+failure)
		if r.phase != RebootCancelled || ctx.Err() != nil {
			break
		}
	}
	if len(failures) > 0 {
		text := safetext.Cut(strings.Join(failures, "; "), maxFailure)
		r.status(text)
		return errors.New(text)
	}
	r.status("")
	return nil
}

// run runs one script and returns how it failed, "" for a success.
func (r runner) run(ctx context.Context, s Script) (failure string) {
	switch {
	case ctx.Err() != nil:
		return "it was not started: " + context.Cause(ctx).Error()
	case s.Problem != "":
		return s.Problem
	}
	out := &output{to: r.stdout, left: maxOutput}
	cmd := exec.Command(s.Path)
	cmd.Dir = "/"
	cmd.Env = r.environ()
	cmd.Stdout, cmd.Stderr = out, out // one pipe, which keeps the order of lines
	cmd.WaitDelay = outputGrace
	// A shell that gets a signal waits for its child first: signals go to the whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Sprintf("it cannot be started: %v", cmp.Or(errors.Unwrap(err), err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err, stopped := r.await(ctx, cmd.Process.Pid, ended)
	line, dropped := out.close()
	if dropped {
		fmt.Fprintf(r.stderr, "locksmithctl: %s has printed more than %d KiB: the rest is dropped\n", safetext.Clean(s.Name), maxOutput>>10)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		fmt.Fprintf(r.stderr, "locksmithctl: %s has ended, and has left processes that hold its output: they are not waited for\n", safetext.Clean(s.Name))
		err = nil
	}
	switch {
	case err == errSurvives:
		return err.Error()
	case stopped:
		return "it was stopped: " + context.Cause(ctx).Error()
	}
	return describe(err, line)
}

// errSurvives means that a script hangs in the kernel, for example on a file system that does not answer.
var errSurvives = errors.New("it was stopped, but has not ended even by SIGKILL")

// await waits for the end of a script, and stops it at the end of ctx: by SIGTERM, and after a while by SIGKILL.
func (r runner) await(ctx context.Context, pid int, ended <-chan error) (err error, stopped bool) {
	select {
	case err := <-ended:
		return err, false
	case <-ctx.Done():
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, r.grace}, {syscall.SIGKILL, outputGrace + r.grace}} {
		_ = syscall.Kill(-pid, step.signal) // an error means that all have ended
		select {
		case err := <-ended:
			return err, true
		case <-time.After(step.wait):
		}
	}
	return errSurvives, true
}

// describe says how a script failed; line is the first that it printed.
func describe(err error, line string) string {
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

// environ returns the environment of scripts: that of this process, without what is between it and systemd.
func (r runner) environ() []string {
	environ := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", variable("PHASE")}, name)
	})
	return append(environ, variable("PHASE")+"="+string(r.phase))
}

// output passes on what a script prints, up to a limit, and keeps the first line that is not empty. A failure to write
// is not the script's: it may print on.
type output struct {
	mu      sync.Mutex
	to      io.Writer
	left    int
	line    []byte // the beginning of the first line
	whole   bool   // the line has ended
	dropped bool
	ended   bool // what comes later is nobody's
}

// maxLine is how much of the first line is kept, in bytes: more than is shown.
const maxLine = 2 * maxFailure

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return len(data), nil
	}
	o.keep(data)
	some := data[:min(len(data), o.left)]
	o.dropped = o.dropped || len(some) < len(data)
	o.left -= len(some)
	if len(some) > 0 {
		_, _ = o.to.Write(some)
	}
	return len(data), nil
}

func (o *output) keep(data []byte) {
	for !o.whole && len(data) > 0 {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		o.line = append(o.line, line[:min(len(line), maxLine-len(o.line))]...)
		data = rest
		if found {
			o.line = bytes.TrimSpace(o.line)
			o.whole = len(o.line) > 0
		}
	}
}

// close ends the output.
func (o *output) close() (line string, dropped bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if o.dropped {
		_, _ = io.WriteString(o.to, "\n")
	}
	return string(bytes.TrimSpace(o.line)), o.dropped
}
