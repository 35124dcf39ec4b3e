package bustest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// logind's place on the bus.
const (
	LogindName = "org.freedesktop.login1"
	LogindPath = dbus.ObjectPath("/org/freedesktop/login1")

	managerInterface    = "org.freedesktop.login1.Manager"
	propertiesInterface = "org.freedesktop.DBus.Properties"
)

// Logind stands in for systemd-logind, and for the part of systemd itself that reboots a host. It treats
// every caller as root. Its methods are safe for concurrent use.
//
// The method names for its Faults are those of the manager ("ListSessions", "ScheduleShutdown") and of
// its properties ("PreparingForShutdown"); "Reboot", for RebootWithFlags too; for systemd its methods ("StartUnit",
// "GetUnitByPID") and properties ("SystemState", "Job", "JobType"); and "Session" for reading the properties of a
// session.
type Logind struct {
	Faults
	bus       *Bus
	reboots   chan RebootCall
	schedules chan Shutdown

	mu         sync.Mutex
	version    int
	conn       *dbus.Conn // nil while it is off the bus
	sessions   []Session
	own        string            // the session of every caller
	processes  map[uint32]string // the sessions of other processes
	inhibitors []Inhibitor
	shutdown   Shutdown
	message    string // stays when the shutdown is cancelled
	preparing  bool
	rule       bool   // polkit lets root skip inhibitors
	stopping   bool   // systemd shuts the system down
	old        bool   // logind is older than systemd: it knows no soft reboots
	soft       uint32 // how many soft reboots there were
	userspace  time.Time
	job        string // of the unit of every caller
	lies       map[string][]any

	units      map[string]*unit
	jobs       map[uint32]*job // that have not ended
	lastJob    uint32
	started    []string
	subscribed bool
	silent     bool // about the ends of jobs
}

// NewLogind returns a Logind that is not on the bus until Appear.
func NewLogind(bus *Bus) *Logind {
	return &Logind{
		bus:       bus,
		reboots:   make(chan RebootCall, 1024),
		schedules: make(chan Shutdown, 1024),
		version:   252,
		userspace: time.Now(),
		lies:      map[string][]any{},
		processes: map[uint32]string{},
	}
}

// Appear connects to the bus and takes logind's name.
func (l *Logind) Appear() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.conn.Connected() {
		return errors.New("let logind appear: it is on the bus already")
	}
	conn, err := l.bus.Connect()
	if err != nil {
		return fmt.Errorf("let logind appear: %w", err)
	}
	l.conn = conn
	err = errors.Join(l.exportManager(), l.exportSessions(), l.exportSystemd())
	if err == nil {
		err = errors.Join(own(conn, LogindName), own(conn, systemdName))
	}
	if err != nil {
		conn.Close()
		l.conn = nil
		return fmt.Errorf("let logind appear: %w", err)
	}
	return nil
}

// Leave drops the connection. Later calls find no logind; calls under way get no reply.
func (l *Logind) Leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	// The bus notices the end of a connection only some time later.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, name := range []string{LogindName, systemdName} {
		_ = l.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ReleaseName", 0, name).Err // the bus may be down
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

// Restart makes logind leave and appear again. It restores a scheduled shutdown as the real one does: before
// version 257 not at all, from 257 on with every blank of the message escaped.
func (l *Logind) Restart() error {
	err := l.Leave()
	l.mu.Lock()
	l.message = strings.ReplaceAll(l.message, " ", `x20`)
	if l.shutdown.Message = l.message; l.version < 257 {
		l.shutdown, l.message = Shutdown{}, ""
	}
	l.mu.Unlock()
	return errors.Join(err, l.Appear())
}

// Close takes logind off the bus for good, and stops all units.
func (l *Logind) Close() error {
	l.healAll()
	l.StopUnits()
	return l.Leave()
}

