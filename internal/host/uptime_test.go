package host

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

func TestBootBeganWithTheKernel(t *testing.T) {
	now := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	for content, up := range map[string]time.Duration{"3600.50 7000.12\n": time.Hour + time.Second/2, "0.00 0.00\n": 0} {
		got, err := (Boot{}).BeganAt(newRoot(t, map[string]string{"/proc/uptime": content}), now)
		if must.Do(t, err); !got.Equal(now.Add(-up)) {
			t.Errorf("%q: booted at %v, want %v before %v", content, got, up, now)
		}
	}
	for _, content := range []string{"", "x 1", "-1 1", "NaN 1", "1e300 1", "Inf"} {
		root := newRoot(t, map[string]string{"/proc/uptime": content})
		if got, err := (Boot{}).BeganAt(root, now); err == nil || !strings.Contains(err.Error(), root+"/proc/uptime") {
			t.Errorf("%q: booted at %v, %v", content, got, err)
		}
	}
	if got, err := (Boot{}).BeganAt(newRoot(t, nil), now); err != nil || !got.Before(now) {
		t.Errorf("the machine's own uptime: booted at %v, %v", got, err)
	}
}

func TestBootBeganWithTheLastSoftReboot(t *testing.T) {
	now := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	since := now.Add(-time.Minute)
	got, err := (Boot{Since: since.Add(-time.Hour), began: since}).BeganAt(newRoot(t, map[string]string{"/proc/uptime": "3600.50 7000.12\n"}), now)
	if must.Do(t, err); !got.Equal(since) {
		t.Errorf("it began at %v, want %v", got, since)
	}
}
