package etcdtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a child that dies with this process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child is gone and reaped
	err  error         // how it went; read after done
}

// startProcess runs path with its output appended to the file log.
func startProcess(path string, args []string, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{} // etcd takes flags from ETCD_* variables
	cmd.Stdout = out
	cmd.Stderr = out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A group of its own: Ctrl-C is for this process, which knows in
		// which order to end things.
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that forked ends,
		// so that thread must last as long as the child (prctl(2),
		// PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
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

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the child and waits until it is gone.
func (p *process) kill() {
	// The only failure is that it is gone already.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate asks the child to end and waits for it; when ctx ends first the
// child is killed.
func (p *process) terminate(ctx context.Context) error {
	// A stopped child would act on the signal only when continued.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("killed, it ignored SIGTERM: %w", ctx.Err())
	}
}

// stop suspends the child and waits until every thread of it stands still.
func (p *process) stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return p.await(ctx, func(state byte) bool { return state == 'T' })
}

// resume continues a suspended child.
func (p *process) resume(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	return p.await(ctx, func(state byte) bool { return state != 'T' })
}

// await waits until every thread of the child is in a wanted state, a letter
// of proc_pid_stat(5).
func (p *process) await(ctx context.Context, wanted func(state byte) bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		states, err := threadStates(p.cmd.Process.Pid)
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
			return fmt.Errorf("process is gone: %w", os.ErrProcessDone)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func threadStates(pid int) ([]byte, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return nil, err
	}
	var states []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended in between
		}
		// The state follows the name, which is in parentheses and may hold any.
		_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
		if rest == "" {
			return nil, fmt.Errorf("read %s: no state in %q", f, data)
		}
		states = append(states, rest[0])
	}
	return states, nil
}
