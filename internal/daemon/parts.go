package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
)

// A Locker is the lock, as this host sees it. Except from Acquire, an error leaves everything open.
type Locker interface {
	// Inspect asks whether this host holds a slot, and in which boot it was taken.
	// It also says what that was for, as far as it is recorded.
	Inspect(ctx context.Context) (policy.Holding, policy.Purpose, error)
	// StillHeld asks, right before the reboot, whether the slot is still this host's.
	StillHeld(ctx context.Context) (bool, error)
	// Acquire waits for a slot and takes it; holding one already is success. It calls blocked with what it waits for,
	// and ends soon after ctx does. An error that matches ErrUnknown leaves open whether the slot was taken; any
	// other says that this call took none. It gives up its place in the queue, unless ctx was cancelled with the
	// cause ErrKeepPlace.
	Acquire(ctx context.Context, purpose policy.Lock, blocked func(by string)) error
	// Report tells the fleet what this host does with its slot. An error leaves open whether it was told.
	Report(ctx context.Context, r policy.Report) error
	// Release gives the slot back; having none is success.
	Release(ctx context.Context) error
}

// A Host is what reboots. It keeps at most one shutdown that is scheduled, which it carries out when its time
// comes. Except where noted, an error leaves everything open.
type Host interface {
	// Local asks who is at work on it. An error means that somebody may be.
	Local(ctx context.Context) (policy.Local, error)
	// Reboot asks for the reboot and returns once it is accepted; it is not while an inhibitor blocks it, except by
	// force. An error that matches ErrUnknown leaves open whether it was accepted; any other says that it was not.
	// done is the mode in which the host reboots, a full one if it turns out that it cannot in the other.
	Reboot(ctx context.Context, mode policy.Mode, force bool) (done policy.Mode, err error)
	// Modes returns how it can reboot. It does not ask anybody.
	Modes() policy.Modes
	// GoingDown reports whether the host is shutting down already. An error means that it may be.
	GoingDown(ctx context.Context) (bool, error)

	Scheduled(ctx context.Context) (policy.Shutdown, error)
	// Schedule tells users that the host reboots, and replaces what is scheduled. An error that matches ErrUnknown
	// leaves open whether it was scheduled, or will be; any other says that it was not.
	Schedule(ctx context.Context, at time.Time, message string) error
	// Cancel drops what is scheduled, if anything is.
	Cancel(ctx context.Context) error
	// Instance names the logind that keeps the schedule: a restarted one has another name, and may have lost it.
	Instance(ctx context.Context) (string, error)
}

// Hooks is what the operator has hooked in around a reboot. An error says what failed. What runs ends soon after the
// context does.
type Hooks interface {
	// Hooked reports whether anything is to run before a reboot.
	Hooked(ctx context.Context) (bool, error)
	// Before runs what is hooked in before a reboot. It keeps for the next process, before anything runs, that it
	// must be undone.
	Before(ctx context.Context, f policy.Facts) error
	// Undo runs what undoes that, after it has stopped what still runs of it.
	Undo(ctx context.Context, f policy.Facts) error
	// After checks whether the host is well after a reboot.
	After(ctx context.Context, f policy.Facts) error
}

// ErrUnknown marks errors that leave open whether the thing was done.
var ErrUnknown = errors.New("outcome unknown")

// ErrKeepPlace is the cause with which the context of Acquire ends so that the next process, or the next Acquire, gets
// its place in the queue.
var ErrKeepPlace = errors.New("the place in the queue is kept for the next process")

// ErrBusGone is returned by Run when the bus connection is lost. The process
// should end, so that its service manager starts it again.
var ErrBusGone = errors.New("the connection to the system bus is lost")

// Settings are what a new configuration can change.
type Settings struct {
	Policy policy.Config
	// Lock is nil unless Policy.Lock. With the same one as before a held slot
	// is kept; with another it is given back first.
	Lock Locker
	// Group is whose slots that lock gives, for the log; "" for the default group.
	Group string
	// Begin is called in the loop when these settings replace some with another Lock, which is left by then, before
	// this one is used. nil does nothing.
	Begin func()
}

// Parts are the real things that Run connects.
type Parts struct {
	// Updates delivers what the sources say, as events Update and Absent. Closed before the context
	// of Run has ended, it says that the bus is gone.
	Updates <-chan policy.Event
	// AskSources asks the sources that can be asked whether they need a reboot, and returns what they answer.
	AskSources func(ctx context.Context) []policy.Update
	Host       Host
	// Gate returns what holds back a reboot that is needed, nil for nothing. A gate that cannot be asked is shut.
	Gate  func(ctx context.Context, need policy.Need) *policy.Obstacle
	Hooks Hooks
	// Announce shows a message to everybody who is logged in, without waiting for a terminal.
	Announce func(message string)
	Found    policy.Found
	// Keep replaces it. The loop calls Keep before it begins what Keep describes.
	Keep func(policy.Kept) error
	// Begin records that the host is about to reboot, what for and how, so that the next boot is checked.
	Begin func(ctx context.Context, r policy.Reboot) error
	// Ended records what the reboot before this boot came to: nil when the host is well.
	Ended func(ctx context.Context, failure error) error
	// Restarting reports whether this process is ended for another to be started at once.
	Restarting func(ctx context.Context) (bool, error)
	// Reload delivers new settings, already checked.
	Reload    <-chan Settings
	Observers []Observer
	// Alive is called every AliveEvery, if that is not zero, for as long as the loop turns.
	Alive      func()
	AliveEvery time.Duration
	Log        *slog.Logger
	// Seed makes the spreading of retries repeatable.
	Seed uint64
}

// An Observer sees what the daemon does.
type Observer interface {
	// The loop calls Observe when the snapshot has changed, or the line that it makes. Observe must not block. moves
	// are the transitions since the last call.
	Observe(s policy.Snapshot, line string, moves []policy.Move)
}
