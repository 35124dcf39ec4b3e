package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

const (
	etc = "/etc/flatcar/update.conf"
	usr = "/usr/share/flatcar/update.conf"
)

// newRoot returns a directory with these files below it, by path.
func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		writeFile(t, filepath.Join(root, path), content)
	}
	return root
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	must.Do(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.Do(t, os.WriteFile(path, []byte(content), 0o644))
}

func mustLoad(t *testing.T, o Options) *Config {
	t.Helper()
	return mustReload(t, NewLoader(o))
}

func mustReload(t *testing.T, l *Loader) *Config {
	t.Helper()
	c, err := l.Load()
	must.Do(t, err)
	return c
}

func (c *Config) setting(t *testing.T, name string) Setting {
	t.Helper()
	for _, s := range c.Settings {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no setting %q", name)
	return Setting{}
}
