package etcdtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

const parentVariable = "ETCDTEST_PARENT_DIR"

const parentPausesVariable = "ETCDTEST_PARENT_PAUSES"

// beParent starts a server from a thread that then ends, prints the server's process id, and waits to be killed.
func beParent() {
	binary, err := etcdtest.Binary(etcdtest.Newest)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var s *etcdtest.Server
	onThreadThatEnds(func() {
		s, err = etcdtest.Start(ctx, etcdtest.Options{Binary: binary, Dir: os.Getenv(parentVariable)})
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The server outlives the thread.
	if err := s.WaitHealthy(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(parentPausesVariable) != "" {
		if err := s.Pause(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println(s.PID())
	<-ctx.Done()
}

// onThreadThatEnds runs f on a thread of its own and returns when the thread is gone.
func onThreadThatEnds(f func()) {
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		if syscall.Gettid() == os.Getpid() {
			// The first thread never ends. It waits here, so that another is used.
			onThreadThatEnds(f)
			thread <- 0
			return
		}
		f()
		thread <- syscall.Gettid()
	}()
	task := fmt.Sprintf("/proc/self/task/%d", <-thread)
	for {
		if _, err := os.Stat(task); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestServerDiesWithItsParent(t *testing.T) {
	_, err := etcdtest.Binary(etcdtest.Newest)
	realpart.Must(t, err)
	for _, c := range []struct{ name, pauses string }{{"running", ""}, {"paused", "yes"}} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			self, err := os.Executable()
			must.Do(t, err)
			parent := exec.CommandContext(ctx, self)
			parent.Env = append(os.Environ(), parentVariable+"="+t.TempDir(), parentPausesVariable+"="+c.pauses)
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe()
			must.Do(t, err)
			must.Do(t, parent.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("the parent printed %q: %v", line, err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			must.Do(t, err)
			if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("server %d is not alive: %v", pid, err)
			}
			must.Do(t, parent.Process.Kill())
			_ = parent.Wait() // its error reports that it was killed
			must.Eventually(t, patience, "the end of the server", func() bool { return !alive(pid) })
		})
	}
}

// alive reports whether a process runs. A process that has ended but was not reaped, for lack of an init, does
// not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}
