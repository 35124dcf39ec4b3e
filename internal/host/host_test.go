package host

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// newRoot makes the root of a host with these files.
func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, "/proc/sys/kernel/random/boot_id", "boot-1\n")
	for path, content := range files {
		write(t, root, path, content)
	}
	return root
}

func write(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, path)
	must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestHostnameIsRead(t *testing.T) {
	root := newRoot(t, map[string]string{"/proc/sys/kernel/hostname": "web-1\n"})
	self, _, err := Self(root)
	must.Do(t, err)
	if self.Hostname != "web-1" || self.BootID != "boot-1" {
		t.Errorf("this host is %+v", self)
	}
	must.Do(t, os.Remove(filepath.Join(root, "/proc/sys/kernel/hostname")))
	name, err := os.Hostname()
	must.Do(t, err)
	if self, _, err = Self(root); err != nil || self.Hostname != name {
		t.Errorf("without a file of its own it is %q, %v, want %q", self.Hostname, err, name)
	}
}

func TestBootIDBelowRoot(t *testing.T) {
	root := t.TempDir()
	real, err := BootID("")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(real) {
		t.Errorf("the machine's: %q", real)
	}
	if got, err := BootID(root); err != nil || got != real {
		t.Errorf("without a file below root: %q, %v, want the machine's", got, err)
	}
	file := filepath.Join(root, "proc/sys/kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ content, want string }{
		{"abc\n", "abc"},
		{" abc ", "abc"},
		{"\n", ""},
		{"", ""},
	} {
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := BootID(root)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q: %q, %v, want %q", test.content, got, err, test.want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := BootID(root); err == nil {
		t.Errorf("a directory: %q and no error", got)
	}
}
