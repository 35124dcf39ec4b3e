package lock_test

import (
	"go/build"
	"slices"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// The protocol depends on no store, neither on etcd nor on anything that a client of etcd needs.
func TestProtocolImportsNoStore(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	must.Do(t, err)
	outside := slices.DeleteFunc(p.Imports, func(path string) bool {
		return !strings.Contains(path, ".") // the standard library
	})
	const internal = "github.com/locksmithd/locksmith/internal/"
	if want := []string{internal + "backoff", internal + "safetext"}; !slices.Equal(outside, want) {
		t.Errorf("package lock imports %v, want %v", outside, want)
	}
}
