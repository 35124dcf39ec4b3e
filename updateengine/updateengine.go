// Package updateengine follows the status of update_engine (com.coreos.update1) on the system bus, as
// update_engine reports it, or another process that may do so in its name.
//
// It guarantees that
//   - events come in the order in which the bus delivered their signals;
//   - a signal is believed only if the bus says that its sender is the owner of the name, root, the user that
//     this process runs as, or a member of a configured group;
//   - no message on the bus makes it panic;
//   - a slow consumer misses intermediate states but never the newest one.
//
// It does not guarantee that what update_engine reports is true, and it keeps no history: the caller
// decides what a pending reboot means.
package updateengine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName    = "com.coreos.update1"
	objectPath = dbus.ObjectPath("/com/coreos/update1")
	iface      = "com.coreos.update1.Manager"
	signalName = iface + ".StatusUpdate"

	// callTimeout bounds a call to update_engine, and one to the bus itself.
	callTimeout = 5 * time.Second
	// retryAfter is the time after which an update_engine that did not answer is asked again, unless it has
	// sent a signal in the meantime.
	retryAfter = time.Minute
	// lingerTime is how long EmitNeedReboot stays on the bus after the signal.
	lingerTime = 2 * time.Second
)

// NeedReboot is the operation of an update_engine whose update waits for a reboot.
const NeedReboot = "UPDATE_STATUS_UPDATED_NEED_REBOOT"

// The longest texts that are accepted from the bus, in bytes.
const (
	maxOperation = 128
	maxVersion   = 256
)

// ErrAbsent means that nobody owns com.coreos.update1: update_engine is not running, or not yet.
var ErrAbsent = errors.New("update_engine is not on the system bus")

// Status is what update_engine reports with GetStatus and with StatusUpdate.
type Status struct {
	LastChecked int64   // seconds since 1970, 0 for never
	Progress    float64 // of the download, 0 to 1
	Operation   string  // "UPDATE_STATUS_IDLE", NeedReboot, or another that update_engine knows
	NewVersion  string
	NewSize     int64 // bytes
}

// NeedReboot reports whether an update waits for a reboot.
func (s Status) NeedReboot() bool { return s.Operation == NeedReboot }

// Source is who reported an Event.
type Source string

const (
	// Engine: update_engine itself.
	Engine Source = "update_engine"
	// Requester: another process that is believed.
	Requester Source = "requester"
	// Gone: update_engine left the bus; the Status is zero.
	Gone Source = "gone"
)

// Event is one report about the update.
type Event struct {
	Status Status
	Source Source
	// By names the user and process of a Requester, for the log:
	// `user "core" (uid 500), process "locksmithctl" (pid 1234)`.
	By string
}

// Client talks to update_engine. It is safe for concurrent use.
type Client struct {
	conn       *dbus.Conn
	log        *slog.Logger
	trust      atomic.Pointer[Trust]
	retryAfter time.Duration
}

// New returns a client on a connection to the system bus that delivers signals in order, see
// systemd.ConnectSystemBus. The caller closes the connection.
func New(conn *dbus.Conn, log *slog.Logger, trusted Trust) *Client {
	c := &Client{conn: conn, log: log, retryAfter: retryAfter}
	c.SetTrust(trusted)
	return c
}

// SetTrust changes who is believed, for signals that arrive from now on.
func (c *Client) SetTrust(trusted Trust) { c.trust.Store(&trusted) }

// Status asks update_engine for its status. It takes five seconds at most, returns ErrAbsent if nobody owns
// the name, and never starts update_engine.
func (c *Client) Status(ctx context.Context) (Status, error) {
	status, _, err := c.getStatus(ctx, busName)
	return status, err
}

