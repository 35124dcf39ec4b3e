package daemon

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// retry remembers a failure and when to try again. The delay doubles from
// first to limit, and is drawn from its upper half, so that hosts that failed
// together do not come back together.
type retry struct {
	first, limit time.Duration

	n   int
	err error
	at  time.Time
}

func (r *retry) reset() { r.n, r.err, r.at = 0, nil, time.Time{} }

func (r *retry) fail(now time.Time, err error, rand *rand.Rand) {
	d := r.limit
	if r.n < 16 { // beyond that the shift could overflow
		d = min(r.limit, r.first<<r.n)
	}
	r.n++
	r.err = err
	r.at = now.Add(d/2 + time.Duration(rand.Int64N(int64(d/2)+1)))
}

// text says what failed last and when it is tried again.
func (r *retry) text(now time.Time) string {
	if r.err == nil {
		return ""
	}
	text := fmt.Sprintf("; the last attempt failed: %v", r.err)
	if r.at.After(now) {
		text += "; trying again " + clock(r.at)
	}
	return text
}
