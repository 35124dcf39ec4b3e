package listen

import (
	"sync"
	"time"
)

const (
	// leastRate is how many requests a minute an origin may make at least.
	leastRate = 100
	// maxOrigins is how many origins are remembered. All are forgotten when there are more.
	maxOrigins = 16 << 10
)

// rate bounds the requests of each origin: n at once, and n a minute.
type rate struct {
	n int

	mu   sync.Mutex
	used map[string]time.Time // when all requests of an origin, at n a minute, would have been made
}

func newRate(n int) *rate { return &rate{n: max(n, leastRate), used: map[string]time.Time{}} }

// allow reports whether an origin may make one more request now.
func (r *rate) allow(from string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	each := time.Minute / time.Duration(r.n)
	used, known := r.used[from]
	switch {
	case used.Before(now):
		used = now
	case used.Sub(now) > time.Minute-each:
		return false
	}
	if !known && len(r.used) >= maxOrigins {
		clear(r.used)
	}
	r.used[from] = used.Add(each)
	return true
}
