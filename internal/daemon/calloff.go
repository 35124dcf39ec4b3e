package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// CallOff cancels the reboot that a daemon which has ended has left scheduled, according to what it kept. keep
// replaces that. It reports whether it has done so: nothing is cancelled while the host is going down, nor what
// somebody else has scheduled.
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

// cancelReboot has what is scheduled cancelled. It returns nil if the reboot at a time does not stand then, also if the
// answer to the cancel was lost.
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
