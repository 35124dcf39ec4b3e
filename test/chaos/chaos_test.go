package chaos

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/lock"
	"github.com/locksmithd/locksmith/test/randtest"
	"github.com/locksmithd/locksmith/test/realpart"
	"github.com/locksmithd/locksmith/test/storetest"
)

// config returns the configuration of a short run.
func config(t *testing.T) Config {
	t.Helper()
	return Config{
		Seed: randtest.Seed(t), Dir: t.TempDir(), Dump: t.TempDir(), Logf: t.Logf,
		Ops: 8000, Duration: 20 * time.Second, WindowOps: 4000, Patience: 2 * time.Minute,
		Groups: 4, Hosts: 6, Old: 2, Remote: 2, Break: shortPlaces,
	}
}

// shortPlaces gives queue entries, which hosts keep alive every 20 seconds, a shorter lease.
func shortPlaces(s lock.Store) lock.Store {
	return before(s, storetest.Grant, func(c *storetest.Call) error {
		if c.TTL < long {
			c.TTL = min(c.TTL, 25*time.Second)
		}
		return nil
	})
}

// The run is short unless make chaos asks for more.
func TestLockIsLinearizableUnderFaults(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Dump = os.TempDir() // which outlives the test
	want := 1000          // operations, however slow the machine is
	if s := os.Getenv("CHAOS_OPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CHAOS_OPS: %v", err)
		}
		c.Ops, c.Duration, c.Leases, c.Break, want = n, 0, true, nil, n
	}
	if s := os.Getenv("CHAOS_DURATION"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("CHAOS_DURATION: %v", err)
		}
		c.Duration = d
	}
	report, err := Run(t.Context(), c)
	realpart.Must(t, err)
	t.Log(report)
	if report.wrong() {
		t.Error("the report above has violations")
	}
	if report.Elections == 0 || report.Unknown == 0 {
		t.Error("the clients met no faults, so this run shows nothing")
	}
	if s := report; s.Outcomes["pre-reboot ok"] == 0 || s.Outcomes["steady-state ok"] == 0 || s.Faults[killedAfterCommit]+s.Faults[killedBeforeCommit] == 0 {
		t.Error("the FleetLock clients got no slot, or no server was killed around a commit")
	}
	if s := report; want >= 20_000 && (s.Outcomes[lostReport] == 0 || s.Faults[goneWhileUnwell] == 0) {
		t.Error("no report of an unwell host was lost, or etcd was never gone while one was unwell")
	}
	if report.Ops < want && !report.wrong() {
		t.Errorf("there were %d operations in %v, want %d", report.Ops, report.Elapsed, want)
	}
}
