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
	OtherShutdown ObstacleKind = "shutdown"   // a shutdown is scheduled, or under way
	Unclear       ObstacleKind = "unclear"    // logind does not say who is at work
	Inhibited     ObstacleKind = "inhibitors" // programs block a shutdown
	LoggedIn      ObstacleKind = "users"      // people are logged in
	Cancelled     ObstacleKind = "cancelled"  // a user has cancelled the reboot for the time being
	TooEarly      ObstacleKind = "uptime"     // the host has not been up for long enough
	NoRoom        ObstacleKind = "room"       // the window shuts before what runs before a reboot would be over
)

// Obstacles answers whether a host may reboot now, and why not: with everything that keeps it from doing so, in
// the order in which it counts. None: it may. window is nil for none, clock writes times for people.
//
// It knows nothing of the lock, of what the daemon has itself scheduled, or of how long people may postpone.
func Obstacles(now time.Time, window Window, local Local, clock func(time.Time) string) []Obstacle {
	all := local.obstacles(clock)
	if opens, _ := (Config{Window: window}).opening(now); opens.After(now) {
		all = append([]Obstacle{windowShut(opens, clock)}, all...)
	}
	return all
}

// obstacles returns what on the host itself holds the reboot back.
func (l Local) obstacles(clock func(time.Time) string) (all []Obstacle) {
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
	if len(l.Users) > 0 {
		all = append(all, Obstacle{LoggedIn, "users who are logged in (" + safetext.List(l.Users) + ")"})
	}
	return all
}

func windowShut(opens time.Time, clock func(time.Time) string) Obstacle {
	return Obstacle{WindowShut, "the reboot window, which opens " + clock(opens)}
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
