package policy

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/locksmithd/locksmith/internal/backoff"
)

// retry remembers a failure and when to try again. The delay
// grows from first to limit, as package backoff says.
type retry struct {
	first, limit time.Duration

	n   int
	err error
	at  time.Time
}

func (r *retry) reset() { r.n, r.err, r.at = 0, nil, time.Time{} }

func (r *retry) fail(now time.Time, err error, rand *rand.Rand) {
	r.at = now.Add(backoff.Draw(rand.Int64N, r.n, r.first, r.limit))
	r.n++
	r.err = err
}

// note takes in the end of a try, and reports whether it went well.
func (r *retry) note(now time.Time, err error, rand *rand.Rand) bool {
	if err != nil {
		r.fail(now, err, rand)
		return false
	}
	r.reset()
	return true
}

// text says, with times as clock writes them, when it is tried again and what failed last; the error comes last,
// since whoever shows the status may cut it short.
func (r *retry) text(now time.Time, clock func(time.Time) string) string {
	if r.err == nil {
		return ""
	}
	if r.at.After(now) {
		return fmt.Sprintf("; trying again %s, the last attempt failed: %v", clock(r.at), r.err)
	}
	return fmt.Sprintf("; the last attempt failed: %v", r.err)
}
