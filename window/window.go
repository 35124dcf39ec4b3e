// Package window computes when a reboot window is open: whether it is at an instant, and when it opens next.
//
// A window is a set of starts on the wall clock of one time zone, and one length in elapsed time. Starts are written
// as days and times of day ("Mon-Fri 04:00") or as cron expressions ("0 4 * * 1-5"). Both become a cron schedule on a
// wall clock without daylight saving, and one rule maps them to instants: a window opens at the first instant at
// which the zone's clock shows the start or later. So
//
//   - a start that daylight saving skips opens when the gap ends: neither an hour early nor a day late;
//   - a start that the clock shows twice opens once, the first time. That holds for cron expressions too: with
//     "0 * * * *" the repeated hour has no opening of its own.
//
// The starts of a window are further apart on the wall clock than it is long, but a clock that goes forward can bring
// two openings so close that they touch or overlap. Then they are one opening, from the start of the first to the end
// of the last.
//
// The package guarantees that its answers depend only on the window and on the instant. It reads no clock, and it
// does not follow changes of the time zone database: a time.Location does not change after it was loaded.
package window

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// A Window is a reboot window, made by Parse. It does not change, and is safe for
// concurrent use. The zero Window is invalid.
type Window struct {
	starts string // canonical
	specs  []*cron.SpecSchedule
	length time.Duration
	loc    *time.Location
}

// String returns the start and the length with " for " between them, such as
// "Mon-Fri 04:00; Sat,Sun 02:00 for 1h30m". From these two parts and the same location Parse makes the same window.
func (w *Window) String() string {
	return w.starts + separator + short(w.length)
}

// separator stands between start and length in the text of a window. Neither of them can contain it.
const separator = " for "

// In returns the window with the same starts and length on the clock of another zone, which must not be nil.
func (w *Window) In(loc *time.Location) *Window {
	other := *w
	other.loc = loc
	return &other
}

// Zone returns the name of the time zone that is part of the window's start, or "".
func (w *Window) Zone() string {
	name, ok := strings.CutPrefix(w.starts, zonePrefix)
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(name, " ")
	return name
}

// Open reports whether the window is open at t. An opening includes its start and excludes its end.
func (w *Window) Open(t time.Time) bool {
	start, _ := w.Next(t)
	return !start.After(t)
}

// Next returns the opening that contains t or, if the window is shut at t, the next one. Both times are in the
// window's time zone, and end is after start and after t. Calling Next again with the end that it returned gives the
// opening after this one.
func (w *Window) Next(t time.Time) (start, end time.Time) {
	// An opening that contains t began less than a length ago, unless several openings have run together: then the
	// search may have begun after the first of them, and is repeated from further back. Openings run together only
	// where the clock went forward and not back again, so this ends, usually at once.
	for back := 2 * w.length; ; back *= 2 {
		from := t.Add(-back)
		start, end = w.scan(from, t)
		if start.After(from.Add(w.length)) {
			return start, end
		}
	}
}

// scan returns the first opening that ends after t, considering only the starts that the clock did not show before
// from. Openings that began before have ended a length after from.
func (w *Window) scan(from, t time.Time) (start, end time.Time) {
	wall := w.next(w.wall(from))
	start = First(wall, w.loc)
	end = start.Add(w.length)
	for {
		wall = w.next(wall)
		at := First(wall, w.loc)
		if at.After(end) {
			if end.After(t) {
				return start, end
			}
			start = at
		}
		end = at.Add(w.length)
	}
}

// next returns the first start after wall. Both are times on the wall clock, written as if it were UTC.
func (w *Window) next(wall time.Time) time.Time {
	var first time.Time
	for _, spec := range w.specs {
		at := spec.Next(wall)
		if at.IsZero() {
			// The schedule looks five years ahead. 29 February can be eight years away, as in 2096.
			at = spec.Next(wall.AddDate(5, 0, 0))
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// wall returns what the window's wall clock shows at t, as if it were UTC.
func (w *Window) wall(t time.Time) time.Time {
	_, offset := t.In(w.loc).Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}

// First returns the first instant at which the clock of a zone shows wall, which is written as if it were UTC, or a
// later time if the clock jumps over wall.
func First(wall time.Time, loc *time.Location) time.Time {
	// No zone is a day away from UTC. From a day before, go from one offset
	// to the next until the one in force shows wall.
	for t := wall.Add(-24 * time.Hour).In(loc); ; {
		_, offset := t.Zone()
		at := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		if at.Before(t) {
			return t // the clock jumped from before wall to after it
		}
		// An end that is not after t does not count: it is the zero time if the offset holds forever, and ZoneBounds
		// misplaces the end of a year's last offset on 31 December of leap years.
		_, end := t.ZoneBounds()
		if at.Before(end) || !end.After(t) {
			return at
		}
		t = end
	}
}

// short returns d.String without units that are zero at its end: "1h30m", not "1h30m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
