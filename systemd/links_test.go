package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

func TestLinksPullInUnits(t *testing.T) {
	root := t.TempDir()
	for path, target := range map[string]string{
		"/etc/systemd/system/a.target.requires/drain.service":   "/etc/systemd/system/drain.service",
		"/etc/systemd/system/a.target.wants/twice.service":      "../twice.service",
		"/usr/lib/systemd/system/a.target.wants/twice.service":  "../twice.service",
		"/usr/lib/systemd/system/a.target.wants/masked.service": "../masked.service",
		"/etc/systemd/system/masked.service":                    os.DevNull,
		"/etc/systemd/system/unmasked.service":                  "/somewhere/unmasked.service",
		"/usr/lib/systemd/system/unmasked.service":              os.DevNull,
		"/run/systemd/system/a.target.wants/unmasked.service":   "/somewhere/unmasked.service",
		"/etc/systemd/system/b.target.wants/other.service":      "../other.service",
	} {
		path = filepath.Join(root, path)
		must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.Do(t, os.Symlink(target, path))
	}
	got := Linked(root, "a.target")
	if slices.Sort(got); !slices.Equal(got, []string{"drain.service", "twice.service", "unmasked.service"}) {
		t.Errorf("a.target pulls in %q", got)
	}
	if got := Linked(root, "c.target"); got != nil {
		t.Errorf("c.target pulls in %q", got)
	}
	for unit, want := range map[string]string{
		"other.service": "/etc/systemd/system/b.target.wants/other.service", "masked.service": "", "nothing.service": "",
	} {
		if want != "" {
			want = filepath.Join(root, want)
		}
		if got := EnabledBy(root, unit); got != want {
			t.Errorf("%s is enabled by %q, want %q", unit, got, want)
		}
	}
}
