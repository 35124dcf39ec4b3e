package policy

import (
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

// note records the end of a try, and reports whether it succeeded.
func (r *retry) note(now time.Time, err error, rand *rand.Rand) bool {
	if err != nil {
		r.fail(now, err, rand)
		return false
	}
	r.reset()
	return true
}

// fact is the failure as a snapshot has it.
func (r *retry) fact(now time.Time) Retry {
	f := Retry{Error: r.err.Error()}
	if r.at.After(now) {
		f.At = r.at
	}
	return f
}
