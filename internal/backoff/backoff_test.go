package backoff

import (
	"math"
	"testing"
	"time"
)

func TestDraw(t *testing.T) {
	lowest := func(int64) int64 { return 0 }
	highest := func(n int64) int64 { return n - 1 }
	for n, want := range map[int]time.Duration{
		0: 2 * time.Second, 1: 4 * time.Second, 4: 32 * time.Second,
		5: time.Minute, 16: time.Minute, 63: time.Minute, math.MaxInt: time.Minute,
	} {
		if got := Draw(lowest, n, 2*time.Second, time.Minute); got != want/2 {
			t.Errorf("after %d failures: at least %v, want %v", n, got, want/2)
		}
		if got := Draw(highest, n, 2*time.Second, time.Minute); got != want {
			t.Errorf("after %d failures: at most %v, want %v", n, got, want)
		}
	}
}
