package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// ErrNoUnit marks the error for a unit that does not exist or is masked.
var ErrNoUnit = errors.New("there is no such unit")

// Units starts and stops units of systemd, see org.freedesktop.systemd1(5). Each call has a connection of its own,
// which nobody else's calls or signals delay. It is safe for concurrent use.
type Units struct {
	// Connect makes a connection, which the call closes: ConnectSystemBus.
	Connect func(context.Context) (*dbus.Conn, error)
	// Calls is the connection of a call that needs no signals; nil: it has one of its own.
	Calls *dbus.Conn

	poll time.Duration // 0: pollInterval
}

// Start starts a unit and waits until its job has ended. It returns nil if the unit was started, or if one of its
// conditions does not hold; a *JobError if it was not; and an error that matches ErrNoUnit if it does not exist.
//
// When ctx ends first, Start stops the unit and what it pulls in, as far as it is still starting, waits up to ten
// seconds for that, and returns an error that matches context.Cause(ctx). It leaves alone what was starting before
// the call. But the units of a target with StopWhenUnneeded=yes, which exists only to be started, are stopped
// whoever started them.
//
// After an error that is neither of these the unit may have been started, unless it matches ErrRefused.
func (u Units) Start(ctx context.Context, unit string) error {
	m, err := u.manager(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	defer m.close()
	spared, err := m.spared(ctx, unit)
	if err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	since := monotonic()
	var result string
	job, err := m.enqueue(ctx, "StartUnit", unit)
	if err == nil {
		var results map[dbus.ObjectPath]string
		results, err = m.await(ctx, job)
		result = results[job]
	}
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	switch {
	case err == nil && result == "":
		result = m.guess(cleaning, unit, since)
	case err != nil && ctx.Err() != nil:
		return m.abandon(cleaning, unit, spared, context.Cause(ctx))
	case errors.Is(err, ErrRefused):
		// systemd refuses, among others, a unit that requires one that does not exist.
		if broken, _ := m.failed(cleaning, unit, since); len(broken) > 0 {
			return &JobError{Unit: unit, Result: "invalid", Failed: broken}
		}
		return fmt.Errorf("start %s: %w", unit, err)
	case err != nil: // the outcome is unknown
		return m.abandon(cleaning, unit, spared, err)
	}
	if result == "done" || result == "skipped" {
		return nil
	}
	failed, before := m.failed(cleaning, unit, since)
	if len(failed) == 0 { // the job is older than this call
		failed = before
	}
	return &JobError{Unit: unit, Result: result, Failed: failed}
}

// Stop stops a unit, and what it pulls in as far as it is still starting or stopping, and waits for the end of both
// until ctx ends. A unit that does not exist is stopped already.
func (u Units) Stop(ctx context.Context, unit string) error {
	m, err := u.manager(ctx)
	if err != nil {
		return fmt.Errorf("stop %s: %w", unit, err)
	}
	defer m.close()
	busy, err := m.busy(ctx, unit)
	if err == nil {
		if !slices.Contains(busy, unit) {
			busy = append([]string{unit}, busy...)
		}
		err = m.stop(ctx, busy)
	}
	if err != nil && !errors.Is(err, ErrNoUnit) {
		return fmt.Errorf("stop %s: %w", unit, err)
	}
	return nil
}

// PullsIn returns the names of the units that systemd starts with a unit: its Requires=, Wants=, BindsTo= and
// Upholds=, without slices, mounts and the targets that nearly every service requires. The error matches ErrNoUnit
// if the unit does not exist or is masked.
func (u Units) PullsIn(ctx context.Context, unit string) ([]string, error) {
	m, done, err := u.caller(ctx)
	if err == nil {
		defer done()
		var path dbus.ObjectPath
		if path, err = m.load(ctx, unit); err == nil {
			var names []string
			if names, err = m.related(ctx, path, pulledIn); err == nil {
				return names, nil
			}
		}
	}
	return nil, fmt.Errorf("read what %s pulls in: %w", unit, err)
}

// ResetFailed makes a unit that has failed inactive, which only changes what systemctl shows. One that has not failed,
// or does not exist, is left alone.
func (u Units) ResetFailed(ctx context.Context, unit string) error {
	m, done, err := u.caller(ctx)
	if err == nil {
		defer done()
		err = m.call(ctx, "ResetFailedUnit", []any{unit})
	}
	if err != nil && !answered(err, errNoSuchUnit) {
		return fmt.Errorf("reset the failed state of %s: %w", unit, err)
	}
	return nil
}
