package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/promtest"
)

// The alerts fire when they should, and say what they should; each of them is tried.
func TestExampleOfAlertsWithTheRealPromtool(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Abs("examples/prometheus-rules.yaml")
	must.Do(t, err)
	promtest.Promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", rules)
	const tests = "testdata/prometheus-rules-test.yaml"
	promtest.Promtool(t, "", "test", "rules", tests)
	text, err := os.ReadFile(rules)
	must.Do(t, err)
	tried, err := os.ReadFile(tests)
	must.Do(t, err)
	alerts := regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(string(text), -1)
	for _, alert := range alerts {
		if !strings.Contains(string(tried), "alertname: "+alert[1]+"\n        exp_alerts:") {
			t.Errorf("no test makes %s fire", alert[1])
		}
	}
	if len(alerts) < 10 {
		t.Errorf("only %d alerts were found", len(alerts))
	}
}
