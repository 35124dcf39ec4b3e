package documents

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/race"
)

// Every promise of docs/compatibility.md names a test, and so does every difference to 0.7.
func TestCompatibilityDocumentNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	tests := testsOfTheTree(t)
	named := regexp.MustCompile("`(?:[a-z0-9]+\\.(?:Test|Fuzz|Benchmark)\\w*|[a-z0-9/-]+\\.txtar)`")
	almost := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*|[\w-]\.txtar`)
	sections := regexp.MustCompile(`(?m)^## \d+\. `).Split(read(t, "docs/compatibility.md"), -1)[1:]
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

// The versions in section 12 are those of the Makefile and of the tests.
func TestTablesOfTestedVersionsMatchWhatRuns(t *testing.T) {
	t.Parallel()
	_, tables, _ := strings.Cut(read(t, "docs/compatibility.md"), "\n## 12. ")
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
	m := regexp.MustCompile(`(?m)^SUITE \?= (.*)$`).FindStringSubmatch(read(t, "Makefile"))
	check("the hosts of make e2e", column(suite, 6, "before every change"), strings.Fields(m[1]))
	var suites []string
	for _, m := range regexp.MustCompile(`(?m)^\t"([a-z-]+)": +\{`).FindAllStringSubmatch(read(t, "test/hosts/root_test.go"), -1) {
		suites = append(suites, m[1])
	}
	check("all hosts", column(suite, 6, ""), suites)

	names := func(versions []etcdtest.Version) (names []string) {
		for _, v := range versions {
			names = append(names, v.String())
		}
		return names
	}
	if race.Enabled {
		check("the versions of etcd", column(etcd, 5, "yes"), names(etcdtest.Versions()))
		check("the oldest and the newest etcd", column(etcd, 5, "yes"), names(etcdtest.OldestAndNewest()))
		return
	}
	check("the versions of etcd", column(etcd, 3, "yes"), names(etcdtest.Versions()))
	check("the oldest and the newest etcd", column(etcd, 4, "yes"), names(etcdtest.OldestAndNewest()))
}
