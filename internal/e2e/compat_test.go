package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/compatibility.md promises is shown by the tests that it names, and
// each way in which we differ from 0.7 has one.
func TestCompatibilityDocumentNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	tests := testsOfTheTree(t)
	data, err := os.ReadFile("../../docs/compatibility.md")
	must(t, err)
	named := regexp.MustCompile("`(?:[a-z0-9]+\\.(?:Test|Fuzz|Benchmark)\\w*|[a-z0-9/-]+\\.txtar)`")
	almost := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*|[\w-]\.txtar`)
	sections := regexp.MustCompile(`(?m)^## \d+\. `).Split(string(data), -1)[1:]
	if len(sections) != 11 {
		t.Fatalf("the document has %d sections, want 11", len(sections))
	}
	for i, section := range sections {
		names := named.FindAllString(section, -1)
		if len(names) == 0 {
			t.Errorf("section %d names no test", i+1)
		}
		if n := len(almost.FindAllString(section, -1)); n != len(names) {
			t.Errorf("section %d names %d tests, but only %d as `folder.TestName` or `name.txtar`", i+1, n, len(names))
		}
		for _, name := range names {
			if !tests[strings.Trim(name, "`")] {
				t.Errorf("section %d names %s, which does not exist", i+1, name)
			}
		}
	}
	_, table, _ := strings.Cut(sections[10], "| --- | --- | --- |\n")
	rows := 0
	for row := range strings.Lines(table) {
		if !strings.HasPrefix(row, "|") {
			break
		}
		rows++
		if cells := strings.Split(row, "|"); len(cells) != 5 || !named.MatchString(cells[3]) {
			t.Errorf("this row of section 11 names no test in its third column:\n%s", row)
		}
	}
	if rows < 20 {
		t.Errorf("the table of section 11 has %d rows", rows)
	}
}

// testsOfTheTree returns the names of all tests as the documents write them.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	const root, scripts = "../..", "../../locksmithctl/testdata/script"
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	tests := map[string]bool{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return fs.SkipDir
		case strings.HasSuffix(path, ".txtar"):
			name, err := filepath.Rel(scripts, path)
			tests[filepath.ToSlash(name)] = true
			return err
		case strings.HasSuffix(path, "_test.go"):
			data, err := os.ReadFile(path)
			for _, m := range function.FindAllSubmatch(data, -1) {
				tests[filepath.Base(filepath.Dir(path))+"."+string(m[1])] = true
			}
			return err
		}
		return nil
	}))
	return tests
}
