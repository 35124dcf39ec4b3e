package processes

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
)

// What docs/compatibility.md promises is shown by the tests that it names, and
// each way in which we differ from 0.7 has one.
func TestCompatibilityDocumentNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	tests := testsOfTheTree(t)
	data, err := os.ReadFile("../../docs/compatibility.md")
	must.Do(t, err)
	named := regexp.MustCompile("`(?:[a-z0-9]+\\.(?:Test|Fuzz|Benchmark)\\w*|[a-z0-9/-]+\\.txtar)`")
	almost := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*|[\w-]\.txtar`)
	sections := regexp.MustCompile(`(?m)^## \d+\. `).Split(string(data), -1)[1:]
	if len(sections) != 12 {
		t.Fatalf("the document has %d sections, want 12", len(sections))
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

// The versions in section 12 are those that make and the tests use.
func TestTablesOfWhatIsTriedAreWhatRuns(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join("../..", name))
		must.Do(t, err)
		return string(data)
	}
	_, tables, _ := strings.Cut(read("docs/compatibility.md"), "\n## 12. ")
	// column returns the first cell of the rows that have a value in a column.
	column := func(first string, n int, value string) (firsts []string) {
		for _, row := range regexp.MustCompile(`(?m)^\| (`+first+`) \|.*`).FindAllStringSubmatch(tables, -1) {
			if cells := strings.Split(row[0], "|"); strings.TrimSpace(cells[n]) == value || value == "" {
				firsts = append(firsts, strings.Trim(row[1], "`"))
			}
		}
		return firsts
	}
	check := func(what string, got, want []string) {
		if !slices.Equal(got, want) {
			t.Errorf("%s: docs/compatibility.md has %q, but it is %q", what, got, want)
		}
	}
	const suite, etcd = "`[a-z-]+`", `\d\.\d`
	m := regexp.MustCompile(`(?m)^SUITE \?= (.*)$`).FindStringSubmatch(read("Makefile"))
	check("the hosts of make e2e", column(suite, 6, "before every change"), strings.Fields(m[1]))
	var suites []string
	for _, m := range regexp.MustCompile(`(?m)^\t"([a-z-]+)": +\{`).FindAllStringSubmatch(read("test/hosts/root_test.go"), -1) {
		suites = append(suites, m[1])
	}
	check("the hosts that there are", column(suite, 6, ""), suites)

	names := func(versions []etcdtest.Version) (names []string) {
		for _, v := range versions {
			names = append(names, v.String())
		}
		return names
	}
	if raceDetector {
		check("the versions of etcd", column(etcd, 5, "yes"), names(etcdtest.Versions()))
		check("the oldest and the newest etcd", column(etcd, 5, "yes"), names(etcdtest.OldestAndNewest()))
		return
	}
	check("the versions of etcd", column(etcd, 3, "yes"), names(etcdtest.Versions()))
	check("the oldest and the newest etcd", column(etcd, 4, "yes"), names(etcdtest.OldestAndNewest()))
}

// testsOfTheTree returns the names of all tests as the documents write them.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	const root, scripts = "../..", "../../locksmithctl/testdata/script"
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	tests := map[string]bool{}
	must.Do(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
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
