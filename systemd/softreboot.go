package systemd

import (
	"context"
	"fmt"
	"math"
	"time"
)

// SoftReboots returns how many soft reboots there were since the kernel was started. They are counted since systemd 256:
// counted is false before that.
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

// UserspaceSince returns when systemd began to start the host: after the last soft reboot, if there was one.
func (l *Logind) UserspaceSince(ctx context.Context) (time.Time, error) {
	var usec uint64
	err := readProperty(ctx, l.conn.Object(managerName, managerPath), managerInterface, "UserspaceTimestamp", &usec)
	if err == nil && (usec == 0 || usec > math.MaxInt64) {
		err = fmt.Errorf("it says %d microseconds since 1970", usec)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("ask systemd when it began to start this host: %w", err)
	}
	return time.UnixMicro(int64(usec)), nil
}
