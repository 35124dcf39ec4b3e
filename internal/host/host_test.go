package host

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

const (
	uuid   = "/sys/class/dmi/id/product_uuid"
	serial = "/sys/firmware/devicetree/base/serial-number"
)

func hardwareOf(t *testing.T, files map[string]string) string {
	t.Helper()
	self, disk, err := Self(newRoot(t, files))
	must.Do(t, err)
	if disk != nil {
		t.Errorf("there are the tokens %q", disk)
	}
	return self.Hardware
}

func TestHardwareIsKnownByItsFirmware(t *testing.T) {
	const id = "4c4c4544-0034-4a10-8053-b7c04f4e3332"
	want := hardwareOf(t, map[string]string{uuid: id + "\n"})
	if len(want) != 16 || strings.Contains(id, want) {
		t.Errorf("the hardware is %q", want)
	}
	if got := hardwareOf(t, map[string]string{uuid: strings.ToUpper(id) + "\n"}); got != want {
		t.Errorf("as another kernel spells it, it is %q, want %q", got, want)
	}
	if got := hardwareOf(t, map[string]string{uuid: strings.Replace(id, "4c", "4d", 1) + "\n"}); got == "" || got == want {
		t.Errorf("other hardware is %q", got)
	}
	board := hardwareOf(t, map[string]string{serial: "10000000a1b2c3d4\x00"})
	if board == "" || board == want {
		t.Errorf("a board is %q", board)
	}
	if got := hardwareOf(t, map[string]string{uuid: "00000000-0000-0000-0000-000000000000\n", serial: "10000000a1b2c3d4\x00"}); got != board {
		t.Errorf("a board with a useless UUID is %q, want %q", got, board)
	}
}

func TestHardwareThatManyHaveIsNotKnown(t *testing.T) {
	for _, id := range []string{
		"", "\n",
		"00000000-0000-0000-0000-000000000000\n", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
		"03000200-0400-0500-0006-000700080009\n", "00020003-0004-0005-0006-000700080009\n",
		"12345678-1234-5678-1234-567812345678\n", "Not Specified\n", "Default string\n", "To be filled by O.E.M.\n",
	} {
		if got := hardwareOf(t, map[string]string{uuid: id}); got != "" {
			t.Errorf("%q is %q", id, got)
		}
	}
	if got := hardwareOf(t, map[string]string{serial: "0000000000000000\x00"}); got != "" {
		t.Errorf("a board without a number is %q", got)
	}
	for _, container := range containers {
		if got := hardwareOf(t, map[string]string{uuid: "4c4c4544-0034-4a10-8053-b7c04f4e3332\n", container: "docker"}); got != "" {
			t.Errorf("with %s it is %q", container, got)
		}
	}
	if got := hardwareOf(t, nil); got != "" {
		t.Errorf("with no file it is %q", got)
	}
}

func TestTokensOfEarlierBootsAreKept(t *testing.T) {
	root := newRoot(t, nil)
	tokens := func() []string {
		t.Helper()
		_, disk, err := Self(root)
		must.Do(t, err)
		return disk
	}
	var made []string
	for range 2 {
		token, err := NewToken(root)
		must.Do(t, err)
		if len(token) != 32 || slices.Contains(made, token) {
			t.Errorf("the token is %q after %q", token, made)
		}
		made = append([]string{token}, made...)
	}
	if got := tokens(); got != nil {
		t.Errorf("in the boot that made them there are %q", got)
	}
	info, err := os.Stat(filepath.Join(root, tokenFile))
	must.Do(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the mode of the file is %v", info.Mode())
	}
	write(t, root, "/proc/sys/kernel/random/boot_id", "boot-2\n")
	if got := tokens(); !slices.Equal(got, made) {
		t.Errorf("after a reboot there are %q, want %q", got, made)
	}
	for i := range 2 * keptTokens {
		write(t, root, "/proc/sys/kernel/random/boot_id", fmt.Sprintf("boot-%d\n", i+3))
		token, err := NewToken(root)
		must.Do(t, err)
		made = append([]string{token}, made...)
	}
	write(t, root, "/proc/sys/kernel/random/boot_id", "last\n")
	if got := tokens(); !slices.Equal(got, made[:keptTokens]) {
		t.Errorf("in the end there are %q, want %q", got, made[:keptTokens])
	}
	files, err := os.ReadDir(filepath.Join(root, filepath.Dir(tokenFile)))
	must.Do(t, err)
	if len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestTokenFileThatIsDamagedSaysNothing(t *testing.T) {
	good := strings.Repeat("0f", 16)
	root := newRoot(t, map[string]string{tokenFile: "\x00\x01\nword boot\n" + good + "\n" + good + " boot-0\n0f0f boot-0\n" + good[1:] + "g boot-0\n" + good + " torn"})
	_, disk, err := Self(root)
	must.Do(t, err)
	if !slices.Equal(disk, []string{good}) {
		t.Errorf("there are %q", disk)
	}
}

func TestTokenThatCannotBeWrittenIsAnError(t *testing.T) {
	for what, file := range map[string]string{
		"a file in the place of the folder":   "/var/lib/locksmith",
		"a folder in the place of the tokens": tokenFile + "/x",
	} {
		root := newRoot(t, map[string]string{file: "kept"})
		token, err := NewToken(root)
		if err == nil || token != "" || !strings.Contains(err.Error(), tokenFile) {
			t.Errorf("%s: %q, %v", what, token, err)
		}
		if content, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(content) != "kept" {
			t.Errorf("%s: it is %q, %v", what, content, err)
		}
		if _, _, err := Self(root); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
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

func TestMachineID(t *testing.T) {
	for content, want := range map[string]string{
		"69d27b356a94476da859461d3a3bc6fd\n": "69d27b356a94476da859461d3a3bc6fd",
		" \t69d27b35\r\n\n":                  "69d27b35",
		"host-1.example.com":                 "host-1.example.com",
		"rechner-ü":                          "rechner-ü",
		strings.Repeat("x", 256) + "\n":      strings.Repeat("x", 256),
	} {
		root := newRoot(t, map[string]string{"/etc/machine-id": content})
		if got, err := MachineID(root); got != want || err != nil {
			t.Errorf("%q gives %q, %v, want %q", content, got, err, want)
		}
	}
	for content, want := range map[string]string{
		"":                       "it is empty",
		" \n\t\n":                "it is empty",
		"uninitialized\n":        "holds no id yet",
		"a b":                    "is not an id",
		"a\nb\n":                 "is not an id",
		"a\x00b":                 "is not an id",
		"a\x1b[2J":               "is not an id",
		"a\u00a0b":               "is not an id",
		"a\xffb":                 "is not an id",
		"a/b":                    "but a path",
		".":                      "but a path",
		"..":                     "but a path",
		strings.Repeat("x", 257): "longer than 256 bytes",
		strings.Repeat("x", 1e5): "larger than 4096 bytes",
	} {
		root := newRoot(t, map[string]string{"/etc/machine-id": content})
		id, err := MachineID(root)
		path := filepath.Join(root, "etc/machine-id")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q gives %q, error %q, want one with %q and %q", content, id, err, path, want)
		}
	}

	root := t.TempDir()
	if _, err := MachineID(root); err == nil || !strings.Contains(err.Error(), "etc/machine-id: no such file") {
		t.Errorf("missing: %v", err)
	}
	must.Do(t, os.MkdirAll(filepath.Join(root, "etc/machine-id"), 0o755))
	if _, err := MachineID(root); err == nil || !strings.Contains(err.Error(), "etc/machine-id: it is a directory") {
		t.Errorf("directory: %v", err)
	}
}
