package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// maxStatus bounds the status line in bytes, so that it fits into one datagram and one screen.
const maxStatus = 1000

// How long a service manager may take to make room for a message. It ends a service that does not become ready, so that
// what it waits for gets more time than what it only shows.
const (
	awaitedTimeout = 10 * time.Second
	shownTimeout   = time.Second
	busyTimeout    = 10 * time.Millisecond // for what it shows, as long as it has not taken a message since it was late
)

// NotifyReady reports that starting, or reading the configuration again, is complete, see sd_notify(3). This and the
// other Notify functions are safe for concurrent use, and do nothing without a service manager ($NOTIFY_SOCKET unset).
// They wait for one that does not read, such as a PID 1 that has crashed, for a bounded time, and then return an error.
func NotifyReady() error { return notify(daemon.SdNotifyReady, awaitedTimeout) }

// NotifyStatus sets the line that `systemctl status` shows. Line breaks and other
// characters that cannot be printed become spaces, and a very long text is cut.
func NotifyStatus(text string) error { return notify("STATUS="+oneLine(text), shownTimeout) }

// NotifyReloading reports that the configuration is being read again, until NotifyReady.
func NotifyReloading() error {
	return notify(daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec(), awaitedTimeout)
}

// NotifyStopping reports that the service is stopping.
func NotifyStopping() error { return notify(daemon.SdNotifyStopping, shownTimeout) }

// NotifyWatchdog reports to the watchdog that the service is alive.
func NotifyWatchdog() error { return notify(daemon.SdNotifyWatchdog, shownTimeout) }

// WatchdogInterval returns the time between two calls of NotifyWatchdog: half the time after which the service manager
// would end this process, as sd_watchdog_enabled(3) advises. Zero means that there is no watchdog.
func WatchdogInterval() (time.Duration, error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read the watchdog's environment: %w", err)
	}
	return limit / 2, nil
}

// managerBusy says that the service manager was late to take a message, and has taken none since.
var managerBusy atomic.Bool

// notify sends a message. (daemon.SdNotify waits without a limit for a socket that is full.)
func notify(state string, patience time.Duration) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	if patience == shownTimeout && managerBusy.Load() {
		patience = busyTimeout
	}
	err := send(socket, state, patience)
	managerBusy.Store(errors.Is(err, os.ErrDeadlineExceeded))
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

func send(socket, text string, patience time.Duration) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(text))
	return err
}

// oneLine makes text safe as the value of STATUS=. Parts of it come from other hosts: a line break
// would begin another assignment, and control characters would change how a terminal shows the rest.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + "..."
	}
	return text
}
