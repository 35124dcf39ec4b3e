package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// Flags of RebootWithFlags, see org.freedesktop.login1(5).
const (
	rootCheckInhibitors = uint64(1) << 0 // SD_LOGIND_ROOT_CHECK_INHIBITORS
	skipInhibitors      = uint64(1) << 4 // SD_LOGIND_SKIP_INHIBITORS, since systemd 257
)

// Shutdown is a shutdown that logind has been asked to do at some later time,
// for example with shutdown(8). The zero Shutdown says that there is none.
type Shutdown struct {
	Type    string    // "reboot", "poweroff", "halt", ...; with "dry-" before it, it is announced and not done
	At      time.Time // zero when logind does not say: it happens now
	Message string    // what users are told besides
}

// Scheduled returns the shutdown that is scheduled. Its message is the one that
// logind would show users now; logind keeps one when the shutdown that it was
// for is cancelled, until somebody sets another.
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
		if answered(err, errUnreadable) { // whoever set it may have written a book
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

// Schedule has logind reboot the machine at a time, and tell users about it,
// beginning with the message. It replaces whatever is scheduled: the caller has
// looked. An error for which errors.Is(err, ErrRefused) holds means that nothing
// was scheduled; after any other error it may have been.
//
// Since systemd 257 logind refuses this to everybody while an inhibitor of the mode
// block is held, whatever polkit says.
func (l *Logind) Schedule(ctx context.Context, at time.Time, message string) error {
	err := l.setWallMessage(ctx, message)
	if err == nil {
		err = l.call(ctx, logindPath, logindManager+".ScheduleShutdown", []any{"reboot", uint64(at.UnixMicro())})
		if errors.Is(err, ErrRefused) {
			err = errors.Join(err, l.setWallMessage(ctx, ""))
		}
	}
	if err != nil {
		return fmt.Errorf("schedule a reboot with logind: %w", err)
	}
	return nil
}

// Cancel cancels the shutdown that is scheduled, whoever scheduled it, and
// takes back the message for it. That there is none is no error.
func (l *Logind) Cancel(ctx context.Context) error {
	var cancelled bool
	err := l.call(ctx, logindPath, logindManager+".CancelScheduledShutdown", nil, &cancelled)
	if err == nil && cancelled {
		// Or logind would show it with the next shutdown that sets none.
		err = l.setWallMessage(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("cancel the scheduled shutdown: %w", err)
	}
	return nil
}

func (l *Logind) setWallMessage(ctx context.Context, message string) error {
	return l.call(ctx, logindPath, logindManager+".SetWallMessage", []any{message, true})
}

// Reboot asks logind to reboot the machine without asking anybody for a
// password. It returns nil once logind has accepted. An error for which
// errors.Is(err, ErrRefused) holds means that no reboot was started; after any
// other error it may have been.
//
// logind is told to refuse while a shutdown is blocked by an inhibitor, or, with
// force, not to. A logind that does not know how to be told decides by itself. One that
// refuses a forced reboot while an inhibitor of the mode block is held is passed over,
// and systemd is asked for the reboot: since systemd 257 logind lets nobody pass such an
// inhibitor without polkit, and root only by a rule of polkit's that hardly anybody has.
func (l *Logind) Reboot(ctx context.Context, force bool) error {
	flags := rootCheckInhibitors
	if force {
		flags = skipInhibitors
	}
	err := l.call(ctx, logindPath, logindManager+".RebootWithFlags", []any{flags})
	if answered(err, errUnknownMethod) || force && answered(err, errInvalidArgs) {
		err = l.call(ctx, logindPath, logindManager+".Reboot", []any{false})
	}
	if force && l.refusedForInhibitor(ctx, err) {
		if startErr := startReboot(ctx, l.conn); startErr != nil {
			return fmt.Errorf("reboot past an inhibitor, for which logind refuses to (%v): %w", err, startErr)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask logind to reboot: %w", err)
	}
	return nil
}

// refusedForInhibitor reports whether logind refused a forced reboot because of an
// inhibitor. Only some releases say so in the error; but root is refused nothing else by
// these names.
func (l *Logind) refusedForInhibitor(ctx context.Context, err error) bool {
	if !answered(err, errAccessDenied, errInteractive, errBlocked) {
		return false
	}
	strong, err := property[string](ctx, l, logindPath, logindManager, "BlockInhibited")
	return err == nil && hasShutdown(strong)
}

// PreparingForShutdown reports whether a shutdown or reboot has begun.
func (l *Logind) PreparingForShutdown(ctx context.Context) (bool, error) {
	preparing, err := property[bool](ctx, l, logindPath, logindManager, "PreparingForShutdown")
	if err != nil {
		return false, fmt.Errorf("ask logind whether a shutdown has begun: %w", err)
	}
	return preparing, nil
}
