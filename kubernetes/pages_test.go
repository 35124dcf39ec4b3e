package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/locksmithd/locksmith/test/must"
)

// Each group of settings that a page shows is accepted: the program goes on to read its kubeconfig.
func TestSettingsInDocumentsAreAccepted(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "kubelet.conf")
	examples := 0
	for page, text := range pages(t) {
		for _, group := range regexp.MustCompile(`(?m)(?:^ +LOCKSMITH_KUBERNETES_[A-Z_]+=.*\n)+`).FindAllString(text, -1) {
			examples++
			var environ []string
			for line := range strings.Lines(group) {
				environ = append(environ, strings.TrimSpace(line))
			}
			var stderr strings.Builder
			run([]string{"may-reboot", "--kubeconfig", missing}, environ, &stderr, &stderr)
			if want := "kubeconfig " + missing; !strings.HasPrefix(stderr.String(), want) {
				t.Errorf("%s shows\n%s%s", page, group, &stderr)
			}
		}
	}
	if examples < 4 {
		t.Errorf("only %d groups of settings were found", examples)
	}
}

// What stands for flags of other programs, in the last column of the tables, are flags and variables that exist.
func TestDocumentsMapToFlagsThatExist(t *testing.T) {
	flags := map[string]bool{"--version": true} // which cobra adds when it runs
	for _, set := range flagSets((&app{}).rootCommand()) {
		set.VisitAll(func(flag *pflag.Flag) { flags["--"+flag.Name], flags[variable(flag)] = true, true })
	}
	for page, text := range pages(t) {
		for _, name := range regexp.MustCompile(`LOCKSMITH_KUBERNETES_[A-Z_]+`).FindAllString(text, -1) {
			if !flags[name] {
				t.Errorf("%s names %s, which is not a setting", page, name)
			}
		}
		if !strings.HasPrefix(page, "from-") {
			continue
		}
		_, table, _ := strings.Cut(text, "\n## Flags\n")
		rows := 0
		for _, row := range regexp.MustCompile(`(?m)^\|.*[^\\\n]\| (.*) \|$`).FindAllStringSubmatch(table, -1) {
			rows++
			for _, flag := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(row[1], -1) {
				if !flags[flag[1]] {
					t.Errorf("%s names %s, which is not a flag", page, flag[1])
				}
			}
		}
		if rows < 10 {
			t.Errorf("%s has a table of %d rows", page, rows)
		}
	}
}

// pages returns the text of the documents, by the names of their files.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	must.Do(t, err)
	pages := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must.Do(t, err)
		pages[filepath.Base(file)] = string(text)
	}
	return pages
}
