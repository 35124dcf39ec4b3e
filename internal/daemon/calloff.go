package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// CallOff cancels the reboot that a daemon, now ended, left scheduled according to kept. keep replaces what is
// kept. CallOff reports whether it cancelled the reboot: it does not while the host is going down, nor if somebody
// else scheduled it.
func CallOff(ctx context.Context, host Host, kept policy.Kept, keep func(policy.Kept) error) (bool, error) {
	at := time.UnixMicro(kept.Scheduled.Usec)
	if down, err := host.GoingDown(ctx); err == nil && down { // asked first, as a silent logind delays the others
		return false, nil
	}
	// If it is gone, the next daemon finds out by itself.
	if standing, err := host.Scheduled(ctx); err != nil || !standing.Ours(at) {
		return false, err
	}
	kept.Scheduled.Announced = false // or the next daemon would take it for a user's cancel
	if err := keep(kept); err != nil {
		return false, err
	}
	if err := cancelReboot(ctx, host, at); err != nil {
		return false, err
	}
	kept.Scheduled = policy.KeptSchedule{}
	return true, keep(kept)
}

// cancelReboot cancels what is scheduled. It returns nil if no reboot at that time is scheduled afterwards, even
// if the answer to the cancel was lost.
func cancelReboot(ctx context.Context, host Host, at time.Time) error {
	cancelErr := host.Cancel(ctx)
	standing, err := host.Scheduled(ctx)
	switch {
	case err != nil:
		return errors.Join(cancelErr, err)
	case !standing.Ours(at):
		return nil
	case cancelErr != nil:
		return cancelErr
	}
	return errors.New("logind has not cancelled the reboot that was scheduled")
}
