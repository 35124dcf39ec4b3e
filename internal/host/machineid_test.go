package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

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