// SetVersion makes logind behave like that of a systemd version, 252 at first. RebootWithFlags exists from
// 246 on. From 257 on inhibitors block root too, even if it asks to skip them, and the mode block-weak exists.
// From 258 on refusals have a name of their own.
func (l *Logind) SetVersion(version int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version = version
	return l.exportManager()
}

// SetOld makes logind refuse soft reboots, as if systemd had been updated without a restart of logind.
func (l *Logind) SetOld(old bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.old = old
}

// SoftReboot makes systemd count one more soft reboot, which ended at a time. It counts from version 256 on.
func (l *Logind) SoftReboot(ended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.soft++
	l.userspace = ended
}

// Answer makes a method of the manager, or the reading of a property, answer with these values from now on,
// of whatever types. Without values the property is missing.
func (l *Logind) Answer(name string, values ...any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies[name] = values
	return l.exportManager()
}

// exportManager puts the manager on the bus; l.mu is held.
func (l *Logind) exportManager() error {
	if l.conn == nil {
		return nil
	}
	methods := map[string]any{
		"Reboot":                  l.reboot,
		"RebootWithFlags":         l.rebootWithFlags,
		"ListSessions":            l.listSessions,
		"GetSessionByPID":         l.sessionByPID,
		"ListInhibitors":          l.listInhibitors,
		"ScheduleShutdown":        l.scheduleShutdown,
		"CancelScheduledShutdown": l.cancelScheduledShutdown,
		"SetWallMessage":          l.setWallMessage,
	}
	if l.version < 246 {
		delete(methods, "RebootWithFlags")
	}
	for name, values := range l.lies {
		if method := methods[name]; method != nil {
			methods[name] = answering(method, values)
		}
	}
	if err := l.conn.ExportMethodTable(methods, LogindPath, managerInterface); err != nil {
		return fmt.Errorf("export logind: %w", err)
	}
	if err := l.conn.ExportMethodTable(map[string]any{"Get": l.managerProperty}, LogindPath, propertiesInterface); err != nil {
		return fmt.Errorf("export logind's properties: %w", err)
	}
	return nil
}

// answering returns a function with the parameters of method that returns values.
func answering(method any, values []any) any {
	takes := reflect.TypeOf(method)
	var in, out []reflect.Type
	var results []reflect.Value
	for i := range takes.NumIn() {
		in = append(in, takes.In(i))
	}
	for _, v := range values {
		out = append(out, reflect.TypeOf(v))
		results = append(results, reflect.ValueOf(v))
	}
	none := reflect.ValueOf((*dbus.Error)(nil))
	kind := reflect.FuncOf(in, append(out, none.Type()), false)
	return reflect.MakeFunc(kind, func([]reflect.Value) []reflect.Value { return append(results, none) }).Interface()
}

func (l *Logind) managerProperty(iface, property string) (dbus.Variant, *dbus.Error) {
	if failure := l.suffer(property); failure != nil {
		return dbus.Variant{}, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	value := any(nil)
	if lie, ok := l.lies[property]; ok {
		if len(lie) > 0 {
			value = lie[0]
		}
	} else if iface == managerInterface {
		value = l.property(property)
	}
	if value == nil {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty",
			[]any{"Unknown interface " + iface + " or property " + property + "."})
	}
	return dbus.MakeVariant(value), nil
}

// property returns a property's value, nil if there is none; l.mu is held.
func (l *Logind) property(name string) any {
	switch name {
	case "PreparingForShutdown":
		return l.preparing
	case "ScheduledShutdown":
		if l.shutdown.Type == "" {
			return scheduled{"", math.MaxUint64}
		}
		return scheduled{l.shutdown.Type, uint64(l.shutdown.At.UnixMicro())}
	case "WallMessage":
		return l.message
	case "BlockInhibited":
		return l.inhibited("block")
	case "BlockWeakInhibited":
		if l.version >= 257 {
			return l.inhibited("block-weak")
		}
	}
	return nil
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
