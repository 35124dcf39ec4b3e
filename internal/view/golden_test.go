package view

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

var update = flag.Bool("update", false, "write what is there now into the golden files")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		must.Do(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must.Do(t, err)
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
