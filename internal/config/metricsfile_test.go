package config

import (
	"strings"
	"testing"
)

func TestMetricsFile(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "/run/locksmith/locksmith.prom": "/run/locksmith/locksmith.prom", "/run//locksmith/../x.prom": "/run/x.prom",
	} {
		if c := mustLoad(t, Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: "LOCKSMITHD_METRICS_FILE=" + value})}); c.MetricsFile != want {
			t.Errorf("%q becomes %q, want %q", value, c.MetricsFile, want)
		}
	}
	// Another file would be lost: this one is replaced, and removed.
	for _, value := range []string{"locksmith.prom", "run/locksmith.prom", "/etc/passwd", "/run/.prom", "/run/locksmith.prom/", "/run/x.prom/..", ".prom", "true"} {
		_, err := Load(Options{Program: Daemon, Root: newRoot(t, map[string]string{etc: "LOCKSMITHD_METRICS_FILE=" + value})})
		if err == nil || !strings.HasPrefix(err.Error(), `LOCKSMITHD_METRICS_FILE="`+value+`" (`) || !strings.Contains(err.Error(), "such as /run/locksmith/locksmith.prom") {
			t.Errorf("%q: %v", value, err)
		}
	}
}
