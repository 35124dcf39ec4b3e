package systemd

import (
	"context"
	"fmt"
)

// Instance returns the unique name of the logind that owns the well-known name now. A restarted logind
// has another one.
func (l *Logind) Instance(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var name string
	if err := l.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, logindName).Store(&name); err != nil {
		return "", fmt.Errorf("ask the bus for logind's name: %w", err)
	}
	return name, nil
}
