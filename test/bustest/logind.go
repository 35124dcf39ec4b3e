package bustest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// logind's place on the bus.
const (
	LogindName = "org.freedesktop.login1"
	LogindPath = dbus.ObjectPath("/org/freedesktop/login1")

	managerInterface = "org.freedesktop.login1.Manager"
	sessionInterface = "org.freedesktop.login1.Session"

	// systemd's, see StartUnit.
	systemdName         = "org.freedesktop.systemd1"
	systemdPath         = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdInterface    = "org.freedesktop.systemd1.Manager"
	unitPath            = systemdPath + "/unit/locksmithd_2eservice"
	jobPath             = systemdPath + "/job/7"
	propertiesInterface = "org.freedesktop.DBus.Properties"
)

// Session is a session as logind shows it. Zero values of Class and
// State stand for "user" and "active".
type Session struct {
	ID     string
	UID    uint32
	Name   string // login name
	Seat   string
	TTY    string
	Class  string
	State  string
	Remote bool
	Lies   map[string]any // properties that are not what the rest says; nil for a missing one

	vanished bool // see Vanish
}

// Inhibitor is an inhibitor as logind shows it. Zero values of What and Mode
// stand for "shutdown" and "block".
type Inhibitor struct {
	What, Who, Why, Mode string
	UID, PID             uint32
}

// Shutdown is a scheduled shutdown; the zero one is none.
type Shutdown struct {
	Type    string
	At      time.Time
	Message string // what users are told
}

// RebootCall is a reboot that somebody asked for.
type RebootCall struct {
	Interactive bool
	Flags       uint64 // of RebootWithFlags
	Scheduled   bool   // it was scheduled before, see Execute
	Unit        string // systemd was asked to start this, and not logind
	Sender      string // unique name on the bus
	At          time.Time
	Accepted    bool // neither a fault nor an inhibitor was in the way when it came
}

// Flags of RebootWithFlags.
const (
	rootCheckInhibitors = 1 << 0
	skipInhibitors      = 1 << 4 // from version 257 on
)

// Logind stands in for systemd-logind, whose callers are all root to it, and for as much
// of systemd itself as reboots a host. The
// method names for its Faults are those of the manager ("ListSessions",
// "ScheduleShutdown") and of its properties ("PreparingForShutdown"), "Reboot"
// for RebootWithFlags as well, "StartUnit", "GetUnitByPID", "SystemState", "Job" and
// "JobType" for systemd's, and "Session" for reading the
// properties of a session. Its methods are safe for concurrent use.
type Logind struct {
	Faults
	bus       *Bus
	reboots   chan RebootCall
	schedules chan Shutdown

	mu         sync.Mutex
	version    int
	conn       *dbus.Conn // nil while it is off the bus
	sessions   []Session
	own        string            // session of all callers
	processes  map[uint32]string // sessions of others
	inhibitors []Inhibitor
	shutdown   Shutdown
	message    string // it stays when the shutdown is cancelled
	preparing  bool
	rule       bool   // polkit lets root skip inhibitors
	stopping   bool   // systemd reboots
	job        string // of the callers' unit
	lies       map[string][]any
}

// NewLogind returns a Logind that is not on the bus yet: see Appear.
func NewLogind(bus *Bus) *Logind {
	return &Logind{
		bus:       bus,
		reboots:   make(chan RebootCall, 1024),
		schedules: make(chan Shutdown, 1024),
		version:   252,
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
	err = errors.Join(l.exportManager(), l.exportSessions())
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

// Leave drops the connection. Who calls logind after that finds nobody; calls
// under way get no reply.
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

// Restart ends it and starts it anew. What is scheduled it restores as the real one does: before
// version 257 not at all, and from then on with every blank of the message escaped.
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

// Close takes it off the bus for good.
func (l *Logind) Close() error {
	l.healAll()
	return l.Leave()
}

// Reboots returns the reboots that were asked for, refused ones included, as
// they come. A call that hangs is here before it is answered.
func (l *Logind) Reboots() <-chan RebootCall { return l.reboots }

// SetVersion makes it behave as the logind of a systemd version does, in what
// differs: before 246 there is no RebootWithFlags, from 257 on inhibitors block
// root as well, also one who asks to skip them, and there is the mode block-weak. From 258
// on the refusals have a name of their own. It is 252 at first.
func (l *Logind) SetVersion(version int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version = version
	return l.exportManager()
}

// LetRootSkip installs a rule of polkit's by which root may skip inhibitors from 257 on.
func (l *Logind) LetRootSkip() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule = true
}

// Answer makes a method of the manager, or the reading of a property, answer
// with these values from now on, whatever their types are. Without values a
// property is missing.
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
		return fmt.Errorf("show logind: %w", err)
	}
	if err := l.conn.ExportMethodTable(map[string]any{"Get": l.managerProperty}, LogindPath, propertiesInterface); err != nil {
		return fmt.Errorf("show logind's properties: %w", err)
	}
	for iface, methods := range map[string]map[string]any{
		systemdInterface:    {"StartUnit": l.startUnit, "GetUnitByPID": l.unitByPID},
		propertiesInterface: {"Get": l.systemdProperty},
	} {
		if err := l.conn.ExportMethodTable(methods, systemdPath, iface); err != nil {
			return fmt.Errorf("show systemd: %w", err)
		}
	}
	for _, path := range []dbus.ObjectPath{unitPath, jobPath} {
		if err := l.conn.ExportMethodTable(map[string]any{"Get": l.systemdProperty}, path, propertiesInterface); err != nil {
			return fmt.Errorf("show systemd's units: %w", err)
		}
	}
	return nil
}

