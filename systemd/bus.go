package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// connectTimeout bounds dialling, authentication and Hello together.
	connectTimeout = 10 * time.Second
	// defaultBusAddress is where systemd's dbus.socket listens.
	defaultBusAddress = "unix:path=/run/dbus/system_bus_socket"
)

// ConnectSystemBus returns a new connection to the system bus: the one that DBUS_SYSTEM_BUS_ADDRESS names,
// or else the usual socket. Signals on it are delivered in the order in which the bus sent them. Messages
// that could harm this process are dropped, no matter who sent them, and so are file descriptors, with which
// others could fill this process's table.
//
// ctx, and a limit of ten seconds, bound connecting only; the connection outlives them. The caller closes it.
func ConnectSystemBus(ctx context.Context) (*dbus.Conn, error) {
	return dial(ctx, handshake)
}

// dial returns what handshake makes of a socket of the system bus.
func dial[T any](ctx context.Context, handshake func(net.Conn) (T, error)) (conn T, err error) {
	address := cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), defaultBusAddress)
	if conn, err = connect(ctx, address, handshake); err != nil {
		return conn, fmt.Errorf("connect to the system bus at %s: %w", address, err)
	}
	return conn, nil
}

// connect tries the addresses of the list in turn, as "Server Addresses" in the D-Bus specification
// demands, and returns the first connection that succeeds.
func connect[T any](ctx context.Context, list string, handshake func(net.Conn) (T, error)) (none T, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var failed []error
	for address := range strings.SplitSeq(list, ";") {
		conn, err := connectSocket(ctx, address, handshake)
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return none, errors.Join(failed...)
}

// socketPath returns the socket that a D-Bus address names, in the form that package net expects: an
// abstract socket begins with "@".
func socketPath(address string) (string, error) {
	keys, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return "", fmt.Errorf("address %q is not of the form unix:path=SOCKET", address)
	}
	for pair := range strings.SplitSeq(keys, ",") {
		key, escaped, _ := strings.Cut(pair, "=")
		if key != "path" && key != "abstract" {
			continue
		}
		value, err := dbus.UnescapeBusAddressValue(escaped)
		if err != nil {
			return "", fmt.Errorf("address %q: %w", address, err)
		}
		if value == "" {
			break
		}
		if key == "abstract" {
			return "@" + value, nil
		}
		return value, nil
	}
	return "", fmt.Errorf("address %q is not of the form unix:path=SOCKET", address)
}

func connectSocket[T any](ctx context.Context, address string, handshake func(net.Conn) (T, error)) (conn T, err error) {
	path, err := socketPath(address)
	if err != nil {
		return conn, err
	}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return conn, err
	}
	// godbus takes no context for authentication: if a bus accepts and then stays silent, closing the socket
	// ends the attempt.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	conn, err = handshake(raw)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		return conn, err
	}
	return conn, nil
}

// handshake returns a connection on a socket. After an error the caller closes the socket.
func handshake(raw net.Conn) (*dbus.Conn, error) {
	conn, err := dbus.NewConn(&socket{Conn: raw}, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth(nil); err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	if err := conn.Hello(); err != nil {
		return nil, fmt.Errorf("say hello: %w", err)
	}
	return conn, nil
}
