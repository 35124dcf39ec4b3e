package systemd

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// maxStatus bounds the status line in bytes, so that it fits into one datagram and one screen.
const maxStatus = 1000

// NotifyReady reports that starting, or reading the configuration again, is complete, see sd_notify(3). This and the
// other Notify functions are safe for concurrent use, and do nothing without a service manager ($NOTIFY_SOCKET unset).
func NotifyReady() error { return notify(daemon.SdNotifyReady) }

// NotifyStatus sets the line that `systemctl status` shows. Line breaks and other
// characters that cannot be printed become spaces, and a very long text is cut.
func NotifyStatus(text string) error { return notify("STATUS=" + oneLine(text)) }

// NotifyReloading reports that the configuration is being read again, until NotifyReady.
func NotifyReloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// NotifyStopping reports that the service is stopping.
func NotifyStopping() error { return notify(daemon.SdNotifyStopping) }

// NotifyWatchdog reports to the watchdog that the service is alive.
func NotifyWatchdog() error { return notify(daemon.SdNotifyWatchdog) }

// WatchdogInterval returns the time between two calls of NotifyWatchdog: half the time after which the service manager
// would end this process, as sd_watchdog_enabled(3) advises. Zero means that there is no watchdog.
func WatchdogInterval() (time.Duration, error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read the watchdog's environment: %w", err)
	}
	return limit / 2, nil
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
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
