package systemd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// callTimeout bounds one call to logind or to the service manager.
const callTimeout = 10 * time.Second

// Names of errors that callers here tell apart.
const (
	errAccessDenied    = "org.freedesktop.DBus.Error.AccessDenied"
	errInteractive     = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
	errInvalidArgs     = "org.freedesktop.DBus.Error.InvalidArgs"
	errUnknownMethod   = "org.freedesktop.DBus.Error.UnknownMethod"
	errUnknownObject   = "org.freedesktop.DBus.Error.UnknownObject"
	errUnknownProperty = "org.freedesktop.DBus.Error.UnknownProperty"
	errBlocked         = "org.freedesktop.login1.BlockedByInhibitorLock"
	errNoSuchUnit      = "org.freedesktop.systemd1.NoSuchUnit"
	errNoSuchSession   = "org.freedesktop.login1.NoSuchSession"
	errNoSessionForPID = "org.freedesktop.login1.NoSessionForPID"
	errUnreadable      = "com.github.locksmithd.Unreadable" // ours, for an answer that was dropped: see socket
)

// ErrRefused marks an error with which logind or systemd itself answered: nothing was started.
// After any other error of a call its outcome is unknown.
var ErrRefused = errors.New("refused")

// call makes one bounded call, and marks with ErrRefused an error that the peer answered with, or
// the bus before the peer saw the call.
func call(ctx context.Context, object dbus.BusObject, method string, args []any, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := object.CallWithContext(ctx, method, 0, args...)
	if call.Err == nil {
		return store(call.Body, results...)
	}
	var answer dbus.Error
	if !errors.As(call.Err, &answer) {
		return call.Err
	}
	switch answer.Name {
	// The bus answers with these for a peer that died or never answered; the last one is for an
	// answer that was dropped.
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout",
		"org.freedesktop.DBus.Error.TimedOut", "org.freedesktop.DBus.Error.Disconnected", errUnreadable:
		return fmt.Errorf("%s: %w", answer.Name, call.Err)
	}
	return fmt.Errorf("%w: %s: %w", ErrRefused, answer.Name, call.Err)
}

// readProperty reads a property of an object into the variable that to points to.
func readProperty(ctx context.Context, object dbus.BusObject, iface, name string, to any) error {
	var v dbus.Variant
	if err := call(ctx, object, "org.freedesktop.DBus.Properties.Get", []any{iface, name}, &v); err != nil {
		return err
	}
	return store([]any{v.Value()}, to)
}

// store puts values where the pointers point. Unlike dbus.Store it converts nothing: a value of
// another type than the documented one is an error.
func store(values []any, pointers ...any) error {
	if len(values) != len(pointers) {
		return fmt.Errorf("the answer has %d parts, not %d", len(values), len(pointers))
	}
	for i, value := range values {
		to := reflect.ValueOf(pointers[i]).Elem()
		if reflect.TypeOf(value) != to.Type() {
			return fmt.Errorf("part %d of the answer is of type %T, not %v", i+1, value, to.Type())
		}
		to.Set(reflect.ValueOf(value))
	}
	return nil
}

// answered reports whether err is an error answer with one of these names.
func answered(err error, names ...string) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && slices.Contains(names, answer.Name)
}
