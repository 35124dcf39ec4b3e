package etcdtest

import (
	"fmt"
	"os"
	"path/filepath"
)

func (s *Server) data() string  { return filepath.Join(s.dir(), "data") }
func (s *Server) saved() string { return filepath.Join(s.dir(), "saved") }

// Save keeps a copy of the server's data for Restore. The server must not run.
func (s *Server) Save() error { return s.replace(s.saved(), s.data()) }

// Restore replaces the data, and with them the revision, by those of the last Save, as a restore from a backup
// does. No member of the cluster may run, and all of them have to be restored.
func (s *Server) Restore() error { return s.replace(s.data(), s.saved()) }

func (s *Server) replace(to, from string) error {
	if s.Running() {
		return fmt.Errorf("copy the data of %s: it runs", s.name)
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy the data of %s: %w", s.name, err)
	}
	return os.Chmod(to, 0o700) // etcd requires it
}
