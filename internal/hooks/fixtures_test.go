package hooks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/must"
)

// host is a folder that stands for "/".
type host struct {
	testing.TB
	root string
}

func newHost(t testing.TB) host {
	t.Helper()
	return host{t, t.TempDir()}
}

// path returns the path here of a path of the host.
func (h host) path(name string) string { return filepath.Join(h.root, name) }

// write writes a file.
func (h host) write(name, content string, mode os.FileMode) {
	h.Helper()
	must.Do(h, os.MkdirAll(filepath.Dir(h.path(name)), 0o755))
	must.Do(h, os.WriteFile(h.path(name), []byte(content), mode))
	must.Do(h, os.Chmod(h.path(name), mode))
}

// script writes a script for sh(1).
func (h host) script(name, body string) {
	h.Helper()
	h.write(name, "#!/bin/sh\n"+body+"\n", 0o755)
}

func (h host) link(name, target string) {
	h.Helper()
	must.Do(h, os.MkdirAll(filepath.Dir(h.path(name)), 0o755))
	must.Do(h, os.Symlink(target, h.path(name)))
}

func (h host) read(name string) string {
	h.Helper()
	data, err := os.ReadFile(h.path(name))
	must.Do(h, err)
	return string(data)
}
