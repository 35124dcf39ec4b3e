package systemd

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// maxText bounds the text of a unit's status in bytes.
const maxText = 300

// JobError says that a unit was not started.
type JobError struct {
	Unit   string
	Result string       // of the job: "failed", "dependency", "timeout", "canceled", ...; "lost" if it is unknown
	Failed []FailedUnit // what failed, of the unit and the units that it pulls in
}

// FailedUnit is a unit that failed.
type FailedUnit struct {
	Name   string
	Result string // of a service: "exit-code", "signal", "timeout", ...; or "not-found", "masked", "bad-setting", "failed"
	Status int    // the exit status or the signal of the service's main process
	Text   string // the last status that the service reported, printable and bounded
}

func (e *JobError) Error() string {
	if len(e.Failed) == 0 {
		return e.Unit + " " + e.what()
	}
	var texts []string
	for _, f := range e.Failed {
		texts = append(texts, f.String())
	}
	if len(e.Failed) == 1 && e.Failed[0].Name == e.Unit {
		return texts[0]
	}
	return e.Unit + ": " + safetext.List(texts)
}

// what says what a job's result means, see systemd.unit(5) and the signal JobRemoved in org.freedesktop.systemd1(5).
func (e *JobError) what() string {
	switch e.Result {
	case "timeout":
		return "did not start in time"
	case "canceled":
		return "did not start: its start was cancelled, or it was stopped"
	case "dependency":
		return "did not start: a unit that it requires failed"
	case "lost":
		return "may not have started: systemd's report about it was lost"
	}
	return fmt.Sprintf("did not start: the result of its job is %q", safetext.Clean(e.Result))
}

// String says what happened, as in "drain.service failed with exit status 3: cannot reach the balancer".
func (f FailedUnit) String() string {
	text := safetext.Clean(f.Name) + " " + f.what()
	if f.Text != "" {
		text += ": " + f.Text
	}
	return text
}

func (f FailedUnit) what() string {
	switch f.Result {
	case "exit-code":
		return fmt.Sprintf("failed with exit status %d", f.Status)
	case "signal":
		return "was killed by " + signalName(f.Status)
	case "core-dump":
		return "crashed with " + signalName(f.Status)
	case "timeout":
		return "did not finish in time"
	case "watchdog":
		return "was silent for longer than its WatchdogSec= allows"
	case "start-limit-hit":
		return "was started too often (StartLimitBurst=)"
	case "oom-kill":
		return "was killed because memory ran out"
	case "not-found":
		return "does not exist"
	case "masked":
		return "is masked"
	case "bad-setting":
		return "has a mistake in its unit file, see systemctl status"
	case "failed":
		return "failed"
	}
	return fmt.Sprintf("failed (%s)", safetext.Clean(f.Result))
}

func signalName(number int) string {
	if name := unix.SignalName(unix.Signal(number)); name != "" {
		return fmt.Sprintf("signal %d (%s)", number, name)
	}
	return fmt.Sprintf("signal %d", number)
}

// loaded reports whether systemd could load the unit.
func (f FailedUnit) loaded() bool {
	switch f.Result {
	case "not-found", "masked", "bad-setting", "error":
		return false
	}
	return true
}

// failed returns what failed since a time, of a unit and the units that it requires, and what failed before. A unit
// about which systemd does not answer is left out.
func (m *manager) failed(ctx context.Context, unit string, since uint64) (now, before []FailedUnit) {
	all := func(string) bool { return true }
	_ = m.walk(ctx, unit, required, all, func(name string, path dbus.ObjectPath) error {
		f, err := m.result(ctx, name)
		if err != nil || f.Result == "success" {
			return nil
		}
		if at, err := unitProperty[uint64](ctx, m, path, "StateChangeTimestampMonotonic"); f.loaded() && (err != nil || at < since) {
			before = append(before, f)
		} else {
			now = append(now, f)
		}
		return nil
	})
	return now, before
}

// result returns what became of a unit; its Result is "success" if it did not fail.
func (m *manager) result(ctx context.Context, unit string) (FailedUnit, error) {
	f := FailedUnit{Name: unit, Result: "success"}
	var path dbus.ObjectPath
	if err := m.call(ctx, "LoadUnit", []any{unit}, &path); err != nil {
		return f, err
	}
	load, err := unitProperty[string](ctx, m, path, "LoadState")
	if err != nil {
		return f, err
	}
	if load != "loaded" {
		f.Result = load
		return f, nil
	}
	state, err := unitProperty[string](ctx, m, path, "ActiveState")
	if err != nil {
		return f, err
	}
	if state == "failed" {
		f.Result = "failed"
	}
	if !strings.HasSuffix(unit, ".service") {
		return f, nil
	}
	service := m.conn.Object(managerName, path)
	var result, text string
	var status int32
	for name, to := range map[string]any{"Result": &result, "ExecMainStatus": &status, "StatusText": &text} {
		if err := readProperty(ctx, service, managerName+".Service", name, to); err != nil {
			return f, err
		}
	}
	if result != "success" {
		f.Result = result
	}
	f.Status, f.Text = int(status), safetext.Cut(text, maxText)
	return f, nil
}
