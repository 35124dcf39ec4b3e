package chaos

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/randtest"
)

// config is that of a run in a test: short, unless make chaos says otherwise.
func config(t *testing.T) Config {
	t.Helper()
	return Config{
		Seed: randtest.Seed(t), Dir: t.TempDir(), Logf: t.Logf,
		Ops: 8000, Duration: 20 * time.Second, WindowOps: 4000, Patience: 2 * time.Minute, Groups: 4, Hosts: 6, Old: 2,
	}
}

func TestLockIsLinearizableUnderFaults(t *testing.T) {
	t.Parallel()
	c := config(t)
	if s := os.Getenv("CHAOS_OPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CHAOS_OPS: %v", err)
		}
		c.Ops, c.Duration, c.Leases = n, 0, true
	}
	if s := os.Getenv("CHAOS_DURATION"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("CHAOS_DURATION: %v", err)
		}
		c.Duration = d
	}
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	if report.wrong() {
		t.Error("what is wrong is above")
	}
}
