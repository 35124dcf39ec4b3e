package bustest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Unit is what systemd knows about a unit that is no part of the reboot. It stops as soon as it has started: like a
// service of type oneshot, or a target that nobody needs.
type Unit struct {
	// Requires and Wants name the units that are started with it, and before it. One that is required has to succeed.
	Requires, Wants []string

	// Run is what a service does; nil is nothing. An exit status other than 0 is a failure. Status is its STATUS=.
	// ctx ends when the unit is stopped, which waits for Run.
	Run func(ctx context.Context) (exit int, status string)

	Skipped bool // a condition does not hold
	Masked  bool
	Needed  bool // something else starts and needs it, too: without StopWhenUnneeded=
	Stays   bool // is active after its start
}

// Exits returns what a service does that ends at once.
func Exits(exit int, status string) func(context.Context) (int, string) {
	return func(context.Context) (int, string) { return exit, status }
}

// Hangs is what a service does that does not end before it is stopped.
func Hangs(ctx context.Context) (int, string) {
	<-ctx.Done()
	return 0, ""
}

// unit is a Unit and its state; l.mu guards it.
type unit struct {
	Unit
	job     *job // nil for none
	state   string
	stop    context.CancelFunc // of what runs
	changed uint64             // µs
	entered uint64             // when it was active last, µs
	exit    int
	status  string
	met     bool // its conditions
	at      uint64
}

// job is a job of systemd.
type job struct {
	id     uint32
	unit   string
	kind   string
	result string        // "" until it has ended
	ended  chan struct{} // closed then
}

func (j *job) path() dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("%s/job/%d", systemdPath, j.id))
}

// SetUnit makes a unit exist, or changes it. It starts nothing, and what runs already goes on.
func (l *Logind) SetUnit(name string, u Unit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.units[name]; old != nil {
		old.Unit = u
		return
	}
	if l.units == nil {
		l.units = map[string]*unit{}
	}
	l.units[name] = &unit{Unit: u, state: "inactive"}
}

// RemoveUnit makes a unit not exist.
func (l *Logind) RemoveUnit(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.units, name)
}

// Started returns the names of the units of SetUnit whose Run began, in order.
func (l *Logind) Started() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.started)
}

// UnitState returns whether a unit is "active", "inactive", "activating" or "failed"; "" if it does not exist.
func (l *Logind) UnitState(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[name]; u != nil {
		return u.state
	}
	return ""
}

// LoseJobs makes systemd send no signals about the ends of jobs from now on, or send them again.
func (l *Logind) LoseJobs(lose bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = lose
}

// StopUnits stops what runs, as the end of the host does, and waits for the ends of all jobs. Nothing is active or
// failed then.
func (l *Logind) StopUnits() {
	for {
		l.mu.Lock()
		var busy *job
		for _, u := range l.units {
			if u.stop != nil {
				u.stop()
			}
			if u.job != nil {
				busy = u.job
			}
		}
		if busy == nil {
			for _, u := range l.units {
				u.state, u.exit, u.status = "inactive", 0, ""
			}
		}
		l.mu.Unlock()
		if busy == nil {
			return
		}
		<-busy.ended
	}
}