// answering returns a function that takes what method takes and returns values.
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

// SetInhibitors replaces all inhibitors.
func (l *Logind) SetInhibitors(inhibitors ...Inhibitor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inhibitors = nil
	for _, i := range inhibitors {
		i.What, i.Mode = or(i.What, "shutdown"), or(i.Mode, "block")
		l.inhibitors = append(l.inhibitors, i)
	}
}

// Schedules returns the shutdowns that were scheduled over the bus, as they come.
func (l *Logind) Schedules() <-chan Shutdown { return l.schedules }

// Shutdown returns the shutdown that is scheduled now.
func (l *Logind) Shutdown() Shutdown {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shutdown
}

// SetShutdown schedules a shutdown, as a user does with shutdown(8), or cancels
// it, as one does with "shutdown -c".
func (l *Logind) SetShutdown(s Shutdown) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shutdown, l.message = s, s.Message
}

// Execute does what is scheduled, as if its time had come.
func (l *Logind) Execute() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutdown.Type != "reboot" {
		return fmt.Errorf("execute a scheduled reboot: %q is scheduled", l.shutdown.Type)
	}
	l.begin()
	l.tell(RebootCall{Scheduled: true, At: time.Now(), Accepted: true})
	return nil
}

// SetOwnSession says which session callers belong to, "" for none.
func (l *Logind) SetOwnSession(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own = id
}

// SetSessionOf says which session a process belongs to that is not the caller.
func (l *Logind) SetSessionOf(pid uint32, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes[pid] = id
}

// SetSessions replaces all sessions.
func (l *Logind) SetSessions(sessions ...Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = slices.Clone(sessions)
	if l.conn == nil {
		return nil
	}
	return l.exportSessions()
}

// Vanish lets a session's object disappear while ListSessions still names it,
// as happens when it ends in between.
func (l *Logind) Vanish(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.sessions {
		if s.ID == id {
			l.sessions[i].vanished = true
			return nil
		}
	}
	return fmt.Errorf("let session %s vanish: there is none", id)
}

// SetPreparing sets the property PreparingForShutdown and emits
// PrepareForShutdown. Accepting a reboot does the same with true. With false it
// is as after a boot: nothing is scheduled.
func (l *Logind) SetPreparing(preparing bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.preparing = preparing
	if !preparing {
		l.shutdown, l.message, l.stopping = Shutdown{}, "", false
	}
	if l.conn == nil {
		return nil
	}
	return emit(l.conn, LogindPath, managerInterface+".PrepareForShutdown", preparing)
}

func (l *Logind) reboot(sender dbus.Sender, interactive bool) *dbus.Error {
	return l.rebootCall(RebootCall{Interactive: interactive, Sender: string(sender)})
}

func (l *Logind) rebootWithFlags(sender dbus.Sender, flags uint64) *dbus.Error {
	l.mu.Lock()
	known := uint64(rootCheckInhibitors)
	if l.version >= 257 {
		known |= skipInhibitors
	}
	l.mu.Unlock()
	if flags&^known != 0 { // not a reboot that anybody asked for
		return dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"Invalid flags parameter"})
	}
	return l.rebootCall(RebootCall{Flags: flags, Sender: string(sender)})
}

