package documents

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// walkTree calls visit with the name of every file of the tree.
func walkTree(visit func(name string)) error {
	return fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || name == "dist"):
			return fs.SkipDir
		case !d.IsDir():
			visit(name)
		}
		return nil
	})
}

// read returns the content of a file of the tree.
func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", name))
	must.Do(t, err)
	return string(data)
}

// testsOfTheTree returns the names of all tests in the form that the documents use.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	tests := map[string]bool{}
	must.Do(t, walkTree(func(name string) {
		switch {
		case strings.HasSuffix(name, ".txtar"):
			tests[strings.TrimPrefix(name, "locksmithctl/testdata/script/")] = true
		case strings.HasSuffix(name, "_test.go"):
			for _, m := range function.FindAllStringSubmatch(read(t, name), -1) {
				tests[path.Base(path.Dir(name))+"."+m[1]] = true
			}
		}
	}))
	return tests
}

// documents returns the text of every page of the tree, by its name.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	must.Do(t, walkTree(func(name string) {
		if strings.HasSuffix(name, ".md") {
			pages[name] = read(t, name)
		}
	}))
	return pages
}
