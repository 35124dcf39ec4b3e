package view

import (
	"testing"
	"time"
)

func TestElapsed(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59*time.Second + 999*time.Millisecond: "59s", time.Minute: "1m", time.Hour - 1: "59m",
		time.Hour: "1h00m", 25 * time.Hour: "1d01h", 24*time.Hour - 1: "23h59m", 1000 * time.Hour: "41d16h",
	} {
		if got := elapsed(noon, noon.Add(d)); got != want {
			t.Errorf("elapsed in %v is %q, want %q", d, got, want)
		}
	}
	if got := elapsed(time.Time{}, noon); got != "" {
		t.Errorf("elapsed since an unknown time is %q", got)
	}
}
