package state

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/host"
	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
)

var full = Kept{
	Kept: policy.Kept{
		Scheduled: policy.KeptSchedule{Type: "reboot", Usec: 1772424030123456, Announced: true, Logind: ":1.7"},
		Asked:     time.Date(2026, 3, 2, 4, 0, 1, 0, time.UTC),
		Request:   policy.KeptRequest{Since: time.Date(2026, 3, 2, 4, 0, 2, 3, time.UTC), Version: "4081.2.0"},
		Cancelled: time.Date(2026, 3, 2, 4, 0, 3, 0, time.UTC),
		Postponed: policy.KeptPostponed{For: 90 * time.Minute, Version: "4081.2.0"},
	},
	Owner: "7QW3XS",
}

func write(t *testing.T, f *File, content string) {
	t.Helper()
	must.Do(t, os.MkdirAll(filepath.Dir(f.path), 0o755))
	must.Do(t, os.WriteFile(f.path, []byte(content), 0o600))
}

func TestStateIsReadInTheSameBootOnly(t *testing.T) {
	root := t.TempDir()
	f := New(root, host.Boot{ID: "boot-1"})
	if _, err := f.Read(); !errors.Is(err, ErrNone) {
		t.Errorf("without a file: %v", err)
	}
	for _, k := range []Kept{full, {}} {
		must.Do(t, f.Write(k))
		if got, err := New(root, host.Boot{ID: "boot-1"}).Read(); err != nil || !reflect.DeepEqual(got, k) {
			t.Errorf("read %+v, %v, want %+v", got, err, k)
		}
		if got, err := New(root, host.Boot{ID: "boot-2"}).Read(); !errors.Is(err, ErrNone) || got != (Kept{}) {
			t.Errorf("in another boot read %+v, %v", got, err)
		}
		scheduled := k.Scheduled
		if scheduled.Type != "" {
			scheduled = policy.KeptSchedule{Type: "reboot", Usec: k.Scheduled.Usec, Earlier: true}
		}
		if got, err := New(root, host.Boot{ID: "boot-1+1"}).Read(); err != nil || got != (Kept{Kept: policy.Kept{Scheduled: scheduled}}) {
			t.Errorf("after a soft reboot read %+v, %v", got, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v", entries, err)
	}
	if info, err := os.Stat(f.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}

func TestMalformedFileIsAnErrorThatNamesIt(t *testing.T) {
	for name, content := range map[string]string{
		"empty":        "",
		"cut":          `{"boot_id":"boot-1","scheduled":{"type":"reb`,
		"an array":     `[]`,
		"wrong types":  `{"boot_id":"boot-1","asked":12}`,
		"without boot": `{"scheduled":{"type":"reboot","usec":1}}`,
		"huge":         `{"boot_id":"boot-1"}` + strings.Repeat(" ", maxSize),
	} {
		t.Run(name, func(t *testing.T) {
			f := New(t.TempDir(), host.Boot{ID: "boot-1"})
			write(t, f, content)
			if got, err := f.Read(); err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), f.path) || got != (Kept{}) {
				t.Errorf("read %+v, %v", got, err)
			}
			must.Do(t, f.Write(full))
			if got, err := f.Read(); err != nil || got != full {
				t.Errorf("after a write: %+v, %v", got, err)
			}
		})
	}
}

func TestOnlyAPlainFileIsRead(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":   func(path string) error { return os.Symlink("/etc/hostname", path) },
	} {
		t.Run(name, func(t *testing.T) {
			f := New(t.TempDir(), host.Boot{ID: "boot-1"})
			write(t, f, "")
			must.Do(t, errors.Join(os.Remove(f.path), make(f.path)))
			if _, err := f.Read(); err == nil || errors.Is(err, ErrNone) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestTextsOfOthersCannotHarmATerminal(t *testing.T) {
	f := New(t.TempDir(), host.Boot{ID: "boot-1"})
	write(t, f, `{"boot_id":"boot-1","request":{"since":"2026-03-02T04:00:00Z","version":"\u001b[31m"},"postponed":{"for_ns":-5}}`)
	got, err := f.Read()
	if want := `\x1b[31m`; err != nil || got.Request.Version != want || got.Postponed.For != 0 {
		t.Errorf("read %+v, %v", got, err)
	}
}

// What has the name of the new file is removed, and not written through.
func TestLeftoverOfAKilledProcessIsReplaced(t *testing.T) {
	for name, leave := range map[string]func(path string) error{
		"file that everybody may write": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, 0o666))
		},
		"link":   func(path string) error { return os.Symlink("/nowhere/at/all", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		f := New(t.TempDir(), host.Boot{ID: "boot-1"})
		must.Do(t, f.Write(Kept{}))
		must.Do(t, leave(filepath.Join(filepath.Dir(f.path), ".state.json.new")))
		if err := f.Write(full); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := f.Read(); err != nil || got != full {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
		if info, err := os.Lstat(f.path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: the mode is %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAFailedWriteLeavesTheOldContent(t *testing.T) {
	f := New(t.TempDir(), host.Boot{ID: "boot-1"})
	must.Do(t, f.Write(full))
	// Not even root can write the new file, because a folder has its name.
	blocked := filepath.Join(filepath.Dir(f.path), ".state.json.new", "x")
	must.Do(t, os.MkdirAll(blocked, 0o755))
	if err := f.Write(Kept{}); err == nil {
		t.Error("Write succeeded")
	}
	if got, err := f.Read(); err != nil || got != full {
		t.Errorf("read %+v, %v", got, err)
	}
}
