package documents

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// The tables of docs/architecture.md name every folder with Go code, and only folders that exist.
func TestArchitectureNamesEveryFolder(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)/` \\|").FindAllStringSubmatch(read(t, "docs/architecture.md"), -1) {
		if info, err := os.Stat(filepath.Join("../..", m[1])); err != nil || !info.IsDir() {
			t.Errorf("docs/architecture.md names the folder %s, which does not exist", m[1])
		}
		named[m[1]] = true
	}
	code := map[string]bool{}
	must.Do(t, walkTree(func(name string) {
		if dir := filepath.Dir(name); strings.HasSuffix(name, ".go") && !strings.Contains(dir, "testdata") {
			code[dir] = true
		}
	}))
	for _, dir := range slices.Sorted(maps.Keys(code)) {
		if !named[dir] {
			t.Errorf("docs/architecture.md does not name the folder %s", dir)
		}
	}
}

func TestDocumentsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	tests := testsOfTheTree(t)
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile("`([a-z0-9]+\\.(?:Test|Fuzz|Benchmark)\\w*|[a-z0-9/-]+\\.txtar)`").FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// Each relative link in a document leads to a file and, if it has one, to a heading there. If the text of a link
// to Go code is formatted as code, it names a method, or something else, that the file declares.
func TestLinksInDocumentsHaveTargets(t *testing.T) {
	t.Parallel()
	literal := regexp.MustCompile("(?s)\n```.*?\n```\n")
	link := regexp.MustCompile(`\[([^\]\n]*)\]\(([^)\s]*)\)`)
	for page, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(literal.ReplaceAllString(text, "\n"), -1) {
			if strings.Contains(m[2], "://") {
				continue
			}
			target, heading, _ := strings.Cut(m[2], "#")
			file := filepath.Join("../..", filepath.Dir(page), target)
			if target == "" {
				file = filepath.Join("../..", page)
			}
			data, err := os.ReadFile(file)
			switch name := strings.Trim(m[1], "`"); {
			case err != nil:
				t.Errorf("%s: the link %s leads nowhere: %v", page, m[0], err)
			case heading != "" && !slices.Contains(headings(string(data)), heading):
				t.Errorf("%s: the link %s leads to no heading", page, m[0])
			case strings.HasSuffix(target, ".go") && name != m[1] && !declares(string(data), name):
				t.Errorf("%s: the link %s is to a file that does not declare %s", page, m[0], name)
			}
		}
	}
}

// headings returns the anchors of a page's headings.
func headings(page string) (anchors []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		anchors = append(anchors, regexp.MustCompile(`[^\w-]`).ReplaceAllString(text, ""))
	}
	return anchors
}

// declares reports whether Go code declares a function, type or variable of a name, or a method "Type.Name".
func declares(code, name string) bool {
	declaration := `^(?:(?:func|type|var) |\t)` + regexp.QuoteMeta(name) + `\b`
	if receiver, method, found := strings.Cut(name, "."); found {
		declaration = `^func \((?:\w+ )?\*?` + regexp.QuoteMeta(receiver) + `\) ` + regexp.QuoteMeta(method) + `\(`
	}
	return regexp.MustCompile(`(?m)` + declaration).MatchString(code)
}
