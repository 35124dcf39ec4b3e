package documents

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

// The flags of the programs that hosts come from: FLUO 0.10.0 with those removed since 0.7.3, and kured 1.
var flagsOfOthers = map[string]string{
	"docs/from-fluo.md": `-node -grace-period -force-drain -version -before-reboot-annotations -after-reboot-annotations
		-reboot-window-start -reboot-window-length -kubeconfig -auto-label-flatcar-linux -manage-agent -agent-image-repo
		-analytics -v -vmodule -logtostderr`,
	"docs/from-kured.md": `--node-id --force-reboot --metrics-host --metrics-port --drain-grace-period --drain-pod-selector
		--skip-wait-for-delete-timeout --drain-delay --drain-timeout --reboot-delay --reboot-method --period --ds-namespace
		--ds-name --lock-annotation --lock-ttl --lock-release-delay --prometheus-url --alert-filter-regexp
		--alert-filter-match-only --alert-firing-only --reboot-sentinel --prefer-no-schedule-taint
		--reboot-sentinel-command --reboot-command --concurrency --reboot-signal --slack-hook-url --slack-username
		--slack-channel --notify-url --message-template-uncordon --message-template-drain --message-template-reboot
		--blocking-pod-selector --reboot-days --start-time --end-time --time-zone --annotate-nodes --log-format
		--pre-reboot-node-labels --post-reboot-node-labels`,
}

// Each flag of another program has a row that says what stands for it, and each row is about such flags.
func TestEveryFlagOfFLUOAndKuredIsMapped(t *testing.T) {
	t.Parallel()
	for page, flags := range flagsOfOthers {
		_, table, _ := strings.Cut(read(t, page), "\n## Flags\n")
		mapped := map[string]bool{}
		for _, row := range regexp.MustCompile("(?m)^\\| (`-.*?) \\|.* (\\S.*?) \\|$").FindAllStringSubmatch(table, -1) {
			for _, flag := range regexp.MustCompile("`(-[a-z-]+)`").FindAllStringSubmatch(row[1], -1) {
				mapped[flag[1]] = true
			}
		}
		for _, flag := range strings.Fields(flags) {
			if !mapped[flag] {
				t.Errorf("%s does not say what stands for %s", page, flag)
			}
			delete(mapped, flag)
		}
		for flag := range mapped {
			t.Errorf("%s maps %s, which the other program does not have", page, flag)
		}
	}
}

// The pages about Kubernetes name only variables that docs/configuration.md has in its table.
func TestPagesAboutKubernetesNameSettingsThatExist(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "docs/configuration.md"), "\n## All settings\n")
	table, _, _ = strings.Cut(table, "\n## ")
	variable := regexp.MustCompile(`\bLOCKSMITH(?:D|CTL)_[A-Z_]+|\bREBOOT_[A-Z_]+`)
	known := map[string]bool{}
	for _, name := range variable.FindAllString(table, -1) {
		known[name] = true
	}
	pages := 0
	for page, text := range documents(t) {
		if name := path.Base(page); !strings.HasPrefix(name, "kubernetes") && flagsOfOthers[page] == "" {
			continue
		}
		pages++
		for _, name := range variable.FindAllString(text, -1) {
			if !known[name] {
				t.Errorf("%s names %s, which docs/configuration.md does not have", page, name)
			}
		}
	}
	if pages < 5 {
		t.Errorf("only %d pages are about Kubernetes", pages)
	}
}
