package view

import (
	"fmt"
	"time"
)

// Openings is a reboot window.
type Openings interface {
	fmt.Stringer
	// Next returns the opening that contains t, or else the one after it.
	Next(t time.Time) (start, end time.Time)
}

// Window shows whether a reboot window is open, and its next openings.
func Window(w Openings, now time.Time) string {
	text := fmt.Sprintf("Window: %s\n", w)
	start, end := w.Next(now)
	if start.After(now) {
		text += fmt.Sprintf("Open: no, until %s\n", dateTime(start))
	} else {
		text += fmt.Sprintf("Open: yes, until %s\n", dateTime(end))
		start, end = w.Next(end)
	}
	table := NewTable("OPENS", "SHUTS")
	for range 5 {
		table.Row(dateTime(start), dateTime(end))
		start, end = w.Next(end)
	}
	return text + "\n" + table.String()
}
