package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// A Mode is what a reboot starts again.
type Mode string

const (
	FullReboot Mode = ""            // all, firmware and boot loader included
	SoftReboot Mode = "soft-reboot" // all processes, but not the kernel, see systemd-soft-reboot.service(8)
	Kexec      Mode = "kexec"       // the kernel that is loaded, without firmware and boot loader
)

// Flags of RebootWithFlags, see org.freedesktop.login1(5).
const (
	rootCheckInhibitors = uint64(1) << 0 // SD_LOGIND_ROOT_CHECK_INHIBITORS
	viaKexec            = uint64(1) << 1 // SD_LOGIND_KEXEC_REBOOT
	softReboot          = uint64(1) << 2 // SD_LOGIND_SOFT_REBOOT, since systemd 254
	skipInhibitors      = uint64(1) << 4 // SD_LOGIND_SKIP_INHIBITORS, since systemd 257
)

// flag returns the flag that chooses the mode.
func (m Mode) flag() uint64 {
	return map[Mode]uint64{Kexec: viaKexec, SoftReboot: softReboot}[m]
}

// target returns the unit whose start is such a reboot.
func (m Mode) target() string {
	if m == FullReboot {
		return "reboot.target"
	}
	return string(m) + ".target"
}

// Shutdown is a shutdown that logind has been asked to do at some later time, for example with
// shutdown(8). The zero Shutdown means that none is scheduled.
type Shutdown struct {
	Type    string    // "reboot", "poweroff", "halt", ...; with the prefix "dry-" it is only announced
	At      time.Time // zero if logind gives no time: the shutdown has begun
	Message string    // shown to users in addition to the announcement
}

// Scheduled returns the scheduled shutdown. Its message is the one that logind would show to users now. That may be
// the message of an earlier shutdown: logind keeps it when the shutdown is cancelled, until another one is set.
func (l *Logind) Scheduled(ctx context.Context) (Shutdown, error) {
	var s Shutdown
	var usec uint64
	scheduled, err := property[[]any](ctx, l, logindPath, logindManager, "ScheduledShutdown")
	if err == nil {
		err = store(scheduled, &s.Type, &usec)
	}
	if err == nil && s.Type == "" {
		return Shutdown{}, nil
	}
	if err == nil {
		s.Message, err = property[string](ctx, l, logindPath, logindManager, "WallMessage")
		if answered(err, errUnreadable) { // longer than maxMessage
			s.Message, err = "(too long to be read)", nil
		}
	}
	if err != nil {
		return Shutdown{}, fmt.Errorf("ask logind for a scheduled shutdown: %w", err)
	}
	s.Type, s.Message = safetext.Clean(s.Type), safetext.Clean(s.Message)
	if usec > 0 && usec <= math.MaxInt64 {
		s.At = time.UnixMicro(int64(usec))
	}
	return s, nil
}

// Schedule asks logind to reboot the machine at a time, and to announce that to users, beginning with
// the message. It replaces whatever is scheduled: the caller checks first. If the error matches
// ErrRefused, nothing was scheduled; after any other error the reboot may be scheduled.
//
// Since systemd 257 logind refuses this to everybody while an inhibitor of mode block is held,
// whatever polkit allows.
func (l *Logind) Schedule(ctx context.Context, at time.Time, message string) error {
	err := l.setWallMessage(ctx, message)
	if err == nil {
		err = l.call(ctx, "ScheduleShutdown", []any{"reboot", uint64(at.UnixMicro())})
		if errors.Is(err, ErrRefused) {
			err = errors.Join(err, l.setWallMessage(ctx, ""))
		}
	}
	if err != nil {
		return fmt.Errorf("schedule a reboot with logind: %w", err)
	}
	return nil
}

