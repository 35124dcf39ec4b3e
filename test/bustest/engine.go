package bustest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// update_engine's place on the bus.
const (
	EngineName      = "com.coreos.update1"
	EnginePath      = dbus.ObjectPath("/com/coreos/update1")
	EngineInterface = "com.coreos.update1.Manager"
	EngineSignal    = EngineInterface + ".StatusUpdate"
)

// The operations that most tests use.
const (
	OperationIdle        = "UPDATE_STATUS_IDLE"
	OperationDownloading = "UPDATE_STATUS_DOWNLOADING"
	OperationNeedReboot  = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
)

// Status is the answer of GetStatus and the content of StatusUpdate. It converts to updateengine.Status: the
// fields are the same, in the same order.
type Status struct {
	LastChecked int64
	Progress    float64
	Operation   string
	NewVersion  string
	NewSize     int64
}

func (s Status) values() []any {
	return []any{s.LastChecked, s.Progress, s.Operation, s.NewVersion, s.NewSize}
}

// Engine stands in for update_engine. It is idle at first. The method name for its Faults is "GetStatus". Its
// methods are safe for concurrent use. Like the real one, which has one thread, it sends answers and signals in
// the order of the states that they report: no answer follows the signal of a newer status.
type Engine struct {
	Faults
	bus   *Bus
	asked chan time.Time

	mu     sync.Mutex // held until an answer or signal is sent
	status Status
	conn   *dbus.Conn // nil while it is off the bus
}

var errAway = errors.New("update_engine is not on the bus")

// NewEngine returns an Engine that is not on the bus until Appear.
func NewEngine(bus *Bus) *Engine {
	return &Engine{
		bus:    bus,
		asked:  make(chan time.Time, 1024),
		status: Status{Operation: OperationIdle},
	}
}

// Appear connects to the bus and takes update_engine's name.
func (e *Engine) Appear() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil && e.conn.Connected() {
		return errors.New("let update_engine appear: it is on the bus already")
	}
	conn, err := connect(e.bus.Address(), dbus.WithIncomingInterceptor(replyMyself))
	if err != nil {
		return fmt.Errorf("let update_engine appear: %w", err)
	}
	getStatus := func(call dbus.Message) *dbus.Error { return e.getStatus(conn, call) }
	err = conn.ExportMethodTable(map[string]any{"GetStatus": getStatus}, EnginePath, EngineInterface)
	if err == nil {
		err = own(conn, EngineName)
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("let update_engine appear: %w", err)
	}
	e.conn = conn
	return nil
}

// Leave drops the connection, as update_engine does when it ends.
func (e *Engine) Leave() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == nil {
		return nil
	}
	err := e.conn.Close()
	e.conn = nil
	return err
}

// Release gives the name up and stays connected.
func (e *Engine) Release() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == nil {
		return errAway
	}
	if _, err := e.conn.ReleaseName(EngineName); err != nil {
		return fmt.Errorf("release update_engine's name: %w", err)
	}
	return nil
}

// Close takes update_engine off the bus for good.
func (e *Engine) Close() error {
	e.healAll()
	return e.Leave()
}

// Set changes the status that GetStatus answers, without a signal.
func (e *Engine) Set(s Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = s
}

// Announce changes the status and emits StatusUpdate.
func (e *Engine) Announce(s Status) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = s
	return e.emit(s.values()...)
}

// Emit emits StatusUpdate with any values, and returns once the bus has taken it. The answer of GetStatus does
// not change.
func (e *Engine) Emit(values ...any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.emit(values...)
}

// emit is Emit; e.mu is held.
func (e *Engine) emit(values ...any) error {
	if e.conn == nil {
		return errAway
	}
	return emit(e.conn, EnginePath, EngineSignal, values...)
}

// Asked returns the times at which GetStatus was called, as they come. It keeps up to 1024 that nobody takes.
func (e *Engine) Asked() <-chan time.Time { return e.asked }

// replyMyself keeps godbus from replying to GetStatus some time after getStatus has returned. godbus still sends
// errors.
func replyMyself(m *dbus.Message) {
	if m.Headers[dbus.FieldMember].Value() == "GetStatus" {
		m.Flags |= dbus.FlagNoReplyExpected
	}
}

func (e *Engine) getStatus(conn *dbus.Conn, call dbus.Message) *dbus.Error {
	select {
	case e.asked <- time.Now():
	default:
	}
	if failure := e.suffer("GetStatus"); failure != nil {
		return failure
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	values := e.status.values()
	_ = conn.Send(&dbus.Message{
		Type: dbus.TypeMethodReply,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: call.Headers[dbus.FieldSender],
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(values...)),
		},
		Body: values,
	}, nil) // an error means that update_engine has left
	return nil
}

// own takes a well-known name, and fails if another connection has it.
func own(conn *dbus.Conn, name string) error {
	for deadline := time.Now().Add(patience); ; {
		reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
		switch {
		case err != nil:
			return fmt.Errorf("take the name %s: %w", name, err)
		case reply == dbus.RequestNameReplyPrimaryOwner:
			return nil
		case reply != dbus.RequestNameReplyExists, time.Now().After(deadline):
			return fmt.Errorf("take the name %s: %s", name, reply)
		}
		// The bus has not noticed yet that the last owner has closed its connection.
	}
}
