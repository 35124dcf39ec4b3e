package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func readConfigurationDocument(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/configuration.md")
	must.Do(t, err)
	return string(data)
}

func TestEverySettingIsDocumented(t *testing.T) {
	doc := readConfigurationDocument(t)
	for _, d := range Definitions() {
		section := regexp.MustCompile(`(?ms)^### ([a-z-]+, )*` + d.Name + `(, [a-z-]+)*$(.*?)(^##|\z)`).FindStringSubmatch(doc)
		if section == nil {
			t.Errorf("there is no section %q", d.Name)
			continue
		}
		heading, _, _ := strings.Cut(strings.TrimPrefix(section[0], "### "), "\n")

		variables, flag, cli, value := "`"+d.Variable+"`", "", "the same", "none"
		if d.Prefixed != "" {
			variables += " or `" + d.Prefixed + "`"
		}
		if d.Fallback != "" {
			variables += ", else `" + d.Fallback + "`"
		}
		if d.Flag {
			flag = "`-" + d.Name + "` "
			cli = "`" + d.CLIVariable() + "`"
		}
		if d.Default != "" {
			value = "`" + d.Default + "`"
		}
		row := fmt.Sprintf("| [%s](#%s) | %s | %s| %s | %s |\n", d.Name, strings.ReplaceAll(heading, ", ", "-"), variables, flag, cli, value)
		if !strings.Contains(doc, row) {
			t.Errorf("the table has no row %s", row)
		}
		if want := "\nDefault: " + value; !strings.Contains(section[3], want) {
			t.Errorf("section %q does not have %q", d.Name, want)
		}
		if !strings.Contains(section[3], " Example: `") {
			t.Errorf("section %q has no example", d.Name)
		}
	}
}

func TestExamplesOfTheDocumentAreRight(t *testing.T) {
	doc := readConfigurationDocument(t)

	blocks := regexp.MustCompile("(?s)\n```conf\n(.*?)\n```\n").FindAllStringSubmatch(doc, -1)
	if len(blocks) != 1 {
		t.Fatalf("there are %d examples of update.conf, want 1", len(blocks))
	}
	certs := newCertificates(t)
	conf := strings.NewReplacer(
		"/etc/ssl/certs/ca.pem", certs.ca, "/etc/ssl/certs/client.pem", certs.cert, "/etc/ssl/certs/client-key.pem", certs.key,
		"/etc/locksmith/alert-token", certs.key,
	).Replace(blocks[0][1])
	root := newRoot(t, map[string]string{etc: conf})
	must.Do(t, os.Chmod(filepath.Join(root, etc), 0o600)) // it has a secret in it
	for _, program := range []Program{Daemon, CLI} {
		c := mustLoad(t, Options{Program: program, Root: root})
		if c.Strategy != StrategyEtcdLock || c.Group != "lb" || strings.Count(c.Etcd.Endpoints, ",") != 1 || c.Window.String() != "Thu 04:00 for 1h, except 2026-12-23/2027-01-02; 2027-04-02" || len(c.Warnings) > 0 {
			t.Errorf("the example gives %+v", c)
		}
		for _, s := range c.Settings {
			optional := []string{"reboot-mode", "etcd-username", "etcd-password", "etcd-password-file", "debug", "log-format", "reboot-sentinel", "reboot-sentinel-command", "reboot-sentinel-period", "inventory", "metrics-file"}
			if s.Origin.Kind != FromFile && !slices.Contains(optional, s.Name) && !strings.HasPrefix(s.Name, "fleetlock-") {
				t.Errorf("the example does not set %s", s.Name)
			}
		}
	}

	for _, m := range regexp.MustCompile("(?:Example:|and) `([A-Z_]+=[^`]*)`").FindAllStringSubmatch(doc, -1) {
		root := newRoot(t, map[string]string{etc: m[1]})
		c, err := Load(Options{Program: CLI, Root: root})
		set := false
		for _, s := range c.Settings {
			set = set || s.Origin.Kind == FromFile && s.Value != ""
		}
		// Half of a pair, or a file that is not here, is as right as an example can be.
		if !set || err != nil && !strings.Contains(err.Error(), "set both or neither") && !strings.Contains(err.Error(), "no such file") {
			t.Errorf("example %s: %v", m[1], err)
		}
	}

	starts := regexp.MustCompile("(?m)^\\| `([^`]+)`.*\\| (?:every|on|several|cron|in a)").FindAllStringSubmatch(doc, -1)
	if len(starts) != 7 {
		t.Errorf("there are %d starts of windows, want 7", len(starts))
	}
	for _, m := range starts {
		root := newRoot(t, map[string]string{etc: "REBOOT_WINDOW_LENGTH=1h\nREBOOT_WINDOW_START=\"" + m[1] + "\"\n"})
		if _, err := Load(Options{Program: Daemon, Root: root}); err != nil {
			t.Error(err)
		}
	}

	shown := regexp.MustCompile(`(?m)^    (REBOOT_STRATEGY="best-effort" .*)$`).FindStringSubmatch(doc)
	root = newRoot(t, map[string]string{etc: "\n\nREBOOT_STRATEGY=best-effort\n"})
	_, err := Load(Options{Program: Daemon, Root: root})
	if got := strings.ReplaceAll(fmt.Sprint(err), filepath.Clean(root), ""); shown == nil || got != shown[1] {
		t.Errorf("the document shows the error %q, want %q", shown, got)
	}
}
