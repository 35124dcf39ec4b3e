package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/safetext"
)

const (
	// pollInterval is the time between two looks at a job whose end systemd reports by a signal.
	pollInterval = 2 * time.Second
	// stopTimeout bounds Start after the end of its context, and the reading of what failed.
	stopTimeout = 10 * time.Second
	// maxUnits bounds the units that one call looks at.
	maxUnits = 200
)

// manager is the service manager during one call of Units.
type manager struct {
	connect func(context.Context) (*dbus.Conn, error)
	poll    time.Duration
	conn    *dbus.Conn
	signals chan *dbus.Signal // closed with conn
}

// manager connects to the service manager.
func (u Units) manager(ctx context.Context) (*manager, error) {
	m := &manager{connect: u.Connect, poll: u.poll}
	if m.connect == nil {
		m.connect = ConnectSystemBus
	}
	if m.poll == 0 {
		m.poll = pollInterval
	}
	return m, m.dial(ctx)
}

// caller returns the service manager for calls that need no signals. done ends that.
func (u Units) caller(ctx context.Context) (m *manager, done func(), err error) {
	if u.Calls != nil {
		return &manager{conn: u.Calls}, func() {}, nil
	}
	if m, err = u.manager(ctx); err != nil {
		return nil, nil, err
	}
	return m, m.close, nil
}

// dial connects, and asks for the signals about the ends of jobs.
func (m *manager) dial(ctx context.Context) error {
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(managerName), dbus.WithMatchObjectPath(managerPath),
		dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("JobRemoved"))
	if err != nil {
		conn.Close()
		return fmt.Errorf("ask the bus for signals of systemd: %w", err)
	}
	m.conn, m.signals = conn, signals
	if err := m.call(ctx, "Subscribe", nil); err != nil {
		conn.Close()
		return fmt.Errorf("subscribe to signals of systemd: %w", err)
	}
	return nil
}

func (m *manager) close() { m.conn.Close() }

// alive connects again if the connection is lost.
func (m *manager) alive(ctx context.Context) error {
	if m.conn.Connected() {
		return nil
	}
	return m.dial(ctx)
}

// call calls a method of the manager.
func (m *manager) call(ctx context.Context, method string, args []any, results ...any) error {
	return call(ctx, m.conn.Object(managerName, managerPath), managerInterface+"."+method, args, results...)
}

// enqueue makes a job for a unit with StartUnit or StopUnit, and returns its path.
func (m *manager) enqueue(ctx context.Context, method, unit string) (job dbus.ObjectPath, err error) {
	return job, m.call(ctx, method, []any{unit, "replace"}, &job)
}

