package simhost_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
	"github.com/locksmithd/locksmith/test/simhost"
)

// chatty makes this program, run again as a host's locksmithd, send its process id as its status again and again.
const chatty = "SIMHOST_CHATTY"

func TestMain(m *testing.M) {
	if os.Getenv(chatty) == "" {
		os.Exit(m.Run())
	}
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	for err == nil {
		_, err = fmt.Fprintf(conn, "STATUS=%d", os.Getpid())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// The last message of a process that was killed is read while the next process runs.
func TestStatusComesFromTheProcessThatWasStartedLast(t *testing.T) {
	h, err := simhost.New(simhost.Options{Locksmithd: "/proc/self/exe", Dir: t.TempDir(), MachineID: "host", Env: []string{chatty + "=yes"}})
	realpart.Must(t, err)
	defer h.Close()
	stop := make(chan struct{})
	busy := sync.WaitGroup{}
	busy.Go(func() { // keeps the host from reading its messages
		for {
			select {
			case <-stop:
				return
			default:
				h.Notices()
			}
		}
	})
	defer busy.Wait()
	defer close(stop)
	for range 20 {
		must.Do(t, h.Start())
		own := strconv.Itoa(h.Daemon().PID())
		must.Await(t, time.Minute, "the status of process "+own, func() (<-chan struct{}, bool) {
			changed := h.Changed()
			status := h.Status()
			if status != own && status != "" {
				t.Fatalf("the status is %q, which process %s did not send", status, own)
			}
			return changed, status == own
		})
		h.Daemon().Kill()
	}
}
