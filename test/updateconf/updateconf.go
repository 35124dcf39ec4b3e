// Package updateconf writes reboot windows, and days without one, as lines of update.conf for tests.
package updateconf

import (
	"fmt"
	"time"
)

// ShutWindow is a window that does not open during any test.
func ShutWindow() string { return Window(12*time.Hour, time.Hour) }

// OpenWindow is a window that does not shut during any test.
func OpenWindow() string { return Window(-time.Hour, 3*time.Hour) }

// Window is a window that begins at a time from now, rounded down to a minute, and has a length.
func Window(start, length time.Duration) string { return window(time.Now().Add(start), length) }

// WindowUntil is an open window that shuts at a whole second: it begins at a whole minute, but its length need
// not be whole minutes.
func WindowUntil(shuts time.Time) string {
	start := shuts.UTC().Add(-time.Hour).Truncate(time.Minute)
	return window(start, shuts.Sub(start))
}

// Blackout has no reboots from yesterday to tomorrow.
func Blackout() string {
	now := time.Now().UTC()
	return fmt.Sprintf("LOCKSMITHD_BLACKOUT=%s/%s\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC\n",
		now.AddDate(0, 0, -1).Format(time.DateOnly), now.AddDate(0, 0, 1).Format(time.DateOnly))
}

func window(start time.Time, length time.Duration) string {
	return fmt.Sprintf("LOCKSMITHD_REBOOT_WINDOW_START=%s\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=%s\nLOCKSMITHD_REBOOT_WINDOW_TIMEZONE=UTC\n",
		start.UTC().Format("15:04"), length)
}