func (l *Logind) rebootCall(call RebootCall) *dbus.Error {
	call.At = time.Now()
	l.mu.Lock()
	fault, refusal := l.at("Reboot"), l.refusal(call.Flags)
	if call.Accepted = fault == nil && refusal == nil; call.Accepted {
		l.begin() // first: whoever is told of the call may boot the host at once
	}
	l.tell(call)
	l.mu.Unlock()
	if fault == nil {
		return refusal
	}
	failure := cmp.Or(fault.suffer(), refusal) // as it was told, though it may be healed since
	if failure == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.begin()
	}
	return failure
}

// startUnit is systemd's, which asks neither logind nor inhibitors.
func (l *Logind) startUnit(sender dbus.Sender, unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	if unit != "reboot.target" || mode != "replace-irreversibly" {
		return "", dbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"Unit " + unit + " not found."})
	}
	l.mu.Lock()
	fault := l.at("StartUnit")
	l.stopping = l.stopping || fault == nil
	l.tell(RebootCall{Unit: unit, Sender: string(sender), At: time.Now(), Accepted: fault == nil})
	l.mu.Unlock()
	if fault != nil {
		if failure := fault.suffer(); failure != nil {
			return "", failure
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stopping = true
	}
	return systemdPath + "/job/1", nil
}

// SetUnitJob sets the job that systemd has for the one unit that all callers belong to, such as
// "restart"; "" for none.
func (l *Logind) SetUnitJob(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.job = kind
}

// SetStopping has systemd shut the system down without logind, as for Ctrl-Alt-Del, or not.
func (l *Logind) SetStopping(stopping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = stopping
}

func (l *Logind) unitByPID(uint32) (dbus.ObjectPath, *dbus.Error) {
	return unitPath, l.suffer("GetUnitByPID")
}

func (l *Logind) systemdProperty(iface, property string) (dbus.Variant, *dbus.Error) {
	if failure := l.suffer(property); failure != nil {
		return dbus.Variant{}, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch iface + "." + property {
	case systemdInterface + ".SystemState":
		if l.stopping || l.preparing {
			return dbus.MakeVariant("stopping"), nil
		}
		return dbus.MakeVariant("running"), nil
	case systemdName + ".Unit.Job":
		if l.job == "" {
			return dbus.MakeVariant(jobRef{0, "/"}), nil
		}
		return dbus.MakeVariant(jobRef{7, jobPath}), nil
	case systemdName + ".Job.JobType":
		if l.job != "" {
			return dbus.MakeVariant(l.job), nil
		}
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + property})
}

type jobRef struct {
	ID   uint32
	Path dbus.ObjectPath
}

// refusal says what logind itself has against a shutdown with these flags, as tried on
// 252, 257 and 262; l.mu is held.
func (l *Logind) refusal(flags uint64) *dbus.Error {
	for _, i := range l.inhibitors {
		skip := flags&skipInhibitors != 0
		switch {
		case !strings.Contains(i.What, "shutdown") || i.Mode == "delay":
		case l.version >= 257 && i.Mode == "block" && skip && !l.rule:
			return dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Permission denied"})
		case skip:
		case l.version == 257 && i.Mode == "block":
			return dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Access denied due to active block inhibitor"})
		case i.Mode == "block" && l.version > 257, flags&rootCheckInhibitors != 0 && i.UID != 0: // its own are not in root's way
			return dbus.NewError("org.freedesktop.login1.BlockedByInhibitorLock", []any{"Operation denied due to active block inhibitor"})
		}
	}
	return nil
}

func (l *Logind) tell(call RebootCall) {
	select {
	case l.reboots <- call:
	default:
	}
}

// begin shuts down. The real one shows what it does as if it were scheduled,
// for a time that says nothing. l.mu is held.
func (l *Logind) begin() {
	l.preparing = true
	l.shutdown = Shutdown{Type: "reboot", At: time.Unix(0, 0), Message: l.message}
	if l.conn != nil {
		_ = l.conn.Emit(LogindPath, managerInterface+".PrepareForShutdown", true)
	}
}