// startUnit starts a unit. For a target that reboots it asks neither logind nor inhibitors, like systemd itself.
func (l *Logind) startUnit(sender dbus.Sender, name, mode string) (dbus.ObjectPath, *dbus.Error) {
	if slices.Contains([]string{"reboot.target", "soft-reboot.target", "kexec.target"}, name) && mode == "replace-irreversibly" {
		return l.startReboot(sender, name)
	}
	if failure := l.suffer("StartUnit"); failure != nil {
		return "", failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if failure := l.startable(name, map[string]bool{}); failure != nil {
		return "", failure
	}
	return l.enqueue(name).path(), nil
}

// startable returns the error for a unit that, or whose requirement, cannot be started; l.mu is held.
func (l *Logind) startable(name string, seen map[string]bool) *dbus.Error {
	u := l.units[name]
	switch {
	case u == nil:
		return dbus.NewError(systemdName+".NoSuchUnit", []any{"Unit " + name + " not found."})
	case u.Masked:
		return dbus.NewError(systemdName+".UnitMasked", []any{"Unit " + name + " is masked."})
	}
	seen[name] = true
	for _, required := range u.Requires {
		if !seen[required] {
			if failure := l.startable(required, seen); failure != nil {
				return failure
			}
		}
	}
	return nil
}

// enqueue returns the job that starts a unit, with jobs for what it pulls in; l.mu is held.
func (l *Logind) enqueue(name string) *job {
	u := l.units[name]
	if u.job != nil && u.job.kind == "start" {
		return u.job
	}
	j := l.newJob(u, name, "start")
	if u.state == "active" {
		l.finish(u, j, "done", "active")
		return j
	}
	u.status, u.exit = "", 0
	l.set(u, "activating")
	ctx, cancel := context.WithCancel(context.Background())
	u.stop = cancel
	var required, wanted []*job
	for _, other := range u.Requires {
		required = append(required, l.enqueue(other))
	}
	for _, other := range u.Wants {
		if o := l.units[other]; o != nil && !o.Masked {
			wanted = append(wanted, l.enqueue(other))
		}
	}
	go l.work(ctx, name, u, j, required, wanted)
	return j
}

// work carries a start job out. The first requirement that fails ends it; the others go on.
func (l *Logind) work(ctx context.Context, name string, u *unit, j *job, required, wanted []*job) {
	ends := make(chan bool, len(required)+len(wanted))
	for i, other := range slices.Concat(required, wanted) {
		go func() {
			<-other.ended
			ends <- i >= len(required) || other.result == "done" || other.result == "skipped"
		}()
	}
	for range cap(ends) {
		select {
		case ok := <-ends:
			if !ok {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.finish(u, j, "dependency", "inactive")
				return
			}
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	u.met, u.at = !u.Skipped, microseconds()
	run := u.Run
	if ctx.Err() != nil || u.Skipped {
		run = nil
	} else if run != nil {
		l.started = append(l.started, name)
	}
	l.mu.Unlock()
	exit, status := 0, ""
	if run != nil {
		exit, status = run(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u.exit, u.status = exit, status
	switch {
	case ctx.Err() != nil:
		l.finish(u, j, "canceled", "inactive")
	case u.Skipped:
		l.finish(u, j, "skipped", "inactive")
	case exit != 0:
		l.finish(u, j, "failed", "failed")
	default:
		after := "inactive"
		if u.Stays {
			after = "active"
		}
		if u.Stays || strings.HasSuffix(name, ".target") { // a service of type oneshot is never active
			u.entered = microseconds()
		}
		l.finish(u, j, "done", after)
	}
}

// stopUnit stops a unit, which ends a start of it.
func (l *Logind) stopUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	if failure := l.suffer("StopUnit"); failure != nil {
		return "", failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[name]
	if u == nil {
		return "", dbus.NewError(systemdName+".NoSuchUnit", []any{"Unit " + name + " not loaded."})
	}
	starting := u.job
	if u.stop != nil {
		u.stop()
	}
	j := &job{kind: "stop", unit: name, ended: make(chan struct{})}
	l.addJob(j)
	go func() {
		if starting != nil {
			<-starting.ended
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		state := u.state
		if u.job == nil && state == "active" {
			state = "inactive"
		}
		l.finish(u, j, "done", state)
	}()
	return j.path(), nil
}

// cancelJob ends a job. As with systemd, what it pulled in goes on.
func (l *Logind) cancelJob(id uint32) *dbus.Error {
	if failure := l.suffer("CancelJob"); failure != nil {
		return failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs[id]
	if j == nil {
		return dbus.NewError(systemdName+".NoSuchJob", []any{fmt.Sprintf("Job %d does not exist.", id)})
	}
	if u := l.units[j.unit]; u != nil && u.stop != nil {
		u.stop()
	}
	return nil
}

// newJob makes the job of a unit; l.mu is held.
func (l *Logind) newJob(u *unit, name, kind string) *job {
	j := &job{kind: kind, unit: name, ended: make(chan struct{})}
	l.addJob(j)
	u.job = j
	return j
}

// addJob numbers a job; l.mu is held.
func (l *Logind) addJob(j *job) {
	if l.jobs == nil {
		l.jobs, l.lastJob = map[uint32]*job{}, 100
	}
	l.lastJob++
	j.id = l.lastJob
	l.jobs[j.id] = j
}

// finish ends a job, and leaves its unit in a state; l.mu is held.
func (l *Logind) finish(u *unit, j *job, result, state string) {
	delete(l.jobs, j.id)
	if u.job == j {
		u.job, u.stop = nil, nil
	}
	if u.state != state {
		l.set(u, state)
	}
	j.result = result
	close(j.ended)
	if l.conn != nil && !l.silent && l.subscribed {
		// An error means that the bus is gone.
		_ = l.conn.Emit(systemdPath, systemdInterface+".JobRemoved", j.id, j.path(), j.unit, result)
	}
}

func (l *Logind) set(u *unit, state string) { u.state, u.changed = state, microseconds() }

// loadUnit returns the path of a unit, whether it exists or not.
func (l *Logind) loadUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	if failure := l.suffer("LoadUnit"); failure != nil {
		return "", failure
	}
	return unitPathOf(name), nil
}

// getUnit returns the path of a unit that exists.
func (l *Logind) getUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	if failure := l.suffer("GetUnit"); failure != nil {
		return "", failure
	}
	if l.UnitState(name) == "" {
		return "", dbus.NewError(systemdName+".NoSuchUnit", []any{"Unit " + name + " not loaded."})
	}
	return unitPathOf(name), nil
}

func (l *Logind) subscribe() *dbus.Error {
	failure := l.suffer("Subscribe")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subscribed = l.subscribed || failure == nil
	return failure
}

// resetFailedUnit makes a failed unit inactive.
func (l *Logind) resetFailedUnit(name string) *dbus.Error {
	if failure := l.suffer("ResetFailedUnit"); failure != nil {
		return failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[name]
	if u == nil {
		return dbus.NewError(systemdName+".NoSuchUnit", []any{"Unit " + name + " not loaded."})
	}
	if u.state == "failed" {
		u.exit = 0
		l.set(u, "inactive")
	}
	return nil
}

// objectProperty answers for the units of SetUnit and for jobs.
func (l *Logind) objectProperty(message dbus.Message, iface, property string) (dbus.Variant, *dbus.Error) {
	if failure := l.suffer(property); failure != nil {
		return dbus.Variant{}, failure
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	path, _ := message.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	if strings.HasPrefix(string(path), string(systemdPath)+"/job/") {
		for j := range maps.Values(l.jobs) {
			if j.path() == path && property == "JobType" {
				return dbus.MakeVariant(j.kind), nil
			}
		}
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object '" + string(path) + "'."})
	}
	u := &unit{state: "inactive"}
	load := "not-found"
	for name, known := range l.units {
		if unitPathOf(name) != path {
			continue
		}
		u, load = known, "loaded"
		if u.Masked {
			load = "masked"
		}
	}
	value := u.property(iface, property, load)
	if value == nil {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"Unknown property " + property})
	}
	return dbus.MakeVariant(value), nil
}

// property returns the value of a property, nil if there is none.
func (u *unit) property(iface, name, load string) any {
	switch iface + "." + name {
	case systemdName + ".Unit.LoadState":
		return load
	case systemdName + ".Unit.ActiveState":
		return u.state
	case systemdName + ".Unit.Job":
		if u.job == nil {
			return jobRef{0, "/"}
		}
		return jobRef{u.job.id, u.job.path()}
	case systemdName + ".Unit.Requires":
		return append([]string{}, u.Requires...)
	case systemdName + ".Unit.Wants":
		return append([]string{}, u.Wants...)
	case systemdName + ".Unit.BindsTo", systemdName + ".Unit.Upholds":
		return []string{}
	case systemdName + ".Unit.StopWhenUnneeded":
		return !u.Needed
	case systemdName + ".Unit.StateChangeTimestampMonotonic":
		return u.changed
	case systemdName + ".Unit.ActiveEnterTimestampMonotonic":
		return u.entered
	case systemdName + ".Unit.ConditionTimestampMonotonic":
		return u.at
	case systemdName + ".Unit.ConditionResult":
		return u.met
	case systemdName + ".Service.Result":
		if u.exit != 0 {
			return "exit-code"
		}
		return "success"
	case systemdName + ".Service.ExecMainStatus":
		return int32(u.exit)
	case systemdName + ".Service.StatusText":
		return u.status
	}
	return nil
}

// unitPathOf escapes the name of a unit as systemd does.
func unitPathOf(name string) dbus.ObjectPath {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return systemdPath + "/unit/" + dbus.ObjectPath(b.String())
}

// microseconds is the clock of systemd's properties.
func microseconds() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return uint64(time.Now().UnixMicro())
	}
	return uint64(now.Nano() / 1000)
}
