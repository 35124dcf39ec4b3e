package policy

import (
	"go/build"
	"slices"
	"testing"
)

// Without I/O, tests walk through a year in a second.
func TestPolicyImportsNothingThatDoesIO(t *testing.T) {
	allowed := []string{"cmp", "errors", "fmt", "maps", "math/rand/v2", "slices", "strings", "time", "github.com/locksmithd/locksmith/internal/backoff", "github.com/locksmithd/locksmith/internal/safetext"}
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range p.Imports {
		if !slices.Contains(allowed, name) {
			t.Errorf("the package imports %s", name)
		}
	}
}
