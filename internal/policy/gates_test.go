package policy

import (
	"time"
)

// door is a Window that tests open and shut as they like.
type door struct {
	open bool
	by   string // what shuts it
}

func (g *door) ShutBy(time.Time) string { return g.by }

func (g *door) Next(t time.Time) (start, end time.Time) {
	if g.open {
		return t.Add(-time.Hour), t.Add(time.Hour)
	}
	return t.Add(6 * time.Hour), t.Add(7 * time.Hour)
}

// span is an opening, which nothing shuts if its end is zero. spans is a Window made of them, in order.
type span struct{ start, end time.Time }

type spans []span

func (g *spans) Next(t time.Time) (start, end time.Time) {
	for _, s := range *g {
		if s.end.IsZero() || t.Before(s.end) {
			return s.start, s.end
		}
	}
	far := t.AddDate(100, 0, 0)
	return far, far.Add(time.Hour)
}

func (g *spans) ShutBy(time.Time) string { return "" }

// skewed is a Window on a wall clock that is ahead of elapsed time.
type skewed struct {
	Window
	ahead time.Duration
}

func (g *skewed) Next(t time.Time) (start, end time.Time) {
	start, end = g.Window.Next(t.Add(g.ahead))
	return start.Add(-g.ahead), end.Add(-g.ahead)
}