// getStatus asks the owner of a name. The sequence number gives the answer's place among the signals on
// the connection.
func (c *Client) getStatus(ctx context.Context, name string) (Status, dbus.Sequence, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := c.conn.Object(name, objectPath).CallWithContext(ctx, iface+".GetStatus", dbus.FlagNoAutoStart)
	if isError(call.Err, "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner") {
		return Status{}, 0, ErrAbsent
	}
	if call.Err != nil {
		return Status{}, 0, fmt.Errorf("ask update_engine for its status: %w", call.Err)
	}
	status, err := decodeStatus(call.Body)
	if err != nil {
		return Status{}, 0, fmt.Errorf("decode update_engine's status: %w", err)
	}
	return status, call.ResponseSequence, nil
}

// ErrBusGone means that the bus took the signal and then went away, as it does when the host goes down at
// once. If the bus went away for another reason, the daemon may not have asked who sent the signal.
var ErrBusGone = errors.New("the bus took it, and then went away: either this host is going down already, or it has to be sent again")

// errUnanswered is like ErrBusGone, but it is unknown whether the bus took the signal.
var errUnanswered = errors.New("the bus went away, and may have taken it: either this host is going down already, or it has to be sent again")

// EmitNeedReboot announces on conn, in update_engine's place, that an update waits for a reboot.
//
// The daemon asks the bus who sent the signal, and the bus can answer only while the sender is connected. So
// EmitNeedReboot waits until the bus has taken the signal, and then for two more seconds, because a sender
// cannot find out when the daemon has asked. If the bus goes away in these seconds, the error matches ErrBusGone.
// The caller closes conn.
func EmitNeedReboot(ctx context.Context, conn *dbus.Conn) error {
	if err := conn.Emit(objectPath, signalName, int64(0), float64(0), NeedReboot, "", int64(0)); err != nil {
		return fmt.Errorf("emit the reboot signal: %w", err)
	}
	ctxCall, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// The bus handles a connection's messages in order: its answer to a later one proves that it has passed
	// the signal on.
	if err := conn.BusObject().CallWithContext(ctxCall, "org.freedesktop.DBus.GetId", 0).Err; err != nil {
		var answer dbus.Error
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &answer): // the connection is lost
			return fmt.Errorf("emit the reboot signal: %w", errUnanswered)
		}
		return fmt.Errorf("emit the reboot signal: wait for the bus to take it: %w", err)
	}
	select {
	case <-time.After(lingerTime):
		return nil
	case <-conn.Context().Done():
		return fmt.Errorf("emit the reboot signal: %w", ErrBusGone)
	case <-ctx.Done():
		return fmt.Errorf("emit the reboot signal: left before the daemon could ask who sent it: %w", context.Cause(ctx))
	}
}

// decodeStatus decodes the arguments of GetStatus's answer and of StatusUpdate, which anybody on the bus
// may have sent.
func decodeStatus(body []any) (Status, error) {
	if len(body) != 5 {
		return Status{}, fmt.Errorf("it has %d values, not the 5 of (xdssx)", len(body))
	}
	lastChecked, ok0 := body[0].(int64)
	progress, ok1 := body[1].(float64)
	operation, ok2 := body[2].(string)
	newVersion, ok3 := body[3].(string)
	newSize, ok4 := body[4].(int64)
	switch {
	case !ok0 || !ok1 || !ok2 || !ok3 || !ok4:
		return Status{}, fmt.Errorf("its values are of types (%T, %T, %T, %T, %T), not (xdssx)",
			body[0], body[1], body[2], body[3], body[4])
	case math.IsNaN(progress) || math.IsInf(progress, 0):
		return Status{}, errors.New("its progress is not a number")
	case operation == "":
		return Status{}, errors.New("its operation is empty")
	case len(operation) > maxOperation:
		return Status{}, fmt.Errorf("its operation is %d bytes long, more than %d", len(operation), maxOperation)
	case len(newVersion) > maxVersion:
		return Status{}, fmt.Errorf("its version is %d bytes long, more than %d", len(newVersion), maxVersion)
	}
	return Status{lastChecked, progress, operation, newVersion, newSize}, nil
}

// isError reports whether err is an error answer, of the bus or of a peer, with one of these names.
func isError(err error, names ...string) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && slices.Contains(names, answer.Name)
}
