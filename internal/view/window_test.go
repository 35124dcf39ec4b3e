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

func (nightly) ShutBy(time.Time) string { return "" }

// blackout is a window that is shut for a day.
type blackout struct{}

func (blackout) String() string { return "always, except 2026-12-24" }

func (blackout) Next(t time.Time) (start, end time.Time) {
	from, to := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 25, 0, 0, 0, 0, time.UTC)
	if t.Before(from) {
		return time.Time{}, from
	}
	return to, time.Time{}
}

func (blackout) ShutBy(t time.Time) string {
	if start, _ := (blackout{}).Next(t); start.After(t) {
		return "a blackout on 2026-12-24"
	}
	return ""
}

func TestWindowOpenAndShut(t *testing.T) {
	golden(t, "window-shut.txt", Window(nightly{}, noon))
	golden(t, "window-just-open.txt", Window(nightly{}, noon.Add(12*time.Hour)))
	golden(t, "window-open.txt", Window(nightly{}, noon.Add(12*time.Hour+59*time.Minute)))
	golden(t, "window-shut-again.txt", Window(nightly{}, noon.Add(13*time.Hour)))
}

func TestWindowWithABlackout(t *testing.T) {
	begin := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)
	golden(t, "window-blackout-to-come.txt", Window(blackout{}, begin.Add(-time.Second)))
	golden(t, "window-blackout.txt", Window(blackout{}, begin))
	golden(t, "window-blackout-over.txt", Window(blackout{}, begin.Add(24*time.Hour)))
}