// load returns the path of a unit. The error matches ErrNoUnit if it does not exist or is masked.
func (m *manager) load(ctx context.Context, unit string) (path dbus.ObjectPath, err error) {
	var state string
	if err = m.call(ctx, "LoadUnit", []any{unit}, &path); err == nil {
		state, err = unitProperty[string](ctx, m, path, "LoadState")
	}
	if err != nil {
		return "", fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	if state == "not-found" || state == "masked" {
		return path, fmt.Errorf("%w: %s is %s", ErrNoUnit, unit, state)
	}
	return path, nil
}

// unitProperty reads a property that every unit has.
func unitProperty[T any](ctx context.Context, m *manager, path dbus.ObjectPath, name string) (value T, err error) {
	return value, readProperty(ctx, m.conn.Object(managerName, path), managerName+".Unit", name, &value)
}

// await waits until jobs have ended, and returns their results: "" for one whose result is lost. systemd reports it
// once, by a signal, which is missed while there is no connection. So await also looks for itself.
func (m *manager) await(ctx context.Context, jobs ...dbus.ObjectPath) (map[dbus.ObjectPath]string, error) {
	results := map[dbus.ObjectPath]string{}
	missing := map[dbus.ObjectPath]bool{} // jobs that were gone at the last look
	ticker := time.NewTicker(m.poll)
	defer ticker.Stop()
	var lost error
	for len(results) < len(jobs) {
		select {
		case <-ctx.Done():
			return results, errors.Join(context.Cause(ctx), lost)
		case s, ok := <-m.signals:
			if !ok {
				m.signals = nil // until alive
				continue
			}
			if job, result, ok := m.ended(ctx, s, jobs); ok {
				results[job] = result
			}
		case <-ticker.C:
			if lost = m.alive(ctx); lost != nil {
				continue
			}
			for _, job := range jobs {
				if _, known := results[job]; known {
					continue
				}
				var kind string
				err := readProperty(ctx, m.conn.Object(managerName, job), managerName+".Job", "JobType", &kind)
				switch {
				case !answered(err, errUnknownObject, errUnknownMethod):
					missing[job] = false // it runs, or nobody knows
				case missing[job]:
					results[job] = ""
				default:
					missing[job] = true // its signal may be on the way
				}
			}
		}
	}
	return results, nil
}

// ended returns which of these jobs has ended, and how, according to a signal. Anybody can send one.
func (m *manager) ended(ctx context.Context, s *dbus.Signal, jobs []dbus.ObjectPath) (job dbus.ObjectPath, result string, ok bool) {
	var id uint32
	var unit string
	if s.Name != managerInterface+".JobRemoved" || s.Path != managerPath || store(s.Body, &id, &job, &unit, &result) != nil ||
		!slices.Contains(jobs, job) || result == "" {
		return "", "", false
	}
	var owner string
	err := call(ctx, m.conn.BusObject(), "org.freedesktop.DBus.GetNameOwner", []any{managerName}, &owner)
	return job, result, err == nil && s.Sender == owner
}

// guess returns the result of a start whose signal was missed: "lost" if it may have been stopped, as a service of
// type oneshot that has ended.
func (m *manager) guess(ctx context.Context, unit string, since uint64) string {
	path, err := m.load(ctx, unit)
	if failed, _ := m.failed(ctx, unit, since); err != nil || len(failed) > 0 {
		return "failed"
	}
	state, err := unitProperty[string](ctx, m, path, "ActiveState")
	if err == nil && state == "active" {
		return "done"
	}
	if at, err := unitProperty[uint64](ctx, m, path, "ActiveEnterTimestampMonotonic"); err == nil && at >= since {
		return "done" // and has stopped since then
	}
	tried, err := unitProperty[uint64](ctx, m, path, "ConditionTimestampMonotonic")
	met, err2 := unitProperty[bool](ctx, m, path, "ConditionResult")
	if err == nil && err2 == nil && tried >= since && !met {
		return "skipped"
	}
	return "lost"
}

// abandon stops what a Start began and could not finish, and returns the error of that Start.
func (m *manager) abandon(ctx context.Context, unit string, spared []string, cause error) error {
	err := m.alive(ctx)
	for err != nil && ctx.Err() == nil { // the bus may be on its way back
		select {
		case <-time.After(m.poll):
		case <-ctx.Done():
		}
		err = m.alive(ctx)
	}
	var busy []string
	if err == nil {
		busy, err = m.busy(ctx, unit)
	}
	busy = slices.DeleteFunc(busy, func(name string) bool { return slices.Contains(spared, name) })
	cause = fmt.Errorf("start %s: %w%s", unit, cause, m.doing(ctx, busy))
	if err == nil {
		err = m.stop(ctx, busy)
	}
	if err != nil {
		return fmt.Errorf("%w; stop it: %w", cause, err)
	}
	return cause
}

// doing says what units were busy with, as far as it is known.
func (m *manager) doing(ctx context.Context, units []string) string {
	var texts []string
	for _, name := range units {
		if f, err := m.result(ctx, name); err == nil && f.Text != "" {
			texts = append(texts, name+": "+f.Text)
		} else if !strings.HasSuffix(name, ".target") {
			texts = append(texts, name)
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return " (still starting: " + safetext.List(texts) + ")"
}

// spared returns the units that a Start that does not finish has to leave alone: those that somebody else starts.
func (m *manager) spared(ctx context.Context, unit string) ([]string, error) {
	path, err := m.load(ctx, unit)
	if err != nil {
		return nil, err
	}
	if transient, err := unitProperty[bool](ctx, m, path, "StopWhenUnneeded"); err != nil || transient {
		return nil, err
	}
	return m.busy(ctx, unit)
}

// busy returns which are starting or stopping of a unit and the units that it pulls in, directly or through targets.
func (m *manager) busy(ctx context.Context, unit string) ([]string, error) {
	var busy []string
	targets := func(name string) bool { return strings.HasSuffix(name, ".target") }
	err := m.walk(ctx, unit, pulledIn, targets, func(name string, path dbus.ObjectPath) error {
		state, err := unitProperty[string](ctx, m, path, "ActiveState")
		var job []any
		if err == nil {
			job, err = unitProperty[[]any](ctx, m, path, "Job")
		}
		var id uint32
		var where dbus.ObjectPath
		if err == nil {
			err = store(job, &id, &where)
		}
		if err == nil && (state == "activating" || state == "deactivating" || id != 0) {
			busy = append(busy, name)
		}
		return err
	})
	return busy, err
}

// stop stops units and waits until they have stopped.
func (m *manager) stop(ctx context.Context, units []string) error {
	var jobs []dbus.ObjectPath
	var failed []error
	for _, name := range units {
		switch job, err := m.enqueue(ctx, "StopUnit", name); {
		case err == nil:
			jobs = append(jobs, job)
		case !answered(err, errNoSuchUnit):
			failed = append(failed, fmt.Errorf("stop %s: %w", name, err))
		}
	}
	_, err := m.await(ctx, jobs...)
	return errors.Join(append(failed, err)...)
}

// What a unit is related by to others: to those that it pulls in, and to those without which it is not started.
var (
	pulledIn = []string{"Requires", "Wants", "BindsTo", "Upholds"}
	required = []string{"Requires", "BindsTo"}
)

// walk calls visit for a unit and then for its relatives, of which follow says whether theirs count, too. Units that
// do not exist are visited, except the first.
func (m *manager) walk(ctx context.Context, unit string, relations []string, follow func(string) bool, visit func(string, dbus.ObjectPath) error) error {
	names := []string{unit}
	for i := 0; i < len(names) && i < maxUnits; i++ {
		path, err := m.load(ctx, names[i])
		if err != nil && (i == 0 || !errors.Is(err, ErrNoUnit)) {
			return err
		}
		if err := visit(names[i], path); err != nil {
			return fmt.Errorf("read %s: %w", names[i], err)
		}
		if i > 0 && !follow(names[i]) {
			continue
		}
		more, err := m.related(ctx, path, relations)
		if err != nil {
			return fmt.Errorf("read %s: %w", names[i], err)
		}
		for _, name := range more {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return nil
}

// related returns the relatives of a unit, without those that nearly every service has.
func (m *manager) related(ctx context.Context, path dbus.ObjectPath, relations []string) ([]string, error) {
	var names []string
	for _, property := range relations {
		more, err := unitProperty[[]string](ctx, m, path, property)
		if property == "Upholds" && answered(err, errUnknownProperty) { // before systemd 249
			continue
		}
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		kind := name[strings.LastIndexByte(name, '.')+1:]
		return slices.Contains([]string{"slice", "mount", "automount", "swap", "device"}, kind) ||
			slices.Contains([]string{"sysinit.target", "basic.target", "shutdown.target"}, name)
	})
	slices.Sort(names)
	return slices.Compact(names), nil
}

// monotonic returns the time in microseconds on the clock of systemd's properties.
func monotonic() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0 // every time is later
	}
	return uint64(now.Nano() / 1000)
}