// Cancel cancels the scheduled shutdown, no matter who scheduled it, and clears its message. It is not an
// error if none is scheduled.
func (l *Logind) Cancel(ctx context.Context) error {
	var cancelled bool
	err := l.call(ctx, "CancelScheduledShutdown", nil, &cancelled)
	if err == nil && cancelled {
		// Otherwise logind would show it with the next shutdown that sets no message.
		err = l.setWallMessage(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("cancel the scheduled shutdown: %w", err)
	}
	return nil
}

func (l *Logind) setWallMessage(ctx context.Context, message string) error {
	return l.call(ctx, "SetWallMessage", []any{message, true})
}

// Reboot asks logind to reboot the machine without asking for a password. It returns nil once logind has accepted. If
// the error matches ErrRefused, no reboot was started; after any other error it may have started.
//
// done is the mode that logind was asked for in the end: a full reboot where it is too old for another one. Whether the
// service manager and the kernel know the mode as well is up to the caller: logind takes a full reboot for Kexec if no
// kernel is loaded.
//
// Without force, logind is asked to refuse while an inhibitor blocks shutdowns; with force, to ignore inhibitors. A
// logind that is too old for these flags decides by itself. If logind refuses a forced reboot because of an inhibitor
// of mode block, systemd is asked for the reboot instead: since systemd 257 logind ignores such an inhibitor only if
// polkit allows it, for root too, and hardly any host has a polkit rule that does.
func (l *Logind) Reboot(ctx context.Context, mode Mode, force bool) (done Mode, err error) {
	flags := rootCheckInhibitors
	if force {
		flags = skipInhibitors
	}
	err = l.call(ctx, "RebootWithFlags", []any{mode.flag() | flags})
	if force && answered(err, errInvalidArgs) {
		err = l.call(ctx, "RebootWithFlags", []any{mode.flag()})
	}
	switch {
	case answered(err, errInvalidArgs) && mode != FullReboot:
		return l.Reboot(ctx, FullReboot, force)
	case answered(err, errUnknownMethod):
		mode = FullReboot
		err = l.call(ctx, "Reboot", []any{false})
	}
	if force && l.refusedForInhibitor(ctx, err) {
		if startErr := l.start(ctx, mode); startErr != nil {
			return mode, fmt.Errorf("reboot in spite of an inhibitor, for which logind refused (%v): have systemd start %s: %w", err, mode.target(), startErr)
		}
		return mode, nil
	}
	if err != nil {
		return mode, fmt.Errorf("ask logind to reboot: %w", err)
	}
	return mode, nil
}

// start has systemd start the unit of a reboot, as "systemctl start reboot.target" does: no inhibitor counts, not even
// one of mode delay. Like the job of a reboot through logind, this one cannot be cancelled.
func (l *Logind) start(ctx context.Context, mode Mode) error {
	if mode == SoftReboot { // what is scheduled outlives it, unless logind itself is asked for the reboot
		if err := l.Cancel(ctx); err != nil {
			return err
		}
	}
	var job dbus.ObjectPath
	return call(ctx, l.conn.Object(managerName, managerPath), managerInterface+".StartUnit", []any{mode.target(), "replace-irreversibly"}, &job)
}

// refusedForInhibitor reports whether logind refused a forced reboot because of an inhibitor. Only some
// releases name that reason in the error, but logind refuses root nothing else with these errors.
func (l *Logind) refusedForInhibitor(ctx context.Context, err error) bool {
	if !answered(err, errAccessDenied, errInteractive, errBlocked) {
		return false
	}
	strong, err := property[string](ctx, l, logindPath, logindManager, "BlockInhibited")
	return err == nil && hasShutdown(strong)
}

// GoingDown reports whether this host is shutting down already: according to logind, or to systemd, which
// also shuts the host down without logind, for Ctrl-Alt-Del or "systemctl start reboot.target" for example. It
// returns false without an error only if both deny it; with an error the host may be shutting down.
func (l *Logind) GoingDown(ctx context.Context) (bool, error) {
	down, err := property[bool](ctx, l, logindPath, logindManager, "PreparingForShutdown")
	if down {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("ask logind whether a shutdown has begun: %w", err)
	}
	var state string
	stateErr := readProperty(ctx, l.conn.Object(managerName, managerPath), managerInterface, "SystemState", &state)
	if state == "stopping" {
		return true, nil
	}
	if stateErr != nil {
		stateErr = fmt.Errorf("ask systemd for the state of the system: %w", stateErr)
	}
	return false, errors.Join(err, stateErr)
}
