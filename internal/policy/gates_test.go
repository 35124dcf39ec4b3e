package policy

import (
	"time"
)

// door is a Gate that tests open and shut as they like.
type door struct{ open bool }

func (g *door) Open(time.Time) bool { return g.open }

func (g *door) Next(t time.Time) (start, end time.Time) {
	if g.open {
		return t.Add(-time.Hour), t.Add(time.Hour)
	}
	return t.Add(6 * time.Hour), t.Add(7 * time.Hour)
}

// span is an opening, and spans is a Gate made of them, in order.
type span struct{ start, end time.Time }

type spans []span

func (g *spans) Open(t time.Time) bool {
	start, _ := g.Next(t)
	return !start.After(t)
}

func (g *spans) Next(t time.Time) (start, end time.Time) {
	for _, s := range *g {
		if t.Before(s.end) {
			return s.start, s.end
		}
	}
	far := t.AddDate(100, 0, 0)
	return far, far.Add(time.Hour)
}

// skewed is a Gate on a wall clock that is ahead of the time that passes.
type skewed struct {
	Gate
	ahead time.Duration
}

func (g *skewed) Open(t time.Time) bool { return g.Gate.Open(t.Add(g.ahead)) }

func (g *skewed) Next(t time.Time) (start, end time.Time) {
	start, end = g.Gate.Next(t.Add(g.ahead))
	return start.Add(-g.ahead), end.Add(-g.ahead)
}
