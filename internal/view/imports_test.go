package view

import (
	"go/build"
	"slices"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// A view that reads a clock, a file or a terminal cannot be compared with a golden text.
func TestViewImportsNothingThatDoesIO(t *testing.T) {
	allowed := []string{
		"cmp", "encoding/json", "errors", "fmt", "math", "reflect", "slices", "strings", "time", "unicode", "unicode/utf16", "unicode/utf8",
		"github.com/locksmithd/locksmith/internal/fleet",
		"github.com/locksmithd/locksmith/internal/hostfacts",
		"github.com/locksmithd/locksmith/internal/inventory",
		"github.com/locksmithd/locksmith/internal/plan",
		"github.com/locksmithd/locksmith/internal/policy",
		"go.yaml.in/yaml/v3",
		"github.com/locksmithd/locksmith/internal/safetext", "github.com/locksmithd/locksmith/lock",
	}
	p, err := build.ImportDir(".", 0)
	must.Do(t, err)
	for _, name := range p.Imports {
		if !slices.Contains(allowed, name) {
			t.Errorf("the package imports %s", name)
		}
	}
}
