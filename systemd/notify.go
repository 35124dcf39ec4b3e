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

// Notifier reports the state of this service to the service manager, see sd_notify(3). It is safe for
// concurrent use. Without a service manager ($NOTIFY_SOCKET unset) its methods do nothing and return nil.
type Notifier struct{}

// Ready reports that starting, or reading the configuration again, is complete.
func (Notifier) Ready() error { return notify(daemon.SdNotifyReady) }

// Status sets the line that `systemctl status` shows. Line breaks and other
// characters that cannot be printed become spaces, and a very long text is cut.
func (Notifier) Status(text string) error { return notify("STATUS=" + oneLine(text)) }

// Reloading reports that the configuration is being read again, until Ready.
func (Notifier) Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping reports that the service is stopping.
func (Notifier) Stopping() error { return notify(daemon.SdNotifyStopping) }

// Ping reports to the watchdog that the service is alive.
func (Notifier) Ping() error { return notify(daemon.SdNotifyWatchdog) }

// WatchdogInterval returns the time between two Pings: half the time after which the service manager
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
