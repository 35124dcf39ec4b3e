// Package proc runs child processes that die with this one, as the real parts of tests and of the demo.
//
// It guarantees that the kernel kills a child when this process ends, however it ends, and that no child stays
// unreaped. Each child has a process group of its own, so that a terminal's Ctrl-C does not reach it: only this
// process knows in which order to end its children. It does not follow the children of a child.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a child. Its methods are safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts cmd, whose SysProcAttr it completes.
func Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG), so
		// that thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the child has ended and is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the end of the child and returns the same error as [exec.Cmd.Wait].
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// ExitStatus returns the exit status that the error of [Process.Err] or [exec.Cmd.Run] stands for. It is -1 if a
// signal ended the process, or if it did not run.
func ExitStatus(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Running reports whether the child has not been reaped yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the child with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended by itself
	<-p.done
}

// Pause stops every thread of the child, as on a hung machine, and waits until all have stopped. A paused child
// can be killed, but handles SIGTERM only after Resume.
func (p *Process) Pause(ctx context.Context) error {
	return p.signalAndAwait(ctx, syscall.SIGSTOP, func(state byte) bool { return state == 'T' })
}

// Resume ends a Pause.
func (p *Process) Resume(ctx context.Context) error {
	return p.signalAndAwait(ctx, syscall.SIGCONT, func(state byte) bool { return state != 'T' })
}

// signalAndAwait sends a signal and waits until every thread of the child is in a wanted state, a letter of
// proc_pid_stat(5).
func (p *Process) signalAndAwait(ctx context.Context, s syscall.Signal, wanted func(state byte) bool) error {
	if err := p.Signal(s); err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		states, err := threadStates(p.PID())
		if err != nil {
			return err
		}
		all := len(states) > 0
		for _, s := range states {
			all = all && wanted(s)
		}
		if all {
			return nil
		}
		select {
		case <-p.done:
			return os.ErrProcessDone
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// threadStates returns the state of each thread of a process.
func threadStates(pid int) ([]byte, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return nil, err
	}
	var states []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		// The state follows the name, which is in parentheses and may contain any character.
		_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
		if rest == "" {
			return nil, fmt.Errorf("read %s: no state in %q", f, data)
		}
		states = append(states, rest[0])
	}
	return states, nil
}
