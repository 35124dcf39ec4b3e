package readfile_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/readfile"
	"github.com/locksmithd/locksmith/test/must"
)

func TestStampTellsOfEveryChange(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	was := readfile.Stamp(dir, path)
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"a new file", func() error { return os.WriteFile(path, []byte("1"), 0o600) }},
		{"another content", func() error { return os.WriteFile(path, []byte("22"), 0o600) }},
		{"another mode", func() error { return os.Chmod(path, 0o644) }},
		{"another time", func() error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }},
		{"one more file", func() error { return os.WriteFile(other, []byte("22"), 0o644) }},
		{"a file in its place", func() error { return os.Rename(other, path) }},
		{"none", func() error { return os.Remove(path) }},
	} {
		must.Do(t, change.do())
		now := readfile.Stamp(dir, path)
		if now == was || now != readfile.Stamp(dir, path) {
			t.Errorf("%s: the stamp was %q and is %q", change.what, was, now)
		}
		was = now
	}
}
