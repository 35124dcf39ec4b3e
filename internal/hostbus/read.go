package hostbus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/hostfacts"
)

// ErrAbsent says that nobody has the state on the bus: locksmithd does not run, or was refused the name.
var ErrAbsent = errors.New("locksmithd is not on the system bus")

var errLost = errors.New("watch locksmithd on the bus: the connection to the system bus is lost")

const propertiesInterface = "org.freedesktop.DBus.Properties"

const (
	// readTimeout bounds one question.
	readTimeout = 10 * time.Second
	// askAgainAfter is how long after a question that failed Watch asks again. A host may not change for weeks.
	askAgainAfter = 2 * time.Second
)

// Read returns the state. A property that this version does not know is left out, one that the daemon does not know is
// empty. It matches ErrAbsent if there is no daemon on the bus.
func Read(ctx context.Context, conn *dbus.Conn) (h hostfacts.Host, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var all map[string]dbus.Variant
	const getAll = propertiesInterface + ".GetAll"
	call := conn.Object(Object.Bus, Object.Path).CallWithContext(ctx, getAll, dbus.FlagNoAutoStart, Object.Interface)
	if err := call.Store(&all); err != nil {
		var answer dbus.Error
		if errors.As(err, &answer) {
			switch answer.Name {
			case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
				return h, ErrAbsent
			}
			return h, fmt.Errorf("ask locksmithd for its state on the bus: %s: %w", answer.Name, err)
		}
		return h, fmt.Errorf("ask locksmithd for its state on the bus: %w", err)
	}
	to := reflect.ValueOf(&h).Elem()
	for i := range to.NumField() {
		name := to.Type().Field(i).Name
		value, known := all[name]
		if !known {
			continue
		}
		if err := dbus.Store([]any{value.Value()}, to.Field(i).Addr().Interface()); err != nil {
			return hostfacts.Host{}, fmt.Errorf("ask locksmithd for its state on the bus: the property %s has the type %s: %w",
				name, value.Signature(), err)
		}
	}
	return h, nil
}

// Watch calls observed with the state, and again after each change, until ctx ends or the connection to the bus is lost.
// While there is no daemon on the bus, the error matches ErrAbsent. After any other it asks again.
func Watch(ctx context.Context, conn *dbus.Conn, observed func(hostfacts.Host, error)) error {
	const backlog = 16 // each signal is only a reason to ask again
	signals := make(chan *dbus.Signal, backlog)
	conn.Signal(signals)
	defer conn.RemoveSignal(signals)
	for _, match := range [][]dbus.MatchOption{
		{
			dbus.WithMatchSender(Object.Bus), dbus.WithMatchObjectPath(Object.Path),
			dbus.WithMatchInterface(propertiesInterface),
		},
		{
			dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"),
			dbus.WithMatchArg(0, Object.Bus),
		},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("watch locksmithd on the bus: %w", err)
		}
	}
	for {
		h, err := Read(ctx, conn)
		observed(h, err)
		var again <-chan time.Time // nil: there is a signal if the answer changes
		if err != nil && !errors.Is(err, ErrAbsent) {
			again = time.After(askAgainAfter)
		}
		select {
		case <-again:
		case _, open := <-signals:
			for open && len(signals) > 0 {
				_, open = <-signals
			}
			if !open {
				return errLost
			}
		case <-conn.Context().Done():
			return errLost
		case <-ctx.Done():
			return nil
		}
	}
}
