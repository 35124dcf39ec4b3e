package policy

import (
	"fmt"
	"time"

	"github.com/locksmithd/locksmith/internal/safetext"
)

// An Obstacle is one thing that holds a reboot of this host back.
type Obstacle struct {
	Kind ObstacleKind `json:"kind"`
	Text string       `json:"text"` // to be read after "held back by"
}

// An ObstacleKind says what an obstacle is, in one word.
type ObstacleKind string

const (
	WindowShut    ObstacleKind = "window"     // the reboot window is shut
	Held          ObstacleKind = "hold"       // a hold file says that this host does not reboot
	TooEarly      ObstacleKind = "uptime"     // the host has not been up for long enough
	OtherShutdown ObstacleKind = "shutdown"   // a shutdown is scheduled, or under way
	Unclear       ObstacleKind = "unclear"    // logind does not say who is at work
	Inhibited     ObstacleKind = "inhibitors" // programs block a shutdown
	Installing    ObstacleKind = "packages"   // packages are being installed
	LoggedIn      ObstacleKind = "users"      // people are logged in
	Cancelled     ObstacleKind = "cancelled"  // a user has cancelled the reboot for the time being
	NoRoom        ObstacleKind = "room"       // the window shuts before what runs before a reboot would be over

	// What package gates asks.
	Attempts   ObstacleKind = "attempts"   // reboots did not bring the version up
	Unrecorded ObstacleKind = "history"    // it is not known whether they did
	MayReboot  ObstacleKind = "may-reboot" // a script of the host says no
	Alerts     ObstacleKind = "alerts"     // alerts are firing
)

// Obstacles answers whether a host may reboot now, and why not: with everything that keeps it from doing so, in
// the order in which it counts. None: it may. Of the Config only Window and Earliest count; clock writes times for
// people.
//
// It knows nothing of the lock, of what the daemon has itself scheduled, of how long people may postpone, or of the
// gates that need I/O.
func Obstacles(now time.Time, c Config, local Local, clock func(time.Time) string) (all []Obstacle) {
	if opens, _ := c.opening(now); opens.After(now) {
		all = append(all, windowShut(opens, c.Window.ShutBy(now), clock))
	}
	if now.Before(c.Earliest) {
		all = append(all, tooEarly(c.Earliest, clock))
	}
	return append(all, local.obstacles(now, clock)...)
}

// obstacles returns what on the host itself holds the reboot back.
func (l Local) obstacles(now time.Time, clock func(time.Time) string) (all []Obstacle) {
	for _, h := range l.Holds {
		if h.stands(now) {
			all = append(all, Obstacle{Held, h.Text(clock) + `; "locksmithctl unhold" ends that`})
		}
	}
	if l.Shutdown.Type != "" {
		all = append(all, Obstacle{OtherShutdown, l.Shutdown.text(clock)})
	}
	if l.Unclear != nil {
		all = append(all, unclear(l.Unclear))
	}
	if len(l.Inhibitors) > 0 {
		texts := make([]string, len(l.Inhibitors))
		for n, i := range l.Inhibitors {
			texts[n] = i.text()
		}
		all = append(all, Obstacle{Inhibited, safetext.List(texts) + ": block inhibitor"})
	}
	if l.Installing != "" {
		all = append(all, Obstacle{Installing, "an installation of packages, which has locked " + l.Installing})
	}
	if len(l.Users) > 0 {
		all = append(all, Obstacle{LoggedIn, "users who are logged in (" + safetext.List(l.Users) + ")"})
	}
	return all
}

// windowShut says when the window opens, and what makes it open so late, if anything.
func windowShut(opens time.Time, by string, clock func(time.Time) string) Obstacle {
	text := "the reboot window, which opens " + clock(opens)
	if by != "" {
		text += ", after " + by
	}
	return Obstacle{WindowShut, text}
}

func tooEarly(earliest time.Time, clock func(time.Time) string) Obstacle {
	return Obstacle{TooEarly, "the uptime of this host, which may reboot " + clock(earliest) + " at the earliest"}
}

// Text names the file, with its end and its reason.
func (h Hold) Text(clock func(time.Time) string) string {
	text := "the file " + h.File
	if !h.Until.IsZero() {
		text += ", until " + clock(h.Until)
	}
	if h.Reason != "" {
		text += " (" + h.Reason + ")"
	}
	if h.Err != nil {
		text += fmt.Sprintf(": %v", h.Err)
	}
	return text
}

func unclear(err error) Obstacle {
	return Obstacle{Unclear, fmt.Sprintf("logind, which does not say who is at work on this host: %v", err)}
}

func (s Shutdown) text(clock func(time.Time) string) string {
	text := "a " + s.Type + " that is under way"
	if !s.At.IsZero() {
		text = "a " + s.Type + " that is scheduled for " + clock(s.At)
	}
	if s.Message != "" {
		text += " (" + s.Message + ")"
	}
	return text
}

func (i Inhibitor) text() string {
	by := i.User
	if i.PID != 0 {
		by = fmt.Sprintf("process %d of %s", i.PID, i.User)
	}
	return fmt.Sprintf("%q (%s, %s)", i.Why, i.Who, by)
}
