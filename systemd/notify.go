package systemd

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// maxStatus keeps the status line well inside one datagram and one screen.
const maxStatus = 1000

// Notifier tells the service manager about this service, see sd_notify(3). The
// zero value is ready for use, also by several goroutines. Without a service
// manager ($NOTIFY_SOCKET unset) every method does nothing and returns nil.
type Notifier struct{}

// Ready says that starting, or re-reading the configuration, is complete.
func (Notifier) Ready() error { return notify(daemon.SdNotifyReady) }

// Status sets the line that `systemctl status` shows. Line breaks and other
// characters that cannot be printed become spaces, and a very long text is cut.
func (Notifier) Status(text string) error { return notify("STATUS=" + oneLine(text)) }

// Reloading says that the configuration is being read again; Ready ends it.
func (Notifier) Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the service is on its way out.
func (Notifier) Stopping() error { return notify(daemon.SdNotifyStopping) }

// Ping feeds the watchdog.
func (Notifier) Ping() error { return notify(daemon.SdNotifyWatchdog) }

// WatchdogInterval returns how often Ping is due: half the time after which the
// service manager would end this process, as sd_watchdog_enabled(3) advises.
// Zero means that there is no watchdog.
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

// oneLine keeps a text, parts of which come from other hosts, from ending the
// STATUS= assignment early (what follows a line break would be read as another
// assignment) and from changing how a terminal shows the rest.
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
