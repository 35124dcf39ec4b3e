package permit

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/locksmithd/locksmith/internal/fleetclient"
)

// FillDisk makes the file one that cannot be written.
func (s *Slot) FillDisk() {
	s.file.replace = func(string, []byte, fs.FileMode, fs.FileMode) error { return syscall.ENOSPC }
}

// DoNotSync makes the file one that is not written to the disk.
func (s *Slot) DoNotSync() {
	s.file.replace = func(path string, content []byte, mode, folderMode fs.FileMode) error {
		if err := os.MkdirAll(filepath.Dir(path), folderMode); err != nil {
			return err
		}
		return os.WriteFile(path, content, mode)
	}
}

// RemoveFile removes the file, as where it cannot be written.
func (s *Slot) RemoveFile(ctx context.Context) error {
	return s.file.remove(ctx, s.memory(None, noPurpose))
}

// SetDial sets how servers are reached.
func (l *Leftover) SetDial(dial fleetclient.Dial) { l.dial = dial }

// SetDial sets how the server is reached.
func (s *Slot) SetDial(dial fleetclient.Dial) { s.dial = dial }
