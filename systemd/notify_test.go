package systemd

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

// serviceManager listens on a socket, and sets $NOTIFY_SOCKET to it.
func serviceManager(t *testing.T) *net.UnixConn {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must.Do(t, err)
	t.Cleanup(func() { conn.Close() })
	must.Do(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	t.Setenv("NOTIFY_SOCKET", socket)
	return conn
}

func TestNotifierSendsToTheServiceManager(t *testing.T) {
	manager := serviceManager(t)
	for _, test := range []struct {
		name string
		send func() error
		want string // a regular expression for the whole datagram
	}{
		{"ready", NotifyReady, `READY=1`},
		{"stopping", NotifyStopping, `STOPPING=1`},
		{"ping", NotifyWatchdog, `WATCHDOG=1`},
		{"reloading", NotifyReloading, `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*\n`},
		{"status", func() error { return NotifyStatus("waiting for the lock, 3 before") }, `STATUS=waiting for the lock, 3 before`},
		{"status with another assignment in it", func() error { return NotifyStatus("a\nREADY=1\r\x1b\x00b\u0085c") }, `STATUS=a READY=1   b c`},
		{"status that would be shown backwards", func() error { return NotifyStatus("a\u202eb\u2028c") }, `STATUS=a b c`},
		{"status that is not UTF-8", func() error { return NotifyStatus("a\xffb") }, `STATUS=a\?b`},
		{"endless status", func() error { return NotifyStatus(strings.Repeat("ü", 10000)) }, `STATUS=ü{500}\.\.\.`},
	} {
		if err := test.send(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		buffer := make([]byte, 1<<16)
		size, err := manager.Read(buffer)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := string(buffer[:size]); !regexp.MustCompile(`\A` + test.want + `\z`).MatchString(got) {
			t.Errorf("%s: sent %q, want %s", test.name, got, test.want)
		}
	}
}

func TestNotifierWithoutAServiceManagerDoesNothing(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := NotifyReady(); err != nil {
		t.Error(err)
	}
}

func TestNotifierReportsAServiceManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nothing"))
	if err := NotifyReady(); err == nil {
		t.Error("no error")
	}
}

// Whoever reports does not wait for a PID 1 that has crashed: it has a slot to give back.
func TestNotifierDoesNotWaitForAServiceManagerThatDoesNotRead(t *testing.T) {
	manager := serviceManager(t)
	failed := make(chan error)
	go func() {
		for {
			if err := NotifyWatchdog(); err != nil {
				failed <- err
				break
			}
		}
		for _, send := range []func() error{NotifyWatchdog, func() error { return NotifyStatus("idle") }} {
			failed <- send()
		}
	}()
	for range 3 {
		if err := must.Receive(t, time.Minute, "an error", failed); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want that the service manager is too late", err)
		}
	}
	_, err := manager.Read(make([]byte, 1<<10))
	must.Do(t, err)
	if err := NotifyReady(); err != nil {
		t.Errorf("after it has read again: %v", err)
	}
}

func TestWatchdogIntervalIsHalfItsLimit(t *testing.T) {
	for _, test := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"300000000", "", 150 * time.Second, false},
		{"300000000", strconv.Itoa(os.Getpid()), 150 * time.Second, false},
		{"300000000", "1", 0, false}, // meant for another process
		{"soon", "", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		got, err := WatchdogInterval()
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
	}
}
