package readfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	const limit = 8
	for name, test := range map[string]struct {
		create func(path string) error
		want   string
		wrong  string // the error after the name of the file
	}{
		"empty":                 {create: content(""), want: ""},
		"as large as the limit": {create: content("12345678"), want: "12345678"},
		"too large":             {create: content("123456789"), wrong: "it is larger than 8 bytes"},
		"masked":                {create: link(os.DevNull), want: ""},
		"directory":             {create: func(path string) error { return os.Mkdir(path, 0o755) }, wrong: "it is a directory, not a file"},
		"pipe":                  {create: func(path string) error { return syscall.Mkfifo(path, 0o600) }, wrong: "it is not a regular file"},
		"endless":               {create: link("/dev/zero"), wrong: "it is not a regular file"},
		"of unknown size":       {create: link("/proc/version"), wrong: "it is larger than 8 bytes"},
		"missing":               {create: func(string) error { return nil }, wrong: "no such file or directory"},
		"link to itself":        {create: func(path string) error { return os.Symlink(path, path) }, wrong: "too many levels of symbolic links"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := test.create(path); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path, limit)
			switch {
			case test.wrong == "" && (err != nil || string(got) != test.want):
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			case test.wrong != "" && (err == nil || err.Error() != "read "+path+": "+test.wrong):
				t.Errorf("error %v, want one that names the file and says %q", err, test.wrong)
			}
			if missing := name == "missing"; errors.Is(err, fs.ErrNotExist) != missing {
				t.Errorf("errors.Is(%v, fs.ErrNotExist) is %v", err, !missing)
			}
		})
	}
}

func TestStartOfAFile(t *testing.T) {
	for content, want := range map[string]string{"": "", "12": "12", "1234": "123"} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Start(file, 3); err != nil || string(got) != want {
			t.Errorf("of %q got %q, %v", content, got, err)
		}
		file.Close()
	}
}

func TestOpenTakesFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.Symlink(os.DevNull, path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, syscall.O_NOFOLLOW); !errors.Is(err, syscall.ELOOP) || !strings.Contains(err.Error(), path) {
		t.Errorf("a link that must not be followed: error %v", err)
	}
}

func content(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
}

func link(target string) func(string) error {
	return func(path string) error { return os.Symlink(target, path) }
}
