package replacefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmithd/locksmith/test/must"
)

func TestContentModeAndFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/b/file")
	for _, content := range []string{"one", "", "another one"} {
		must.Do(t, Write(path, []byte(content), 0o640, 0o750))
		got, err := os.ReadFile(path)
		if must.Do(t, err); string(got) != content {
			t.Errorf("got %q, want %q", got, content)
		}
	}
	for path, want := range map[string]fs.FileMode{path: 0o640, filepath.Dir(path): 0o750 | fs.ModeDir} {
		info, err := os.Stat(path)
		if must.Do(t, err); info.Mode() != want {
			t.Errorf("the mode of %s is %v, want %v", path, info.Mode(), want)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v", entries, err)
	}
}

// What is at the path is replaced, and not written through.
func TestLinkIsReplaced(t *testing.T) {
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "file")
	must.Do(t, os.WriteFile(target, []byte("old"), 0o600))
	must.Do(t, os.Symlink(target, path))
	must.Do(t, Write(path, []byte("new"), 0o600, 0o700))
	if got, err := os.ReadFile(target); err != nil || string(got) != "old" {
		t.Errorf("the target has %q, %v", got, err)
	}
}

func TestFailureNamesTheFileAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	must.Do(t, os.MkdirAll(filepath.Join(path, "full"), 0o700)) // not even root can replace it
	err := Write(path, []byte("new"), 0o600, 0o700)
	if err == nil || err.Error() != "write "+path+": it is a directory, not a file" {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v", entries, err)
	}
}

// Writers take turns. One that does not go on does not keep the others waiting for ever.
func TestLockIsForOneAtATime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "file")
		unlock, err := Lock(path)
		must.Do(t, err)
		began := time.Now()
		_, err = Lock(path)
		took := time.Since(began)
		if err == nil || !strings.Contains(err.Error(), path) || took < patience || took > 2*patience {
			t.Errorf("the second one gets %v after %v", err, took)
		}
		time.AfterFunc(time.Second, unlock)
		began = time.Now()
		unlock, err = Lock(path)
		if must.Do(t, err); time.Since(began) < time.Second {
			t.Error("it did not wait")
		}
		unlock()
		if _, err := Lock(filepath.Join(dir, "missing", "file")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a folder: %v", err)
		}
	})
}