func (l *Logind) scheduleShutdown(kind string, usec uint64) *dbus.Error {
	if failure := l.suffer("ScheduleShutdown"); failure != nil {
		return failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if refusal := l.refusal(0); refusal != nil {
		return refusal
	}
	l.shutdown = Shutdown{Type: kind, At: time.UnixMicro(int64(usec)), Message: l.message}
	select {
	case l.schedules <- l.shutdown:
	default:
	}
	return nil
}

func (l *Logind) cancelScheduledShutdown() (bool, *dbus.Error) {
	if failure := l.suffer("CancelScheduledShutdown"); failure != nil {
		return false, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	cancelled := l.shutdown.Type != ""
	l.shutdown = Shutdown{}
	return cancelled, nil
}

func (l *Logind) setWallMessage(message string, _ bool) *dbus.Error {
	if failure := l.suffer("SetWallMessage"); failure != nil {
		return failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.message = message
	return nil
}

func (l *Logind) listInhibitors() ([]Inhibitor, *dbus.Error) {
	if failure := l.suffer("ListInhibitors"); failure != nil {
		return nil, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Inhibitor{}, l.inhibitors...), nil
}

// sessionByPID takes 0 for the caller, whose process it does not ask for.
func (l *Logind) sessionByPID(pid uint32) (dbus.ObjectPath, *dbus.Error) {
	if failure := l.suffer("GetSessionByPID"); failure != nil {
		return "", failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.own
	if pid != 0 {
		id = l.processes[pid]
	}
	if id == "" {
		return "", dbus.NewError("org.freedesktop.login1.NoSessionForPID", []any{"Caller does not belong to any known session."})
	}
	return sessionPath(id), nil
}

type listedSession struct {
	ID   string
	UID  uint32
	Name string
	Seat string
	Path dbus.ObjectPath
}

func (l *Logind) listSessions() ([]listedSession, *dbus.Error) {
	if failure := l.suffer("ListSessions"); failure != nil {
		return nil, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []listedSession{}
	for _, s := range l.sessions {
		list = append(list, listedSession{s.ID, s.UID, s.Name, s.Seat, sessionPath(s.ID)})
	}
	return list, nil
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

type scheduled struct {
	Type string
	Usec uint64
}

// inhibited lists what inhibitors of a mode inhibit; l.mu is held.
func (l *Logind) inhibited(mode string) string {
	var what []string
	for _, i := range l.inhibitors {
		if i.Mode == mode {
			what = append(what, strings.Split(i.What, ":")...)
		}
	}
	slices.Sort(what)
	return strings.Join(slices.Compact(what), ":")
}

// exportSessions puts the objects of the sessions on the bus. They stay there: what
// they answer depends on the sessions that there are by then. l.mu is held.
func (l *Logind) exportSessions() error {
	for _, s := range l.sessions {
		err := l.conn.ExportMethodTable(map[string]any{
			"GetAll": func(string) (map[string]dbus.Variant, *dbus.Error) { return l.session(s.ID) },
			"Get": func(_, name string) (dbus.Variant, *dbus.Error) {
				properties, failure := l.session(s.ID)
				return properties[name], failure
			},
		}, sessionPath(s.ID), propertiesInterface)
		if err != nil {
			return fmt.Errorf("show session %s: %w", s.ID, err)
		}
	}
	return nil
}

// session returns the properties of a session.
func (l *Logind) session(id string) (map[string]dbus.Variant, *dbus.Error) {
	if failure := l.suffer("Session"); failure != nil {
		return nil, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sessions {
		if s.ID == id && !s.vanished {
			return s.properties(), nil
		}
	}
	return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object."})
}

func (s Session) properties() map[string]dbus.Variant {
	state := or(s.State, "active")
	properties := map[string]dbus.Variant{
		"Id":     dbus.MakeVariant(s.ID),
		"User":   dbus.MakeVariant(userRef{s.UID, dbus.ObjectPath("/org/freedesktop/login1/user/_" + strconv.Itoa(int(s.UID)))}),
		"Name":   dbus.MakeVariant(s.Name),
		"TTY":    dbus.MakeVariant(s.TTY),
		"Class":  dbus.MakeVariant(or(s.Class, "user")),
		"State":  dbus.MakeVariant(state),
		"Type":   dbus.MakeVariant("tty"),
		"Active": dbus.MakeVariant(state == "active"),
		"Remote": dbus.MakeVariant(s.Remote),
	}
	for name, value := range s.Lies {
		if delete(properties, name); value != nil {
			properties[name] = dbus.MakeVariant(value)
		}
	}
	return properties
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

type userRef struct {
	UID  uint32
	Path dbus.ObjectPath
}

// sessionPath escapes an id the way systemd does: what is not a letter, or is
// a digit in first place, becomes _ and its code.
func sessionPath(id string) dbus.ObjectPath {
	path := []byte("/org/freedesktop/login1/session/")
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9'
		if letter || digit && i > 0 {
			path = append(path, c)
		} else {
			path = fmt.Appendf(path, "_%02x", c)
		}
	}
	return dbus.ObjectPath(path)
}
