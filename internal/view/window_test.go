package view

import (
	"testing"
	"time"
)

// nightly is open for an hour from midnight on.
type nightly struct{}

func (nightly) String() string { return "00:00 for 1h" }

func (nightly) Next(t time.Time) (start, end time.Time) {
	start = t.Truncate(24 * time.Hour)
	if t.Sub(start) >= time.Hour {
		start = start.Add(24 * time.Hour)
	}
	return start, start.Add(time.Hour)
}

func TestWindowOpenAndShut(t *testing.T) {
	golden(t, "window-shut.txt", Window(nightly{}, noon))
	golden(t, "window-just-open.txt", Window(nightly{}, noon.Add(12*time.Hour)))
	golden(t, "window-open.txt", Window(nightly{}, noon.Add(12*time.Hour+59*time.Minute)))
	golden(t, "window-shut-again.txt", Window(nightly{}, noon.Add(13*time.Hour)))
}
