package host

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	self, _, err := Self(root, Boot{ID: "boot-1"})
	must.Do(t, err)
	if self.Hostname != "web-1" || self.BootID != "boot-1" {
		t.Errorf("this host is %+v", self)
	}
	must.Do(t, os.Remove(filepath.Join(root, "/proc/sys/kernel/hostname")))
	name, err := os.Hostname()
	must.Do(t, err)
	if self, _, err = Self(root, Boot{ID: "boot-1"}); err != nil || self.Hostname != name {
		t.Errorf("without a file of its own it is %q, %v, want %q", self.Hostname, err, name)
	}
}

func TestOSVersionIsThatOfOSRelease(t *testing.T) {
	for _, test := range []struct {
		etc, usr string // "-" for no file
		want     string
	}{
		{"-", "-", ""},
		{"VERSION_ID=4230.2.1\n", "VERSION_ID=1\n", "4230.2.1"},
		{"-", "NAME=\"Flatcar\"\nVERSION_ID=\"4152.2.0\"\nVERSION=x\n", "4152.2.0"},
		{"NAME=Debian\n", "VERSION_ID=1\n", ""}, // sid has none, and the first file counts alone
		{"VERSION_ID='a\\b'\n", "-", `a\b`},
		{"VERSION_ID=\"a\\\"\\$b\"\n", "-", `a"$b`},
		{"VERSION_ID=1\n  VERSION_ID=2\n#VERSION_ID=3\nX_VERSION_ID=4\n", "-", "2"},
		{"VERSION_ID=\x1b[2J\n", "-", `\x1b[2J`},
		{"VERSION_ID=\"", "-", `"`},
		{strings.Repeat("#", 1<<20) + "\nVERSION_ID=1\n", "-", ""},
	} {
		files := map[string]string{}
		for path, content := range map[string]string{"/etc/os-release": test.etc, "/usr/lib/os-release": test.usr} {
			if content != "-" {
				files[path] = content
			}
		}
		if got := OSVersion(newRoot(t, files)); got != test.want {
			t.Errorf("with %.40q and %.40q it is %q, want %q", test.etc, test.usr, got, test.want)
		}
	}
	root := newRoot(t, nil)
	must.Do(t, os.MkdirAll(filepath.Join(root, "/etc/os-release"), 0o755))
	if got := OSVersion(root); got != "" {
		t.Errorf("of a folder it is %q", got)
	}
}

func TestBootIDBelowRoot(t *testing.T) {
	idOf := func(root string) (string, error) {
		boot, err := ThisBoot(t.Context(), root)
		return boot.ID, err
	}
	root := t.TempDir()
	real, err := readKernelFile("", "/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(real) {
		t.Errorf("the machine's: %q", real)
	}
	if got, err := idOf(root); err != nil || got != real {
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
		got, err := idOf(root)
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
	if got, err := idOf(root); err == nil {
		t.Errorf("a directory: %q and no error", got)
	}
}
