package systemd

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// SoftReboots returns how many soft reboots there were since the kernel was started. They are counted since systemd
// 256: counted is false before that.
func (l *Logind) SoftReboots(ctx context.Context) (n uint32, counted bool, err error) {
	err = readProperty(ctx, l.conn.Object(managerName, managerPath), managerInterface, "SoftRebootsCount", &n)
	if answered(err, errUnknownProperty) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("ask systemd how many soft reboots there were: %w", err)
	}
	return n, true, nil
}

// UserspaceSince returns when systemd began to start the host, after the last soft reboot if there was one: by the wall
// clock of that time, and how long ago that is, whatever has become of the clock. Time in which the host slept is not
// in that.
func (l *Logind) UserspaceSince(ctx context.Context) (at time.Time, ago time.Duration, err error) {
	manager := l.conn.Object(managerName, managerPath)
	var wall, elapsed uint64 // in microseconds since 1970, and by CLOCK_MONOTONIC
	err = readProperty(ctx, manager, managerInterface, "UserspaceTimestamp", &wall)
	if err == nil {
		err = readProperty(ctx, manager, managerInterface, "UserspaceTimestampMonotonic", &elapsed)
	}
	var now unix.Timespec
	if err == nil {
		err = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	}
	if up := uint64(now.Nano() / 1000); err == nil && (wall == 0 || wall > math.MaxInt64 || elapsed > up) {
		err = fmt.Errorf("it says %d microseconds since 1970, and %d of %d microseconds", wall, elapsed, up)
	}
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("ask systemd when it began to start this host: %w", err)
	}
	return time.UnixMicro(int64(wall)), time.Duration(now.Nano()) - time.Duration(elapsed)*time.Microsecond, nil
}
