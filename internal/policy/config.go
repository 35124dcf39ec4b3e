package policy

import "time"

// A Window is when the host may reboot: a series of openings, which include their start and exclude their end.
type Window interface {
	// Next returns the opening that contains t, or the next one. A zero end means that nothing shuts it.
	Next(t time.Time) (start, end time.Time)
	// ShutBy says what keeps the window shut at t longer than it would be otherwise, such as "a blackout on
	// 2026-12-24"; "" for nothing.
	ShutBy(t time.Time) string
}

// Config is the part of the configuration that the machine needs.
type Config struct {
	Lock   bool   // a slot is needed (strategies etcd-lock and fleet-lock)
	Window Window // nil: always open
	Mode   Mode   // of the reboot, where the host can do that and it is enough

	// Spread bounds how long after the opening of the window this host begins, at random, so that hosts without a
	// lock do not all begin at once; less in a short window. 0: it begins when the window opens.
	Spread time.Duration
	// Jitter is how long after the opening of the window, or without one after a reboot is needed, this host begins at
	// most, at random. The window must have room for it. It counts instead of Spread.
	Jitter time.Duration
	// Zone returns the time zone of the times that people read; nil: as it was at the start.
	Zone func() *time.Location

	LoginDelay  time.Duration // from telling users to the reboot; 0: they are not told
	LoginRetry  time.Duration // from a user's cancelling the reboot to the next attempt
	MaxPostpone time.Duration // bounds what users and inhibitors can postpone; 0: nothing does

	Earliest time.Time // the host reboots no earlier, since it has not been up for long; zero: at any time

	BeforeTimeout time.Duration // bounds what is hooked in before a reboot
	HealthTimeout time.Duration // a host that is not found well for this long after its boot is unwell
	HealthFailure HealthFailure // what comes of its slot then
	ReleaseDelay  time.Duration // how long a host that is well keeps its slot yet
}

const (
	// MaxNap bounds every nap while something is pending.
	MaxNap = time.Minute
	// LookEvery is how often the host is asked who is at work on it.
	LookEvery = 15 * time.Second
	// FinalDelay bounds the users' delay once nothing can be postponed any more.
	FinalDelay = time.Minute
	// InstallGrace is how long an installation of packages holds a reboot back at least. A host that reboots in the middle
	// of one may not come up, while one that waits for somebody's answer never ends.
	InstallGrace = 30 * time.Minute
	// Backstop is how long after the users' delay logind reboots the host by
	// itself, in case that this process has died.
	Backstop = 30 * time.Second
	// MaxDrift is how far the wall clock may differ from elapsed time while a reboot is scheduled with logind,
	// which uses the wall clock.
	MaxDrift = 5 * time.Second
	// RebootGrace is how long an accepted reboot may take to end this process.
	// Inhibitor locks of type "delay" and slow services come before that.
	RebootGrace = 15 * time.Minute

	// callGrace is how long a call that logind has not answered may still be carried out, by
	// a logind that answers others by now: polkit may be asked for 25 s in between.
	callGrace = time.Minute
	// sourceGrace is how long a start waits for the first report of a source
	// before it takes silence for "nothing pending".
	sourceGrace = 10 * time.Second
)

func (c Config) open(now time.Time) bool {
	start, _ := c.opening(now)
	return !start.After(now)
}

// opening returns the window's opening that contains now, or the next one; the zero time when there is no window.
func (c Config) opening(now time.Time) (start, end time.Time) {
	if c.Window == nil {
		return time.Time{}, time.Time{}
	}
	return c.Window.Next(now)
}

// begin returns when a host with this share of the spread, from 0 to 1, may begin in the opening that contains now
// or comes next, to reboot as is needed since then; zero: at any time. There is time after it for what runs before the
// reboot, users' delay, and a try or two.
func (c Config) begin(now, since time.Time, share float64, before time.Duration) time.Time {
	if c.Jitter == 0 && (c.Window == nil || c.Spread == 0) {
		return time.Time{}
	}
	start, end := c.opening(now)
	most := min(c.Spread, end.Sub(start)/10)
	switch {
	case c.Jitter == 0 && end.IsZero():
		most = c.Spread
	case c.Jitter > 0 && since.After(start):
		most, start = c.Jitter, since
	case c.Jitter > 0:
		most = c.Jitter
	}
	if !end.IsZero() {
		most = min(most, end.Sub(start)-before-c.LoginDelay-2*Backstop)
	}
	return start.Add(time.Duration(share * float64(max(0, most))))
}

// TimeLayout is the layout in which systemd writes times, too.
const TimeLayout = "Mon 2006-01-02 15:04:05 MST"

// Clock formats a time for people on this host.
func (c Config) Clock(t time.Time) string {
	loc := time.Local
	if c.Zone != nil {
		loc = c.Zone()
	}
	return t.In(loc).Format(TimeLayout)
}
