package replacefile

import (
	"context"
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

// Writers take turns. One that does not go on does not keep the others waiting for ever, nor longer than they can.
func TestLockIsForOneAtATime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "missing", "file")
		unlock, err := Lock(t.Context(), path, 0o750)
		must.Do(t, err)
		if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode() != 0o750|fs.ModeDir {
			t.Errorf("its folder: %v, %v", info, err)
		}
		for limit, want := range map[time.Duration]time.Duration{time.Hour: patience, time.Second: time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			began := time.Now()
			_, err = Lock(ctx, path, 0o750)
			if took := time.Since(began); err == nil || !strings.Contains(err.Error(), path) || took != want {
				t.Errorf("the second one gets %v after %v, want %v", err, took, want)
			}
			cancel()
		}
		time.AfterFunc(time.Second, unlock)
		began := time.Now()
		unlock, err = Lock(t.Context(), path, 0o750)
		if must.Do(t, err); time.Since(began) < time.Second {
			t.Error("it did not wait")
		}
		unlock()
	})
}

// What has no time to wait any more can still be written.
func TestFreeLockIsTakenAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	unlock, err := Lock(ctx, filepath.Join(t.TempDir(), "file"), 0o700)
	must.Do(t, err)
	unlock()
}
