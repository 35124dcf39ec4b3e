// Package backoff delays another attempt after failures.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay returns how long to wait after n failures: first, doubled with each failure up to limit, less up to a half
// of that at random, so that hosts that failed together do not return together.
func Delay(n int, first, limit time.Duration) time.Duration {
	return Draw(rand.Int64N, n, first, limit)
}

// Draw is Delay with a source of randomness, whose method Int64N is int64n.
func Draw(int64n func(int64) int64, n int, first, limit time.Duration) time.Duration {
	d := limit
	if n < 16 { // beyond that the shift could overflow
		d = min(limit, first<<n)
	}
	return d/2 + time.Duration(int64n(int64(d/2)+1))
}

// Sleep waits for d, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
