package metricsfile

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/history"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/promtest"
)

var update = flag.Bool("update", false, "write the files in testdata")

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// hosts are hosts in several states, by the file of testdata with their metrics.
var hosts = map[string]Facts{
	"idle": {Version: "0.8.0", Strategy: "etcd-lock", OSVersion: "4230.2.1", Doing: policy.Snapshot{State: policy.Idle, Since: noon, Lock: true}, Past: &history.Kept{}},
	"window": {Version: "0.8.0", Strategy: "reboot", Doing: policy.Snapshot{
		State: policy.Waiting, Since: noon, Opens: noon.Add(time.Hour), Need: policy.Need{Since: noon.Add(-time.Minute), Sources: []string{"update_engine"}},
	}},
	"unwell": {Version: "0.8.0", Strategy: "etcd-lock", Group: "lb", OSVersion: "4230.2.1", Doing: policy.Snapshot{
		State: policy.Settling, Since: noon, Lock: true, Holds: true, HeldSince: noon.Add(-time.Hour), Health: &policy.Health{Unwell: true},
	}, Past: &history.Kept{Version: "4230.2.1", Failed: 2, Reboots: 17, Last: &history.Reboot{At: noon.Add(-3 * time.Minute), Ended: noon}}},
	"hostile": {Version: "0.8.0", Strategy: "reboot", OSVersion: "\"} 1\nlocksmith_evil\\ 1\x1b[31m\xff\u202e<script>", Group: strings.Repeat("x", 1<<20),
		Doing: policy.Snapshot{State: policy.Waiting, HeldBack: &policy.Obstacle{Kind: "another"}, Need: policy.Need{Since: noon, Sources: []string{"s"}}}},
}

// What is in the file is as promtool wants it, whatever the texts of others are.
func TestMetricsOfAHost(t *testing.T) {
	for name, f := range hosts {
		got := string(f.Text())
		promtest.CheckMetrics(t, got)
		file := "testdata/" + name + ".prom"
		if *update {
			must.Do(t, os.MkdirAll("testdata", 0o755))
			must.Do(t, os.WriteFile(file, []byte(got), 0o644))
		}
		want, err := os.ReadFile(file)
		if must.Do(t, err); got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestHostWhoseChecksAreOverIsUnwellUntilItsNextReboot(t *testing.T) {
	f := hosts["idle"]
	f.Doing.Failed = "after-reboot: 20-etcd"
	if text := string(f.Text()); !strings.Contains(text, "\nlocksmith_healthy 0\n") {
		t.Error(text)
	}
	f.Doing.Failed, f.Doing.Health = "", &policy.Health{}
	if text := string(f.Text()); !strings.Contains(text, "\nlocksmith_healthy 1\n") {
		t.Error(text)
	}
}

// Each metric is in one of the files at least.
func TestEveryMetricIsShown(t *testing.T) {
	for _, m := range Metrics {
		shown := false
		for _, f := range hosts {
			shown = shown || slices.Contains(strings.FieldsFunc(string(f.Text()), func(r rune) bool { return r == ' ' || r == '\n' }), m.Name)
		}
		if !shown {
			t.Errorf("%s is never shown", m.Name)
		}
	}
}
