package host

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/test/must"
)

func TestHoldFileSaysWhyAndUntilWhen(t *testing.T) {
	end := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	const noTime = " is not a time such as until=2026-11-29T14:00:00Z, so it does not end by itself"
	for name, c := range map[string]struct {
		content, reason, wrong string
		until                  time.Time
	}{
		"empty":               {},
		"a reason":            {content: "disks are swapped\n", reason: "disks are swapped"},
		"no line end":         {content: "disks are swapped", reason: "disks are swapped"},
		"more lines":          {content: "disks are swapped\nby ann\nuntil tomorrow\n", reason: "disks are swapped"},
		"an end":              {content: "disks are swapped\nuntil=2026-11-29T14:00:00Z\n", reason: "disks are swapped", until: end},
		"an end in a zone":    {content: "x\r\nuntil=2026-11-29T15:00:00+01:00\r\n", reason: "x", until: end},
		"only an end":         {content: "until=2026-11-29T14:00:00Z", until: end},
		"an end before that":  {content: "until=2026-11-29T14:00:00Z\ndisks are swapped\n", until: end},
		"two ends":            {content: "x\nuntil=2026-11-29T12:00:00Z\nuntil=2026-11-29T14:00:00Z\n", reason: "x", until: end},
		"not a time":          {content: "x\nuntil=tomorrow\n", reason: "x", wrong: `its line "until=tomorrow"` + noTime},
		"a time without zone": {content: "x\nuntil=2026-11-29T14:00:00\n", reason: "x", wrong: `its line "until=2026-11-29T14:00:00"` + noTime},
		"cut in its end":      {content: "x\n" + strings.Repeat(" ", holdSize-10) + "\nuntil=2026-11-29T14:00:00Z\n", reason: "x", wrong: `its line "until=2"` + noTime},
		"an end out of reach": {content: "x\n" + strings.Repeat(" ", holdSize) + "\nuntil=2026-11-29T14:00:00Z\n", reason: "x"},
		"a terminal's code":   {content: "\x1b[31m\xff\n", reason: `\x1b[31m\xff`},
		"a long reason":       {content: strings.Repeat("x", 5000), reason: strings.Repeat("x", 256) + "..."},
	} {
		for _, file := range []string{HoldFile, BootHoldFile} {
			root := newRoot(t, map[string]string{file: c.content})
			got := Holds(root)
			if len(got) != 1 || got[0].File != filepath.Join(root, file) || got[0].Reason != c.reason || !got[0].Until.Equal(c.until) || errorText(got[0].Err) != c.wrong {
				t.Errorf("%s: got %+v, want %+v", name, got, c)
			}
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestHoldFileExistsOrNot(t *testing.T) {
	root := newRoot(t, nil)
	if got := Holds(root); got != nil {
		t.Errorf("without files: %+v", got)
	}
	write(t, root, HoldFile, "a\n")
	write(t, root, BootHoldFile, "b\n")
	want := []policy.Hold{{File: filepath.Join(root, HoldFile), Reason: "a"}, {File: filepath.Join(root, BootHoldFile), Reason: "b"}}
	if got := Holds(root); !reflect.DeepEqual(got, want) {
		t.Errorf("with both files: %+v", got)
	}
}

// A file that says nothing holds the host, and says what is wrong with it.
func TestBrokenHoldFileHolds(t *testing.T) {
	for name, c := range map[string]struct {
		create func(path string) error
		wrong  string
	}{
		"a folder":                  {func(path string) error { return os.Mkdir(path, 0o755) }, "it is a directory, not a file"},
		"a pipe":                    {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "it is not a regular file"},
		"a link that leads nowhere": {func(path string) error { return os.Symlink("/no/such/file", path) }, "no such file or directory"},
		"a link to itself":          {func(path string) error { return os.Symlink(path, path) }, "too many levels of symbolic links"},
		"a link to /dev/null":       {func(path string) error { return os.Symlink(os.DevNull, path) }, ""},
		"a folder that is no folder": {func(path string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o600))
		}, "not a directory"},
		"a gigabyte": {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<30)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), HoldFile)
			must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must.Do(t, c.create(path))
			got := Holds(strings.TrimSuffix(path, HoldFile))
			if len(got) != 1 || errorText(got[0].Err) != c.wrong || !got[0].Until.IsZero() {
				t.Errorf("got %+v, want %q", got, c.wrong)
			}
		})
	}
}

func TestHoldIsReadAsItWasWritten(t *testing.T) {
	end := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	for _, want := range []policy.Hold{{}, {Reason: "disks"}, {Reason: "until=now"}, {Until: end}, {Reason: "disks", Until: end}} {
		root := newRoot(t, map[string]string{HoldFile: string(HoldContent(want))})
		want.File = filepath.Join(root, HoldFile)
		if got := Holds(root); !reflect.DeepEqual(got, []policy.Hold{want}) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
