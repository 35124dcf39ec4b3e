package layout

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

const module = "github.com/locksmithd/locksmith"

// packages returns the imports of each package of the module, without those of its tests. Packages of the module are
// named by their folders. (It reads the code itself, instead of asking go list, so that go test knows when a cached
// result is out of date.)
func packages(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	must.Do(t, fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || name == "tools"):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := path.Dir(name)
		imports := all[folder]
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, strings.TrimPrefix(imported, module+"/"))
		}
		all[folder] = imports
		return nil
	}))
	if len(all) < 30 {
		t.Fatalf("only %d packages were found", len(all))
	}
	return all
}

// dependencies returns a package of the module with all those of the module that it imports, directly or not.
func dependencies(all map[string][]string, folder string) []string {
	found := []string{folder}
	for i := 0; i < len(found); i++ {
		for _, imported := range all[found[i]] {
			if _, own := all[imported]; own && !slices.Contains(found, imported) {
				found = append(found, imported)
			}
		}
	}
	return found
}

// below reports whether a package is in a folder, or in one below it.
func below(pkg string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return pkg == folder || strings.HasPrefix(pkg, folder+"/")
	})
}

// The public packages can be used without each other and without the daemon: the internal packages that they share are
// leaves, which import no other package of the module.
func TestPublicPackagesKnowNeitherEachOtherNorTheDaemon(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for folder, imports := range all {
		if !below(folder, "lock", "window", "updateengine", "systemd") {
			continue
		}
		for _, imported := range imports {
			switch _, own := all[imported]; {
			case !own, below(folder, "lock") && below(imported, "lock"):
			case !below(imported, "internal"):
				t.Errorf("%s imports %s", folder, imported)
			case len(dependencies(all, imported)) > 1:
				t.Errorf("%s imports %s, which is not a leaf", folder, imported)
			}
		}
	}
}

// The FleetLock protocol can be used by any program, at no cost but the standard library.
func TestFleetLockImportsOnlyTheStandardLibrary(t *testing.T) {
	t.Parallel()
	all := packages(t)
	if len(all["fleetlock"]) == 0 {
		t.Fatal("the package fleetlock was not found, or it imports nothing")
	}
	for folder, imports := range all {
		if !below(folder, "fleetlock") {
			continue
		}
		for _, imported := range imports {
			first, _, _ := strings.Cut(imported, "/")
			if _, own := all[imported]; own || strings.Contains(first, ".") {
				t.Errorf("%s imports %s", folder, imported)
			}
		}
	}
}

// The protocol does not know its store.
func TestLockDoesNotKnowEtcd(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for _, folder := range dependencies(all, "lock") {
		for _, imported := range all[folder] {
			if below(imported, "lock/etcd", "go.etcd.io") {
				t.Errorf("%s imports %s", folder, imported)
			}
		}
	}
}

// The policy is a function of events and of the times that come with them. The packages of the module that it uses do
// no I/O either.
func TestPolicyDoesNoIOAndHasNoClock(t *testing.T) {
	t.Parallel()
	pure := []string{"cmp", "context", "errors", "fmt", "iter", "maps", "math", "slices", "sort", "strconv", "strings", "time", "unicode"}
	all := packages(t)
	for _, folder := range dependencies(all, "internal/policy") {
		for _, imported := range all[folder] {
			if _, own := all[imported]; !own && !below(imported, pure...) {
				t.Errorf("%s imports %s", folder, imported)
			}
		}
	}
	clock := regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|AfterFunc|Tick|NewTimer|NewTicker)\b`)
	comment := regexp.MustCompile(`//.*`)
	files, err := filepath.Glob("../../internal/policy/*.go")
	must.Do(t, err)
	for _, file := range files {
		code, err := os.ReadFile(file)
		must.Do(t, err)
		if found := clock.Find(comment.ReplaceAll(code, nil)); found != nil && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s uses %s", file, found)
		}
	}
}

// Only tests and the demo import packages that support tests, and nothing imports a program.
func TestProductImportsNeitherTestsNorPrograms(t *testing.T) {
	t.Parallel()
	support := []string{"test", "kubernetes/kubetest"}
	for folder, imports := range packages(t) {
		for _, imported := range imports {
			if below(imported, support...) && !below(folder, append(support, "demo")...) || below(imported, "demo", "locksmithd", "locksmithctl") {
				t.Errorf("%s imports %s", folder, imported)
			}
		}
	}
}
