package bustest

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// emit emits a signal and waits until the bus has taken it.
func emit(conn *dbus.Conn, path dbus.ObjectPath, name string, values ...any) error {
	if err := conn.Emit(path, name, values...); err != nil {
		return fmt.Errorf("emit %s: %w", name, err)
	}
	return settle(conn)
}

// SendTo sends a signal to one connection, which gets it whatever its match rules are. It does not wait until
// the bus has taken it.
func SendTo(conn *dbus.Conn, to string, path dbus.ObjectPath, name string, values ...any) error {
	dot := strings.LastIndexByte(name, '.')
	m := &dbus.Message{
		Type: dbus.TypeSignal,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(to),
			dbus.FieldPath:        dbus.MakeVariant(path),
			dbus.FieldInterface:   dbus.MakeVariant(name[:dot]),
			dbus.FieldMember:      dbus.MakeVariant(name[dot+1:]),
		},
		Body: values,
	}
	if len(values) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(values...))
	}
	if err := conn.Send(m, nil).Err; err != nil {
		return fmt.Errorf("send %s to %s: %w", name, to, err)
	}
	return nil
}

// settle waits until the bus has processed all messages sent on conn so far: it answers them in order.
func settle(conn *dbus.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetId", 0).Err; err != nil {
		return fmt.Errorf("wait for the bus to take a message: %w", err)
	}
	return nil
}
