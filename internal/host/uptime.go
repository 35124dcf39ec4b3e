package host

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// BeganAt returns when the boot began, by the clock whose time is now. Time in which the host slept counts as time that
// it was up, except after a soft reboot.
func (b Boot) BeganAt(root string, now time.Time) (time.Time, error) {
	if !b.Since.IsZero() {
		return b.began, nil
	}
	const file = "/proc/uptime"
	content, err := readKernelFile(root, file)
	if err != nil {
		return time.Time{}, fmt.Errorf("find out since when this host is up: %w", err)
	}
	first, _, _ := strings.Cut(content, " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil || !(seconds >= 0 && seconds <= 1e9) { // also NaN
		return time.Time{}, fmt.Errorf("find out since when this host is up: %s does not begin with seconds, but with %.40q", filepath.Join(root, file), content)
	}
	return now.Add(-time.Duration(seconds * float64(time.Second))), nil
}
